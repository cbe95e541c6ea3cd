"""A display of the feature maps that the layers compute from an image."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from skcnn._data.images import check_images_as_fitted
from skcnn.inspection._draw import (
    add_colorbar,
    as_picture,
    cells_height,
    divided,
    draw_cells,
    scale,
)
from skcnn.layers._params import check_params
from skcnn.layers.base import POSITIVE


class FeatureMapDisplay:
    """Feature maps of one image: a row of maps for each layer, or all maps of one layer.

    The maps of a layer share one colour scale, which is centred on 0 if any of them is negative and
    starts at 0 otherwise. Outputs of dense layers are drawn as bars, maps of one row as lines.

    Parameters
    ----------
    maps : dict of ndarray
        Outputs of shape (rows, columns, channels) or (units,), keyed by the names of the layers.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (n_layers,)
        The axes of each layer.
    figure_ : matplotlib Figure
        The figure that holds the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcnn import CNNClassifier
    >>> from skcnn.inspection import FeatureMapDisplay
    >>> from skcnn.layers import Conv, MaxPool
    >>> digits = load_digits()
    >>> X, y = digits.images, digits.target
    >>> clf = CNNClassifier((Conv(8), MaxPool()), max_iter=5, random_state=0).fit(X, y)
    >>> display = FeatureMapDisplay.from_estimator(clf, X[:1], layers=["0 Conv relu", "1 MaxPool"])
    >>> display.maps["1 MaxPool"].shape
    (4, 4, 8)
    """

    def __init__(self, maps: dict[str, np.ndarray]) -> None:
        self.maps = maps

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        layers: str | Sequence[str] | None = None,
        image: int = 0,
        max_maps: int | None = None,
        ax: Any = None,
        cmap: Any = None,
    ) -> Self:
        """Draw the feature maps that a fitted estimator computes from an image.

        Parameters
        ----------
        estimator : CNNClassifier, CNNRegressor or ConvFeatureExtractor
            A fitted estimator.
        X : array-like
            Images, in any form that `fit` takes.
        layers : str or list of str, default=None
            Names of layers in ``estimator.trace(X)``: "0 Conv" is the output before the activation,
            "0 Conv relu" the output after it. None means all outputs that are maps.
        image : int, default=0
            Index of the image in X.
        max_maps : int, default=None
            Largest number of maps to draw from each layer, starting with the first. None means 8,
            or 64 for a single layer.
        ax : matplotlib Axes or array of Axes, default=None
            The axes to draw on; None makes a new figure, and one Axes is divided if necessary.
        cmap : str or Colormap, default=None
            Colour map of all layers; None chooses one by the signs of a layer's values.

        Returns
        -------
        display : FeatureMapDisplay
            The display, drawn.
        """
        if isinstance(estimator, type) or not hasattr(estimator, "trace"):
            raise TypeError(
                "estimator must be a fitted CNNClassifier, CNNRegressor or ConvFeatureExtractor. "
                f"Got {estimator!r} instead."
            )
        check_is_fitted(estimator)
        check_params({"layers": layers}, {"layers": [str, list, tuple, None]}, cls.__name__)
        if issparse(X) or len(getattr(X, "shape", ())) < 2:
            check_images_as_fitted(X, estimator)  # raises the errors that all methods raise
        images: Any = X if hasattr(X, "shape") or hasattr(X, "iloc") else np.asarray(X)
        is_int = isinstance(image, Integral) and not isinstance(image, bool)
        if not is_int or not -len(images) <= image < len(images):
            raise ValueError(
                f"image must be an index of {len(images)} images in X. Got {image!r} instead."
            )
        one = images.iloc[[image]] if hasattr(images, "iloc") else images[[image]]
        trace = {name: array[0] for name, array in estimator.trace(one).items()}
        names = [layers] if isinstance(layers, str) else layers
        if names is None:
            names = [n for n, a in trace.items() if a.ndim == 3 and a[..., 0].size > 1]
            names = [n for n in names if n != "output"]
        unknown = [name for name in names if name not in trace]
        if unknown:
            raise ValueError(f"layers must be among {list(trace)}. Got {unknown} instead.")
        display = cls({name: trace[name] for name in names})
        return display.plot(ax=ax, max_maps=max_maps, cmap=cmap)

    def plot(self, ax: Any = None, *, max_maps: int | None = None, cmap: Any = None) -> Self:
        """Draw the maps.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            The axes to draw on; None makes a new figure, and one Axes is divided if necessary.
        max_maps : int, default=None
            As in `from_estimator`.
        cmap : str or Colormap, default=None
            As in `from_estimator`.

        Returns
        -------
        display : FeatureMapDisplay
            The display itself.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        check_params(
            {"max_maps": max_maps}, {"max_maps": [POSITIVE, None]}, "FeatureMapDisplay.plot"
        )
        is_dict = isinstance(self.maps, dict) and len(self.maps)
        if not is_dict or not all(np.ndim(maps) in (1, 3) for maps in self.maps.values()):
            raise ValueError(
                "maps must be a dict of arrays of shape (rows, columns, channels) or (units,), and "
                f"not empty. Got {self.maps!r} instead."
            )
        alone = len(self.maps) == 1
        n_most = max_maps or (64 if alone else 8)
        n_columns = {name: self._columns(maps, n_most, alone) for name, maps in self.maps.items()}
        heights = [
            _row_height(maps, min(maps.shape[-1], n_most), n_columns[name])
            for name, maps in self.maps.items()
        ]
        self.figure_, axes = divided(ax, len(self.maps), 1, sum(heights), height_ratios=heights)
        self.axes_ = axes[:, 0]
        for axes, (name, maps) in zip(self.axes_, self.maps.items(), strict=True):
            shape = " x ".join(map(str, maps.shape))
            n_all = maps.shape[-1]
            if name == "input" and maps.shape[0] > 1 and n_all in (1, 3):
                shades = as_picture(maps, maps.min(), maps.max())
                draw_cells(axes, [shades], n_columns[name], "gray", None)
                axes.set_title(f"{name}: {shape}", loc="left", fontsize=10)
                continue
            more = f", {n_most} of {n_all} maps" if not _are_units(maps) and n_most < n_all else ""
            axes.set_title(f"{name}: {shape}{more}", loc="left", fontsize=10)
            if _are_units(maps):
                _draw_units(axes, maps.reshape(-1))
                continue
            own_cmap, norm = scale(maps, cmap)
            cells = list(np.moveaxis(maps, 2, 0)[:n_most])
            draw_cells(axes, cells, n_columns[name], own_cmap, norm)
            if maps.shape[0] > 1:
                add_colorbar(self.figure_, axes, own_cmap, norm)
        return self

    @staticmethod
    def _columns(maps: np.ndarray, n_most: int, alone: bool) -> int:
        """Return the number of maps in a row."""
        if _are_units(maps):
            return 1
        is_signal = maps.shape[0] == 1
        if not alone:
            return 4 if is_signal else min(n_most, 8)
        n = min(maps.shape[2], n_most)
        return min(n, 4) if is_signal else min(n, max(8, int(np.ceil(np.sqrt(2 * n)))))


def _are_units(maps: np.ndarray) -> bool:
    """Whether each channel holds a single number."""
    return maps.size == maps.shape[-1]


def _row_height(maps: np.ndarray, n_cells: int, n_columns: int) -> float:
    """Return the height of a layer's row in inches, including its title."""
    if _are_units(maps):
        return 1.3
    return min(cells_height(n_cells, n_columns, maps.shape), 8) + 0.35


def _draw_units(ax: Any, values: np.ndarray) -> None:
    """Draw the outputs of a dense layer as bars."""
    ax.bar(np.arange(len(values)), values, color="0.35", width=0.8)
    ax.axhline(0, color="0.7", linewidth=0.6)
    ax.set_xlim(-0.6, max(len(values), 10) - 0.4)
    if len(values) <= 20:
        ax.set_xticks(np.arange(len(values)))
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
