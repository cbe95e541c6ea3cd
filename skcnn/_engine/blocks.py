"""How work is cut up: the tuned numbers, each in one place with what was measured."""

from functools import cache
from itertools import pairwise

import numpy as np

# Numbers in a block of a convolution: its widened rows and its output. Measured from 128 to 4096 K (Zen 5,
# 1 MB of L2, 32 of L3, 2026-11): alone, one worker runs within 5% of its best from 512 K on; two workers,
# who share L3, train 2 to 4% faster and predict up to 10% faster with 1024 K than with 2048 K; with 256 K
# each block's calls cost more than cache misses, up to 60% on narrow nets.
BLOCK_SIZE = 1024 * 1024

# Numbers in a run of Winograd's tiles, so many rows of tiles are worked on at once: shorter runs cost
# calls, longer ones leave the cache.
TILE_RUN = 256

# Bytes of a line of the cache, and a distance at whose multiples lines compete for an eighth of it.
LINE_BYTES = 64
CROWDED_BYTES = 512

# Multiply-adds of a product up to which OpenBLAS, with kernels for AVX-512, does not copy the operands
# first: products of 32 x 288 by 64 columns ran at 220 GFLOP/s, by 128 columns at 140 (Zen 5, 2026-11).
# Wider ones are cut into pieces with numbers of columns between these two; to kernels that always
# copy, pieces of 64 columns make no difference.
SMALL_PRODUCT = 10**6
PIECE_COLUMNS = (64, 512)

# Products of long rows with each other, 27 x 2048 by 2048 x 32, ran twice as fast in pieces, with up to so
# many columns: LeNet-5 trained 1% faster by 1024 than by 512 (Zen 4, 2026-11).
PIECE_ROWS = 1024

# For these OpenBLAS copies the operands unless there are few results. It does not have to if of the right
# rows there are few as well and they are put in the order of a plain product first: 150 x 640 by 640 x 16
# ran at 100 GFLOP/s in place of 72, LeNet-5 trained 3% faster; with more than so many rows it ran no faster,
# with kernels that always copy 5% slower (Zen 4, 2026-11).
ROW_RESULTS = 1200
TURNED_ROWS = 48

# Pieces of deep matrices: 10 x 1568 by 1568 x 157 ran at 150 GFLOP/s in pieces, at 60 whole.
PIECE_DEPTH = (32, 128)

# Fewer columns than a vector has: only then the gradient of a dense layer ran faster in pieces, 123 to 67.
FEW_UNITS = 16

# To copy a number in long runs costs as much as this many floating-point operations of a product
# (measured: 8 G a second against 100 GFLOP/s on Zen 4, 12 G against 200 on Zen 5).
MOVE_FLOPS = 14

# The same for additions to scattered pieces of a map (5 G a second).
PIECE_FLOPS = 20

# Images in one shard of a batch: as many as keep its largest map at SHARD_SIZE numbers, within
# limits. Below 16 runs get too short, above 64 nothing is gained (Zen 4, 2026-11: 32 of 32x32x64
# ran 9% faster than 64, of 28x28x8 64 ran 15% faster than 32). Of tiny maps there may be more, up to
# WORTHWHILE_SIZE numbers, and smaller batches are not split: each shard costs 0.2 ms of calls.
# All this depends on network and batch, never on the number of workers.
SHARD_SIZE = 2 * 1024 * 1024
SHARD_IMAGES = (16, 64)
WORTHWHILE_SIZE = 64 * 1024

# Numbers in the largest map of a shard to predict, of small maps, and images at most: nothing need be
# kept for a gradient. 28x28x8 pooled went 13% faster by 157 images than by 60, no faster by 313, LeNet-5
# 5% faster by 110 (Zen 5, 2026-11).
PREDICT_SIZE = 512 * 1024
PREDICT_IMAGES = 168

# Parts of a prediction, roughly, that use what is made of the weights for the first of them; a prediction of
# a few images has one.
PREPARED_PARTS = 4

# Places of maps that are turned into features at once: 1,568 of 157 images took 0.6 of the time of all at
# once, from 128 to 512 the same (Zen 5, 2026-11).
TURNED_PLACES = 400

# Elements of a map that an activation's gradient, which takes several passes, works on at once.
MAP_BLOCK = 128 * 1024

# Responses encoded at once, which takes several operations. Measured from 32 to 256 K: within 5% of
# the best from 64 K on (400 filters of 6x6x3 on 32x32, Zen 5, 1 MB of L2, 2026-11).
CODE_BLOCK = 128 * 1024

# Elements of a vector updated at once by an optimizer, whose four vectors then stay in L2. Of 225,000
# weights 64 K at once took 0.19 ms, 32 K 0.23, 8 K 0.31 (Zen 5, 2026-11).
VECTOR_BLOCK = 64 * 1024

# Weights from which on all workers update a part of them each; for fewer it takes longer to tell them.
SHARED_UPDATE = 128 * 1024

# Elements of NumPy's buffer for elementwise operations. From its default of 8192 it copies runs of
# less than that to make them longer; with 1024 adding an intercept to maps ran twice as fast
# (NumPy 2.4), and conversions no slower.
UFUNC_BUFFER = 1024

# Floating-point operations from which on more workers pay. Making a fork and ending it takes some
# 5 ms, a tenth of the time that one worker needs for FORK_FLOPS at 20 GFLOP/s. Threads, where forks
# may not be made, only pay for long operations.
FORK_FLOPS = 1e9
THREAD_FLOPS = 1e10

# The single operations of a prediction are longer than those of a training step: for it forks pay from
# so many times FORK_FLOPS on, threads from THREAD_FLOPS divided by the other. Of 2,560 images of mnistnet
# forks predicted 1.5 times as many as one worker and threads 1.2 times, of 12,800 of the small net, 2 G
# operations, 1.0 and 1.2 times (Zen 5, 2026-11).
LONGER = (5, 6)

# As FORK_FLOPS for each byte of results that forks must share: to touch it first takes 0.7 ns (Zen 5,
# 2026-11), a tenth of which an ordinary array takes once its memory is in use.
SHARED_BYTE_FLOPS = 14

# Seconds that a worker looks out for its next order before it sleeps: to wake it takes 25 us each
# way, half of what a small batch's gradients take.
SPIN_SECONDS = 500e-6

# Seconds that a worker that waits for others sleeps between two looks at whether it can help them: with
# 50 us a fit of mnistnet took 0.98 of its time with 500 us (Zen 5, 2026-11).
NAP_SECONDS = 50e-6

# Tickets for items of work that are out at once; a pipe holds so many on every system.
MOST_TICKETS = 256

# Bytes in which a worker tells others which loop they may join, and where its arrays lie.
OFFER_BYTES = 4096

# Bytes of a worker's buffers at most; nothing is taken until it is touched. What is kept of them for the
# next fit or prediction, and of how many: four workers' and what they share. Arrays under OWN_BYTES are
# ordinary ones: a single image needs no more.
REGION_BYTES = 1024 * 1024 * 1024
KEPT_BYTES = 64 * 1024 * 1024
KEPT_REGIONS = 5
OWN_BYTES = 128 * 1024

# Bytes of images converted to float at once while statistics are taken.
STATISTICS_BYTES = 8 * 1024 * 1024


def spaced(n):
    """Return `n` numbers, or a few more if rows of a matrix so long would be crowded.

    With rows of a power of two bytes, products ran at a quarter to two thirds of their speed (Zen 5,
    2026-11).
    """
    item = np.dtype(np.float32).itemsize
    return n if n * item % CROWDED_BYTES else n + LINE_BYTES // item


def rows_per_block(row_size, n_rows, extra_rows=0):
    """Return how many output rows go into one block of at most `BLOCK_SIZE` numbers."""
    return min(max(BLOCK_SIZE // row_size - extra_rows, 1), n_rows)


def images_per_shard(map_size):
    """Return the number of images in a shard of a network whose largest map has `map_size`."""
    least, most = SHARD_IMAGES
    return max(min(max(SHARD_SIZE // map_size, least), most), WORTHWHILE_SIZE // map_size)


@cache
def shard_slices(n_images, map_size):
    """Return slices that cut a batch into nearly equal shards."""
    least = 2 if n_images * map_size > WORTHWHILE_SIZE and n_images > 1 else 1
    n_shards = max(-(-n_images // images_per_shard(map_size)), least)
    edges = np.linspace(0, n_images, n_shards + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def images_to_predict(map_size):
    """Return the number of images that are predicted together: whole lines of the cache.

    With 96 images instead of 90 or 105 networks on 28x28 maps predicted 6 to 11% faster (Zen 5, 2026-11).
    But rows of a power of two bytes fall on the same lines: with 60 images instead of 64 a network on
    32x32 maps predicted 4% faster, its first layer 40% (Zen 4, 2026-11); with 30 instead of 32 a wide
    one 3 to 15% (Zen 5).
    """
    n_images = max(images_per_shard(map_size), min(PREDICT_SIZE // map_size, PREDICT_IMAGES))
    in_line = LINE_BYTES // np.dtype(np.float32).itemsize
    whole = n_images // in_line * in_line
    return whole if whole & (whole - 1) else n_images - n_images // 16


def even_slices(n, size):
    """Return slices of at most `size` that cover ``range(n)``."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
