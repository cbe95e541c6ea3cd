"""A display of the images for which a network is most wrong."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skcnn._data.images import check_images_as_fitted
from skcnn._engine.losses import MultilabelCrossEntropy
from skcnn.inspection._draw import PAGE_WIDTH, cell_width, divided, limits, show_image
from skcnn.inspection._score import check_cnn
from skcnn.layers._params import check_params, naming
from skcnn.layers.base import POSITIVE


class ErrorDisplay:
    """Images that a classifier gets wrong most confidently, or a regressor by the largest error.

    Parameters
    ----------
    images : ndarray of shape (n_images, rows, columns, channels)
        The images to draw.
    y_true, y_pred : array-like of shape (n_images,)
        Targets and predictions of the images.
    confidences : array-like of shape (n_images,), default=None
        Probabilities of the predicted labels; None for a regressor.
    n_errors : int, default=None
        Number of all images with a wrong label, drawn or not; None for a regressor.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (n_images,)
        The axes of each image.
    figure_ : matplotlib Figure
        The figure that holds the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcnn import CNNClassifier
    >>> from skcnn.inspection import ErrorDisplay
    >>> digits = load_digits()
    >>> X, y = digits.images, digits.target
    >>> clf = CNNClassifier(max_iter=2, random_state=0).fit(X[:500], y[:500])
    >>> display = ErrorDisplay.from_estimator(clf, X[500:], y[500:], n_images=6)
    >>> bool((display.y_true != display.y_pred).all())
    True
    """

    def __init__(
        self,
        images: np.ndarray,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        confidences: ArrayLike | None = None,
        n_errors: int | None = None,
    ) -> None:
        self.images = images
        self.y_true: Any = y_true
        self.y_pred: Any = y_pred
        self.confidences: Any = confidences
        self.n_errors = n_errors

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        y: ArrayLike,
        *,
        n_images: int = 12,
        class_names: Sequence[str] | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the images for which a fitted network is most wrong.

        Parameters
        ----------
        estimator : CNNClassifier or CNNRegressor
            A fitted network.
        X : array-like
            Images, in any form that `fit` takes.
        y : array-like of shape (n_samples,)
            Labels or numbers of the images.
        n_images : int, default=12
            Largest number of images to draw.
        class_names : list of str, default=None
            A name for each of ``classes_``; None means the labels themselves.
        ax : matplotlib Axes or array of Axes, default=None
            The axes to draw on; None makes a new figure, and one Axes is divided if necessary.

        Returns
        -------
        display : ErrorDisplay
            The display, drawn.
        """
        check_cnn(estimator)
        if isinstance(estimator._loss, MultilabelCrossEntropy):
            raise ValueError("estimator must predict one label per image. Got many instead.")
        flat = check_images_as_fitted(X, estimator)
        images = flat.reshape(-1, *estimator.image_shape_)
        confidences = None
        if hasattr(estimator, "classes_"):
            probabilities = estimator.predict_proba(X)
            confidences = probabilities.max(axis=1)
            y_pred = estimator.classes_[probabilities.argmax(axis=1)]
        else:
            y_pred = estimator.predict(X)
        names = _names_of_classes(class_names, getattr(estimator, "classes_", ()))
        return cls.from_predictions(
            images,
            y,
            y_pred,
            confidences,
            n_images=n_images,
            class_names=names,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        images: ArrayLike,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        confidences: ArrayLike | None = None,
        *,
        n_images: int = 12,
        class_names: Mapping[Any, str] | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the images whose predictions are most wrong.

        Parameters
        ----------
        images : ndarray of shape (n_samples, rows, columns) or (n_samples, rows, columns, channels)
            The images of all predictions.
        y_true, y_pred : array-like of shape (n_samples,)
            Targets and predictions of the images.
        confidences : array-like of shape (n_samples,), default=None
            Probabilities of the predicted labels. None means that y holds numbers; the images with
            the largest differences are drawn then.
        n_images : int, default=12
            Largest number of images to draw.
        class_names : dict, default=None
            Names of the labels, keyed by label; None means the labels themselves.
        ax : matplotlib Axes or array of Axes, default=None
            The axes to draw on; None makes a new figure, and one Axes is divided if necessary.

        Returns
        -------
        display : ErrorDisplay
            The display, drawn.
        """
        check_params({"n_images": n_images}, {"n_images": [POSITIVE]}, cls.__name__)
        true, predicted = _flat("y_true", y_true), _flat("y_pred", y_pred)
        check_consistent_length(images, true, predicted, confidences)
        images = np.asarray(images)
        images = images[..., None] if images.ndim == 3 else images
        if images.ndim != 4:
            raise ValueError(
                "images must have shape (n_samples, rows, columns) or (n_samples, rows, columns, "
                f"channels). Got shape {images.shape} instead."
            )
        if confidences is None:
            true, predicted = (
                _flat("y_true", true, np.float64),
                _flat("y_pred", predicted, np.float64),
            )
            order = np.argsort(-np.abs(true - predicted), kind="stable")
            n_errors = None
        else:
            confidences = _flat("confidences", confidences, np.float64)
            wrong = np.flatnonzero(true != predicted)
            order = wrong[np.argsort(-confidences[wrong], kind="stable")]
            n_errors = len(wrong)
        order = order[:n_images]
        display = cls(
            images[order],
            true[order],
            predicted[order],
            confidences=None if confidences is None else confidences[order],
            n_errors=n_errors,
        )
        return display.plot(ax=ax, class_names=class_names)

    def plot(
        self,
        ax: Any = None,
        *,
        class_names: Mapping[Any, str] | None = None,
        n_columns: int | None = None,
    ) -> Self:
        """Draw the images, with their targets and predictions as titles.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            The axes to draw on; None makes a new figure, and one Axes is divided if necessary.
        class_names : dict, default=None
            Names of the labels, keyed by label; None means the labels themselves.
        n_columns : int, default=None
            Number of images in a row; None means up to 6.

        Returns
        -------
        display : ErrorDisplay
            The display itself.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        constraints = {"n_columns": [POSITIVE, None], "class_names": [Mapping, None]}
        check_params(
            {"n_columns": n_columns, "class_names": class_names}, constraints, "ErrorDisplay.plot"
        )
        n = len(self.images)
        width = cell_width(self.images.shape[1:])
        titles = self._titles(class_names or {})
        longest = max((len(line) for title in titles for line in title.split("\n")), default=1)
        if n_columns is None:  # as many as the titles leave room for, at 0.065 inches a letter
            n_columns = min(6 if width < 1.5 else 3, int(PAGE_WIDTH / (0.065 * longest)) or 1)
        n_columns = min(n_columns, max(n, 1))
        n_rows = max(-(-n // n_columns), 1)
        height = n_rows * (PAGE_WIDTH / max(n_columns, 4) / width + 0.4)
        self.figure_, axes = divided(ax, n_rows, n_columns, height)
        self.axes_ = axes.reshape(-1)[:n]
        for spare in axes.reshape(-1)[n:]:
            spare.set_axis_off()
        if n == 0:
            axes[0, 0].text(0, 1, "no errors", fontsize=10, transform=axes[0, 0].transAxes)
            return self
        low, high = limits(self.images)
        for number, axes in enumerate(self.axes_):
            show_image(axes, self.images[number], low, high)
            axes.set_title(titles[number], fontsize=8)
        return self

    def _titles(self, names: Mapping[Any, str]) -> list[str]:
        """Return the title of each image."""
        titles = []
        for number, (true, predicted) in enumerate(zip(self.y_true, self.y_pred, strict=True)):
            if self.confidences is None:
                titles.append(f"true {true:.4g}\npredicted {predicted:.4g}")
                continue
            share = f"{self.confidences[number]:.0%}"
            true, predicted = names.get(true, true), names.get(predicted, predicted)
            titles.append(f"true {true}\npredicted {predicted} ({share})")
        return titles


def _flat(name: str, values: Any, dtype: Any = None) -> np.ndarray:
    """Return values as a 1-D array; an error names them."""
    what = "a 1-D array" if dtype is None else "a 1-D array of numbers"
    with naming(name, what):
        return column_or_1d(values, dtype=dtype)


def _names_of_classes(names: Sequence[str] | None, classes: Any) -> dict[Any, str] | None:
    """Return a dict of a name for each class, or None."""
    if names is None:
        return None
    if isinstance(names, str | Mapping) or np.shape(names) != np.shape(classes):
        raise ValueError(
            f"class_names must be a list of a name for each of {len(classes)} classes_. "
            f"Got {names!r} instead."
        )
    return dict(zip(classes, names, strict=True))
