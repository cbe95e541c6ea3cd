"""Samples that a fit does not train on, but validates with."""

from dataclasses import dataclass

import numpy as np


@dataclass
class HeldOut:
    """Samples held out.

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


def split(targets, weights, fraction, seed):
    """Return the indices of the samples to train on, and of those held out, both sorted.

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

    train, held = train_test_split(
        np.arange(len(weights)), test_size=fraction, stratify=targets.strata, random_state=seed
    )
    if not (weights[train].any() and weights[held].any()):
        raise ValueError(
            "sample_weight must be positive for some of the samples trained on and for some of those "
            "that early_stopping=True holds out. Got only zeros for one of them instead."
        )
    return np.sort(train), np.sort(held)
