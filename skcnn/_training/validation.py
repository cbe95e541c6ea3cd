"""The score of the held-out images after each epoch."""

import copy

import numpy as np
from sklearn.utils import _safe_indexing


def check_scoring(estimator, scoring):
    """Return the scorer that `scoring` means."""
    from sklearn.metrics import check_scoring as check  # takes long to import

    return check(estimator, scoring)


def _as_number(score, scoring):
    """Return a score as a float, or raise a `ValueError`."""
    try:
        return float(score)
    except (TypeError, ValueError):
        raise ValueError(
            f"scoring must return a number. Got {score!r} instead, from scoring={scoring!r}."
        ) from None


class Validation:
    """Scores a network that is being trained.

    Parameters
    ----------
    held_out : HeldOut
    estimator : CNNClassifier or CNNRegressor
    attributes : dict
        Fitted attributes, with which a copy of the estimator predicts.
    """

    def __init__(self, held_out, estimator, attributes):
        index = held_out.index
        self._fitted = copy.copy(estimator)
        vars(self._fitted).update(attributes)
        self._scoring = estimator.scoring
        self._score = check_scoring(self._fitted, self._scoring)
        self._loss = attributes["_loss"]
        self._y = _safe_indexing(held_out.y, index)
        self._weights = held_out.weights[index]
        self._targets = self._loss.encode(held_out.targets[index], self._weights.dtype)
        # the default score looks at y only
        self._X = np.empty((len(index), 0)) if self._scoring is None else held_out.X[index]

    def evaluate(self, outputs, weights):
        """Return ``(score, loss)`` of the network's outputs for the held-out images.

        Parameters
        ----------
        outputs : ndarray of shape (n_images, n_outputs)
        weights : ndarray of shape (n_weights,)
            With which a scorer may predict other images.
        """
        fitted = self._fitted
        fitted._model = fitted._model.with_weights(weights)
        fitted._known_outputs = self._X, outputs
        kwargs = {"sample_weight": self._weights} if self._scoring is None else {}
        try:
            score = _as_number(self._score(fitted, self._X, self._y, **kwargs), self._scoring)
        except ValueError as error:
            self._explain_missing_classes(error)
            raise
        finally:
            del fitted._known_outputs
        return score, self._loss.mean(outputs.T, self._targets, self._weights)

    def _explain_missing_classes(self, error):
        """Raise a `ValueError` that says so if some classes have no held-out sample."""
        classes = getattr(self._fitted, "classes_", ())
        missing = np.setdiff1d(classes, self._y) if np.ndim(self._y) == 1 else ()
        if len(missing):
            raise ValueError(
                f"The held-out samples must hold each class for scoring={self._scoring!r}. Got none of "
                f"{missing.tolist()} instead: hold out some of each class, or choose another scoring. "
                f"{error}"
            ) from None
