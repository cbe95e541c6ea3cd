"""Convolution by rows: a partial im2col, along the columns only, then one product for a few rows.

Maps have shape (rows, channels, columns, images), filters (filters, kernel rows, channels, kernel
columns). The widened buffer has shape (rows, channels, kernel columns, output columns, images);
because rows come first, the windows of `kernel rows` consecutive rows overlap in it, and a strided
view of shape (output rows, kernel rows * channels * kernel columns, output columns * images) needs
no further copy.
"""

from functools import cache

import numpy as np

from skcnn._engine.blocks import MOVE_FLOPS, PIECE_FLOPS, even_slices, rows_per_block, spaced
from skcnn._engine.buffers import Mask, Scratch, Zeros
from skcnn._engine.geometry import taps_within
from skcnn._engine.pieces import row_columns
from skcnn._engine.products import multiply, row_products, sums_shape, transposed_shape


class RowKernel:
    """The kernel that fits every geometry; see `kernels` for the protocol."""

    COLUMN_STEP = 1
    columns_at_once = staticmethod(row_columns)

    def __init__(self, plan):
        self.plan = plan

    @staticmethod
    def cost(plan):
        """Return the operations of a product, and those that the widened copy is worth."""
        copies = MOVE_FLOPS * plan.columns.size * plan.channels
        return _n_windows(plan) * (_product_cost(plan) + copies)

    def pooled(self):
        """Return the kernel to use where a 2x2 pooling follows: even and odd columns apart."""
        return RowKernel(self.plan._replace(phases=2))

    def buffer_shapes(self, n_images):
        """Return the shapes of the buffers of a block, and of the gradient with a border of zeros."""
        plan = self.plan
        n_out, run = plan.block_rows(n_images), plan.n_columns * n_images
        n_rows = n_out * plan.row_step + plan.overlap
        products = n_out, plan.kernel_volume, plan.filters, run
        n_gradient = plan.rows.n_out + 2 * (plan.rows.size - 1)
        n_filters = plan.groups * plan.filters
        return {
            "wide": Zeros((plan.phases, n_rows, plan.channels * plan.columns.size, spaced(run))),
            "z": Scratch((plan.phases, n_out, plan.filters, spaced(run))),
            "products": Scratch(sums_shape(*products)),
            "transposed": Scratch(transposed_shape(*products)),
            "total": Scratch((plan.kernel_volume, plan.filters)),
            "pieces": Scratch(gradient_shape(plan, n_images)),
            "dz": Zeros((n_gradient, n_filters, plan.columns.n_out, n_images)),
        }

    def pool_shapes(self, n_images):
        """Return the shapes of a 2x2 pooling's buffers: maxima of pairs, and which were the larger."""
        plan = self.plan
        row = plan.filters, plan.n_columns * n_images
        return {
            "pairs": Scratch((plan.block_rows(n_images), *row)),
            "column_mask": Mask((plan.n_rows, *row)),
            "row_mask": Mask((plan.n_rows // 2, *row)),
        }

    def pool_scratch(self, work):
        """Return scratch for a block's pooled output, None for none, and for its maxima of pairs."""
        return None, work["pairs"]

    def forward(self, x, coef, work, sink):
        """Convolve `x` and hand the result to `sink`, block by block."""
        for channels, filters in self.plan.group_slices():
            self._forward_group(x[:, channels], coef[filters], work, sink.part(filters))

    def _forward_group(self, x, coef, work, sink):
        weights = coef.reshape(self.plan.filters, self.plan.kernel_volume)
        for rows in self.plan.blocks(x.shape[3]):
            z = self._block(work, rows, x.shape[3])
            multiply(weights, self._windows(x, work, rows), z)
            sink.finish(rows, z)

    def _block(self, work, rows, n_images):
        """Return the scratch for the output `rows`, shape (phases, rows, filters, columns * images)."""
        return work["z"][:, : rows.stop - rows.start, :, : self.plan.n_columns * n_images]

    def _windows(self, x, work, rows):
        """Return the windows of the output `rows`, shape (phases, rows, volume, columns * images)."""
        plan, wide = self.plan, work["wide"]
        _copy_rows(plan, x, rows, wide)
        phase, row, tap, item = wide.strides
        shape = (
            plan.phases,
            rows.stop - rows.start,
            plan.kernel_volume,
            plan.n_columns * x.shape[3],
        )
        return overlapping(wide, shape, (phase, row * plan.row_step, tap, item))

    def backward(self, x, coef, work, source, dcoef):
        """Write the gradient of the filters to `dcoef`; return the input's if `work` wants it."""
        dx = work["dx"] if work.needs_dx else None
        for channels, filters in self.plan.group_slices():
            dz = work["dz"][:, filters] if work.needs_dx else None
            self._backward_coef(x[:, channels], work, source.part(filters), dz, dcoef[filters])
            if dz is not None:
                backward_input(self.plan, dz, coef[filters], work["pieces"], dx[:, channels])
        return dx

    def _backward_coef(self, x, work, source, dz, dcoef):
        """Write the gradient of a group's filters and, unless `dz` is None, that of its output."""
        plan, total = self.plan, work["total"]
        border = plan.rows.size - 1
        inner = None if dz is None else dz[border : border + plan.n_rows]
        total.fill(0)
        for rows in plan.blocks(x.shape[3])[::-1]:
            windows = self._windows(x, work, rows)
            parts = source.block(rows, self._block(work, rows, x.shape[3]), inner)
            for phase, part in enumerate(parts):
                total += row_products(windows[phase], part, work["products"], work["transposed"])
        dcoef.reshape(plan.filters, plan.kernel_volume)[...] = total.T


class PointwiseKernel(RowKernel):
    """The kernel of 1x1 filters, whose windows are the map itself."""

    @staticmethod
    def cost(plan):
        """Return the operations of the product; nothing is copied."""
        applies = plan.columns.is_whole and plan.rows.is_whole and plan.phases == 1
        return _n_windows(plan) * _product_cost(plan) if applies else np.inf

    def _windows(self, x, work, rows):
        return x[rows].reshape(1, rows.stop - rows.start, self.plan.channels, -1)


def _n_windows(plan):
    """Return the number of an image's windows, counted for each group."""
    return plan.groups * plan.rows.n_out * plan.columns.n_out


def _product_cost(plan):
    """Return the operations of a window's product; with single channels it runs at memory's speed."""
    flops = MOVE_FLOPS if plan.is_depthwise else 2
    return flops * plan.kernel_volume * plan.filters


@cache
def _column_taps(plan):
    """Return ``(phase, tap, out, in)``: where columns come from, which outputs they reach."""
    return [
        (phase, *tap)
        for phase in range(plan.phases)
        for tap in plan.columns.phase(phase, plan.phases).taps()
    ]


def _copy_rows(plan, x, rows, wide):
    """Write to `wide` the input rows that the output `rows` need, widened along the columns."""
    axis, n_images = plan.rows, x.shape[3]
    wide = wide[..., : plan.n_columns * n_images].reshape(
        *wide.shape[:2], plan.channels, plan.columns.size, plan.n_columns, n_images
    )
    n_buffer = (rows.stop - rows.start) * plan.row_step + plan.overlap
    runs = []
    if plan.shares_rows:
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
        np.copyto(dx, part[:, tap, :, everywhere])
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
