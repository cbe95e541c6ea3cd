"""Class weights, smoothing, many labels, solvers, schedules, and ends of training of all kinds."""

import pickle
from math import cos, pi

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neural_network import MLPClassifier
from sklearn.utils.class_weight import compute_sample_weight

from skcnn import CNNClassifier, CNNRegressor
from skcnn._training.optimizers import SGD
from skcnn.layers import BatchNorm, Conv, Dense, Dropout, Layer, MaxPool

RNG = np.random.default_rng(0)
N = 90
Y = RNG.permutation(np.repeat([0, 1, 2], [50, 30, 10]))
X = RNG.normal(size=(N, 4, 5)) + Y[:, None, None]
FLAT = X.reshape(N, -1)
LABELS = np.c_[Y > 0, FLAT[:, 0] > 1, FLAT[:, 1] > FLAT[:, 2]].astype(int)
OWN = RNG.random(N)
LAYERS = (Conv(3), MaxPool(), Dense(4))
PLAIN = {
    "solver": "sgd", "momentum": 0, "alpha": 0, "learning_rate_init": 0.3, "batch_size": N,
    "shuffle": False, "standardize": False,
}  # fmt: skip


def network(kind=CNNClassifier, **params):
    return kind(**{"layers": LAYERS, "random_state": 0, "max_iter": 4, **params})


def weights_of(estimator):
    return np.concatenate([w.ravel() for w in estimator.coefs_ + estimator.intercepts_])


def state(estimator):
    return sorted(vars(estimator)), joblib.hash(vars(estimator))


def softmax(logits):
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("class_weight", [{0: 0.5, 1: 2.0, 2: 7.0}, {2: 3.0}, "balanced"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_class_weights_are_sample_weights(class_weight, standardize, early_stopping):
    params = {"standardize": standardize, "early_stopping": early_stopping, "alpha": 0.1}
    by_class = network(class_weight=class_weight, **params)
    full = {c: class_weight.get(c, 1) for c in range(3)} if class_weight != "balanced" else None
    shares = compute_sample_weight(full or "balanced", Y)
    by_sample = network(**params).fit(X, Y, shares)
    assert_allclose(weights_of(by_class.fit(X, Y)), weights_of(by_sample), rtol=1e-9, atol=1e-12)
    by_sample.fit(X, Y, OWN * shares)
    by_class.fit(X, Y, OWN)
    assert_allclose(weights_of(by_class), weights_of(by_sample), rtol=1e-9, atol=1e-12)


def test_class_weights_of_strings_and_in_partial_fit():
    names = np.array(["ape", "bee", "cat"])
    expected = network(standardize=False, max_iter=1).fit(X, Y, np.array([0.5, 1, 4])[Y])
    parts = network(standardize=False, class_weight={"ape": 0.5, "cat": 4})
    parts.partial_fit(X, names[Y], classes=names)
    assert_allclose(weights_of(parts), weights_of(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({0: 1, 7: 2}, r"class_weight must have labels of y as keys, of \[0, 1, 2\]. Got \[7\]"),
        ({0: -1}, "class_weight must not be negative"),
        ({0: np.nan}, "class_weight must not be negative"),
        ({0: 0, 1: 0, 2: 0}, "positive sum"),
        ("even", "'class_weight' parameter of CNNClassifier must be"),
    ],
)
def test_bad_class_weights(class_weight, message):
    for clf in (network(), network().fit(X, Y)):
        before = state(clf.set_params(class_weight=class_weight))
        with pytest.raises(ValueError, match=message):
            clf.fit(X, Y)
        assert state(clf) == before


def test_class_weights_that_cannot_be():
    clf = network(class_weight="balanced")
    with pytest.raises(ValueError, match="'balanced' is not supported by partial_fit"):
        clf.partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="class_weight must be None for multilabel y"):
        clf.fit(X, LABELS)


@pytest.mark.parametrize("n_outputs", [1, 3, "many labels"])
@pytest.mark.parametrize("smoothing", [0.1, 0.6])
def test_a_step_with_smooth_labels(n_outputs, smoothing):
    """One-hot targets q become (1 - s) q + s / n_classes."""
    one = Y > 0, (Y > 0)[:, None].astype(float), 2
    cases = {1: one, 3: (Y, np.eye(3)[Y], 3), "many labels": (LABELS, LABELS, 2)}
    y, q, n_classes = cases[n_outputs]
    clf = network(layers=(), label_smoothing=smoothing, **PLAIN)
    clf.partial_fit(X, y, classes=[0, 1] if n_outputs == 1 else [0, 1, 2])
    a, b = clf.coefs_[0].copy(), clf.intercepts_[0].copy()
    logits = FLAT @ a + b
    p = softmax(logits) if n_outputs == 3 else 1 / (1 + np.exp(-logits))
    smooth = (1 - smoothing) * q + smoothing / n_classes
    d = (p - smooth) / N
    clf.partial_fit(X, y)
    assert_allclose(clf.coefs_[0], a - 0.3 * FLAT.T @ d, rtol=1e-10, atol=1e-12)
    assert_allclose(clf.intercepts_[0], b - 0.3 * d.sum(axis=0), rtol=1e-10, atol=1e-12)
    losses = -smooth * np.log(p) - (0 if n_outputs == 3 else (1 - smooth) * np.log(1 - p))
    assert clf.loss_ == pytest.approx(losses.sum() / N, rel=1e-9)


def test_many_labels_step_as_mlp_does():
    params = {k: v for k, v in PLAIN.items() if k != "standardize"} | {"alpha": 0.5}
    mlp = MLPClassifier((6,), random_state=0, **params).partial_fit(FLAT, LABELS, classes=[0, 1, 2])
    clf = CNNClassifier((Dense(6),), image_shape=(1, 20), standardize=False, **params)
    clf.partial_fit(FLAT, LABELS, classes=[0, 1, 2])
    given = mlp.coefs_ + mlp.intercepts_
    for ours, theirs in zip(clf.coefs_ + clf.intercepts_, given, strict=True):
        ours[...] = theirs
    for _ in range(3):
        mlp.partial_fit(FLAT, LABELS)
        clf.partial_fit(FLAT, LABELS)
    assert_allclose(weights_of(clf), weights_of(mlp), rtol=1e-9, atol=1e-10)
    assert_allclose(clf.predict_proba(FLAT), mlp.predict_proba(FLAT), rtol=1e-9)
    assert_array_equal(clf.predict(FLAT), mlp.predict(FLAT))


def test_many_labels_are_learned():
    params = {"layers": (), "max_iter": 300, "tol": 0, "learning_rate_init": 0.05, "alpha": 0}
    clf = network(standardize=False, **params).fit(X, LABELS)
    proba = clf.predict_proba(X)
    assert proba.shape == clf.predict(X).shape == LABELS.shape
    logits = FLAT @ clf.coefs_[0] + clf.intercepts_[0]
    assert_allclose(proba, 1 / (1 + np.exp(-logits)), rtol=1e-9, atol=1e-15)
    assert_array_equal(clf.predict(X), proba > 0.5)
    assert_allclose(clf.predict_log_proba(X), -np.logaddexp(0, -logits), rtol=1e-9)
    assert clf.score(X, LABELS) == (clf.predict(X) == LABELS).all(axis=1).mean() > 0.8
    assert_array_equal(clf.classes_, [0, 1, 2])


@pytest.mark.parametrize(("first", "then"), [(Y, LABELS), (LABELS, Y), (Y, LABELS[:, :2])])
def test_labels_and_many_labels_do_not_mix(first, then):
    clf = network().partial_fit(X, first, classes=[0, 1, 2])
    before = state(clf)
    with pytest.raises(ValueError, match="y must"):
        clf.partial_fit(X, then)
    assert state(clf) == before


@pytest.mark.parametrize("solver", ["adamw", "rmsprop"])
def test_solvers_step_as_published(solver):
    """Four full-batch steps of multinomial regression, with the gradient's own formula."""
    params = {**PLAIN, "solver": solver, "alpha": 0.4, "learning_rate_init": 0.02}
    clf = network(layers=(), weight_decay=0.3, beta_1=0.8, beta_2=0.95, epsilon=1e-4, **params)
    first = network(layers=(), **params | {"learning_rate_init": 1e-300})
    first.partial_fit(X, Y, classes=[0, 1, 2])
    w = np.vstack([first.coefs_[0], first.intercepts_[0]])
    ones, coef_rows = np.c_[FLAT, np.ones(N)], np.r_[np.ones(20), 0][:, None]
    mean, square = np.zeros_like(w), np.zeros_like(w)
    for t in range(1, 5):
        clf.partial_fit(X, Y, classes=[0, 1, 2])
        g = ones.T @ (softmax(ones @ w) - np.eye(3)[Y]) / N + 0.4 / N * coef_rows * w
        if solver == "adamw":
            mean, square = 0.8 * mean + 0.2 * g, 0.95 * square + 0.05 * g**2
            w = w * (1 - 0.02 * 0.3 * coef_rows)
            w -= 0.02 * (mean / (1 - 0.8**t)) / (np.sqrt(square / (1 - 0.95**t)) + 1e-4)
        else:
            square = 0.99 * square + 0.01 * g**2
            w = w - 0.02 * g / (np.sqrt(square) + 1e-4)
        assert_allclose(np.vstack([clf.coefs_[0], clf.intercepts_[0]]), w, rtol=1e-8, atol=1e-11)


def test_clipped_steps():
    def step(clip_norm):
        clf = network(clip_norm=clip_norm, **PLAIN).partial_fit(X, Y, classes=[0, 1, 2])
        start = network(**PLAIN | {"learning_rate_init": 1e-300}).partial_fit(X, Y, [0, 1, 2])
        return weights_of(clf) - weights_of(start)

    free = step(None)
    assert_array_equal(step(1e6), free)
    assert_allclose(step(np.linalg.norm(free) / 0.3 / 4), free / 4, rtol=1e-9, atol=1e-12)
    assert np.linalg.norm(step(1e-3)) == pytest.approx(0.3 * 1e-3, rel=1e-9)


@pytest.fixture
def rates(monkeypatch):
    """Return the list of the learning rates of all steps of SGD."""
    rates, begin_step = [], SGD.begin_step

    def spy(self, learning_rate):
        rates.append(learning_rate)
        return begin_step(self, learning_rate)

    monkeypatch.setattr(SGD, "begin_step", spy)
    return rates


def half_cosine(high, low, share):
    return low + (high - low) * (1 + cos(pi * share)) / 2


def expected_rates(schedule, warmup, n_epochs=5, n_batches=4):
    """Return the rate of each step; the largest is 0.1."""
    steps = range(n := n_epochs * n_batches)
    if schedule == "invscaling":
        return [0.1 / (k // n_batches * N + 1) ** 0.3 for k in steps]
    if schedule == "cosine":
        n_warm = round((warmup or 0) * n)
        fall = [half_cosine(0.1, 0, (k - n_warm) / (n - n_warm)) for k in steps]
        return [0.1 * (k + 1) / n_warm if k < n_warm else fall[k] for k in steps]
    if schedule == "onecycle":  # as torch has it
        peak = (0.3 if warmup is None else warmup) * n - 1
        rise = [half_cosine(0.004, 0.1, k / peak) for k in steps]
        fall = [half_cosine(0.1, 0.004 / 1e4, (k - peak) / (n - 1 - peak)) for k in steps]
        return [rise[k] if k < peak else fall[k] for k in steps]
    return [0.1] * n


@pytest.mark.parametrize(
    ("schedule", "warmup"),
    [("constant", None), ("invscaling", None), ("cosine", None), ("cosine", 0.25),
     ("onecycle", None), ("onecycle", 0.5)],
)  # fmt: skip
def test_rates(rates, schedule, warmup):
    params = {"solver": "sgd", "learning_rate_init": 0.1, "batch_size": 25, "power_t": 0.3}
    params |= {"learning_rate": schedule, "warmup": warmup, "max_iter": 5}
    network(**params, n_iter_no_change=np.inf).fit(X, Y)
    in_parts = network(**params)
    for _ in range(5):
        in_parts.partial_fit(X, Y, classes=[0, 1, 2])
    assert_allclose(rates, 2 * expected_rates(schedule, warmup), rtol=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_schedules_of_a_length_run_it(rates, schedule):
    params = {"solver": "sgd", "tol": 1e9, "n_iter_no_change": 1, "learning_rate": schedule}
    clf = network(max_iter=9, early_stopping=True, **params).fit(X, Y)
    assert clf.n_iter_ == len(rates) == len(clf.validation_scores_) == 9
    assert rates[-1] < 0.1 * max(rates)


def test_adaptive_lowers_the_rate_as_mlp_does(rates):
    params = {"solver": "sgd", "tol": 1e9, "n_iter_no_change": 2, "learning_rate": "adaptive"}
    params |= {"learning_rate_init": 1e-4, "max_iter": 40}
    mlp = MLPClassifier((4,), **params).fit(FLAT, Y)
    clf = network(**params).fit(X, Y)
    assert clf.n_iter_ == mlp.n_iter_ == 13
    expected = np.repeat([1e-4, 2e-5, 4e-6, 8e-7], [4, 3, 3, 3])
    assert_allclose(rates, expected, rtol=1e-12)


@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive", "cosine", "onecycle"])
def test_training_goes_on_from_a_copy_bit_for_bit(solver, schedule):
    layers = (Conv(3), BatchNorm(), MaxPool(), Dropout(0.3), Dense(4))
    params = {"layers": layers, "solver": solver, "learning_rate": schedule, "batch_size": 40}
    params |= {"learning_rate_init": 0.01, "tol": 1e9, "n_iter_no_change": 1, "clip_norm": 1.0}

    def train(clf, n_epochs):
        if schedule not in ("cosine", "onecycle"):
            params = {"n_iter_no_change": 1 if schedule == "adaptive" else np.inf}
            return clf.set_params(max_iter=n_epochs, warm_start=True, **params).fit(X, Y)
        for _ in range(n_epochs):
            clf.set_params(max_iter=6).partial_fit(X, Y, classes=[0, 1, 2])
        return clf

    whole = train(network(**params), 6)
    parts = train(pickle.loads(pickle.dumps(train(network(**params), 3))), 3)
    assert whole.n_iter_ == parts.n_iter_ == 6
    assert_array_equal(weights_of(parts), weights_of(whole))
    assert_array_equal(parts.predict_proba(X), whole.predict_proba(X))
    assert parts.loss_curve_ == whole.loss_curve_


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_time_is_up_after_one_epoch():
    clf = network(max_iter=50, max_seconds=1e-9).fit(X, Y)
    assert clf.n_iter_ == 1
    assert_array_equal(weights_of(clf), weights_of(network(max_iter=1).fit(X, Y)))


class Interrupt(Layer):
    """Is interrupted as the user would, in the batch that `countdown` says."""

    countdown = None

    def forward(self, x, weights, work):
        if work.learning and work.shard.is_random and Interrupt.countdown is not None:
            Interrupt.countdown -= 1
            if Interrupt.countdown == 0:
                Interrupt.countdown = None
                raise KeyboardInterrupt
        return x

    def backward(self, dy, weights, grads, work):
        return dy


@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_an_interrupt_keeps_the_last_whole_epoch(solver, early_stopping):
    layers = (Interrupt(), Conv(3), BatchNorm(), Dropout(0.2), Dense(4))
    params = {"layers": layers, "solver": solver, "early_stopping": early_stopping}
    params |= {"batch_size": 27, "warm_start": True, "learning_rate": "invscaling"}
    two, four = (network(max_iter=n, **params).fit(X, Y) for n in (2, 4))
    n_batches = -(-two.t_ // 2 // 27)
    Interrupt.countdown = 2 * n_batches + 2
    clf = network(max_iter=4, **params)
    with pytest.warns(UserWarning, match="interrupted"):
        clf.fit(X, Y)
    assert (clf.n_iter_, clf.t_) == (two.n_iter_, two.t_)
    assert clf.loss_curve_ == two.loss_curve_
    assert clf.validation_scores_ == two.validation_scores_
    assert_array_equal(clf.predict_proba(X), two.predict_proba(X))
    clf.set_params(max_iter=2).fit(X, Y)
    assert_array_equal(weights_of(clf), weights_of(four))
    assert clf.loss_curve_ == four.loss_curve_


@pytest.mark.parametrize("fitted", [False, True])
def test_an_interrupt_in_the_first_epoch(fitted):
    clf = network(layers=(Interrupt(), Dense(3)), batch_size=30, warm_start=True)
    before = state(clf.fit(X, Y) if fitted else clf)
    for call in (clf.fit, lambda X, y: clf.partial_fit(X, y, classes=[0, 1, 2])):
        Interrupt.countdown = 2
        with pytest.raises(KeyboardInterrupt):
            call(X, Y)
        assert state(clf) == before


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_explodes(kind):
    bad = {"solver": "sgd", "learning_rate_init": 1e30, "max_iter": 50, "warm_start": True}
    bad["layers"] = (Dense(9, activation="identity"),) * 3
    for estimator in (network(kind), network(kind, layers=bad["layers"], solver="sgd").fit(X, Y)):
        before = state(estimator.set_params(**bad))
        with pytest.raises(ValueError, match=r"non-finite in epoch \d+. Lower learning_rate_init"):
            estimator.fit(X, Y)
        assert state(estimator) == before
