"""Codes of patches: what a convolution's responses go through, in cache, before they are features.

The responses of a few rows are divided by the contrast of their patches, encoded and pooled at
once; the map of all codes, which for hundreds of filters is large, is never stored.
"""

import numpy as np

from skcnn._engine.activations import ACTIVATIONS, zeros_like_part
from skcnn._engine.blocks import CODE_BLOCK, even_slices
from skcnn._engine.pooling import pool_axis

REDUCE = {"max": np.maximum, "avg": np.add, "sum": np.add}


def inverse_contrast(plan, x, offset, work):
    """Return ``1 / sqrt(variance + offset)`` of every patch of `x`, shape (rows, columns * images).

    Sums over patches are box filters. Writes ``work["square"]``, ``work["box_columns"]`` and
    ``work["box"]``.
    """
    square, columns, box = work["square"], work["box_columns"], work["box"]
    for power, values in enumerate((x, np.multiply(x, x, out=square))):
        sums = np.add.reduce(values, axis=1)
        pool_axis(np.add, sums, 1, plan.columns, columns)
        pool_axis(np.add, columns, 0, plan.rows, box[power])
    box /= plan.kernel_volume
    mean, variance = box
    mean *= mean
    variance -= mean
    np.maximum(variance, 0, out=variance)
    variance += offset
    np.sqrt(variance, out=variance)
    np.reciprocal(variance, out=variance)
    return variance.reshape(len(variance), -1)


class Activated:
    """One code a filter: an activation of its response."""

    is_separate = True  # a filter's codes do not depend on the other filters

    def __init__(self, name, n_filters):
        self.forward = ACTIVATIONS[name].forward
        self.n_codes = self.n_responses = self.n_intercepts = n_filters

    def encode(self, z, intercept, filters, scratch):
        """Yield ``(codes, their place)`` of the responses `z`, which are overwritten."""
        z += intercept[filters, None]
        self.forward(z, z)
        yield z, filters


class BothSigns:
    """Two codes a filter: ``max(z + a, 0)`` and ``max(b - z, 0)``, `a` and `b` the intercepts."""

    is_separate = True

    def __init__(self, n_filters):
        self.n_responses = n_filters
        self.n_codes = self.n_intercepts = 2 * n_filters

    def encode(self, z, intercept, filters, scratch):
        """Yield ``(codes, their place)`` of the responses `z`, which are overwritten."""
        others = slice(filters.start + self.n_responses, filters.stop + self.n_responses)
        z += intercept[filters, None]
        yield np.maximum(z, zeros_like_part(z), out=scratch[: len(z), : z.shape[1]]), filters
        np.subtract((intercept[filters] + intercept[others])[:, None], z, out=z)
        yield np.maximum(z, zeros_like_part(z), out=z), others


class Triangle:
    """``max(0, mean distance - distance)`` to each of the centres (Coates, Ng and Lee, 2011).

    The responses are ``|c|^2 - 2 c.x`` of the centres and, behind them, the components of the
    patch itself, whose squares add to ``|x|^2``.
    """

    is_separate = False

    def __init__(self, n_filters, n_components):
        self.n_codes = n_filters
        self.n_responses = self.n_intercepts = n_filters + n_components

    def encode(self, z, intercept, filters, scratch):
        """Yield ``(codes, their place)`` of the responses `z`, which are overwritten."""
        z += intercept[:, None]
        distances, components = z[:, : self.n_codes], z[:, self.n_codes :]
        distances += np.einsum("rfl,rfl->rl", components, components)[:, None]
        nothing = zeros_like_part(distances)
        np.maximum(distances, nothing, out=distances)
        np.sqrt(distances, out=distances)
        np.subtract(distances.mean(axis=1, keepdims=True), distances, out=distances)
        yield np.maximum(distances, nothing, out=distances), slice(0, self.n_codes)


class EncodeSink:
    """Encodes a convolution's output block by block, and pools the codes over the rows.

    Parameters
    ----------
    encoder : Activated, BothSigns or Triangle
    intercept : ndarray of shape (n_intercepts,)
    factor : ndarray of shape (rows, columns * images) or None
        What the responses of each patch are multiplied by.
    reduce : {"max", "avg", "sum"}
    windows : list of (int, int)
        First row of each window, and the row behind its last.
    z, scratch : ndarray
        Buffers for the responses of a block and for the codes of a part of it.
    pooled : ndarray of shape (windows, codes, columns, images)
        Written by `finish`.
    """

    def __init__(self, encoder, intercept, factor, reduce, windows, z, scratch, pooled):
        self.encoder = encoder
        self.intercept = intercept
        self.factor = factor
        self.combine = REDUCE[reduce]
        self.windows = windows
        self.z = z
        self.scratch = scratch
        self.pooled = pooled.reshape(*pooled.shape[:2], -1)
        pooled.fill(-np.inf if reduce == "max" else 0)

    def block(self, rows):
        """Return the array that takes the output `rows`."""
        return self.z[:, : rows.stop - rows.start]

    def finish(self, rows, z):
        """Encode the output `rows`, and add them to the windows that they lie in."""
        responses = z[0]
        for part, filters in self._parts(*responses.shape[:2]):
            own = responses[part, filters]
            first = rows.start + part.start
            if self.factor is not None:
                own *= self.factor[first : first + len(own), None]
            for codes, place in self.encoder.encode(own, self.intercept, filters, self.scratch):
                self._pool(first, codes, place)

    def _parts(self, n_rows, n_responses):
        """Yield slices of rows and of filters that stay in cache while they are encoded."""
        if self.encoder.is_separate:
            for filters in even_slices(n_responses, self.scratch.shape[1]):
                yield slice(0, n_rows), filters
        else:
            for row in range(n_rows):
                yield slice(row, row + 1), slice(0, n_responses)

    def _pool(self, first, codes, place):
        for window, (start, stop) in enumerate(self.windows):
            target = self.pooled[window, place]
            for row in range(max(start - first, 0), min(stop - first, len(codes))):
                self.combine(target, codes[row], out=target)


def filters_at_once(size):
    """Return how many filters are encoded at once, each with `size` responses."""
    return max(CODE_BLOCK // size, 1)


def pool_columns(pooled, reduce, row_windows, column_windows, out):
    """Write to the map `out` the codes, pooled over rows, pooled over columns as well.

    The shapes are (windows, codes, columns, images) and (windows, codes, windows, images).
    """
    combine = REDUCE[reduce]
    for j, (start, stop) in enumerate(column_windows):
        combine.reduce(pooled[:, :, start:stop], axis=2, out=out[:, :, j])
    if reduce == "avg":
        counts = np.outer(*([b - a for a, b in axis] for axis in (row_windows, column_windows)))
        out *= (1 / counts).astype(out.dtype)[:, None, :, None]
