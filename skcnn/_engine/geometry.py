"""Shape arithmetic of sliding windows, which convolution and pooling share."""

from functools import cache
from typing import NamedTuple


class Axis(NamedTuple):
    """A window of `size` taps that slides along one axis, padded by `before` and `after`."""

    n_in: int
    size: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def extent(self):
        """Number of input positions from the first tap to the last."""
        return self.dilation * (self.size - 1) + 1

    @property
    def n_out(self):
        """Number of windows, and so of outputs."""
        return (self.n_in + self.before + self.after - self.extent) // self.stride + 1

    def phase(self, number, of):
        """Return the axis of the ``n_out // of`` outputs `number`, ``number + of`` and so on."""
        stride, before = self.stride * of, self.before - number * self.stride
        last = (self.n_out // of - 1) * stride
        return self._replace(
            stride=stride, before=before, after=last + self.extent - self.n_in - before
        )

    @property
    def is_whole(self):
        """Whether the only tap reads the axis unchanged, so that nothing needs to be copied."""
        return self.size == 1 and self.stride == 1 and self.before == 0 and self.after == 0

    @property
    def tiles(self):
        """Whether the windows cover each position of the axis exactly once."""
        covered = self.n_out * self.size == self.n_in and self.before == 0
        return self.stride == self.size and self.dilation == 1 and covered

    def taps(self):
        """Return a list of ``(tap, out, in)``: the outputs of each tap and the inputs it reads."""
        return _taps(self)

    def _each_tap(self):
        for tap in range(self.size):
            shift = tap * self.dilation - self.before
            first = max(0, -(shift // self.stride))
            last = min(self.n_out, (self.n_in - 1 - shift) // self.stride + 1)
            if first < last:
                start = first * self.stride + shift
                stop = (last - 1) * self.stride + shift + 1
                yield tap, slice(first, last), slice(start, stop, self.stride)


@cache
def _taps(axis):
    return list(axis._each_tap())


def taps_within(axis, part):
    """Yield ``(tap, out, in)`` for the taps of the outputs `part`; `out` counts from its start."""
    for tap, reached, source in axis.taps():
        first, last = max(reached.start, part.start), min(reached.stop, part.stop)
        if first < last:
            start = source.start + (first - reached.start) * axis.stride
            stop = start + (last - first - 1) * axis.stride + 1
            out = slice(first - part.start, last - part.start)
            yield tap, out, slice(start, stop, axis.stride)


def pair(value):
    """Return ``(rows, columns)`` from an int or a pair."""
    rows, columns = value if isinstance(value, tuple | list) else (value, value)
    return int(rows), int(columns)


def pad_amounts(padding, size, dilation):
    """Return the padding ``(before, after)`` of an axis; `padding` is a number or a name."""
    if padding == "valid":
        return 0, 0
    if padding == "same":
        total = dilation * (size - 1)
        return total // 2, total - total // 2
    return padding, padding


def plan_axes(input_shape, size, stride, dilation, padding):
    """Return the row `Axis` and the column `Axis` of a window over a map of `input_shape`."""
    sizes, strides, dilations = pair(size), pair(stride), pair(dilation)
    paddings = (padding, padding) if isinstance(padding, str) else pair(padding)
    return tuple(
        Axis(n, k, s, d, *pad_amounts(p, k, d))
        for n, k, s, d, p in zip(input_shape[:2], sizes, strides, dilations, paddings, strict=True)
    )


def stepped_windows(n, size, stride):
    """Return ``(start, stop)`` of sliding windows over `n` positions; `size` is clipped to `n`."""
    size = min(size, n)
    return [(start, start + size) for start in range(0, n - size + 1, stride)]


def grid_windows(n, parts):
    """Return ``(start, stop)`` of `parts` windows that cover `n` positions evenly."""
    return [(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]
