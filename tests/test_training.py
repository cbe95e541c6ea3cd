"""The loop of training: epochs, batches, stopping, going on."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from skcnn import CNNClassifier
from skcnn.layers import Conv, Dense, Layer, MaxPool

RNG = np.random.default_rng(0)
Y = np.arange(90) % 3
X = RNG.normal(size=(90, 5, 4)) + Y[:, None, None]
LAYERS = (Conv(3), MaxPool(), Dense(4))


def network(**params):
    return CNNClassifier(**{"layers": LAYERS, "random_state": 0, "max_iter": 4, **params})


def weights_of(clf):
    return np.concatenate([w.ravel() for w in clf.coefs_ + clf.intercepts_])


@pytest.mark.parametrize("params", [{}, {"solver": "sgd"}, {"batch_size": 7}, {"shuffle": False}])
def test_three_epochs_are_three_partial_fits(params):
    whole = network(max_iter=3, **params).fit(X, Y)
    parts = network(**params)
    for _ in range(3):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    assert_array_equal(weights_of(parts), weights_of(whole))
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.n_iter_ == whole.n_iter_ == 3


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_warm_start_goes_on(solver):
    whole = network(solver=solver, max_iter=5).fit(X, Y)
    parts = network(solver=solver, max_iter=2, warm_start=True).fit(X, Y)
    parts.set_params(max_iter=3).fit(X, Y)
    assert_array_equal(weights_of(parts), weights_of(whole))
    assert parts.loss_curve_ == whole.loss_curve_


def test_without_warm_start_fit_starts_again():
    clf = network().fit(X, Y)
    first = weights_of(clf)
    assert_array_equal(weights_of(clf.fit(X, Y)), first)
    assert clf.n_iter_ == 4


class Order(Layer):
    """Notes the first pixel of each image that passes."""

    seen = []

    def forward(self, x, weights, work):
        self.seen.append(x[0, 0, 0].astype(int).tolist())
        return x

    def backward(self, dy, weights, grads, work):
        return dy


@pytest.mark.parametrize("shuffle", [True, False])
def test_each_epoch_sees_each_image_once(shuffle):
    Order.seen.clear()
    numbers = np.arange(20.0)[:, None, None]
    network(layers=(Order(),), standardize=False, shuffle=shuffle, max_iter=3, batch_size=8).fit(
        numbers, np.arange(20) % 2
    )
    assert [len(batch) for batch in Order.seen] == [8, 8, 4] * 3
    epochs = [[n for batch in Order.seen[i : i + 3] for n in batch] for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == (3 if shuffle else 1)


def test_other_seeds_give_other_weights():
    a, b = (weights_of(network(random_state=seed).fit(X, Y)) for seed in (0, 1))
    assert np.abs(a - b).max() > 0.1
    c = weights_of(network(random_state=np.random.RandomState(0)).fit(X, Y))
    assert_array_equal(a, c)


def test_the_global_random_state_is_used_and_not_seeded():
    np.random.seed(3)  # noqa: NPY002
    a = weights_of(network(random_state=None).fit(X, Y))
    np.random.seed(3)  # noqa: NPY002
    assert_array_equal(weights_of(network(random_state=None).fit(X, Y)), a)
    assert np.abs(weights_of(network(random_state=None).fit(X, Y)) - a).max() > 0.01


@pytest.mark.parametrize("n_iter_no_change", [1, 3, 5])
def test_stops_when_mlp_does(n_iter_no_change):
    params = {"tol": 1e9, "n_iter_no_change": n_iter_no_change, "max_iter": 40}
    mlp = MLPClassifier((4,), **params).fit(X.reshape(90, -1), Y)
    clf = network(**params).fit(X, Y)
    assert clf.n_iter_ == mlp.n_iter_ == n_iter_no_change + 2


def test_stopping_can_be_switched_off():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(30\) reached"):
        clf = network(tol=1e9, n_iter_no_change=np.inf, max_iter=30).fit(X, Y)
    assert clf.n_iter_ == 30


def test_the_loss_falls_and_is_recorded():
    clf = network(max_iter=60, learning_rate_init=0.01, tol=0).fit(X, Y)
    assert len(clf.loss_curve_) == clf.n_iter_ == 60
    assert clf.loss_curve_[-1] < 0.5 * clf.loss_curve_[0]
    assert clf.loss_ == clf.loss_curve_[-1]
    assert clf.best_loss_ == min(clf.loss_curve_)
    assert clf.t_ == 60 * 90


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("y", [Y, Y % 2], ids=["three classes", "two"])
def test_the_loss_of_an_epoch(y, weighted):
    """With a negligible step all batches see the same weights."""
    weights = RNG.random(90) if weighted else None
    clf = network(max_iter=1, learning_rate_init=1e-15, alpha=0, batch_size=13)
    clf.fit(X, y, weights)
    expected = log_loss(y, clf.predict_proba(X), sample_weight=weights)
    assert clf.loss_ == pytest.approx(expected, rel=1e-9)
    clf = network(max_iter=1, learning_rate_init=1e-15, alpha=3).fit(X, y, weights)
    total = 90  # weights with a mean below 1 are scaled up
    penalty = 1.5 * sum((coef**2).sum() for coef in clf.coefs_) / total
    expected = log_loss(y, clf.predict_proba(X), sample_weight=weights) + penalty
    assert clf.loss_ == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_weights_are_repetitions(solver):
    counts = RNG.integers(0, 4, 90)
    params = {"solver": solver, "shuffle": False, "max_iter": 5, "batch_size": 500}
    weighted = network(**params).fit(X, Y, counts.astype(float))
    repeated = network(**params).fit(np.repeat(X, counts, axis=0), np.repeat(Y, counts))
    assert_allclose(weights_of(weighted), weights_of(repeated), rtol=1e-7, atol=1e-10)


def test_a_batch_of_weight_zero_changes_nothing():
    counts = np.ones(90)
    counts[:30] = 0
    clf = network(batch_size=30, shuffle=False).fit(X, Y, counts)
    rest = network(batch_size=30, shuffle=False).fit(X[30:], Y[30:])
    assert_allclose(weights_of(clf), weights_of(rest), rtol=1e-7, atol=1e-10)


def test_one_weight_for_all_only_scales_the_penalty():
    a = network(alpha=0).fit(X, Y)
    b = network(alpha=0).fit(X, Y, np.full(90, 7.0))
    assert_allclose(weights_of(a), weights_of(b), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 13, 64, 89, 90, 1000, "auto"])
def test_any_batch_size(batch_size):
    clf = network(batch_size=batch_size).fit(X, Y)
    assert np.isfinite(weights_of(clf)).all()
    assert clf.t_ == 4 * 90
    if batch_size in (90, 1000, "auto"):
        assert_array_equal(weights_of(clf), weights_of(network(batch_size=90).fit(X, Y)))


def test_a_batch_is_the_mean_of_its_shards():
    """Gradients of a large batch equal those of its parts, added."""
    big = np.tile(X, (3, 1, 1)), np.tile(Y, 3)
    params = {"solver": "sgd", "momentum": 0, "alpha": 0, "standardize": False, "shuffle": False}
    params |= {"max_iter": 1, "learning_rate_init": 0.1}
    small = network(batch_size=90, **params).fit(X, Y)
    large = network(batch_size=270, **params).fit(*big)
    assert_allclose(weights_of(large), weights_of(small), rtol=1e-10, atol=1e-12)


def test_verbose_prints_each_epoch(capsys):
    clf = network(verbose=True, max_iter=3).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Iteration {k}, loss = {v:.8f}" for k, v in enumerate(clf.loss_curve_, 1)]
    network(verbose=True, tol=1e9, n_iter_no_change=1, max_iter=9).fit(X, Y)
    assert "did not improve more than tol" in capsys.readouterr().out
    network().fit(X, Y)
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_no_warning_of_a_single_epoch_or_when_converged():
    assert network().partial_fit(X, Y, classes=[0, 1, 2]).n_iter_ == 1
    assert network(tol=1e9, n_iter_no_change=1, max_iter=9).fit(X, Y).n_iter_ < 9
