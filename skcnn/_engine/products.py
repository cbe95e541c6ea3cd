"""Matrix products in pieces."""

import numpy as np

from skcnn._engine.blocks import PIECE_COLUMNS, SMALL_PRODUCT


def multiply(a, b, out):
    """Write ``a @ b`` to `out`, a few columns of `b` at a time where that is faster.

    Of stacks of matrices, `a` may be one matrix for all. See `SMALL_PRODUCT`.
    """
    least, most = PIECE_COLUMNS
    n_columns = min(SMALL_PRODUCT // (a.shape[-2] * a.shape[-1]) // least * least, most)
    n_pieces = b.shape[-1] // n_columns if n_columns else 0
    if n_pieces < 2:
        np.matmul(a, b, out=out)
        return
    whole = n_pieces * n_columns
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
