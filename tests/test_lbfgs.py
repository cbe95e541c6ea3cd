"""The solver "lbfgs" against SciPy's own minimum, and what it does not go with."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from skcnn import CNNClassifier, CNNRegressor
from skcnn._training import loop
from skcnn.layers import BatchNorm, Conv, Dense, Dropout, MaxPool, Residual

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 4, 4))
Y = rng.integers(0, 3, 60)
WEIGHTS = rng.uniform(0.5, 2, 60)


LAYERS = (Conv(3, activation="tanh"), MaxPool())


def network(layers=LAYERS, **params):
    defaults = {"solver": "lbfgs", "max_iter": 200, "random_state": 0, "tol": 1e-7}
    return CNNClassifier(layers, **{**defaults, "n_iter_no_change": np.inf, **params})


def test_a_linear_network_is_logistic_regression():
    """With no hidden layer the loss is convex: the minimum is known."""
    alpha = 2.0
    clf = network((), alpha=alpha, standardize=False).fit(X, Y, sample_weight=WEIGHTS)
    flat = X.reshape(60, -1)
    linear = LogisticRegression(C=1 / alpha, tol=1e-10, max_iter=1000).fit(flat, Y, WEIGHTS)
    assert_allclose(clf.predict_proba(X), linear.predict_proba(flat), atol=1e-5)


def test_the_loss_is_that_of_all_images():
    alpha = 0.5
    clf = network(alpha=alpha, batch_size=7).fit(X, Y, sample_weight=WEIGHTS)
    logits = np.log(clf.predict_proba(X))
    cross = logsumexp(logits, axis=1) - logits[np.arange(60), Y]
    penalty = alpha / 2 * sum((coef**2).sum() for coef in clf.coefs_)
    assert clf.loss_ == pytest.approx((WEIGHTS @ cross + penalty) / WEIGHTS.sum(), rel=1e-6)
    assert clf.loss_curve_ == sorted(clf.loss_curve_, reverse=True)
    assert clf.n_iter_ == len(clf.loss_curve_)
    assert clf.t_ == 60 * clf.n_iter_


def test_dense_networks_reach_the_loss_of_mlp():
    layers = (Dense(5, activation="tanh"),)
    flat = X.reshape(60, -1)
    start = network(layers, alpha=1.0, standardize=False, max_iter=1).fit(X, Y)
    started = MLPClassifier(5, activation="tanh", solver="sgd", alpha=1.0).partial_fit(
        flat, Y, classes=[0, 1, 2]
    )
    for own, other in zip(
        start.coefs_ + start.intercepts_, started.coefs_ + started.intercepts_, strict=True
    ):
        other[...] = own
    started.set_params(solver="lbfgs", warm_start=True, tol=1e-7, max_iter=2000).fit(flat, Y)
    start.set_params(warm_start=True, max_iter=2000).fit(X, Y)
    assert start.loss_ == pytest.approx(started.loss_, rel=1e-5)


def test_batches_and_workers_change_nothing(workers):
    one = network(max_iter=8).fit(X, Y)
    two = network(max_iter=8, n_jobs=2).fit(X, Y)
    assert_array_equal(one._model.weights, two._model.weights)
    parts = network(max_iter=8, batch_size=13).fit(X, Y)
    assert_allclose(parts.loss_curve_, one.loss_curve_, rtol=1e-6)


def test_single_precision_and_regression():
    target = X[:, 1, 1] + X[:, 2, 2]
    reg = CNNRegressor((Conv(4, activation="tanh"),), solver="lbfgs", max_iter=300, random_state=0)
    reg.fit(X.astype(np.float32), target)
    assert reg.coefs_[0].dtype == np.float32
    assert reg.score(X, target) > 0.95


def test_statistics_of_batches_are_followed():
    clf = network((Conv(3, activation="identity"), BatchNorm(), Dense(8)), max_iter=50).fit(X, Y)
    assert clf.score(X, Y) > 0.9


def test_ends_at_max_iter_with_a_warning():
    with pytest.warns(ConvergenceWarning, match=r"lbfgs: Maximum iterations \(3\) reached"):
        assert network(max_iter=3).fit(X, Y).n_iter_ == 3


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_early_stopping_and_tol_end_it():
    assert network(tol=10.0).fit(X, Y).n_iter_ == 1  # the gradient is as small already
    clf = network(early_stopping=True, n_iter_no_change=2, tol=1e-4).fit(X, Y)
    assert 3 <= clf.n_iter_ < 200
    assert len(clf.validation_scores_) == clf.n_iter_


def test_an_interrupt_keeps_the_last_whole_iteration(monkeypatch):
    whole = network(max_iter=4).fit(X, Y)
    real, calls = loop.Epochs.end, []

    def end(self, loss):
        calls.append(loss)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, loss)

    monkeypatch.setattr(loop.Epochs, "end", end)
    with pytest.warns(UserWarning, match="interrupted"):
        clf = network(max_iter=50).fit(X, Y)
    assert_array_equal(clf._model.weights, whole._model.weights)
    assert clf.loss_curve_ == whole.loss_curve_


def test_what_it_does_not_go_with():
    with pytest.raises(ValueError, match="augment must be None with solver='lbfgs'"):
        network(augment={"shift": 1}).fit(X, Y)
    layers = (Conv(1), Residual((Conv(1), Dropout(0.1))))
    with pytest.raises(ValueError, match=r"no Dropout with solver='lbfgs'.*Got layers\[1\]="):
        network(layers).fit(X, Y)
    assert not hasattr(network(), "partial_fit")
    assert hasattr(network(solver="sgd"), "partial_fit")


def test_minimum_of_scipy():
    """The same loss written in NumPy, minimised by SciPy from the same weights."""
    clf = network((Dense(4, activation="tanh"),), alpha=0.3, standardize=False, max_iter=1)
    clf.fit(X, Y)
    shapes = [a.shape for a in clf.coefs_ + clf.intercepts_]
    cuts = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
    flat = X.reshape(60, -1)

    def loss(vector):
        w1, w2, b1, b2 = (v.reshape(s) for v, s in zip(np.split(vector, cuts), shapes, strict=True))
        logits = np.tanh(flat @ w1 + b1) @ w2 + b2
        cross = logsumexp(logits, axis=1) - logits[np.arange(60), Y]
        return cross.mean() + 0.3 / 2 / 60 * ((w1**2).sum() + (w2**2).sum())

    start = np.concatenate([a.ravel() for a in clf.coefs_ + clf.intercepts_])
    assert clf.loss_ == pytest.approx(loss(start), rel=1e-9)
    expected = minimize(loss, start, options={"maxiter": 500})
    clf.set_params(warm_start=True, max_iter=500).fit(X, Y)
    assert clf.loss_ == pytest.approx(expected.fun, rel=1e-4)
