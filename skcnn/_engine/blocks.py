"""How the engine cuts arrays into blocks: its tuned numbers, each with what was measured."""

import numpy as np

# Numbers in a block of a convolution by rows: its widened rows and its output. Of 128 K to 4096 K
# (Zen 5, 1 MB of L2 and 32 MB of L3, 2026-11), one worker runs within 5% of its best from 512 K on. Two
# workers, which share L3, train 2 to 4% and predict up to 10% faster with 1024 K than with 2048 K. With
# 256 K the calls for each block cost more than cache misses, up to 60% on narrow networks.
BLOCK_SIZE = 1024 * 1024

# Numbers in a row of a map and its widened copy, for one image, above which blocks are cut along the
# columns as well.
LONG_ROW = BLOCK_SIZE // 4

# Least width of a piece of a long row, in units of what it shares with its neighbour.
LEAST_SHARES = 8

# Numbers in a run of Winograd's tiles; so many rows of tiles are computed at once. Shorter runs cost
# calls, longer ones leave the cache.
TILE_RUN = 256

# Bytes of a cache line, and a distance at whose multiples lines compete for an eighth of the cache.
LINE_BYTES = 64
CROWDED_BYTES = 512

# Multiply-adds of a product up to which OpenBLAS, with kernels for AVX-512, does not pack its operands
# first: products of 32 x 288 by 64 columns ran at 220 GFLOP/s, by 128 columns at 140 (Zen 5, 2026-11).
# Wider products are cut into pieces with numbers of columns between these two. For kernels that always
# pack, pieces of 64 columns make no difference.
SMALL_PRODUCT = 10**6
PIECE_COLUMNS = (64, 512)

# Most columns of a piece of a product of long rows with each other: 27 x 2048 by 2048 x 32 ran twice as
# fast in pieces, and LeNet-5 trained 1% faster with 1024 than with 512 (Zen 4, 2026-11).
PIECE_ROWS = 1024

# `A @ B.T` with more results than the first number packs its operands. If B has at most as many rows as
# the second number, transposing B first avoids that: 150 x 640 by 640 x 16 ran at 100 GFLOP/s in place
# of 72, and LeNet-5 trained 3% faster. With more rows it ran no faster, and 5% slower with kernels that
# always pack (Zen 4, 2026-11).
ROW_RESULTS = 1200
TRANSPOSED_ROWS = 48

# Least and most rows of a piece of two deep matrices: 10 x 1568 by 1568 x 157 ran at 150 GFLOP/s in
# pieces, and at 60 as a whole.
PIECE_DEPTH = (32, 128)

# Units of a dense layer below which its gradient is computed in pieces: fewer than the numbers in a
# vector register. It then ran at 123 GFLOP/s in place of 67.
FEW_UNITS = 16

# Floating-point operations of a product that take as long as copying one number in long runs: 8 G
# numbers a second against 100 GFLOP/s on Zen 4, 12 G against 200 GFLOP/s on Zen 5.
MOVE_FLOPS = 14

# The same for adding a number to scattered parts of a map, of which 5 G a second are added.
PIECE_FLOPS = 20

# Parts of a prediction, roughly, that share what the first of them prepares from the weights; a
# prediction of a few images has one part.
PREPARED_PARTS = 4

# Elements of a map that the gradient of an activation, which takes several passes, computes at once.
MAP_BLOCK = 128 * 1024

# Responses that are encoded at once, which takes several passes. Of 32 K to 256 K, all from 64 K on are
# within 5% of the best (400 filters of 6x6x3 on 32x32, Zen 5, 1 MB of L2, 2026-11).
CODE_BLOCK = 128 * 1024

# Elements of a vector that an optimizer updates at once, so that its four vectors stay in L2: 225,000
# weights took 0.19 ms with 64 K at once, 0.23 with 32 K, and 0.31 with 8 K (Zen 5, 2026-11).
VECTOR_BLOCK = 64 * 1024

# Bytes of images that are converted to float at once to take their statistics.
STATISTICS_BYTES = 8 * 1024 * 1024


def spaced(n):
    """Return the row stride for rows of `n` numbers: a cache line more if rows would share cache sets.

    With strides that are powers of two, products ran at a quarter to two thirds of their speed (Zen 5,
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
