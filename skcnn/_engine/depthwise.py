"""Depthwise convolution, in which each filter sees one channel, without matrix products.

A product with a matrix of one row would run at the speed of memory, and need the im2col copy of its
input as well. Whole maps are multiplied by one number and added instead.
"""

from functools import cache

import numpy as np

from skcnn._engine.blocks import BLOCK_SIZE, MOVE_FLOPS, even_slices, rows_per_block
from skcnn._engine.buffers import Scratch
from skcnn._engine.geometry import taps_within


class DepthwiseKernel:
    """The kernel for groups of one channel; see `kernels` for the protocol.

    It computes all groups at once, and never in the same pass as a pooling.
    """

    COLUMN_STEP = 1

    @staticmethod
    def columns_at_once(plan, n_images):
        """Return how many columns of a long row make a block."""
        return max(BLOCK_SIZE // (plan.groups * plan.filters * n_images), 1)

    def __init__(self, plan):
        self.plan = plan

    @staticmethod
    def cost(plan):
        """Return the cost of the multiplications, which run at the speed of memory."""
        n_outputs = plan.groups * plan.filters * plan.rows.n_out * plan.columns.n_out
        return MOVE_FLOPS * plan.kernel_volume * n_outputs if plan.is_depthwise else np.inf

    def buffer_shapes(self, n_images):
        """Return the shape of the work buffer: one block of rows of one filter per channel."""
        rows = _block_rows(self.plan, n_images)
        return {"scratch": Scratch((rows, self.plan.groups, self.plan.columns.n_out, n_images))}

    def forward(self, x, coef, work, sink):
        """Convolve `x`, and write the result to the map of `sink`, block by block."""
        for rows, taps in _pieces(self.plan, x.shape[3]):
            maps = sink.y[rows]
            maps.fill(0)
            for number in range(self.plan.filters):
                nth = self._nth_filters(number)
                for i, j, out, source in taps:
                    product = _like(work["scratch"], x[source])
                    np.multiply(x[source], coef[nth, i, 0, j][:, None, None], out=product)
                    maps[:, nth][out] += product
            sink.finish(rows, sink.runs[None, rows])

    def backward(self, x, coef, work, source, dcoef):
        """Write the gradient of the filters to `dcoef`; return the input's if `work` needs it."""
        dx = work["dx"] if work.needs_dx else None
        for gradient in (dcoef,) if dx is None else (dcoef, dx):
            gradient.fill(0)
        source.finish(slice(None))
        for rows, taps in _pieces(self.plan, x.shape[3]):
            for number in range(self.plan.filters):
                nth = self._nth_filters(number)
                for i, j, out, origin in taps:
                    part = source.dy[rows][:, nth][out]
                    product = _like(work["scratch"], part)
                    np.multiply(x[origin], part, out=product)
                    dcoef[nth, i, 0, j] += product.sum(axis=(0, 2, 3))
                    if dx is not None:
                        np.multiply(part, coef[nth, i, 0, j][:, None, None], out=product)
                        dx[origin] += product
        return dx

    def _nth_filters(self, number):
        """Return the slice of the `number`-th filter of every channel."""
        return slice(number, None, self.plan.filters)


def _block_rows(plan, n_images):
    return rows_per_block(plan.groups * plan.columns.n_out * n_images, plan.rows.n_out)


@cache
def _pieces(plan, n_images):
    """Return ``(rows, taps)`` per block: its rows, and the indices each tap writes and reads."""
    return [
        (
            rows,
            [
                (i, j, (out_rows, slice(None), out_columns), (in_rows, slice(None), in_columns))
                for i, out_rows, in_rows in taps_within(plan.rows, rows)
                for j, out_columns, in_columns in plan.columns.taps()
            ],
        )
        for rows in even_slices(plan.rows.n_out, _block_rows(plan, n_images))
    ]


def _like(scratch, part):
    """Return a contiguous part of `scratch` with the shape of `part`."""
    return scratch.reshape(-1)[: part.size].reshape(part.shape)
