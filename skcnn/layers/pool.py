"""Pooling layers: the maximum or the mean of each window, or of the whole map."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from sklearn.utils._param_validation import StrOptions

from skcnn._engine import pooling
from skcnn._engine.buffers import Scratch
from skcnn._engine.geometry import Axis, pair, plan_axes
from skcnn.layers.base import (
    NOT_NEGATIVE,
    POSITIVE,
    Arrays,
    Layer,
    Shape,
    Workspace,
    check_map_shape,
)
from skcnn.layers.conv import check_pair


class _Pool(Layer):
    """Base of the pooling layers: their parameters and the geometry of their windows."""

    _parameter_constraints: ClassVar[dict] = {
        "pool_size": [POSITIVE, tuple, list],
        "stride": [None, POSITIVE, tuple, list],
        "padding": [StrOptions({"valid", "same"}), NOT_NEGATIVE, tuple, list],
    }

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        *,
        stride: int | Sequence[int] | None = None,
        padding: str | int | Sequence[int] = "valid",
    ) -> None:
        self.pool_size = pool_size
        self.stride = stride
        self.padding = padding

    def validate(self) -> None:
        super().validate()
        check_pair("pool_size", self.pool_size, 1)
        check_pair("stride", self.stride, 1)
        check_pair("padding", self.padding, 0)
        if not isinstance(self.padding, str) and any(
            p >= k for p, k in zip(pair(self.padding), pair(self.pool_size), strict=True)
        ):
            raise ValueError(
                f"padding must be smaller than pool_size={self.pool_size!r}. "
                f"Got {self.padding!r} instead."
            )

    def axes(self, input_shape: Shape) -> tuple[Axis, Axis]:
        """Return the row `Axis` and the column `Axis`, with windows no larger than the map."""
        stride = self.pool_size if self.stride is None else self.stride
        size = tuple(min(k, n) for k, n in zip(pair(self.pool_size), input_shape[:2], strict=True))
        padding = self.padding
        if not isinstance(padding, str):
            padding = tuple(min(p, k - 1) for p, k in zip(pair(padding), size, strict=True))
        return plan_axes(input_shape, size, stride, 1, padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        check_map_shape(input_shape)
        rows, columns = self.axes(input_shape)
        return (rows.n_out, columns.n_out, input_shape[2])


class MaxPool(_Pool):
    """Maximum of each window.

    If several values of a window are equal, the first in reading order receives the gradient. A
    window is never larger than the map, and padding is never the maximum.

    Parameters
    ----------
    pool_size : int or (int, int), default=2
        Rows and columns of the window.

    stride : int or (int, int), default=None
        Rows and columns from one window to the next; None means `pool_size`.

    padding : {"valid", "same"}, int or (int, int), default="valid"
        Rows and columns of padding on each side of the map, fewer than `pool_size`. "valid" means
        none; "same" means as many as keep the size of the map with a stride of 1.

    Examples
    --------
    >>> from skcnn.layers import MaxPool
    >>> MaxPool(2).output_shape((28, 28, 16))
    (14, 14, 16)
    """

    def buffer_shapes(self, input_shape: Shape, n_images: int) -> dict[str, Shape]:
        rows, columns, channels = input_shape
        out_rows, out_columns, _ = self.output_shape(input_shape)
        return {
            "t": (rows, channels, out_columns, n_images),
            "y": (out_rows, channels, out_columns, n_images),
            "dt": Scratch((rows, channels, out_columns, n_images)),
            "left_rows": Scratch((out_rows, channels, out_columns, n_images)),
            "left_columns": Scratch((rows, channels, out_columns, n_images)),
            "dx": (rows, channels, columns, n_images),
        }

    def forward(self, x: np.ndarray, weights: Arrays, work: Workspace) -> np.ndarray:
        rows, columns = work.once("axes", self.axes)
        work["x"] = x
        pooling.pool_axis(np.maximum, x, 2, columns, work["t"])
        pooling.pool_axis(np.maximum, work["t"], 0, rows, work["y"])
        return work["y"]

    def backward(
        self, dy: np.ndarray, weights: Arrays, grads: Arrays, work: Workspace
    ) -> np.ndarray | None:
        rows, columns = work.once("axes", self.axes)
        t, dt, dx = work["t"], work["dt"], work["dx"]
        pooling.max_axis_backward(dy, t, work["y"], 0, rows, work["left_rows"], dt)
        pooling.max_axis_backward(dt, work["x"], t, 2, columns, work["left_columns"], dx)
        return dx


class AvgPool(_Pool):
    """Mean of each window.

    A window is never larger than the map, and padding does not count towards the mean.

    Parameters
    ----------
    pool_size : int or (int, int), default=2
        Rows and columns of the window.

    stride : int or (int, int), default=None
        Rows and columns from one window to the next; None means `pool_size`.

    padding : {"valid", "same"}, int or (int, int), default="valid"
        Rows and columns of padding on each side of the map, fewer than `pool_size`. "valid" means
        none; "same" means as many as keep the size of the map with a stride of 1.

    Examples
    --------
    >>> from skcnn.layers import AvgPool
    >>> AvgPool(3, stride=2).output_shape((28, 28, 16))
    (13, 13, 16)
    """

    def buffer_shapes(self, input_shape: Shape, n_images: int) -> dict[str, Shape]:
        rows, columns, channels = input_shape
        out_rows, out_columns, _ = self.output_shape(input_shape)
        return {
            "sums": Scratch((out_rows, channels, columns, n_images)),
            "y": (out_rows, channels, out_columns, n_images),
            "dx": (rows, channels, columns, n_images),
        }

    def _shares(self, input_shape: Shape) -> np.ndarray:
        """Return the reciprocal number of values in each window, shaped to multiply a map."""
        rows, columns = (pooling.window_counts(axis) for axis in self.axes(input_shape))
        return (1 / np.outer(rows, columns))[:, None, :, None]

    def _average(self, sums: np.ndarray, work: Workspace) -> None:
        """Divide the sums of windows by their numbers of values, in place."""
        shares = work.once("shares", self._shares)
        sums *= shares.item(0) if (shares == shares.item(0)).all() else shares.astype(work.dtype)

    def forward(self, x: np.ndarray, weights: Arrays, work: Workspace) -> np.ndarray:
        rows, columns = work.once("axes", self.axes)
        pooling.pool_axis(np.add, x, 0, rows, work["sums"])
        pooling.pool_axis(np.add, work["sums"], 2, columns, work["y"])
        self._average(work["y"], work)
        return work["y"]

    def backward(
        self, dy: np.ndarray, weights: Arrays, grads: Arrays, work: Workspace
    ) -> np.ndarray | None:
        rows, columns = work.once("axes", self.axes)
        self._average(dy, work)
        pooling.sum_axis_backward(dy, 2, columns, work["sums"])
        pooling.sum_axis_backward(work["sums"], 0, rows, work["dx"])
        return work["dx"]


class _Global:
    """Mixin of the global pooling layers: no parameters, and one window, the whole map."""

    _parameter_constraints: ClassVar[dict] = {}

    def __init__(self) -> None:
        pass

    def validate(self) -> None:
        """Do nothing, as there are no parameters."""

    def axes(self, input_shape: Shape) -> tuple[Axis, Axis]:
        return plan_axes(input_shape, input_shape[:2], input_shape[:2], 1, "valid")


class GlobalMaxPool(_Global, MaxPool):
    """Maximum of each channel over the whole map.

    Examples
    --------
    >>> from skcnn.layers import GlobalMaxPool
    >>> GlobalMaxPool().output_shape((7, 7, 16))
    (1, 1, 16)
    """


class GlobalAvgPool(_Global, AvgPool):
    """Mean of each channel over the whole map.

    Examples
    --------
    >>> from skcnn.layers import GlobalAvgPool
    >>> GlobalAvgPool().output_shape((7, 7, 16))
    (1, 1, 16)
    """
