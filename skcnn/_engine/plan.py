"""The geometry of a convolution, from which everything else follows: sizes, blocks, kernel."""

from functools import cache
from typing import NamedTuple

from skcnn._engine.blocks import even_slices, rows_per_block
from skcnn._engine.geometry import Axis, plan_axes


class ConvPlan(NamedTuple):
    """The geometry of a convolution: its two axes, its channels and filters (of one group).

    With `phases` = 2 the output's even columns and its odd ones come as two arrays, and an odd last
    row and column are left out: a 2x2 pooling then compares two arrays that are each contiguous.
    """

    rows: Axis
    columns: Axis
    channels: int
    filters: int
    groups: int = 1
    phases: int = 1

    @property
    def is_depthwise(self):
        """Whether each group has one channel, and there are several groups."""
        return self.channels == 1 and self.groups > 1

    @property
    def kernel_volume(self):
        """Number of weights in a filter."""
        return self.rows.size * self.channels * self.columns.size

    @property
    def n_rows(self):
        """Output rows that are computed."""
        return self.rows.n_out // self.phases * self.phases

    @property
    def n_columns(self):
        """Output columns of one phase."""
        return self.columns.n_out // self.phases

    @property
    def row_step(self):
        """Buffer rows from one output row to the next: the stride where windows share rows."""
        return self.rows.stride if self.shares_rows else self.rows.size

    @property
    def shares_rows(self):
        """Whether consecutive rows of the buffer are consecutive rows of the map.

        With a dilation, or a stride beyond the size of a filter, windows share no rows, and each
        has rows of its own.
        """
        return self.rows.dilation == 1 and self.rows.stride <= self.rows.size

    @property
    def overlap(self):
        """Buffer rows that a block needs beyond ``row_step`` for each output row."""
        return max(self.rows.size - self.row_step, 0)

    def block_rows(self, n_images):
        """Return the number of output rows in a block."""
        widened = self.channels * self.columns.size * self.row_step
        row_size = (widened + self.filters) * self.n_columns * self.phases * n_images
        n_most = rows_per_block(row_size, self.n_rows, self.overlap // self.row_step)
        n_steps = self.n_rows // self.phases
        n_blocks = -(-n_steps // max(n_most // self.phases, 1))
        return -(-n_steps // n_blocks) * self.phases

    def blocks(self, n_images):
        """Return slices of the output rows, one for each block."""
        return _blocks(self, n_images)

    def group_slices(self):
        """Return ``(channels, filters)`` of each group, slices of all of them."""
        return _group_slices(self)


@cache
def _blocks(plan, n_images):
    return even_slices(plan.n_rows, plan.block_rows(n_images))


@cache
def _group_slices(plan):
    return [
        tuple(slice(g * n, (g + 1) * n) for n in (plan.channels, plan.filters))
        for g in range(plan.groups)
    ]


@cache
def plan_convolution(input_shape, filters, kernel_size, stride, dilation, padding, groups):
    """Return the `ConvPlan` of a layer on maps of `input_shape` (rows, columns, channels)."""
    axes = plan_axes(input_shape, kernel_size, stride, dilation, padding)
    return ConvPlan(*axes, input_shape[2] // groups, filters // groups, groups)
