"""Attributions of features, spread back over the pixels that the features depend on.

Values have shape (sets, rows, columns, channels). Each step keeps their sum.
"""

from typing import NamedTuple

import numpy as np

from skcnn._engine.geometry import Axis


class SignsBack(NamedTuple):
    """Adds the values of the two codes of each filter."""

    n_filters: int

    def spread(self, values):
        """Return the values of the filters, given those of their codes."""
        return values[..., : self.n_filters] + values[..., self.n_filters :]


class PoolBack(NamedTuple):
    """Spreads the value of each window evenly over its positions."""

    windows: tuple  # two lists of (start, stop), for rows and for columns
    map_shape: tuple

    def spread(self, values):
        """Return the values of the positions in the map, given those of the windows."""
        for axis, (spans, n) in enumerate(zip(self.windows, self.map_shape, strict=True), start=1):
            shares = np.zeros((len(spans), n))
            for share, (start, stop) in zip(shares, spans, strict=True):
                share[start:stop] = 1 / (stop - start)
            values = np.moveaxis(np.tensordot(values, shares, (axis, 0)), -1, axis)
        return values


class ConvBack(NamedTuple):
    """Spreads the value of each output over the pixels under the filter, by absolute weight.

    The padding gets no value: where a filter sees only padding, the nearest pixel gets all of it.
    """

    filters: np.ndarray  # (filters, kernel rows, kernel columns, channels of a group)
    rows: Axis
    columns: Axis
    groups: int = 1

    def spread(self, values):
        """Return the values of the input, given those of the output."""
        shares = np.abs(self.filters).astype(float)
        shares[~shares.any(axis=(1, 2, 3))] = 1
        taps = [
            (shares[:, i, j], (slice(None), out_r, out_c), (slice(None), in_r, in_c))
            for i, out_r, in_r in self.rows.taps()
            for j, out_c, in_c in self.columns.taps()
        ]
        seen = np.zeros((1, *values.shape[1:]))
        for share, out, _ in taps:
            seen[out] += share.sum(axis=1)
        unseen = values * (seen == 0)
        values = values / np.where(seen > 0, seen, np.inf)
        nearest = np.ix_(
            range(len(values)), *(_middles(axis) for axis in (self.rows, self.columns))
        )
        parts = []
        for own in np.split(np.arange(len(shares)), self.groups):
            part = np.zeros((len(values), self.rows.n_in, self.columns.n_in, shares.shape[3]))
            for share, out, origin in taps:
                part[origin] += values[out][..., own] @ share[own]
            lost = unseen[..., own].sum(axis=3, keepdims=True) / part.shape[3]
            np.add.at(part, nearest, lost)
            parts.append(part)
        return np.concatenate(parts, axis=3)


class NoWayBack(NamedTuple):
    """Stands for a layer whose outputs cannot be spread over its inputs."""

    layer: object

    def spread(self, values):
        """Raise a `ValueError`."""
        raise ValueError(
            "inverse_importance takes networks of convolutions, poolings and layers that act on "
            f"each value alone. Got {self.layer!r} among their layers instead."
        )


def _middles(axis):
    """Return the position nearest to the middle of each window of a convolution's `Axis`."""
    middles = np.arange(axis.n_out) * axis.stride - axis.before + axis.extent // 2
    return np.clip(middles, 0, axis.n_in - 1)


def layer_windows(axis):
    """Return ``(start, stop)`` of the windows of a pooling layer's `Axis`, padding left out."""
    starts = (i * axis.stride - axis.before for i in range(axis.n_out))
    return [(max(start, 0), min(start + axis.size, axis.n_in)) for start in starts]
