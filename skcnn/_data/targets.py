"""Targets: conversion of the user's y to the form that a loss takes."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import (
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import assert_all_finite, check_consistent_length, column_or_1d

from skcnn._data.containers import refuse_masked
from skcnn._data.readings import read_indicators
from skcnn._engine.losses import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    MultilabelCrossEntropy,
    PoissonLoss,
)
from skcnn.layers._params import naming


@dataclass
class Targets:
    """Targets in the form that the loss takes, and what follows from them.

    Attributes
    ----------
    values : ndarray
        Class codes of shape (n_samples,), or labels or numbers of shape (n_samples, n_outputs).
    loss : object
        Loss of the network for these targets.
    n_outputs : int
        Number of outputs of the network.
    attributes : dict
        Fitted attributes of the estimator, keyed by name.
    strata : ndarray of shape (n_samples,) or None
        Class codes by which a split into training and validation samples is stratified.
    readings : sequence of str
        Warnings of how y was read.
    """

    values: np.ndarray
    loss: object
    n_outputs: int
    attributes: dict
    strata: np.ndarray | None = None
    readings: tuple = ()


def encode_labels(y, n_samples, known, label_smoothing, *, warm):
    """Return the `Targets` of class labels or multilabel indicators.

    Parameters
    ----------
    y : array-like
        Labels of shape (n_samples,), or indicators of shape (n_samples, n_labels).
    n_samples : int
        Number of images.
    known : dict
        Attributes set by earlier data: "classes_", and "_loss" after training.
    label_smoothing : float
        Share of the targets that the loss spreads evenly over the classes.
    warm : bool
        Whether the known classes come from an earlier fit.
    """
    if y is None:
        raise ValueError(
            "This CNNClassifier estimator requires y to be passed, but the target y is None."
        )
    y = refuse_masked(y, "y")
    classes = known.get("classes_")
    is_multilabel = _are_indicators(y)
    before = known.get("_loss")
    if before is not None and isinstance(before, MultilabelCrossEntropy) != is_multilabel:
        kinds = ("labels", "indicators of labels")
        raise ValueError(
            f"y must hold {kinds[not is_multilabel]}, as before. "
            f"Got {kinds[is_multilabel]} instead."
        )
    if is_multilabel:
        return _encode_indicators(y, n_samples, classes, label_smoothing)
    y = column_or_1d(y, warn=True)
    check_consistent_length(np.empty(n_samples), y)
    assert_all_finite(y, input_name="y")
    check_classification_targets(y)
    classes = _known_classes(np.unique(y), classes, warm)
    is_binary = len(classes) == 2
    loss = (BinaryCrossEntropy if is_binary else CategoricalCrossEntropy)(label_smoothing)
    codes = np.searchsorted(classes, y)
    n_outputs = 1 if is_binary else len(classes)
    return Targets(codes, loss, n_outputs, _attributes(classes, loss), strata=codes)


def _known_classes(found, classes, warm):
    """Return the classes, of which `found` are in the data, after checking them."""
    if classes is None:
        classes = found
    elif warm and not np.isin(found, classes).all():
        raise ValueError(
            "warm_start can only be used where `y` has the same classes as in the previous "
            f"call to fit. Previously got {classes}, `y` has {found}"
        )
    elif not np.isin(found, classes).all():
        unknown = np.setdiff1d(found, classes)
        raise ValueError(f"y must hold labels among classes, {classes}. Got {unknown} instead.")
    if len(classes) < 2:
        raise ValueError(
            "y must hold at least two classes to tell apart. Got one class only instead: "
            f"{classes.tolist()[0]!r}."
        )
    return classes


def check_classes(classes):
    """Return the labels that are passed to `partial_fit`, sorted and each of them once."""
    with naming("classes", "an array of labels"), np.errstate(invalid="ignore"):
        return unique_labels(classes)


def _are_indicators(y):
    """Return whether y holds indicators of labels, not labels."""
    with naming("y", "an array of labels, or of their indicators"), np.errstate(invalid="ignore"):
        return type_of_target(y, input_name="y") == "multilabel-indicator"


def _encode_indicators(y, n_samples, classes, label_smoothing):
    """Return the `Targets` of multilabel indicators of shape (n_samples, n_labels)."""
    values = check_array(y, accept_sparse="csr", input_name="y")
    values = values.toarray() if hasattr(values, "toarray") else values
    check_consistent_length(np.empty(n_samples), values)
    if not np.isin(values, (0, 1)).all():
        found = np.unique(values)
        raise ValueError(f"y must hold 0 and 1 as indicators of labels. Got {found} instead.")
    n_labels = values.shape[1]
    if classes is not None and len(classes) != n_labels:
        raise ValueError(f"y must have {len(classes)} labels, as before. Got {n_labels} instead.")
    loss = MultilabelCrossEntropy(label_smoothing)
    attributes = _attributes(np.arange(n_labels), loss)
    return Targets(values, loss, n_labels, attributes, readings=read_indicators(values))


def _attributes(classes, loss):
    return {"classes_": classes, "_loss": loss, "out_activation_": loss.output}


def weigh_classes(class_weight, targets, weights, *, in_pieces):
    """Return the sample weights multiplied by the weights of the samples' classes."""
    if class_weight is None:
        return weights
    classes = targets.attributes["classes_"]
    if targets.strata is None:
        raise ValueError(
            "class_weight must be None for multilabel y. "
            f"Got {class_weight!r} instead: pass sample_weight."
        )
    if isinstance(class_weight, dict):
        unknown = [label for label in class_weight if label not in classes.tolist()]
        if unknown:
            raise ValueError(
                f"class_weight must have labels of y as keys, of {classes.tolist()}. "
                f"Got {unknown} instead."
            )
        if not all(isinstance(w, Real) for w in class_weight.values()):
            raise ValueError(
                f"class_weight must have numbers as values. Got {class_weight!r} instead."
            )
        if not all(0 <= w < np.inf for w in class_weight.values()):
            raise ValueError(
                "class_weight must not be negative, and must be finite. "
                f"Got {class_weight!r} instead."
            )
    elif in_pieces:
        raise ValueError(
            "class_weight='balanced' is not supported by partial_fit, which does not see all of y. "
            "Pass a dict, for example from sklearn.utils.class_weight.compute_class_weight."
        )
    found = np.unique(targets.strata)
    labels = classes[targets.strata]
    shares = np.zeros(len(classes), weights.dtype)
    if isinstance(class_weight, dict):
        shares[:] = [class_weight.get(label, 1) for label in classes.tolist()]
    else:
        shares[found] = compute_class_weight(class_weight, classes=classes[found], y=labels)
    return weights * shares[targets.strata]


def encode_numbers(y, n_samples, loss, known):
    """Return the `Targets` of numbers of shape (n_samples,) or (n_samples, n_outputs).

    `known` are attributes set by earlier data: "_n_outputs", and "_loss" after training, whose
    scales `loss` takes over.
    """
    n_outputs, before = known.get("_n_outputs"), known.get("_loss")
    if y is None:
        raise ValueError(
            "This CNNRegressor estimator requires y to be passed, but the target y is None."
        )
    values = _numbers(y)
    check_consistent_length(np.empty(n_samples), values)
    is_flat = values.ndim == 1
    values = values.reshape(len(values), -1).astype(np.float64)
    if n_outputs not in (None, values.shape[1]):
        raise ValueError(
            f"y must have {n_outputs} outputs, as before. Got {values.shape[1]} instead."
        )
    if isinstance(loss, PoissonLoss) and values.min() < 0:
        raise ValueError(
            f"y must not be negative for loss='poisson'. Got {values.min():g} instead."
        )
    if before is not None:
        if loss.output != before.output:
            raise ValueError(
                "loss must be as before, 'poisson' or not 'poisson', when training goes on. "
                f"Got a loss of {loss.output} outputs after one of {before.output} outputs instead."
            )
        loss.center, loss.scale = before.center, before.scale
    n_outputs = values.shape[1]
    attributes = {
        "_loss": loss,
        "_y_shape": (() if is_flat else (n_outputs,)),
        "_n_outputs": n_outputs,
    }
    attributes["out_activation_"] = loss.output
    return Targets(values, loss, n_outputs, attributes)


def _numbers(y):
    """Return y as a checked array of real numbers."""
    values = refuse_masked(y, "y")
    with naming("y", "an array of real numbers"), np.errstate(invalid="ignore"):
        values = check_array(values, ensure_2d=False, dtype="numeric", input_name="y")
    if values.dtype.kind not in "fiub":
        raise ValueError(f"y must hold real numbers. Got dtype {values.dtype} instead.")
    if values.ndim == 2 and values.shape[1] == 1:
        values = column_or_1d(values, warn=True)
    return values
