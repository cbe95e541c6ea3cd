"""CNNRegressor: its steps against MLPRegressor's and plain NumPy's, its losses, its outputs."""

import pickle
from inspect import signature

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor

from skcnn import CNNRegressor
from skcnn.layers import Conv, Dense, MaxPool

RNG = np.random.default_rng(0)
N = 60
X = RNG.normal(size=(N, 4, 5))
FLAT = X.reshape(N, -1)
WEIGHTS = RNG.random(N)
WEIGHTS *= N / WEIGHTS.sum()
SLOPES = RNG.normal(size=(20, 3))
MANY = FLAT @ SLOPES + [1.0, -2.0, 30.0]
ONE = MANY[:, 0]
COUNTS = RNG.poisson(np.exp(0.5 * FLAT[:, :3] + 1)).astype(float)
LOSSES = ["squared_error", "absolute_error", "huber", "poisson"]
PLAIN = {
    "solver": "sgd", "momentum": 0, "learning_rate_init": 0.1, "batch_size": N, "shuffle": False,
    "random_state": 0,
}  # fmt: skip


def network(**params):
    params = {"layers": (Conv(3), MaxPool(), Dense(6)), "random_state": 0, "max_iter": 5, **params}
    return CNNRegressor(**{"learning_rate_init": 0.01, **params})


def weights_of(estimator):
    return np.concatenate([w.ravel() for w in estimator.coefs_ + estimator.intercepts_])


def state(estimator):
    return sorted(vars(estimator)), joblib.hash(vars(estimator))


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
@pytest.mark.parametrize(("alpha", "weighted"), [(0.5, False), (0, True), (0.5, True)])
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_sgd_steps_are_those_of_mlp(hidden, alpha, weighted, loss):
    if loss == "poisson" and "loss" not in signature(MLPRegressor).parameters:
        pytest.skip("MLPRegressor has this loss from scikit-learn 1.7 on")
    if weighted and "sample_weight" not in signature(MLPRegressor.partial_fit).parameters:
        pytest.skip("MLPRegressor takes weights from scikit-learn 1.7 on")
    weights = {"sample_weight": WEIGHTS} if weighted else {}
    params = {**PLAIN, "alpha": alpha, "learning_rate_init": 0.02}
    y = ONE if loss == "squared_error" else COUNTS[:, 0]
    if loss == "poisson":
        params["loss"] = loss
    mlp = MLPRegressor(hidden_layer_sizes=hidden, activation="tanh", **params).partial_fit(FLAT, y)
    layers = tuple(Dense(units, activation="tanh") for units in hidden)
    reg = CNNRegressor(layers, standardize=False, image_shape=(1, 20), **params)
    reg.partial_fit(FLAT, y)
    pairs = list(zip(reg.coefs_ + reg.intercepts_, mlp.coefs_ + mlp.intercepts_, strict=True))
    for ours, theirs in pairs:
        ours[...] = theirs
    start = weights_of(reg).copy()
    scaled = (y - reg.y_center_) / reg.y_scale_
    for _ in range(3):
        reg.partial_fit(FLAT, y, **weights)
        mlp.partial_fit(FLAT, scaled, **weights)
    assert_allclose(weights_of(reg), weights_of(mlp), rtol=1e-9, atol=1e-10)
    assert np.abs(weights_of(reg) - start).max() > 1e-3
    if loss == "squared_error":  # MLPRegressor's Poisson loss has other constants
        assert reg.loss_ == pytest.approx(mlp.loss_ * reg.y_scale_**2, rel=1e-9)
    expected = mlp.predict(FLAT) * reg.y_scale_ + reg.y_center_
    assert_allclose(reg.predict(FLAT), expected, rtol=1e-9)


def loss_and_slope(loss, outputs, y, center, scale):
    """Return each sample's loss, added over its outputs, and the slopes by the outputs.

    The losses are in the units of y; the slopes are those of the losses in the network's units.
    """
    if loss == "poisson":
        rates = scale * np.exp(outputs)
        return (rates - y * np.log(rates)).sum(axis=1), (rates - y) / scale
    z = (y - center) / scale
    d = outputs - z
    if loss == "squared_error":
        return (scale**2 * d**2).sum(axis=1) / 2, d
    if loss == "absolute_error":
        return (scale * np.abs(d)).sum(axis=1), np.sign(d)
    near = np.abs(scale * d) <= 0.7  # delta of huber
    losses = np.where(near, (scale * d) ** 2 / 2, 0.7 * (np.abs(scale * d) - 0.35))
    steepest = np.minimum(0.7 / scale, 1)
    return losses.sum(axis=1), np.where(near, d / steepest, np.sign(d) * (0.7 / scale) / steepest)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_of_many_outputs(loss, weighted):
    y = COUNTS if loss == "poisson" else MANY
    weights = WEIGHTS if weighted else np.ones(N)
    params = {**PLAIN, "alpha": 2.0, "standardize": False, "loss": loss, "delta": 0.7}
    reg = CNNRegressor((Dense(8, activation="tanh"),), image_shape=(1, 20), **params)
    reg.partial_fit(FLAT, y)
    (a, b), (c, d) = ([w.copy() for w in part] for part in (reg.coefs_, reg.intercepts_))
    hidden = np.tanh(FLAT @ a + c)
    units = reg.y_center_, reg.y_scale_
    losses, slopes = loss_and_slope(loss, hidden @ b + d, y, *units)
    dy = slopes * weights[:, None] / weights.sum()
    dhidden = (dy @ b.T) * (1 - hidden**2)
    penalty = 2.0 / weights.sum()
    reg.partial_fit(FLAT, y, sample_weight=weights if weighted else None)
    assert_allclose(reg.coefs_[1], b - 0.1 * (hidden.T @ dy + penalty * b), rtol=1e-10, atol=1e-12)
    assert_allclose(reg.intercepts_[1], d - 0.1 * dy.sum(axis=0), rtol=1e-10, atol=1e-12)
    assert_allclose(reg.coefs_[0], a - 0.1 * (FLAT.T @ dhidden + penalty * a), atol=1e-12)
    assert_allclose(reg.intercepts_[0], c - 0.1 * dhidden.sum(axis=0), rtol=1e-10, atol=1e-12)
    penalties = penalty * ((a**2).sum() + (b**2).sum()) / 2
    per_unit = {"poisson": units[1], "absolute_error": units[1], "squared_error": units[1] ** 2}
    per_unit["huber"] = units[1] ** 2 * np.minimum(0.7 / units[1], 1)
    expected = np.average(losses, weights=weights) + penalties * per_unit[loss].mean()
    assert reg.loss_ == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_predictions_start_at_the_mean_of_y(loss, weighted):
    y = COUNTS if loss == "poisson" else MANY
    weights = WEIGHTS if weighted else None
    reg = network(loss=loss, learning_rate_init=1e-300, max_iter=1).fit(X, y, weights)
    mean = np.average(y, axis=0, weights=weights)
    assert_allclose(reg.intercepts_[-1], 0, atol=1e-250)
    reg.coefs_[-1][...] = 0
    assert_allclose(reg.predict(X), np.tile(mean, (N, 1)), rtol=1e-12)


def test_means_are_those_of_the_first_data_only():
    reg = network(learning_rate_init=1e-300).partial_fit(X, ONE).partial_fit(X, ONE + 100)
    assert_allclose(reg.y_center_, ONE.mean(), rtol=1e-12)
    assert_allclose(reg.y_scale_, ONE.std(), rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("slope", "offset"), [(1e-6, 0), (1e9, 1e3), (0.37, -5), (1.0, 1e9)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_scale_of_y_makes_no_difference(loss, slope, offset, dtype):
    if loss == "poisson":
        offset = 0
    y, params = (COUNTS if loss == "poisson" else MANY), {"loss": loss, "max_iter": 30}
    # scores of one output, that of a line would hide the others
    plain = network(**params, delta=1.0).fit(X.astype(dtype), y[:, 0])
    other = network(**params, delta=slope).fit(X.astype(dtype), slope * y[:, 0] + offset)
    scores = [r2_score(y[:, 0], p) for p in (plain.predict(X), (other.predict(X) - offset) / slope)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-6)
    assert other.n_iter_ == plain.n_iter_


def test_outputs_of_unlike_scales_are_learned_alike():
    reg = network(layers=(), max_iter=300, learning_rate_init=0.1, alpha=0, tol=0)
    scales = np.array([1e-6, 1.0, 1e9])
    reg.fit(X, MANY * scales)
    scores = r2_score(MANY * scales, reg.predict(X), multioutput="raw_values")
    assert min(scores) > 0.999
    reg = network().fit(X, MANY * scales, X_val=X[:20], y_val=MANY[:20] * scales)
    losses = (reg.predict(X[:20]) - MANY[:20] * scales) ** 2
    assert reg.validation_loss_curve_[-1] == pytest.approx(losses.sum(axis=1).mean() / 2, rel=1e-9)


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-9, 1e12])
@pytest.mark.parametrize("loss", LOSSES)
def test_numbers_that_do_not_vary(value, loss):
    value = abs(value)
    reg = network(loss=loss, learning_rate_init=0.1, max_iter=60).fit(X, np.full(N, value))
    assert_allclose(reg.predict(X), value, rtol=0.1, atol=0 if value else 0.1)


@pytest.mark.parametrize("y", [ONE, MANY], ids=["one", "many"])
def test_huber_far_within_delta_is_squared_error(y):
    huber = network(loss="huber", delta=1e9).fit(X, y)
    squared = network().fit(X, y)
    assert_array_equal(weights_of(huber), weights_of(squared))
    assert_allclose(huber.loss_curve_, squared.loss_curve_, rtol=1e-12)


def test_huber_far_beyond_delta_is_absolute_error():
    params = {"solver": "sgd", "momentum": 0, "alpha": 0, "max_iter": 3}
    huber = network(loss="huber", delta=1e-9, **params).fit(X, ONE)
    absolute = network(loss="absolute_error", **params).fit(X, ONE)
    assert_allclose(weights_of(huber), weights_of(absolute), rtol=1e-6, atol=1e-9)
    assert_allclose(huber.loss_curve_, 1e-9 * np.array(absolute.loss_curve_), rtol=1e-6)


@pytest.mark.parametrize("loss", ["absolute_error", "huber"])
def test_an_outlier(loss):
    """On data that are linear but for one sample the line is found, as least squares does not."""
    y = ONE.copy()
    y[7] += 300
    params = {"layers": (), "max_iter": 900, "tol": 0, "learning_rate_init": 3e-3, "alpha": 0}
    rest = np.arange(N) != 7
    errors = {}
    for name in (loss, "squared_error"):
        predicted = network(loss=name, **params).fit(X, y).predict(X)
        errors[name] = np.abs(predicted - ONE)[rest].mean()
    assert errors[loss] < 0.3
    assert errors["squared_error"] > 5


def test_absolute_error_finds_the_median():
    y = np.r_[np.zeros(35), np.full(25, 10.0)]
    params = {"layers": (), "max_iter": 800, "tol": 0, "learning_rate_init": 0.05, "alpha": 0}
    reg = network(loss="absolute_error", learning_rate="cosine", **params).fit(0 * X, y)
    assert_allclose(reg.predict(0 * X), 0, atol=0.1)


def test_poisson_predicts_positive_means():
    """At the optimum with intercepts the mean prediction is the mean count."""
    params = {"max_iter": 400, "tol": 0, "alpha": 0, "layers": ()}
    reg = network(loss="poisson", **params).fit(X, COUNTS)
    assert reg.out_activation_ == "exponential"
    predicted = reg.predict(10 * X)
    assert (predicted > 0).all()
    assert np.isfinite(predicted).all()
    assert_allclose(reg.predict(X).mean(axis=0), COUNTS.mean(axis=0), rtol=0.02)
    assert np.corrcoef(np.log(reg.predict(X)[:, 0]), X[:, 0, 0])[0, 1] > 0.8


@pytest.mark.parametrize(
    ("params", "y", "message"),
    [
        (
            {"loss": "poisson"},
            ONE,
            "y must not be negative for loss='poisson'. Got",
        ),
        ({}, np.where(np.arange(N) == 3, np.nan, ONE), "Input y contains NaN"),
        ({}, np.where(np.arange(N) == 3, np.inf, ONE), "Input y contains infinity"),
        ({}, ONE[1:], r"inconsistent numbers of samples: \[60, 59\]"),
        ({}, None, "requires y to be passed, but the target y is None"),
        ({}, ONE * 1j, "Complex data not supported"),
        ({}, ["a"] * N, "could not convert string|numeric"),
        ({}, MANY[:, :, None], "dim 3"),
    ],
)
def test_bad_y(params, y, message):
    for reg in (network(**params), network().fit(X, ONE).set_params(**params)):
        before = state(reg)
        for call in (reg.fit, reg.partial_fit):
            with pytest.raises((ValueError, TypeError), match=message):
                call(X, y)
            assert state(reg) == before


@pytest.mark.parametrize(("name", "value"), [("loss", "mse"), ("delta", 0), ("delta", "auto")])
def test_bad_parameters(name, value):
    for reg in (network(), network().fit(X, ONE)):
        before = state(reg.set_params(**{name: value}))
        with pytest.raises(ValueError, match=f"'{name}' parameter of CNNRegressor must be"):
            reg.fit(X, ONE)
        assert state(reg) == before


@pytest.mark.parametrize(("first", "then"), [(ONE, MANY), (MANY, ONE), (MANY, MANY[:, :2])])
def test_another_number_of_outputs(first, then):
    reg = network(warm_start=True).partial_fit(X, first)
    before = state(reg)
    for call in (reg.partial_fit, reg.fit):
        with pytest.raises(ValueError, match=r"y must have \d outputs, as before. Got \d instead"):
            call(X, then)
        assert state(reg) == before
    assert network().fit(X, first).fit(X, then).predict(X).shape == then.shape


@pytest.mark.parametrize("where", ["column", "weight"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_counts_that_are_all_zero(where):
    y, weights = COUNTS.copy(), np.ones(N)
    if where == "column":
        y[:, 1] = 0
    else:
        y = (np.arange(N) < 5) * 3.0
        weights = (y == 0).astype(float)
    assert np.isfinite(network(loss="poisson").fit(X, y, weights).predict(X)).all()


def test_poisson_goes_on_with_zeros():
    reg = network(loss="poisson").fit(X, COUNTS)
    before = reg.predict(X).mean()
    assert reg.partial_fit(X, 0 * COUNTS).predict(X).mean() < before


def test_shapes_of_y():
    flat = network().fit(X, ONE)
    assert flat.predict(X).shape == (N,)
    assert flat.n_outputs_ == 1
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        column = network().fit(X, ONE[:, None])
    assert_array_equal(column.predict(X), flat.predict(X))
    many = network().fit(X, MANY)
    assert many.predict(X).shape == (N, 3)
    assert many.predict(X[:1]).shape == (1, 3)
    assert many.n_outputs_ == 3
    assert many.score(X, MANY) == pytest.approx(r2_score(MANY, many.predict(X)), rel=1e-12)
    assert_array_equal(network().fit(X, MANY.tolist()).predict(X), many.predict(X))


def test_integers_and_float32():
    counts = COUNTS[:, 0].astype(int)
    a = network().fit(X, counts)
    assert_array_equal(a.predict(X), network().fit(X, counts.astype(float)).predict(X))
    single = network().fit(X.astype(np.float32), ONE)
    assert single.coefs_[0].dtype == np.float32
    assert_allclose(single.predict(X), network().fit(X, ONE).predict(X), rtol=1e-3, atol=1e-2)


def test_learns_a_line():
    params = {"layers": (), "max_iter": 400, "tol": 0, "learning_rate_init": 0.1, "alpha": 0}
    reg = network(**params).fit(X, MANY)
    assert reg.score(X, MANY) > 0.999
    slopes = reg.coefs_[0] / reg._model.scale * reg.y_scale_
    assert_allclose(slopes, SLOPES, atol=0.05)


def test_copies_and_searches():
    reg = network(warm_start=True).fit(X, MANY)
    copy = pickle.loads(pickle.dumps(reg))
    assert_array_equal(copy.predict(X), reg.predict(X))
    assert_array_equal(copy.fit(X, MANY).predict(X), reg.fit(X, MANY).predict(X))
    assert not hasattr(clone(reg), "n_features_in_")
    assert clone(reg).get_params(deep=False).keys() == reg.get_params(deep=False).keys()
    grid = {"loss": ["squared_error", "huber"], "layers__0__filters": [2, 3], "delta": [2.0]}
    search = GridSearchCV(network(max_iter=2), grid, cv=2, error_score="raise").fit(X, MANY)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == (N, 3)
