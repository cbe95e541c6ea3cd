"""Matrix products in pieces so small that BLAS multiplies them without copying them first."""

import numpy as np

from skcnn._engine.blocks import (
    LINE_BYTES,
    PIECE_COLUMNS,
    PIECE_DEPTH,
    PIECE_ROWS,
    ROW_RESULTS,
    SMALL_PRODUCT,
    TRANSPOSED_ROWS,
)


def multiply(a, b, out):
    """Write ``a @ b`` to `out`, a few columns of `b` at a time where that is faster.

    `b` may be a stack of matrices, and `a` a stack or one matrix for all. See `SMALL_PRODUCT`.
    """
    least, most = PIECE_COLUMNS
    n_most = SMALL_PRODUCT // (a.shape[-2] * a.shape[-1])
    n_columns = min(n_most // least * least, most)
    if b.shape[-1] <= n_most or not n_columns:
        np.matmul(a, b, out=out)
        return
    whole = b.shape[-1] // n_columns * n_columns
    np.matmul(
        a[..., None, :, :],
        _pieces(b[..., :whole], n_columns),
        out=_pieces(out[..., :whole], n_columns),
    )
    if whole < b.shape[-1]:
        np.matmul(a, b[..., whole:], out=out[..., whole:])


def _pieces(b, n_columns):
    """Return a view of matrices as stacks of pieces, each of `n_columns` columns."""
    return b.reshape(*b.shape[:-1], -1, n_columns).swapaxes(-3, -2)


def _transposes_right(n_left, n_right):
    """Whether `row_products` first copies the right matrices to a transposed order."""
    n_results = n_left * n_right
    small = n_results * PIECE_COLUMNS[0] <= SMALL_PRODUCT
    return small and n_results > ROW_RESULTS and n_right <= TRANSPOSED_ROWS


def _row_piece(n_left, n_right, run):
    """Return how many columns of rows of length `run` are multiplied at once."""
    n_results = n_left * n_right
    if n_results > ROW_RESULTS and not _transposes_right(n_left, n_right):
        return run
    n_pieces = -(-run // min(SMALL_PRODUCT // n_results, PIECE_ROWS))
    in_line = LINE_BYTES // np.dtype(np.float32).itemsize
    return min(-(-run // n_pieces // in_line) * in_line, run)


def sums_shape(n_stacked, n_left, n_right, run):
    """Return the shape of the work buffer for the partial sums of `row_products`."""
    n_pieces = -(-run // _row_piece(n_left, n_right, run))
    return (n_stacked, n_pieces, n_left, n_right)


def transposed_shape(n_stacked, n_left, n_right, run):
    """Return the shape of the work buffer for the transposed right matrices of `row_products`."""
    return (n_stacked, run, n_right) if _transposes_right(n_left, n_right) else (0,)


def row_products(left, right, scratch, transposed):
    """Return the sum of ``left @ right.T`` over stacked matrices, a few columns at a time."""
    n_stacked, n_left, run = left.shape
    right = right.swapaxes(1, 2)
    if transposed.size:
        np.copyto(transposed[:n_stacked], right)
        right = transposed[:n_stacked]
    size = _row_piece(n_left, right.shape[2], run)
    n_whole = run // size
    whole = right[:, : n_whole * size].reshape(n_stacked, n_whole, size, -1)
    parts = scratch[:n_stacked, :n_whole]
    np.matmul(_pieces(left[..., : n_whole * size], size), whole, out=parts)
    if n_whole * size < run:
        rest = slice(n_whole * size, run)
        np.matmul(left[..., rest], right[:, rest], out=scratch[:n_stacked, n_whole])
        parts = scratch[:n_stacked, : n_whole + 1]
    return np.add.reduce(parts, axis=(0, 1))


def _depth(depth, n_left, n_right):
    """Return how many of `depth` rows are multiplied at once."""
    least, most = PIECE_DEPTH
    size = min(SMALL_PRODUCT // (n_left * n_right), most)
    return size if size >= least and n_left * n_right * depth > SMALL_PRODUCT else depth


def deep_shape(depth, n_left, n_right):
    """Return the shape of the work buffer of `multiply_deep`."""
    return (depth // _depth(depth, n_left, n_right), n_left, n_right)


def multiply_deep(a, b, scratch, out):
    """Write ``a.T @ b`` to `out`, a few rows of both at a time."""
    size = _depth(len(a), a.shape[1], b.shape[1])
    whole = len(a) // size * size
    if whole == size:
        np.matmul(a.T, b, out=out)
        return
    np.matmul(_stacked(a[:whole], size).swapaxes(1, 2), _stacked(b[:whole], size), out=scratch)
    np.add.reduce(scratch, axis=0, out=out)
    if whole < len(a):
        out += a[whole:].T @ b[whole:]


def multiply_high(a, b, out):
    """Write ``a @ b`` to `out`, a few rows of `a` at a time."""
    size = _depth(len(a), *b.shape)
    whole = len(a) // size * size
    np.matmul(_stacked(a[:whole], size), b, out=_stacked(out[:whole], size))
    if whole < len(a):
        np.matmul(a[whole:], b, out=out[whole:])


def _stacked(a, size):
    """Return a view of a matrix as a stack of pieces, each of `size` rows."""
    return a.reshape(-1, size, a.shape[1])
