"""Pooling along one axis at a time.

Maps have shape (rows, channels, columns, images). Maxima are taken over the columns first, so that
the first of several equal values, in reading order, receives the gradient. Sums are taken over the
rows first, because a row is a long run of memory.
"""

import numpy as np


def _at(axis, index):
    """Return a tuple that applies `index` to `axis` and takes all of the axes before it."""
    return (slice(None),) * axis + (index,)


def pool_axis(reduce, x, axis, window, out):
    """Reduce `x` by ``np.maximum`` or ``np.add`` over windows of one axis, and write to `out`."""
    taps = list(window.taps())
    whole = slice(0, window.n_out)
    full = [k for k, (_, reached, _) in enumerate(taps) if reached == whole]
    if full:
        _, _, source = taps.pop(full[0])
        first = x[_at(axis, source)]
        if taps and taps[0][1] == whole:
            _, _, source = taps.pop(0)
            reduce(first, x[_at(axis, source)], out=out)
        else:
            np.copyto(out, first)
    else:
        out.fill(-np.inf if reduce is np.maximum else 0)
    for _, reached, source in taps:
        part = out[_at(axis, reached)]
        reduce(part, x[_at(axis, source)], out=part)


def max_axis_backward(dy, x, y, axis, window, left, dx):
    """Write the gradient of max pooling along one axis to `dx`.

    `left` is a work buffer shaped as `dy` for the gradient that no tap has received yet: the first
    of several equal values receives all of it.
    """
    if window.size == 2 and window.tiles:
        first, second = dx[_at(axis, slice(0, None, 2))], dx[_at(axis, slice(1, None, 2))]
        taken = x[_at(axis, slice(0, None, 2))] >= x[_at(axis, slice(1, None, 2))]
        np.multiply(dy, taken, out=first)
        np.subtract(dy, first, out=second)
        return
    np.copyto(left, dy)
    dx.fill(0)
    for _, reached, source in window.taps():
        remaining = left[_at(axis, reached)]
        taken = remaining * (x[_at(axis, source)] == y[_at(axis, reached)])
        dx[_at(axis, source)] += taken
        remaining -= taken


def sum_axis_backward(dy, axis, window, dx):
    """Write the gradient of window sums along one axis to `dx`."""
    if window.tiles:
        for _, reached, source in window.taps():
            dx[_at(axis, source)] = dy[_at(axis, reached)]
        return
    dx.fill(0)
    for _, reached, source in window.taps():
        dx[_at(axis, source)] += dy[_at(axis, reached)]


def window_counts(window):
    """Return how many positions each window of an axis covers, without padding."""
    counts = np.zeros(window.n_out)
    for _, reached, _ in window.taps():
        counts[reached] += 1
    return counts
