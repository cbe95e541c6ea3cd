"""Everything known about the data of a fit, as one thing: checked images, targets, and which are held out."""

import copy
import math
from dataclasses import dataclass

import numpy as np
from sklearn.utils.validation import _check_sample_weight, assert_all_finite

from skcnn._data.augment import check_augment
from skcnn._data.containers import refuse_masked
from skcnn._data.images import (
    channel_statistics,
    check_features,
    check_images,
    check_images_as_fitted,
    float_type,
    infer_image_shape,
)
from skcnn._data.readings import read_integers, read_layout
from skcnn._data.targets import Targets
from skcnn.layers._params import naming


@dataclass
class HeldOut:
    """Samples that a fit does not train on, but validates with.

    Attributes
    ----------
    X : ndarray of shape (n_images, n_features)
    index : ndarray of int
        The images of X that are held out.
    y : array-like
        As users gave it, for all of X.
    targets : ndarray
        As the loss takes them, for all of X.
    weights : ndarray of shape (n_images,)
    """

    X: np.ndarray
    index: np.ndarray
    y: object
    targets: np.ndarray
    weights: np.ndarray


@dataclass
class Samples:
    """Checked images and targets, and which of them are trained on.

    Attributes
    ----------
    given : (X, y, sample_weight)
        As the user gave them.
    X : ndarray of shape (n_images, n_features)
        Images in their own dtype.
    image_shape : (int, int, int)
        Rows, columns and channels.
    targets : Targets
    weights : ndarray of shape (n_images,)
        As users gave them, times those of classes, in the float type of the computation.
    train_index : ndarray of int
        The images to train on.
    features : dict
        The fitted attributes ``n_features_in_`` and, if X has names, ``feature_names_in_``.
    augmentation : Augmentation, CallableAugmentation or None
    readings : list of str
        Warnings of how X and y were read.
    held_out : HeldOut or None
    """

    given: tuple
    X: np.ndarray
    image_shape: tuple
    targets: Targets
    weights: np.ndarray
    train_index: np.ndarray
    features: dict
    augmentation: object
    readings: list
    held_out: HeldOut | None = None

    def split(self, fraction, seed):
        """Hold out a share of the samples; each class keeps its share."""
        self.train_index, index = _split(self.targets, self.weights, fraction, seed)
        self.held_out = HeldOut(self.X, index, self.given[1], self.targets.values, self.weights)

    def validate_with(self, X, y, estimator):
        """Hold out images of their own, which are given apart from those to train on."""
        if X is None or y is None:
            given, missing = ("X_val", "y_val") if y is None else ("y_val", "X_val")
            raise ValueError(f"{missing} must be passed together with {given}. Got None instead.")
        given_X = X
        X, own_shape = check_images(X, estimator, "X_val")
        if own_shape not in (None, self.image_shape) or X.shape[1] != np.prod(self.image_shape):
            raise ValueError(
                f"X_val must hold images of the shape of those in X, {self.image_shape}. "
                f"Got {own_shape or X.shape[1:]} instead."
            )
        if own_shape is None:
            named = copy.copy(estimator)
            vars(named).update(self.features)
            check_features(named, given_X, X, reset=False)
        with naming("y_val", "as y is"):
            targets = estimator._encode_targets(y, len(X), self.targets.attributes).values
        ones = np.ones(len(X), self.weights.dtype)
        self.held_out = HeldOut(X, np.arange(len(X)), y, targets, ones)

    def train_weights(self):
        """Return the weights of the samples, 0 for those that are not trained on."""
        weights = np.zeros_like(self.weights)
        weights[self.train_index] = self.weights[self.train_index]
        return weights

    def loss_weights(self):
        """Return the weights in the loss: those of users, or larger ones in the same proportions.

        The penalty is divided by the sum of the weights, as in MLPClassifier. Weights with a mean
        below 1 (zeros aside), as those that sum to 1, would make it so large that nothing else
        counts; they are scaled up to a mean of 1.
        """
        counted = self.weights[self.train_index]
        mean = counted.sum(dtype=np.float64) / np.count_nonzero(counted)
        return self.weights if mean >= 1 else (self.weights / mean).astype(self.weights.dtype)

    def statistics(self, standardize):
        """Return the mean and the deviation of each channel by which images are standardised."""
        channels = self.image_shape[2]
        if not standardize:
            return np.zeros(channels), np.ones(channels)
        is_plain = np.ptp(self.weights) == 0 and len(self.train_index) == len(self.X)
        weights = None if is_plain else self.train_weights()
        return channel_statistics(self.X, self.image_shape, weights)


def check_samples(estimator, given, known, in_pieces=False):
    """Return what the user gave as checked `Samples`, all of them to be trained on.

    Parameters
    ----------
    estimator : CNNClassifier or CNNRegressor
    given : (X, y, sample_weight)
    known : dict
        Attributes that earlier data has set, among them ``_progress`` if training goes on.
    in_pieces : bool
        Whether more data may follow.
    """
    X, y, sample_weight = given
    if "_progress" in known:
        X, image_shape = check_images_as_fitted(X, estimator), estimator.image_shape_
        readings = []
    else:
        X, own_shape = check_images(X, estimator)
        image_shape = infer_image_shape(X.shape[1], own_shape, estimator.image_shape)
        readings = read_layout(own_shape, image_shape, estimator.image_shape)
        readings += read_integers(X, not estimator.standardize, "standardize=True")
    targets = estimator._encode_targets(y, len(X), known)
    weights = _check_weights(sample_weight, X, float_type(X.dtype))
    weights = estimator._weigh(targets, weights, in_pieces)
    if not weights.any():
        raise ValueError("sample_weight must have a positive sum. Got only zeros instead.")
    features = {} if "_progress" in known else _features(estimator, given[0], X)
    augmentation = check_augment(estimator.augment, image_shape)
    index = np.arange(len(X))
    if "_progress" not in known:
        readings += targets.readings
    return Samples(given, X, image_shape, targets, weights, index, features, augmentation, readings)


def _check_weights(sample_weight, X, dtype):
    """Return the weights as an array; an error names the parameter."""
    sample_weight = refuse_masked(sample_weight, "sample_weight")
    requirement = f"None or an array of {len(X)} numbers, none of them negative"
    if getattr(sample_weight, "ndim", 0) > 1:
        requirement += ". Pass validation data by name, as X_val and y_val"
    with naming("sample_weight", requirement), np.errstate(over="ignore"):
        weights = _check_sample_weight(sample_weight, X, dtype=dtype, ensure_non_negative=True)
        assert_all_finite(weights, input_name="sample_weight")  # a single number is not checked
    return weights


def _features(estimator, X, checked):
    """Return the attributes that scikit-learn keeps of the features of X."""
    named = copy.copy(estimator)
    for name in ("n_features_in_", "feature_names_in_"):
        vars(named).pop(name, None)
    before = set(vars(named))
    check_features(named, X, checked, reset=True)
    return {name: value for name, value in vars(named).items() if name not in before}


def _split(targets, weights, fraction, seed):
    """Return the indices of the samples to train on, and of those held out, both sorted."""
    _check_counts(targets, len(weights), fraction)
    from sklearn.model_selection import train_test_split  # takes long to import

    train, held = train_test_split(
        np.arange(len(weights)), test_size=fraction, stratify=targets.strata, random_state=seed
    )
    if not (weights[train].any() and weights[held].any()):
        raise ValueError(
            "sample_weight must be positive for some of the samples trained on and for some of those "
            "that early_stopping=True holds out. Got only zeros for one of them instead."
        )
    return np.sort(train), np.sort(held)


def _check_counts(targets, n_samples, fraction):
    """Raise a `ValueError` if there are too few samples to hold some out."""
    n_held = math.ceil(fraction * n_samples)
    least, what = 2, "two samples, which a score needs,"
    if targets.strata is not None:
        codes, counts = np.unique(targets.strata, return_counts=True)
        if counts.min() < 2:
            label = targets.attributes["classes_"].tolist()[codes[counts.argmin()]]
            raise ValueError(
                "early_stopping=True must have at least two samples of each class, to hold some "
                f"out. Got one of class {label!r} instead: add samples, pass X_val and y_val, or "
                "set early_stopping=False."
            )
        least, what = len(codes), f"one sample for each of {len(codes)} classes"
    if n_held < least or n_samples - n_held < least:
        raise ValueError(
            f"validation_fraction must hold out at least {what} and leave as many. Got {fraction}, "
            f"which is {n_held} of {n_samples} samples, instead: choose another fraction, pass X_val "
            "and y_val, or set early_stopping=False."
        )
