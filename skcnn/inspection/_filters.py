"""A display of the filters of a layer."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from skcnn._features.fitted import FeaturesMixin
from skcnn._model.trace import PlainNetwork
from skcnn.inspection._draw import (
    add_colorbar,
    cell_width,
    cells_height,
    divided,
    draw_cells,
    scale,
)
from skcnn.inspection._score import check_cnn
from skcnn.layers import Conv, Dense
from skcnn.layers._params import check_params, naming
from skcnn.layers.base import POSITIVE

MAX_CHANNELS = 16


class FilterDisplay:
    """Filters of a layer, side by side and on one colour scale.

    Filters with one channel are drawn with a colour map centred on 0, filters with three channels
    as colour images in which grey is 0. With any other number of channels, each filter is a row of
    the grid and each channel a column. Filters with a single row are drawn as lines.

    Parameters
    ----------
    filters : ndarray of shape (n_filters, rows, columns, channels)
        The filters to draw.
    names : list of str, default=None
        Names to write above the filters.
    n_all : int, default=None
        Number of all filters of the layer, if `filters` holds only some of them.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of all filters.
    figure_ : matplotlib Figure
        The figure that holds the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcnn import ConvFeatureExtractor
    >>> from skcnn.inspection import FilterDisplay
    >>> digits = load_digits()
    >>> X, y = digits.images, digits.target
    >>> features = ConvFeatureExtractor("kmeans", n_filters=16, random_state=0).fit(X)
    >>> display = FilterDisplay.from_estimator(features)
    >>> display.filters.shape
    (16, 5, 5, 1)
    """

    def __init__(
        self,
        filters: np.ndarray,
        *,
        names: Sequence[str] | None = None,
        n_all: int | None = None,
    ) -> None:
        self.filters = filters
        self.names = names
        self.n_all = n_all

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        layer: int | str | None = None,
        max_filters: int | None = 64,
        ax: Any = None,
        title: str | None = None,
        cmap: Any = None,
    ) -> Self:
        """Draw the filters of a fitted estimator.

        Parameters
        ----------
        estimator : CNNClassifier, CNNRegressor or ConvFeatureExtractor
            A fitted estimator.
        layer : int or str, default=None
            Index of a layer in a network, or its name in ``estimator.trace(X)``; the filters of a
            `Dense` layer are as large as its input maps. None means the first convolution.
        max_filters : int, default=64
            Largest number of filters to draw, starting with the first.
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a new figure.
        title : str, default=None
            Title of the axes; None describes what is drawn.
        cmap : str or Colormap, default=None
            Colour map, whose middle stands for 0.

        Returns
        -------
        display : FilterDisplay
            The display, drawn.
        """
        check_params({"max_filters": max_filters}, {"max_filters": [POSITIVE, None]}, cls.__name__)
        if isinstance(estimator, FeaturesMixin):
            check_is_fitted(estimator)
            filters, given = estimator.filters_, estimator.filter_names_
            fixed = [name for name in given if not name[-1].isdigit()]
            shows_names = len(fixed) == len(given) <= MAX_CHANNELS
        else:
            filters, given, shows_names = _layer_filters(estimator, layer), [], False
        names = list(given[:max_filters]) if shows_names else None
        display = cls(filters[:max_filters].copy(), names=names, n_all=len(filters))
        return display.plot(ax=ax, title=title, cmap=cmap)

    def plot(
        self,
        ax: Any = None,
        *,
        title: str | None = None,
        cmap: Any = None,
        n_columns: int | None = None,
    ) -> Self:
        """Draw the filters.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a new figure.
        title : str, default=None
            Title of the axes; None describes what is drawn.
        cmap : str or Colormap, default=None
            Colour map, whose middle stands for 0.
        n_columns : int, default=None
            Number of filters in a row; None chooses one by the number of filters.

        Returns
        -------
        display : FilterDisplay
            The display itself.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        check_params(
            {"n_columns": n_columns}, {"n_columns": [POSITIVE, None]}, "FilterDisplay.plot"
        )
        filters = _checked(self.filters, self.names)
        n, rows, columns, channels = filters.shape
        cmap, norm = scale(np.append(-filters, filters), cmap)
        what = f"{n} of {self.n_all} filters" if n < (self.n_all or n) else f"{n} filters"
        what += f", {rows} x {columns}" + (f" x {channels}" if channels > 1 else "")
        is_colour = channels == 3 and rows > 1
        if channels == 1 or is_colour:
            cells = filters / (2 * norm.halfrange) + 0.5 if is_colour else filters[..., 0]
            n_columns = n_columns or _columns_for(n, filters.shape[1:])
        else:
            shown = min(channels, MAX_CHANNELS)
            filters = filters[:MAX_CHANNELS, ..., :shown]
            cells = filters.transpose(0, 3, 1, 2).reshape(-1, rows, columns)
            n_columns = shown
            what = f"filters (rows) by channels (columns): {len(filters)} of {self.n_all or n}"
            what += f" filters, {shown} of {channels} channels, {rows} x {columns}"
        names = self.names if len(cells) == n else None
        height = cells_height(len(cells), n_columns, (rows, columns), names is not None)
        self.figure_, axes = divided(ax, 1, 1, min(height, 8) + 0.4)
        self.ax_ = axes[0, 0]
        draw_cells(self.ax_, list(cells), n_columns, cmap, norm, names)
        self.ax_.set_title(what if title is None else title, loc="left", fontsize=10)
        if not is_colour and rows > 1:
            add_colorbar(self.figure_, self.ax_, cmap, norm)
        return self


def _checked(filters: Any, names: Sequence[str] | None) -> np.ndarray:
    """Return filters as an array, after checking them and the number of their names."""
    with naming("filters", "an array of real numbers"):
        filters = check_array(
            filters, dtype=float, ensure_2d=False, allow_nd=True, input_name="filters"
        )
    if filters.ndim != 4 or not filters.size:
        raise ValueError(
            "filters must have shape (n_filters, rows, columns, channels), none of them 0. "
            f"Got shape {filters.shape} instead."
        )
    if names is not None and len(names) != len(filters):
        raise ValueError(
            f"names must hold one name for each of {len(filters)} filters. "
            f"Got {len(names)} instead."
        )
    return filters


def _columns_for(n: int, shape: Sequence[int]) -> int:
    """Return the number of filters in a row: up to 4 wide ones, else 8 or ``sqrt(2 * n)``."""
    if cell_width(shape) > 1.5:
        return min(n, 4)
    return min(n, max(8, int(np.ceil(np.sqrt(2 * n)))))


def _layer_filters(estimator: BaseEstimator, layer: int | str | None) -> np.ndarray:
    """Return a layer's filters, as an array of shape (n_filters, rows, columns, channels)."""
    check_cnn(estimator)
    steps = PlainNetwork(estimator._model.network, estimator._model.weights, "output").steps
    steps = [step for step in steps if isinstance(step.layer, Conv | Dense)]
    if layer is None:
        chosen = [step for step in steps if isinstance(step.layer, Conv)]
    elif isinstance(layer, str):
        chosen = [step for step in steps if step.name == layer]
    else:
        chosen = [step for step in steps if step.name.split()[0].split(".")[0] == str(layer)]
    if not chosen:
        raise ValueError(
            "layer must be the number or the name of a layer with filters, "
            f"{[step.name for step in steps]}. Got {layer!r} instead."
        )
    step = chosen[0]
    coef = step.layer.public_coef(step.weights["coef"])
    if isinstance(step.layer, Conv):
        return coef
    rows, columns, channels = step.input_shape
    return coef.T.reshape(-1, channels, rows, columns).transpose(0, 2, 3, 1)
