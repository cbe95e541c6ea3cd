"""Encoding and pooling of a convolution's responses, block by block in cache.

The responses of a few rows are divided by the contrast of their patches, encoded and pooled at
once. The map of all codes, which is large for hundreds of filters, is never stored.
"""

import numpy as np

from skcnn._engine.activations import ACTIVATIONS, zeros_like_part
from skcnn._engine.blocks import CODE_BLOCK, even_slices
from skcnn._engine.pooling import pool_axis

REDUCE = {"max": np.maximum, "avg": np.add, "sum": np.add}


def inverse_contrast(plan, x, offset, work):
    """Return ``1 / sqrt(variance + offset)`` of every patch of `x`, shape (rows, columns * images).

    Box filters compute the sums over patches. The function writes to the work buffers "square",
    "box_columns" and "box".
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
    """One code per filter: an activation of its response."""

    is_separate = True  # a filter's codes do not depend on the other filters

    def __init__(self, name, n_filters):
        self.name = name
        self.n_codes = self.n_responses = self.n_intercepts = n_filters

    def encode(self, z, intercept, filters, scratch):
        """Yield ``(codes, indices of the codes)`` for the responses `z`, which are overwritten."""
        z += intercept[filters, None]
        ACTIVATIONS[self.name].forward(z, z)
        yield z, filters


class BothSigns:
    """Two codes per filter: ``max(z + a, 0)`` and ``max(b - z, 0)`` with intercepts `a` and `b`."""

    is_separate = True

    def __init__(self, n_filters):
        self.n_responses = n_filters
        self.n_codes = self.n_intercepts = 2 * n_filters

    def encode(self, z, intercept, filters, scratch):
        """Yield ``(codes, indices of the codes)`` for the responses `z`, which are overwritten."""
        others = slice(filters.start + self.n_responses, filters.stop + self.n_responses)
        z += intercept[filters, None]
        yield np.maximum(z, zeros_like_part(z), out=scratch[: len(z), : z.shape[1]]), filters
        np.subtract((intercept[filters] + intercept[others])[:, None], z, out=z)
        yield np.maximum(z, zeros_like_part(z), out=z), others


class Triangle:
    """``max(0, mean distance - distance)`` for each centre (Coates, Ng and Lee, 2011).

    The distances are those of a patch x from the centres c. The responses, with their intercepts,
    are ``|c|^2 - 2 c.x`` for all centres, followed by components of x whose squares add up to
    ``|x|^2``.
    """

    is_separate = False

    def __init__(self, n_filters, n_components):
        self.n_codes = n_filters
        self.n_responses = self.n_intercepts = n_filters + n_components

    def encode(self, z, intercept, filters, scratch):
        """Yield ``(codes, indices of the codes)`` for the responses `z`, which are overwritten."""
        z += intercept[:, None]
        distances, components = z[:, : self.n_codes], z[:, self.n_codes :]
        distances += np.einsum("rfl,rfl->rl", components, components)[:, None]
        nothing = zeros_like_part(distances)
        np.maximum(distances, nothing, out=distances)
        np.sqrt(distances, out=distances)
        np.subtract(distances.mean(axis=1, keepdims=True), distances, out=distances)
        yield np.maximum(distances, nothing, out=distances), slice(0, self.n_codes)


class EncodeSink:
    """Encodes the output of a convolution block by block, and pools the codes over rows.

    Parameters
    ----------
    encoder : Activated, BothSigns or Triangle
    intercept : ndarray of shape (n_intercepts,)
    factor : ndarray of shape (rows, columns * images) or None
        Number by which the responses of each patch are multiplied.
    reduce : {"max", "avg", "sum"}
    windows : list of (int, int)
        First row of each window, and the row after its last.
    scratch : ndarray
        Work buffer for the codes of a part of a block.
    pooled : ndarray of shape (windows, codes, columns, images)
        Output, written by `finish`.
    """

    def __init__(self, encoder, intercept, factor, reduce, windows, scratch, pooled):
        self.encoder = encoder
        self.intercept = intercept
        self.factor = factor
        self.combine = REDUCE[reduce]
        self.windows = windows
        self.scratch = scratch
        self.pooled = pooled.reshape(*pooled.shape[:2], -1)
        pooled.fill(-np.inf if reduce == "max" else 0)

    def part(self, filters):
        """Return this sink, as an encoded convolution has only one group."""
        return self

    def finish(self, rows, z):
        """Encode the output `rows`, and pool them into the windows that contain them."""
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
    """Return the number of filters, each with `size` responses, that are encoded at once."""
    return max(CODE_BLOCK // size, 1)


def pool_columns(pooled, reduce, row_windows, column_windows, out):
    """Pool codes over columns that are already pooled over rows, and write them to the map `out`.

    `pooled` has shape (row windows, codes, columns, images), and `out` has shape (row windows,
    codes, column windows, images).
    """
    combine = REDUCE[reduce]
    for j, (start, stop) in enumerate(column_windows):
        combine.reduce(pooled[:, :, start:stop], axis=2, out=out[:, :, j])
    if reduce == "avg":
        counts = np.outer(*([b - a for a, b in axis] for axis in (row_windows, column_windows)))
        out *= (1 / counts).astype(out.dtype)[:, None, :, None]
