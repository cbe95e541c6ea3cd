"""A display of images beside the attributions of their pixels."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skcnn._data.images import check_images_as_fitted
from skcnn.inspection._draw import (
    FRAME,
    PAGE_WIDTH,
    SIGNED,
    cell_width,
    divided,
    limits,
    show_image,
)
from skcnn.inspection._saliency import saliency
from skcnn.inspection._score import Score, check_cnn
from skcnn.layers._params import check_params

LABELS = {
    "gradient": "gradient",
    "integrated_gradients": "integrated gradients",
    "grad_cam": "Grad-CAM",
    "occlusion": "occlusion",
}
OPTIONS = {
    "grad_cam": ("layer",),
    "integrated_gradients": ("baseline", "n_steps"),
    "occlusion": ("baseline", "patch_size", "stride"),
}


class SaliencyDisplay:
    """Images beside the attributions of their pixels: a row per image, a column per method.

    Attributions are drawn over a faded image. Red pixels speak for the output that is explained,
    blue pixels against it, and stronger colours mean larger values. Each picture is scaled by its
    largest absolute value.

    Parameters
    ----------
    images : ndarray of shape (n_images, rows, columns, channels)
        The images to draw.
    values : dict of ndarray of shape (n_images, rows, columns)
        Attributions, keyed by method.
    titles : list of str, default=None
        Titles of the images, written to their left.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (n_images, 1 + n_methods)
        The axes of each image and of its attributions.
    figure_ : matplotlib Figure
        The figure that holds the axes.

    See Also
    --------
    saliency : Computes the attributions, and describes the methods.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcnn import CNNClassifier
    >>> from skcnn.inspection import SaliencyDisplay
    >>> digits = load_digits()
    >>> X, y = digits.images, digits.target
    >>> clf = CNNClassifier(max_iter=3, random_state=0).fit(X[:500], y[:500])
    >>> display = SaliencyDisplay.from_estimator(clf, X[:3], method=["gradient", "grad_cam"])
    >>> display.axes_.shape
    (3, 3)
    """

    def __init__(
        self,
        images: np.ndarray,
        values: dict[str, np.ndarray],
        *,
        titles: Sequence[str] | None = None,
    ) -> None:
        self.images = images
        self.values = values
        self.titles = titles

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        method: str | Sequence[str] = "integrated_gradients",
        target: Any = None,
        layer: str | None = None,
        baseline: ArrayLike | None = None,
        n_steps: int = 128,
        patch_size: int | Sequence[int] | None = None,
        stride: int | Sequence[int] | None = None,
        titles: Sequence[str] | None = None,
        ax: Any = None,
        cmap: Any = None,
    ) -> Self:
        """Draw images beside the attributions of their pixels by a fitted network.

        Parameters
        ----------
        estimator : CNNClassifier or CNNRegressor
            A fitted network.
        X : array-like
            Images, in any form that `fit` takes; all of them are drawn.
        method : str or list of str, default="integrated_gradients"
            "gradient", "integrated_gradients", "grad_cam" or "occlusion", or a list of them.
        target, layer, baseline, n_steps, patch_size, stride
            As in `saliency`.
        titles : list of str, default=None
            Titles of the images; None names the class or the output that is explained.
        ax : matplotlib Axes or array of Axes, default=None
            The axes to draw on; None makes a new figure, and one Axes is divided if necessary.
        cmap : str or Colormap, default=None
            Colour map, whose middle stands for 0.

        Returns
        -------
        display : SaliencyDisplay
            The display, drawn.
        """
        check_cnn(estimator)
        check_params({"method": method}, {"method": [str, list, tuple]}, cls.__name__)
        methods = [method] if isinstance(method, str) else list(method)
        options = {
            "layer": layer,
            "baseline": baseline,
            "n_steps": n_steps,
            "patch_size": patch_size,
            "stride": stride,
        }
        values = {}
        for name in methods:
            own = {key: options[key] for key in OPTIONS.get(name, ())}
            values[name] = saliency(estimator, X, method=name, target=target, **own)
        flat = check_images_as_fitted(X, estimator)
        images = flat.reshape(-1, *estimator.image_shape_)
        if titles is None:
            titles = Score(estimator, X, target).names(estimator)
        return cls(images, values, titles=titles).plot(ax=ax, cmap=cmap)

    def plot(self, ax: Any = None, *, cmap: Any = None) -> Self:
        """Draw the images and the attributions.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            The axes to draw on; None makes a new figure, and one Axes is divided if necessary.
        cmap : str or Colormap, default=None
            Colour map, whose middle stands for 0.

        Returns
        -------
        display : SaliencyDisplay
            The display itself.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        check_params(
            {"titles": self.titles}, {"titles": ["array-like", None]}, "SaliencyDisplay.plot"
        )
        images = np.asarray(self.images)
        if images.ndim != 4 or not images.size:
            raise ValueError(
                "images must have shape (n_images, rows, columns, channels), none of them 0. "
                f"Got shape {images.shape} instead."
            )
        is_dict = isinstance(self.values, dict)
        if not is_dict or any(np.shape(v) != images.shape[:3] for v in self.values.values()):
            raise ValueError(
                f"values must be a dict of arrays of shape {images.shape[:3]}. "
                f"Got {self.values!r} instead."
            )
        n_images, n_columns = len(self.images), 1 + len(self.values)
        if self.titles is not None and len(self.titles) != n_images:
            raise ValueError(
                f"titles must hold one title for each of {n_images} images. "
                f"Got {len(self.titles)} instead."
            )
        width = min(PAGE_WIDTH / n_columns, 2.2 if self.images.shape[1] > 1 else PAGE_WIDTH)
        height = 0.95 * n_images * width / min(cell_width(self.images.shape[1:]), 2.5) + 0.4
        size = height, n_columns * width
        self.figure_, self.axes_ = divided(ax, n_images, n_columns, *size)
        low, high = limits(self.images)
        headings = ["image", *(LABELS.get(name, name) for name in self.values)]
        for axes, heading in zip(self.axes_[0], headings, strict=True):
            axes.set_title(heading, fontsize=10)
        for number, row in enumerate(self.axes_):
            image = self.images[number]
            show_image(row[0], image, low, high)
            if self.titles is not None:
                row[0].set_ylabel(self.titles[number], fontsize=10)
            for axes, values in zip(row[1:], self.values.values(), strict=True):
                _show_values(axes, values[number], image, low, high, cmap or SIGNED)
                axes.tick_params(labelbottom=number == n_images - 1)
            row[0].tick_params(labelbottom=number == n_images - 1)
        return self


def _show_values(
    ax: Any, values: np.ndarray, image: np.ndarray, low: float, high: float, cmap: Any
) -> None:
    """Draw attributions over a faded image, or behind a signal."""
    import matplotlib

    is_signal = image.shape[0] == 1 and image.shape[1] > 1
    strength = values / (np.abs(values).max() or 1)
    colours = matplotlib.colormaps.get_cmap(cmap)(0.5 + 0.5 * strength)
    colours[..., 3] = np.minimum(1.2 * np.abs(strength), 1)
    if is_signal:
        show_image(ax, image, low, high)
        bottom, top = ax.get_ylim()
        extent = (-0.5, len(values[0]) - 0.5, bottom, top)
        ax.imshow(colours, extent=extent, aspect="auto", zorder=0)
        return
    # shades from light grey to white let the colours stand out
    shades = _shades(image, low, high)
    ax.imshow(0.8 + 0.2 * shades, cmap="gray", vmin=0, vmax=1)
    ax.imshow(colours)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_edgecolor(FRAME)


def _shades(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the grey values of an image, from 0 to 1."""
    shades = (np.asarray(image, float).mean(axis=2) - low) / ((high - low) or 1)
    return np.clip(shades, 0, 1)
