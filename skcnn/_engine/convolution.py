"""Convolution by rows: widen a few rows along the columns, then multiply them all at once.

Maps have shape (rows, channels, columns, images), filters (filters, kernel rows, channels, kernel
columns). The widened buffer has shape (rows, channels, kernel columns, output columns, images);
because rows come first, the windows of `kernel rows` consecutive rows overlap in it, and a strided
view of shape (output rows, kernel rows * channels * kernel columns, output columns * images) needs
no further copy.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from skcnn._engine.blocks import PIECE_FLOPS, even_slices, rows_per_block, spaced
from skcnn._engine.geometry import Axis, plan_axes, taps_within
from skcnn._engine.products import multiply, row_products, sums_shape, turned_shape
from skcnn._workers.memory import Scratch


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
    def kernel_volume(self):
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
        """Buffer rows from one output row to the next; dilated rows do not overlap usefully."""
        return self.rows.stride if self.rows.dilation == 1 else self.rows.size

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

    def buffer_shapes(self, n_images):
        """Return the shapes of the buffers of a block: widened rows, output, products of rows."""
        n_out = self.block_rows(n_images)
        n_rows = n_out * self.row_step + self.overlap
        run = self.n_columns * n_images
        products = n_out, self.kernel_volume, self.filters, run
        return {
            "wide": (self.phases, n_rows, self.channels * self.columns.size, spaced(run)),
            "z": Scratch((self.phases, n_out, self.filters, spaced(run))),
            "products": Scratch(sums_shape(*products)),
            "turned": Scratch(turned_shape(*products)),
            "total": Scratch((self.kernel_volume, self.filters)),
        }


@cache
def plan_convolution(input_shape, filters, kernel_size, stride, dilation, padding, groups):
    """Return the `ConvPlan` of a layer on maps of `input_shape` (rows, columns, channels)."""
    axes = plan_axes(input_shape, kernel_size, stride, dilation, padding)
    return ConvPlan(*axes, input_shape[2] // groups, filters // groups, groups)


@cache
def _blocks(plan, n_images):
    return even_slices(plan.n_rows, plan.block_rows(n_images))


@cache
def _column_taps(plan):
    """Return ``(phase, tap, out, in)``: where columns come from, which outputs they reach."""
    return [
        (phase, *tap)
        for phase in range(plan.phases)
        for tap in plan.columns.phase(phase, plan.phases).taps()
    ]


def forward(plan, x, coef, wide, sink):
    """Convolve `x` and hand the result to `sink`, block by block.

    `wide` is one of `ConvPlan.buffer_shapes`, zero where padding falls.
    """
    weights = coef.reshape(plan.filters, plan.kernel_volume)
    for rows in plan.blocks(x.shape[3]):
        z = sink.block(rows)
        multiply(weights, _row_windows(plan, x, wide, rows), z)
        sink.finish(rows, z)


def backward_weights(plan, x, source, work, total, loop):
    """Add to `total` the gradient of the filters, from those blocks of `source` that `loop` yields."""
    blocks = plan.blocks(x.shape[3])[::-1]
    keeps_wide = plan.groups == 1 and not loop.is_joined
    for number in loop:
        rows = blocks[number]
        is_wide = keeps_wide and number == 0  # as `forward` has left it
        windows = _row_windows(plan, x, work["wide"], rows, is_wide)
        sums = [
            row_products(windows[phase], dz, work["products"], work["turned"])
            for phase, dz in enumerate(source.block(rows))
        ]
        with loop.turn(number):
            source.add_intercepts()
            for part in sums:
                total += part


def _row_windows(plan, x, wide, rows, is_wide=False):
    """Return the windows of the output `rows`; of a 1x1 kernel they are `x` itself."""
    n_rows = rows.stop - rows.start
    if plan.columns.is_whole and plan.rows.is_whole and plan.phases == 1:
        return x[rows].reshape(1, n_rows, plan.channels, -1)
    if not is_wide:
        _copy_rows(plan, x, rows, wide)
    phase, row, tap, item = wide.strides
    return overlapping(
        wide,
        (plan.phases, n_rows, plan.kernel_volume, plan.n_columns * x.shape[3]),
        (phase, row * plan.row_step, tap, item),
    )


def _copy_rows(plan, x, rows, wide):
    """Write to `wide` the input rows that the output `rows` need, widened along the columns."""
    axis, n_images = plan.rows, x.shape[3]
    wide = wide[..., : plan.n_columns * n_images].reshape(
        *wide.shape[:2], plan.channels, plan.columns.size, plan.n_columns, n_images
    )
    n_buffer = (rows.stop - rows.start) * plan.row_step + plan.overlap
    runs = []
    if axis.dilation == 1:
        start = rows.start * axis.stride - axis.before
        first, last = max(start, 0), min(start + n_buffer, axis.n_in)
        runs.append((slice(first - start, last - start), slice(first, last)))
        wide[:, : first - start] = 0
        wide[:, max(last - start, 0) : n_buffer] = 0
    else:
        for b in range(n_buffer):
            row, tap = divmod(b, axis.size)
            place = (rows.start + row) * axis.stride + tap * axis.dilation - axis.before
            if 0 <= place < axis.n_in:
                runs.append((slice(b, b + 1), slice(place, place + 1)))
            else:
                wide[:, b] = 0
    for target, place in runs:
        if target.start < target.stop:
            for phase, tap, reached, columns in _column_taps(plan):
                wide[phase, target, :, tap, reached] = x[place, :, columns]


def gathers_rows(plan):
    """Whether the input gradient is cheaper row by row of the input than of the output."""
    if plan.rows.stride != 1 or plan.rows.dilation != 1 or plan.groups != 1:
        return False
    taps = plan.rows.size
    gather = plan.rows.n_in * (2 * taps * plan.filters + PIECE_FLOPS)
    scatter = plan.rows.n_out * taps * (2 * plan.filters + PIECE_FLOPS)
    return gather <= scatter


def gradient_shape(plan, n_images):
    """Return the shape of the scratch of `backward_input`: (rows, taps, channels, columns, images)."""
    taps = plan.columns.size * (1 if gathers_rows(plan) else plan.rows.size)
    row_size = taps * plan.channels * plan.columns.n_out * n_images
    n_rows = plan.rows.n_in if gathers_rows(plan) else plan.rows.n_out
    return (rows_per_block(row_size, n_rows), taps, plan.channels, plan.columns.n_out, n_images)


def backward_input(plan, dz, coef, scratch, dx):
    """Write to `dx` the gradient of the input, by the cheaper of two ways.

    `dz` has ``rows.size - 1`` rows of zeros above and below the gradient itself, its columns in
    their natural order.
    """
    if gathers_rows(plan):
        _gather_rows(plan, dz, coef, scratch, dx)
    else:
        _scatter_windows(plan, dz, coef, scratch, dx)


def _gather_rows(plan, dz, coef, scratch, dx):
    """One product for each input row, over all the output rows that it reaches."""
    filters, taps, channels, kernel_columns = coef.shape
    # input row i takes output row i + before - tap: the kernel's rows from last to first
    weights = np.ascontiguousarray(coef[:, ::-1].transpose(3, 2, 1, 0))
    weights = weights.reshape(kernel_columns * channels, taps * filters)
    row, channel, _, item = dz.strides
    run = dz.shape[2] * dz.shape[3]
    windows = overlapping(
        dz[plan.rows.before :], (dx.shape[0], taps * filters, run), (row, channel, item)
    )
    for rows in even_slices(dx.shape[0], scratch.shape[0]):
        part = scratch[: rows.stop - rows.start]
        multiply(weights, windows[rows], part.reshape(len(part), -1, run))
        _add_columns(plan.columns, part, dx[rows])


def _add_columns(axis, part, dx):
    """Write to the rows `dx` the sum over column taps of `part` (rows, taps, ...)."""
    taps = list(axis.taps())
    everywhere = slice(0, axis.n_in)
    covering = [k for k, (_, _, source) in enumerate(taps) if source == slice(0, axis.n_in, 1)]
    if covering and taps[covering[0]][1] == everywhere:
        tap, _, _ = taps.pop(covering[0])
        np.copyto(dx, part[:, tap])
    else:
        dx.fill(0)
    for tap, reached, source in taps:
        dx[:, :, source] += part[:, tap, :, reached]


def _scatter_windows(plan, dz, coef, scratch, dx):
    """One product for each output row, its windows added to the input rows they came from."""
    filters, taps, channels, kernel_columns = coef.shape
    weights = coef.transpose(1, 3, 2, 0).reshape(taps * kernel_columns * channels, filters)
    flat = merge_runs(dz[taps - 1 : taps - 1 + plan.rows.n_out])
    dx.fill(0)
    for rows in even_slices(plan.rows.n_out, scratch.shape[0]):
        part = scratch[: rows.stop - rows.start]
        multiply(weights, flat[rows], part.reshape(len(part), -1, flat.shape[2]))
        pieces = part.reshape(len(part), taps, kernel_columns, *part.shape[2:])
        for row_tap, reached, source in taps_within(plan.rows, rows):
            target, piece = dx[source], pieces[reached, row_tap]
            for tap, columns, origin in plan.columns.taps():
                target[:, :, origin] += piece[:, tap, :, columns]


def overlapping(array, shape, strides):
    """Return a view of a contiguous array; ten times quicker to make than `as_strided`'s."""
    return np.ndarray(shape, array.dtype, array, 0, strides)


def merge_runs(y):
    """Return a view of `y` with columns and images as one axis; `y` may be a slice of channels."""
    return y.reshape(*y.shape[:2], y.shape[2] * y.shape[3])
