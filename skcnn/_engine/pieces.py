"""Kernels made of others: filters cropped to the taps that reach a map, and long rows cut into pieces.

A map of one row, as of a signal, uses the middle row of a 3x3 filter only: the others meet nothing but
padding. And a row of a long signal, widened, would take as much memory as the signal is long; cut along
the columns, a block stays in cache.
"""

from functools import cache
from itertools import pairwise

from skcnn._engine.blocks import BLOCK_SIZE, LEAST_SHARES, LONG_ROW


class CropKernel:
    """Another kernel, given only those taps of the filters that reach the map.

    Parameters
    ----------
    plan : ConvPlan
    inner : kernel
        Of the cropped plan.
    """

    def __init__(self, plan, inner):
        self.plan = plan
        self.inner = inner
        self._live = slice(None), live_taps(plan.rows), slice(None), live_taps(plan.columns)

    def pooled(self):
        """Return this kernel with one that pools inside."""
        return CropKernel(self.plan, self.inner.pooled())

    def buffer_shapes(self, n_images):
        """Return the shapes of the inner kernel's buffers, and of the cropped filters' gradient."""
        plan = self.inner.plan
        filters = plan.groups * plan.filters
        shape = filters, plan.rows.size, plan.channels, plan.columns.size
        return {**self.inner.buffer_shapes(n_images), "dcropped": shape}

    def pool_shapes(self, n_images):
        """Return the inner kernel's."""
        return self.inner.pool_shapes(n_images)

    def pool_scratch(self, work):
        """Return the inner kernel's."""
        return self.inner.pool_scratch(work)

    def forward(self, x, coef, work, sink):
        """Convolve `x` and hand the result to `sink`, block by block."""
        self.inner.forward(x, coef[self._live].copy(), work, sink)

    def backward(self, x, coef, work, source, dcoef):
        """Write the gradient of the filters to `dcoef`; return the input's if `work` wants it."""
        cropped = work["dcropped"]
        dx = self.inner.backward(x, coef[self._live].copy(), work, source, cropped)
        dcoef.fill(0)
        dcoef[self._live] = cropped
        return dx


@cache
def live_taps(axis):
    """Return the slice of the taps between the first and the last that reach the map, at least one."""
    taps = [tap for tap, _, _ in axis.taps()] or [0]
    return slice(min(taps), max(taps) + 1)


def cropped(plan):
    """Return the plan of the filters without the taps that reach nothing."""
    rows, columns = (_crop(axis) for axis in (plan.rows, plan.columns))
    return plan._replace(rows=rows, columns=columns)


def _crop(axis):
    live = live_taps(axis)
    return axis._replace(
        size=live.stop - live.start,
        before=axis.before - live.start * axis.dilation,
        after=axis.after - (axis.size - live.stop) * axis.dilation,
    )


class SplitKernel:
    """Another kernel, given pieces of the columns one after the other.

    Neighbouring pieces read some of the same inputs. The first and the last piece, which see padding,
    have buffers of their own.

    Parameters
    ----------
    plan : ConvPlan
    kind : type
        Of the kernel that computes the pieces.
    """

    def __init__(self, plan, kind):
        self.plan = plan
        self.kind = kind

    def buffer_shapes(self, n_images):
        """Return the shapes of the buffers of each kind of piece."""
        shapes = {}
        for piece in self._pieces(n_images):
            rows, columns, channels = self.plan.rows, piece.plan.columns, self.plan.channels
            own = self.kind(piece.plan).buffer_shapes(n_images)
            own["dx"] = rows.n_in, self.plan.groups * channels, columns.n_in, n_images
            shapes |= {f"{name} of {piece.name}": shape for name, shape in own.items()}
        return shapes

    def _pieces(self, n_images):
        return pieces_of(self.plan, self.kind, n_images)

    def forward(self, x, coef, work, sink):
        """Convolve `x` and hand the result to `sink`, piece by piece."""
        for piece in self._pieces(x.shape[3]):
            kernel, own = self.kind(piece.plan), PieceOfWork(work, piece.name)
            kernel.forward(x[:, :, piece.inputs], coef, own, sink.columns(piece.outputs))

    def backward(self, x, coef, work, source, dcoef):
        """Write the gradient of the filters to `dcoef`; return the input's if `work` wants it."""
        dx = work["dx"] if work.needs_dx else None
        total, end = None, 0
        for piece in self._pieces(x.shape[3]):
            kernel, own = self.kind(piece.plan), PieceOfWork(work, piece.name)
            part = x[:, :, piece.inputs]
            dpart = kernel.backward(part, coef, own, source.columns(piece.outputs), dcoef)
            total = dcoef.copy() if total is None else total + dcoef
            if dx is not None:
                start, stop = piece.inputs.start, piece.inputs.stop
                shared = max(end - start, 0)
                dx[:, :, end:start] = 0
                dx[:, :, start : start + shared] += dpart[:, :, :shared]
                dx[:, :, start + shared : stop] = dpart[:, :, shared:]
                end = stop
        dcoef[...] = total
        if dx is not None:
            dx[:, :, end:] = 0
        return dx


class PieceOfWork:
    """The part of a workspace that belongs to one kind of piece."""

    def __init__(self, work, name):
        self._work = work
        self._name = name
        self.needs_dx = work.needs_dx
        self.n_images = work.n_images

    def __getitem__(self, name):
        return self._work[f"{name} of {self._name}"]

    def prepare(self, name, function, *args):
        """Return a buffer that is made of the weights alone, as `Workspace.prepare` does."""
        return self._work.prepare(f"{name} of {self._name}", function, *args)


class Piece:
    """Some output columns of a convolution, and the input columns that they need.

    Attributes
    ----------
    plan : ConvPlan
        Of the piece.
    outputs, inputs : slice
    name : str
        Of the kind of piece; those of one kind share buffers.
    """

    def __init__(self, plan, start, stop):
        axis = plan.columns
        first, last = start * axis.stride - axis.before, (stop - 1) * axis.stride - axis.before
        end = last + axis.extent
        self.outputs = slice(start, stop)
        self.inputs = slice(min(max(first, 0), axis.n_in), max(min(end, axis.n_in), 0))
        own = axis._replace(
            n_in=self.inputs.stop - self.inputs.start,
            before=self.inputs.start - first,
            after=end - self.inputs.stop,
        )
        self.plan = plan._replace(columns=own)
        self.name = f"{own.before}+{own.n_in}+{own.after} columns"


@cache
def pieces_of(plan, kind, n_images):
    """Return the pieces of a convolution of so many images.

    The first and the last are as narrow as can be; all others, which see no padding, are of one width
    and share buffers.
    """
    axis, step = plan.columns, kind.COLUMN_STEP
    shared = -(-axis.extent // axis.stride)  # columns' worth of inputs that neighbours share
    width = max(kind.columns_at_once(plan, n_images), LEAST_SHARES * shared) // step * step
    first = max(-(-axis.before // axis.stride), 1)
    first = -(-first // step) * step
    n_inside = (axis.n_in + axis.before - axis.extent) // axis.stride + 1 - first
    n_pieces = n_inside // max(width, step)
    if n_pieces < 2:
        return [Piece(plan, 0, axis.n_out)]
    width = n_inside // n_pieces // step * step
    edges = [0, *range(first, first + n_pieces * width + 1, width)]
    if edges[-1] < axis.n_out:
        edges.append(axis.n_out)
    return [Piece(plan, a, b) for a, b in pairwise(edges)]


def is_long(plan):
    """Return whether a row of the map, widened, takes much of a block even for one image."""
    widened = plan.channels * plan.columns.size + plan.filters
    return widened * plan.columns.n_out > LONG_ROW


def row_columns(plan, n_images):
    """Return how many columns of a row make a block."""
    widened = plan.channels * plan.columns.size * plan.row_step + plan.filters
    return max(BLOCK_SIZE // (widened * n_images), 1)
