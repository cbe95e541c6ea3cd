"""Training steps of networks of dense layers equal those of MLPClassifier and MLPRegressor."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import scaled_up
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.class_weight import compute_sample_weight

from skcnn import CNNClassifier, CNNRegressor
from skcnn._training.settings import make_optimizer
from skcnn.layers import Dense

N = 13
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 10))
Y = np.arange(N) * 7 % 3
LABELS = RNG.integers(0, 2, (N, 4))
NUMBERS = RNG.normal(size=(N, 3))
COUNTS = RNG.poisson(2.0, N).astype(float)
WEIGHTS = np.array([1, 0.5, 2, 0, 3, 0.25, 1.5, 1, 0, 0.1, 4, 1, 0.75])
UNITS = [(), (6,), (7, 5), (4, 3, 5)]
CLASSIFIED = {"binary": np.where(Y > 0, "yes", "no"), "classes": Y, "many labels": LABELS}
WEIGHTED = "sample_weight" in inspect.signature(MLPClassifier.partial_fit).parameters
WITH_POISSON = "loss" in inspect.signature(MLPRegressor).parameters
weighted = pytest.mark.parametrize(
    "weights",
    [
        None,
        pytest.param(
            WEIGHTS,
            marks=pytest.mark.skipif(not WEIGHTED, reason="MLPClassifier takes no weights"),
        ),
    ],
    ids=["alike", "weighted"],
)


def pair_of(kinds, units, activation="tanh", **params):
    """Return ours and scikit-learn's estimator with the same parameters."""
    params = {"solver": "sgd", "alpha": 0.1, "shuffle": False, "random_state": 0} | params
    layers = tuple(Dense(n, activation=activation) for n in units)
    ours = kinds[0](layers, image_shape=(1, 10), standardize=False, **params)
    return ours, kinds[1](hidden_layer_sizes=units, activation=activation, **params)


def train(estimator, y, weights=None):
    """Train for one epoch."""
    is_classifier = hasattr(estimator, "predict_proba")
    params = {} if weights is None else {"sample_weight": weights}
    if is_classifier and not hasattr(estimator, "coefs_"):
        params["classes"] = range(y.shape[1]) if y.ndim > 1 else np.unique(y)
    return estimator.partial_fit(X, y, **params)


def weights_of(estimator):
    return estimator.coefs_ + estimator.intercepts_


def start(ours, theirs, y, weights=None):
    """Give both the same random weights, and optimizers that have taken no step."""
    train(ours, y, weights)
    train(theirs, y, weights)
    rng = np.random.default_rng(1)
    for a, b in zip(weights_of(ours), weights_of(theirs), strict=True):
        assert a.shape == b.shape
        a[...] = b[...] = rng.normal(size=a.shape) / np.sqrt(len(a))
    del theirs._optimizer
    progress = ours._progress
    progress.optimizer = make_optimizer(ours, progress.weights, ours._model.network.n_coefs)


def in_own_units(regressor, y):
    """Return y as a fitted `CNNRegressor` is trained on it."""
    return (y - regressor.y_center_) / regressor.y_scale_


def steps_are_equal(pair, y, weights=None, n_epochs=1, same_loss=True):
    """Check that epochs from the same weights lead to the same weights."""
    ours, theirs = pair
    start(ours, theirs, y, weights)
    their_y, units = y, 1
    if hasattr(ours, "y_scale_"):
        their_y, units = in_own_units(ours, y), ours.y_scale_[0] ** 2
    before = [coef.copy() for coef in ours.coefs_]
    for _ in range(n_epochs):
        train(ours, y, weights)
        train(theirs, their_y, weights)
        if same_loss:
            assert ours.loss_ == pytest.approx(theirs.loss_ * units, rel=1e-10)
    for a, b in zip(weights_of(ours), weights_of(theirs), strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    for old, new in zip(before, ours.coefs_, strict=True):
        assert np.abs(new - old).max() > 1e-4, "each layer learns"


CLASSIFIERS = CNNClassifier, MLPClassifier
REGRESSORS = CNNRegressor, MLPRegressor
every_activation = pytest.mark.parametrize("activation", ["identity", "logistic", "relu", "tanh"])
every_depth = pytest.mark.parametrize("units", UNITS, ids=str)


@every_activation
@every_depth
@pytest.mark.parametrize("y", CLASSIFIED.values(), ids=CLASSIFIED)
@weighted
def test_a_plain_step_of_classifiers(y, units, activation, weights):
    params = {"activation": activation, "momentum": 0, "learning_rate_init": 0.5}
    steps_are_equal(pair_of(CLASSIFIERS, units, **params), y, weights)


@every_activation
@every_depth
@pytest.mark.parametrize("y", [NUMBERS[:, 0], NUMBERS], ids=["one", "three"])
@weighted
def test_a_plain_step_of_regressors(y, units, activation, weights):
    """The loss that MLPRegressor tells is the mean over outputs; its gradient is that of the sum."""
    params = {"activation": activation, "momentum": 0, "learning_rate_init": 0.2}
    pair = pair_of(REGRESSORS, units, **params)
    steps_are_equal(pair, y, weights, same_loss=y.ndim == 1)


@pytest.mark.skipif(not WITH_POISSON, reason="MLPRegressor has no other loss")
@every_activation
@weighted
def test_a_plain_step_of_counts(activation, weights):
    """The loss that MLPRegressor tells has a term more, which depends on y alone."""
    params = {"loss": "poisson", "activation": activation, "momentum": 0}
    params |= {"learning_rate_init": 0.05}
    steps_are_equal(pair_of(REGRESSORS, (5,), **params), COUNTS, weights, same_loss=False)


SOLVERS = [
    {"momentum": 0.9, "nesterovs_momentum": False},
    {"momentum": 0.8, "nesterovs_momentum": True},
    {"momentum": 0.8, "nesterovs_momentum": True, "alpha": 5.0},
    {"solver": "adam"},
    {"solver": "adam", "alpha": 0},
    {"solver": "adam", "beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.1},
]


@pytest.mark.parametrize("params", SOLVERS, ids=repr)
@pytest.mark.parametrize("y", CLASSIFIED.values(), ids=CLASSIFIED)
@pytest.mark.parametrize("batch_size", ["auto", 4, N])
@weighted
def test_solvers(params, y, batch_size, weights):
    """Of weighted batches, MLPClassifier tells the mean of means."""
    params = {"learning_rate_init": 0.01, "batch_size": batch_size, **params}
    pair = pair_of(CLASSIFIERS, (6, 4), **params)
    same_loss = weights is None or batch_size != 4
    steps_are_equal(pair, y, weights, n_epochs=5, same_loss=same_loss)
    assert_allclose(*(one.predict_proba(X) for one in pair), rtol=1e-9)
    assert_array_equal(*(one.predict(X) for one in pair))


@pytest.mark.parametrize("params", SOLVERS, ids=repr)
@weighted
def test_solvers_of_regressors(params, weights):
    pair = pair_of(REGRESSORS, (6, 4), **{"learning_rate_init": 0.01, "batch_size": 4, **params})
    steps_are_equal(pair, NUMBERS, weights, n_epochs=5, same_loss=False)
    ours, theirs = pair
    assert_allclose(in_own_units(ours, ours.predict(X)), theirs.predict(X), rtol=1e-9)


@pytest.mark.skipif(not WEIGHTED, reason="MLPClassifier takes no weights")
@pytest.mark.parametrize("class_weight", [{0: 2.0, 1: 0.25, 2: 3.0}, {1: 0.5}, "balanced"], ids=str)
@weighted
def test_class_weights_count_as_weights_of_samples(class_weight, weights):
    params = {"momentum": 0, "learning_rate_init": 0.5, "max_iter": 1}
    ours, theirs = pair_of(CLASSIFIERS, (6,), **params)
    start(ours, theirs, Y)
    # by `fit`: `partial_fit` does not take "balanced"
    ours.set_params(class_weight=class_weight, warm_start=True).fit(X, Y, sample_weight=weights)
    shares = compute_sample_weight(class_weight, Y) * (1 if weights is None else weights)
    train(theirs, Y, scaled_up(shares))
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-10)
    for a, b in zip(weights_of(ours), weights_of(theirs), strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_a_falling_learning_rate():
    params = {"learning_rate": "invscaling", "learning_rate_init": 0.5, "momentum": 0}
    ours, theirs = pair_of(CLASSIFIERS, (6,), batch_size=4, power_t=0.3, **params)
    train(ours, Y)
    train(theirs, Y)
    for a, b in zip(weights_of(ours), weights_of(theirs), strict=True):
        a[...] = b
    for _ in range(4):
        train(ours, Y)
        train(theirs, Y)
    for a, b in zip(weights_of(ours), weights_of(theirs), strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    assert_allclose(ours.loss_curve_[1:], theirs.loss_curve_[1:], rtol=1e-10)
