"""Matrix products in pieces."""

import numpy as np

from skcnn._engine.blocks import PIECE_COLUMNS, PIECE_ROWS, SMALL_PRODUCT


def multiply(a, b, out):
    """Write ``a @ b`` to `out`, a few columns of `b` at a time where that is faster.

    Of stacks of matrices, `a` may be one matrix for all. See `SMALL_PRODUCT`.
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
    """Return a view of matrices as a stack of pieces of their columns."""
    return b.reshape(*b.shape[:-1], -1, n_columns).swapaxes(-3, -2)


def _row_piece(n_left, n_right, run):
    """Return how much of rows of length `run` is multiplied at once."""
    least, most = PIECE_ROWS
    size = min(SMALL_PRODUCT // (n_left * n_right) // least * least, most)
    return size if size else run


def sums_shape(n_stacked, n_left, n_right, run):
    """Return the shape of the scratch of `add_row_products`."""
    n_pieces = -(-run // _row_piece(n_left, n_right, run))
    return (n_stacked, n_pieces, n_left, n_right)


def add_row_products(left, right, scratch, out):
    """Add to `out` the products ``left @ right.T`` of stacked matrices, a few columns at a time."""
    run = left.shape[-1]
    size = _row_piece(*out.shape, run)
    n_whole = run // size
    parts = scratch[: len(left), :n_whole]
    a, b = (_pieces(m[..., : n_whole * size], size) for m in (left, right))
    np.matmul(a, b.swapaxes(-1, -2), out=parts)
    if n_whole * size < run:
        rest = slice(n_whole * size, run)
        last = scratch[: len(left), n_whole]
        np.matmul(left[..., rest], right[..., rest].swapaxes(-1, -2), out=last)
        parts = scratch[: len(left), : n_whole + 1]
    out += np.add.reduce(parts, axis=(0, 1))
