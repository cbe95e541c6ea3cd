"""The score of an image that saliency explains: one logit of a fitted network."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skcnn._data.images import check_images_as_fitted
from skcnn._estimator import BaseCNN
from skcnn._model.trace import IMAGES_AT_ONCE, PlainNetwork
from skcnn.layers._params import naming


class Score:
    """The logit of one class, or one output of a regressor, for each of some images.

    Parameters
    ----------
    estimator : CNNClassifier or CNNRegressor
    X : array-like
    target : label, array-like of labels or None
        As in `saliency`.

    Attributes
    ----------
    plain : PlainNetwork
    maps : ndarray of shape (rows, channels, columns, n_images)
        The images as they enter the network.
    per_unit : ndarray of shape (channels, 1)
        Change of the maps when an image changes by one.
    outputs : ndarray of int, shape (n_images,)
        Which of the network's outputs is the score of each image.
    signs : ndarray of shape (n_images,)
        What it is multiplied by: of two classes the first has the logit of the second, negative.
    """

    def __init__(self, estimator: BaseEstimator, X: ArrayLike, target: Any = None) -> None:
        check_cnn(estimator)
        self._model = model = estimator._model
        images = model.images(check_images_as_fitted(X, estimator))
        self.image_shape = model.image_shape
        self.plain = PlainNetwork(model.network, model.weights, "output", learning=True)
        self.maps = images.maps(slice(None))
        self.per_unit = images.factor[:, 0]
        self.outputs, self.signs = self._chosen(estimator, X, target)

    def __len__(self) -> int:
        return self.maps.shape[3]

    def _chosen(
        self, estimator: BaseEstimator, X: ArrayLike, target: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the output of each image and its sign."""
        ones = np.ones(len(self), self.plain.dtype)
        if not hasattr(estimator, "classes_"):
            outputs = _check_target(0 if target is None else target, len(self))
            _check_known(outputs, np.arange(estimator.n_outputs_), "numbers of outputs")
            is_linear = estimator.out_activation_ == "identity"
            return outputs, ones * estimator.y_scale_[outputs] if is_linear else ones
        classes = estimator.classes_
        if target is None:
            codes = estimator.predict_proba(X).argmax(axis=1)
        else:
            labels = _check_target(target, len(self))
            _check_known(labels, classes, "labels of classes_")
            codes = np.searchsorted(classes, labels)
        if estimator.n_outputs_ == 1 and len(classes) == 2:
            return np.zeros(len(self), int), np.where(codes == 1, ones, -ones)
        return codes, ones

    def names(self, estimator: BaseEstimator) -> list[str]:
        """Return what is explained, for each image."""
        if not hasattr(estimator, "classes_"):
            return [f"output {n}" for n in self.outputs]
        codes = self.outputs
        if estimator.n_outputs_ == 1:
            codes = (self.signs > 0).astype(int)
        labels = estimator.classes_[codes]
        return [f"class {label}" if not isinstance(label, str) else label for label in labels]

    def baseline(self, value: Any) -> np.ndarray:
        """Return an image to compare with, shape (rows, channels, columns, 1), as it would enter.

        Parameters
        ----------
        value : None, float or array-like
            As in `saliency`.
        """
        shape = self.image_shape
        if value is None:
            return np.zeros((shape[0], shape[2], shape[1], 1), self.plain.dtype)
        with naming("baseline", "a number or an array of real numbers"):
            is_number = np.ndim(value) == 0
            value = check_array(
                np.atleast_1d(value), ensure_2d=False, allow_nd=True, input_name="baseline"
            )
        value = value[0] if is_number else value
        if value.shape == shape[:2] and shape[2] == 1:
            value = value[..., None]
        if value.ndim and value.shape not in (shape, shape[2:]):
            raise ValueError(
                f"baseline must be None, a number, a colour of {shape[2]} channels or an image of "
                f"shape {shape}. Got shape {value.shape} instead."
            )
        flat = np.broadcast_to(value, shape).reshape(1, -1)
        return self._model.images(flat).maps(slice(None))

    def values(self, maps: np.ndarray, image: int) -> np.ndarray:
        """Return the scores of `maps`, of any number, all of them variants of one image."""
        scores = []
        for start in range(0, maps.shape[3], IMAGES_AT_ONCE):
            *_, (_, y) = self.plain.forward(maps[..., start : start + IMAGES_AT_ONCE])
            scores.append(self.signs[image] * y[0, self.outputs[image], 0])
        return np.concatenate(scores)

    def gradient(
        self, maps: np.ndarray, images: Any, layer: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradient of the scores of `maps` and what it is taken of: `maps` or a layer.

        Parameters
        ----------
        maps : ndarray of shape (rows, channels, columns, n), n at most IMAGES_AT_ONCE
        images : int, slice or ndarray of int
            The images that the maps are variants of.
        layer : str or None
            The step whose output the gradient is taken of.
        """
        of = maps
        for name, y in self.plain.forward(maps):
            if name == layer:
                of = y.copy()
        n = maps.shape[3]
        dy = np.zeros_like(y)
        outputs, signs = (np.broadcast_to(a[images], n) for a in (self.outputs, self.signs))
        dy[0, outputs, 0, np.arange(n)] = signs
        return self.plain.backward(dy, last=layer), of


def check_cnn(estimator: BaseEstimator) -> None:
    """Raise an error unless `estimator` is a fitted network."""
    if not isinstance(estimator, BaseCNN):
        raise TypeError(
            f"estimator must be a fitted CNNClassifier or CNNRegressor. Got {estimator!r} instead."
        )
    check_is_fitted(estimator)


def _check_target(target: Any, n_images: int) -> np.ndarray:
    """Return one label for each image."""
    labels = np.asarray(target)
    if labels.ndim > 1 or (labels.ndim and len(labels) != n_images):
        raise ValueError(
            f"target must be one label, or one for each of {n_images} images. "
            f"Got shape {labels.shape} instead."
        )
    return np.broadcast_to(labels, n_images)


def _check_known(labels: np.ndarray, known: np.ndarray, what: str) -> None:
    try:
        unknown = np.setdiff1d(labels, known)
    except TypeError:  # of kinds that cannot be compared
        unknown = labels
    if len(unknown):
        raise ValueError(f"target must hold {what}, {known}. Got {unknown} instead.")
