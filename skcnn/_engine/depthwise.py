"""Convolution in which each filter sees one channel: multiplications and additions, no product.

A matrix product of one row would run at the speed of memory and need the widened copy as well.
"""

import numpy as np

from skcnn._engine.blocks import even_slices, rows_per_block
from skcnn._engine.geometry import taps_within


def applies(plan):
    """Whether each group has one channel, and there are groups."""
    return plan.channels == 1 and plan.groups > 1


def _block_rows(plan, n_images):
    return rows_per_block(plan.groups * plan.columns.n_out * n_images, plan.rows.n_out)


def scratch_shape(plan, n_images):
    """Return the shape of the scratch array: one block of rows of one filter a channel."""
    return (_block_rows(plan, n_images), plan.groups, plan.columns.n_out, n_images)


def _pieces(plan, n_images):
    """Yield ``(rows, taps)``: blocks of output rows, and where each tap reads and writes in them."""
    for rows in even_slices(plan.rows.n_out, _block_rows(plan, n_images)):
        yield (
            rows,
            [
                (i, j, (out_rows, slice(None), out_columns), (in_rows, slice(None), in_columns))
                for i, out_rows, in_rows in taps_within(plan.rows, rows)
                for j, out_columns, in_columns in plan.columns.taps()
            ],
        )


def _filters(plan, number):
    """Return the `number`-th filter of every channel."""
    return slice(number, None, plan.filters)


def _like(scratch, part):
    """Return a contiguous part of `scratch`, shaped as `part`."""
    return scratch.reshape(-1)[: part.size].reshape(part.shape)


def forward(plan, x, coef, scratch, sink):
    """Convolve `x` and hand the result to `sink`, block by block."""
    for rows, taps in _pieces(plan, x.shape[3]):
        z = sink.block(rows)
        maps = z[0].reshape(*z.shape[1:3], plan.columns.n_out, x.shape[3])
        maps.fill(0)
        for number in range(plan.filters):
            own = _filters(plan, number)
            for i, j, out, source in taps:
                product = _like(scratch, x[source])
                np.multiply(x[source], coef[own, i, 0, j][:, None, None], out=product)
                maps[:, own][out] += product
        sink.finish(rows, z)


def backward(plan, x, coef, dz, scratch, dcoef, dx):
    """Write the gradients of the filters and, unless `dx` is None, of the input."""
    dcoef.fill(0)
    if dx is not None:
        dx.fill(0)
    for rows, taps in _pieces(plan, x.shape[3]):
        for number in range(plan.filters):
            own = _filters(plan, number)
            for i, j, out, source in taps:
                part = dz[rows][:, own][out]
                product = _like(scratch, part)
                np.multiply(x[source], part, out=product)
                dcoef[own, i, 0, j] += product.sum(axis=(0, 2, 3))
                if dx is not None:
                    np.multiply(part, coef[own, i, 0, j][:, None, None], out=product)
                    dx[source] += product
