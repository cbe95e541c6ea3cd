"""How work is cut up: the tuned numbers, each in one place with what was measured."""

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

# Parts of a prediction, roughly, that use what is made of the weights for the first of them; a prediction of
# a few images has one.
PREPARED_PARTS = 4

# Elements of a map that an activation's gradient, which takes several passes, works on at once.
MAP_BLOCK = 128 * 1024

# Responses encoded at once, which takes several operations. Measured from 32 to 256 K: within 5% of
# the best from 64 K on (400 filters of 6x6x3 on 32x32, Zen 5, 1 MB of L2, 2026-11).
CODE_BLOCK = 128 * 1024

# Elements of a vector updated at once by an optimizer, whose four vectors then stay in L2. Of 225,000
# weights 64 K at once took 0.19 ms, 32 K 0.23, 8 K 0.31 (Zen 5, 2026-11).
VECTOR_BLOCK = 64 * 1024

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


def even_slices(n, size):
    """Return slices of at most `size` that cover ``range(n)``."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
