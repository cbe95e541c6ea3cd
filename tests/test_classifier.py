"""CNNClassifier: labels, probabilities, attributes, and its steps against MLPClassifier's."""

from inspect import signature

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skcnn import CNNClassifier
from skcnn.layers import Conv, Dense, MaxPool

RNG = np.random.default_rng(0)
N = 60
CODES = np.arange(N) % 3
X = RNG.normal(size=(N, 4, 5)) + CODES[:, None, None]
LAYERS = (Conv(4), MaxPool(), Dense(8))


def network(**params):
    params = {"layers": LAYERS, "random_state": 0, "max_iter": 40, "tol": 0, **params}
    return CNNClassifier(**{"learning_rate_init": 0.02, **params})


LABELS = {
    "strings": np.array(["ape", "bee", "cat"]),
    "objects": np.array(["c", "a", "b"], dtype=object),
    "integers": np.array([-7, 100, 3]),
    "uint8": np.array([0, 255, 7], dtype=np.uint8),
    "whole floats": np.array([1.0, 2.0, -3.0]),
    "two strings": np.array(["no", "yes", "no"]),
    "booleans": np.array([True, False, True]),
    "two integers": np.array([5, -5, 5]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_labels(labels):
    y = labels[CODES]
    clf = network().fit(X, y)
    classes = np.unique(y)
    assert_array_equal(clf.classes_, classes)
    assert clf.classes_.dtype == y.dtype
    predicted = clf.predict(X)
    assert predicted.dtype == y.dtype
    assert (predicted == y).mean() > 0.9
    assert clf.score(X, y) == (predicted == y).mean()
    proba = clf.predict_proba(X)
    assert proba.shape == (N, len(classes))
    assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    assert_array_equal(classes[proba.argmax(axis=1)], predicted)
    assert_allclose(clf.predict_log_proba(X), np.log(proba), rtol=1e-9, atol=1e-12)
    two = len(classes) == 2
    assert clf.n_outputs_ == (1 if two else 3)
    assert clf.out_activation_ == ("logistic" if two else "softmax")


def test_lists_and_columns_of_labels():
    y = CODES.tolist()
    expected = network(max_iter=2).fit(X, CODES).coefs_[0]
    assert_array_equal(network(max_iter=2).fit(X, y).coefs_[0], expected)
    with pytest.warns(UserWarning, match="column-vector y"):
        assert_array_equal(network(max_iter=2).fit(X, CODES[:, None]).coefs_[0], expected)


def test_partial_fit_of_parts_of_the_classes():
    clf = network().partial_fit(X[CODES < 2], CODES[CODES < 2], classes=[2, 0, 1])
    assert_array_equal(clf.classes_, [0, 1, 2])
    clf.partial_fit(X, CODES)
    assert clf.predict_proba(X).shape == (N, 3)
    assert clf.n_iter_ == 2


def test_fitted_attributes():
    clf = network(max_iter=3).fit(X, CODES)
    assert clf.image_shape_ == (4, 5, 1)
    assert clf.n_features_in_ == 20
    assert [c.shape for c in clf.coefs_] == [(4, 3, 3, 1), (16, 8), (8, 3)]
    assert [i.shape for i in clf.intercepts_] == [(4,), (8,), (3,)]
    assert (clf.n_iter_, clf.t_, clf.n_layers_) == (3, 180, 5)


def test_coefs_are_views():
    clf = network(max_iter=1).fit(X, CODES)
    clf.coefs_[2][...] = 0
    clf.intercepts_[2][...] = [0, np.log(2), 0]
    assert_allclose(clf.predict_proba(X), np.tile([0.25, 0.5, 0.25], (N, 1)))


SHARED = [
    "solver", "alpha", "batch_size", "learning_rate_init", "shuffle", "random_state", "tol",
    "verbose", "warm_start", "momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon",
    "n_iter_no_change",
]  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
def test_defaults_are_those_of_mlp(name):
    assert getattr(CNNClassifier(), name) == getattr(MLPClassifier(), name)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize(("alpha", "weighted"), [(0, False), (1e-4, False), (0.5, True), (0, True)])
def test_sgd_steps_are_those_of_mlp(n_classes, hidden, activation, alpha, weighted):
    if weighted and "sample_weight" not in signature(MLPClassifier.partial_fit).parameters:
        pytest.skip("MLPClassifier takes weights from scikit-learn 1.7 on")
    flat = X.reshape(N, -1)
    y = CODES % n_classes
    weights = RNG.random(N)
    weights = {"sample_weight": weights * N / weights.sum()} if weighted else {}
    params = {
        "solver": "sgd", "momentum": 0, "alpha": alpha, "learning_rate_init": 0.3,
        "batch_size": N, "shuffle": False, "random_state": 0,
    }  # fmt: skip
    mlp = MLPClassifier(hidden, activation=activation, **params)
    layers = tuple(Dense(units, activation=activation) for units in hidden)
    clf = CNNClassifier(layers, standardize=False, image_shape=(1, 20), **params)
    for estimator in (mlp, clf):
        estimator.partial_fit(flat, y, classes=range(n_classes))
    for ours, theirs in zip(
        clf.coefs_ + clf.intercepts_, mlp.coefs_ + mlp.intercepts_, strict=True
    ):
        ours[...] = theirs
    start = [coef.copy() for coef in mlp.coefs_]
    for _ in range(5):
        for estimator in (mlp, clf):
            estimator.partial_fit(flat, y, **weights)
    for ours, theirs in zip(
        clf.coefs_ + clf.intercepts_, mlp.coefs_ + mlp.intercepts_, strict=True
    ):
        assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    assert np.abs(mlp.coefs_[-1] - start[-1]).max() > 1e-3
    assert clf.loss_ == pytest.approx(mlp.loss_, rel=1e-9)
    assert_allclose(clf.predict_proba(flat), mlp.predict_proba(flat), rtol=1e-9)


def test_penalty_shrinks_the_weights():
    norms = []
    for alpha in (0, 1, 100):
        clf = network(alpha=alpha).fit(X, CODES)
        norms.append(sum((coef**2).sum() for coef in clf.coefs_))
    assert norms[0] > 1.1 * norms[1] > 1.1 * norms[2]


def test_classes_of_weight_zero_are_kept():
    weights = (CODES != 1).astype(float)
    clf = network().fit(X, CODES, weights)
    assert_array_equal(clf.classes_, [0, 1, 2])
    assert not (clf.predict(X) == 1).any()


def test_signals():
    y = np.arange(120) // 2 % 2
    phase = 40 * RNG.random((120, 1))
    signals = np.sin(2 * np.pi * (np.arange(40) + phase) / np.where(y, 5, 10)[:, None])
    layers = (Conv(4, (1, 7)), MaxPool((1, 4)), Dense(8))
    clf = CNNClassifier(layers, learning_rate_init=0.01, random_state=0)
    assert clf.fit(signals[::2], y[::2]).score(signals[1::2], y[1::2]) > 0.95
    assert clf.image_shape_ == (1, 40, 1)


def test_digits():
    data, target = load_digits(return_X_y=True)
    clf = network(layers=(Conv(8), MaxPool(), Dense(32)), max_iter=15, learning_rate_init=5e-3)
    clf.fit(data[:1000], target[:1000])
    assert clf.score(data[1000:], target[1000:]) > 0.9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sure_predictions_neither_overflow_nor_warn(dtype):
    for y in (CODES, CODES % 2):
        clf = network(max_iter=1, standardize=False).fit(X.astype(dtype), y)
        with np.errstate(over="raise", invalid="raise"):
            proba = clf.predict_proba(1e6 * X.astype(dtype))
        assert np.isfinite(proba).all()
        assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_logarithms_of_sure_predictions_are_finite(n_classes):
    X = np.eye(n_classes).repeat(8, axis=0)
    y = np.arange(n_classes).repeat(8)
    clf = CNNClassifier((), max_iter=5, random_state=0).fit(X, y)
    clf.coefs_[0][...] *= 1e4
    logarithms = clf.predict_log_proba(X)
    assert np.isfinite(logarithms).all()
    assert logarithms.min() < -800
    assert_allclose(np.exp(logarithms), clf.predict_proba(X), atol=1e-12)
