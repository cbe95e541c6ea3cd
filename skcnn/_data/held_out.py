"""Samples held out while a network trains, and the score that they give it."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils import _safe_indexing

from skcnn._data.images import Images


def split(targets, weights, fraction, seed):
    """Return the numbers of the samples to train on, and of those held out, in order.

    Each class keeps its share.
    """
    if targets.strata is not None:
        codes, counts = np.unique(targets.strata, return_counts=True)
        if counts.min() < 2:
            label = targets.attributes["classes_"].tolist()[codes[counts.argmin()]]
            raise ValueError(
                "early_stopping=True must have at least two samples of each class, to hold some "
                f"out. Got one of class {label!r} instead: add samples, pass X_val and y_val, or "
                "set early_stopping=False."
            )
    from sklearn.model_selection import train_test_split  # takes long to import

    rows, held = train_test_split(
        np.arange(len(weights)), test_size=fraction, stratify=targets.strata, random_state=seed
    )
    if not (weights[rows].any() and weights[held].any()):
        raise ValueError(
            "sample_weight must be positive for some of the samples trained on and for some of those "
            "that early_stopping=True holds out. Got only zeros for one of them instead."
        )
    return np.sort(rows), np.sort(held)


def check_scoring(estimator, scoring):
    """Return the scorer that `scoring` means."""
    from sklearn.metrics import check_scoring as check  # takes long to import

    return check(estimator, scoring)


@dataclass
class HeldOut:
    """Samples held out.

    Attributes
    ----------
    X : ndarray of shape (n_images, n_features)
    rows : ndarray of int
        The images of X that are held out.
    y : array-like
        As users gave it, for all of X.
    targets : ndarray
        As the loss takes them, for all of X.
    weights : ndarray of shape (n_images,)
    """

    X: np.ndarray
    rows: np.ndarray
    y: object
    targets: np.ndarray
    weights: np.ndarray

    def images(self, image_shape, center, scale, dtype):
        """Return all images of X."""
        return Images(self.X, image_shape, center, scale, dtype)

    def scorer(self, estimator, loss, scoring):
        """Return ``score(outputs) -> (score, loss)``.

        Parameters
        ----------
        estimator : CNNClassifier or CNNRegressor
            Fitted but for its weights: it is told the outputs.
        loss : object
        scoring : str, callable or None
        """
        y, weights = _safe_indexing(self.y, self.rows), self.weights[self.rows]
        targets, total = self.targets[self.rows], float(weights.sum(dtype=np.float64))
        X = np.empty((len(self.rows), 0)) if scoring is None else self.X[self.rows]
        score = check_scoring(estimator, scoring)

        def evaluate(outputs):
            estimator._told_outputs = outputs
            kwargs = {"sample_weight": weights} if scoring is None else {}
            value = float(score(estimator, X, y, **kwargs))
            return value, loss.gradient(outputs.T.copy(), targets, weights) / total

        return evaluate
