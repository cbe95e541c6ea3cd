"""Samples held out: which, how they score, and that training never sees them."""

import pickle
from itertools import count

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.metrics import f1_score, log_loss, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcnn import CNNClassifier, CNNRegressor
from skcnn.layers import BatchNorm, Conv, Dense, Dropout, Layer, MaxPool

RNG = np.random.default_rng(0)
N = 120
Y = RNG.permutation(np.repeat([0, 1, 2], [72, 36, 12]))
X = RNG.normal(size=(N, 4, 5)) + Y[:, None, None]
NAMES = np.array(["ape", "bee", "cat"])[Y]
X_VAL, Y_VAL = X[:35] + RNG.normal(size=(35, 4, 5)), Y[:35]
LAYERS = (Conv(3), MaxPool(), Dense(4))


def network(kind=CNNClassifier, **params):
    return kind(**{"layers": LAYERS, "random_state": 0, "max_iter": 4, **params})


def weights_of(estimator):
    return np.concatenate([w.ravel() for w in estimator.coefs_ + estimator.intercepts_])


def state(estimator):
    return sorted(vars(estimator)), joblib.hash(vars(estimator))


def rising():
    """Return a scoring by which each epoch is better than the last."""
    numbers = count()
    return lambda estimator, X, y: next(numbers)


class Note(Layer):
    """Notes the last pixel of each image that passes, apart for training and prediction."""

    seen = {True: [], False: []}

    def forward(self, x, weights, work):
        self.seen[work.learning].append(x[-1, 0, -1].round().astype(int))
        return x

    def backward(self, dy, weights, grads, work):
        return dy


def rows_seen(call):
    """Return the numbers of the images that training and scoring see while `call` runs."""
    for numbers in Note.seen.values():
        numbers.clear()
    call()
    return [np.unique(np.concatenate(Note.seen[learning])) for learning in (True, False)]


NUMBERED = X.copy()
NUMBERED[:, -1, -1] = np.arange(N)


def noting(kind=CNNClassifier, **params):
    return network(kind, layers=(Note(), *LAYERS), standardize=False, early_stopping=True, **params)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("y", [Y, NAMES], ids=["integers", "strings"])
def test_each_class_keeps_its_share(fraction, y):
    clf = noting(validation_fraction=fraction)
    rows, held = rows_seen(lambda: clf.fit(NUMBERED, y))
    assert_array_equal(np.sort(np.r_[rows, held]), np.arange(N))
    assert len(held) == N * fraction
    assert (np.abs(np.bincount(Y[held]) - np.bincount(Y) * fraction) < 1).all()


def test_the_same_rows_each_time():
    clf = noting(warm_start=True)
    first = rows_seen(lambda: clf.fit(NUMBERED, Y))
    copy = pickle.loads(pickle.dumps(clf))
    for call in (lambda: copy.fit(NUMBERED, Y), lambda: clf.fit(NUMBERED, Y)):
        for a, b in zip(rows_seen(call), first, strict=True):
            assert_array_equal(a, b)
    again, other = (
        rows_seen(lambda seed=seed: noting(random_state=seed).fit(NUMBERED, Y)) for seed in (0, 1)
    )
    assert_array_equal(again[1], first[1])
    assert not np.array_equal(other[1], first[1])


def test_warm_start_with_early_stopping_is_one_fit():
    params = {"early_stopping": True, "layers": (Conv(3), BatchNorm(), Dropout(0.2), Dense(4))}
    whole = network(max_iter=6, **params).fit(X, Y)
    parts = network(max_iter=3, warm_start=True, **params).fit(X, Y)
    parts = pickle.loads(pickle.dumps(parts)).fit(X, Y)
    assert_array_equal(weights_of(parts), weights_of(whole))
    assert parts.validation_scores_ == whole.validation_scores_
    assert parts.validation_loss_curve_ == whole.validation_loss_curve_
    assert parts.loss_curve_ == whole.loss_curve_


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
@pytest.mark.parametrize("weighted", [False, True])
def test_samples_held_out_leave_no_trace(kind, weighted):
    """The weights are those of training, step by step, on all other samples alone."""
    y = Y if kind is CNNClassifier else X[:, 0, 0]
    weights = RNG.random(N) + 0.1 if weighted else np.ones(N)
    rows, held = rows_seen(lambda: noting(kind).fit(NUMBERED, y))
    absurd_X, absurd_y = X.copy(), y.copy()
    absurd_X[held] = 1e6 * RNG.normal(size=(len(held), 4, 5))
    if kind is CNNRegressor:
        absurd_y[held] = -1e6
    params = {"shuffle": False, "batch_size": 37}
    fitted = network(kind, early_stopping=True, scoring=rising(), **params)
    fitted.fit(absurd_X, absurd_y, weights if weighted else None)
    by_hand = network(kind, **params)
    first = {"classes": [0, 1, 2]} if kind is CNNClassifier else {}
    for _ in range(4):
        given = weights[rows] if weighted else None
        by_hand.partial_fit(X[rows], y[rows], sample_weight=given, **first)
    assert_allclose(weights_of(fitted), weights_of(by_hand), rtol=1e-9, atol=1e-11)
    assert_allclose(fitted.loss_curve_, by_hand.loss_curve_, rtol=1e-9)
    assert_allclose(fitted.predict(X), by_hand.predict(X), rtol=1e-7)
    assert fitted.t_ == by_hand.t_ == 4 * len(rows)


def test_the_best_weights_are_kept():
    scores = [0.1, 0.5, 0.3, 0.5, 0.2, 0.2]
    given = iter(scores)
    clf = network(
        early_stopping=True, scoring=lambda e, X, y: next(given), max_iter=20, n_iter_no_change=3,
    )  # fmt: skip
    clf.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    assert clf.validation_scores_ == scores
    assert clf.best_validation_score_ == 0.5
    assert clf.n_iter_ == len(scores)
    assert_array_equal(weights_of(clf), weights_of(network(max_iter=2).fit(X, Y)))
    assert_array_equal(clf.predict_proba(X), network(max_iter=2).fit(X, Y).predict_proba(X))


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_the_fitted_network_scores_best(kind):
    y = Y if kind is CNNClassifier else X[:, 0, 0]
    _, held = rows_seen(lambda: noting(kind).fit(NUMBERED, y))
    estimator = network(kind, early_stopping=True, max_iter=30, learning_rate_init=0.05, tol=0)
    estimator.set_params(n_iter_no_change=5).fit(X, y)
    scores = estimator.validation_scores_
    assert len(set(scores)) > 1
    assert estimator.score(X[held], y[held]) == pytest.approx(max(scores), rel=1e-12)
    assert estimator.best_validation_score_ == max(scores)


@pytest.mark.parametrize("n_iter_no_change", [1, 3])
def test_stops_when_mlp_does(n_iter_no_change):
    params = {"tol": 1e9, "n_iter_no_change": n_iter_no_change, "early_stopping": True}
    mlp = MLPClassifier((4,), max_iter=40, **params).fit(X.reshape(N, -1), Y)
    assert network(max_iter=40, **params).fit(X, Y).n_iter_ == mlp.n_iter_
    assert network(max_iter=7, **params | {"n_iter_no_change": np.inf}).fit(X, Y).n_iter_ == 7


def test_scores_are_only_recorded_without_early_stopping():
    params = {"max_iter": 6, "tol": 0}
    told = network(**params).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    plain = network(**params).fit(X, Y)
    assert_array_equal(weights_of(told), weights_of(plain))
    assert told.loss_curve_ == plain.loss_curve_
    assert len(told.validation_scores_) == len(told.validation_loss_curve_) == 6
    assert (plain.validation_scores_, plain.best_validation_score_) == ([], None)


def own_scoring(estimator, X, y):
    picked = (estimator.classes_ == y[:, None]).T
    return -estimator.predict_proba(X).T[picked].max() + (estimator.predict(X) == y).sum()


SCORINGS = {
    "None": (None, lambda clf, X, y: (clf.predict(X) == y).mean()),
    "neg_log_loss": ("neg_log_loss", lambda clf, X, y: -log_loss(y, clf.predict_proba(X))),
    "f1_macro": ("f1_macro", lambda clf, X, y: f1_score(y, clf.predict(X), average="macro")),
    "function": (own_scoring, own_scoring),
}


@pytest.mark.parametrize(("scoring", "by_hand"), SCORINGS.values(), ids=SCORINGS.keys())
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scoring(scoring, by_hand, dtype):
    x, names = X_VAL.astype(dtype), NAMES[:35]
    for k in (1, 3):
        clf = network(scoring=scoring, max_iter=k, learning_rate_init=0.02)
        clf.fit(X.astype(dtype), NAMES, X_val=x, y_val=names)
        assert clf.validation_scores_[-1] == pytest.approx(by_hand(clf, x, names), rel=1e-5)
        expected = log_loss(names, clf.predict_proba(x).astype(np.float64))
        assert clf.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-5)


def test_scores_of_two_classes_many_labels_and_numbers():
    two = network().fit(X, Y > 0, X_val=X_VAL, y_val=Y_VAL > 0)
    expected = log_loss(Y_VAL > 0, two.predict_proba(X_VAL))
    assert two.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-10)
    labels = np.c_[Y > 0, Y > 1, X[:, 0, 0] > 0].astype(int)
    many = network().fit(X, labels, X_val=X_VAL, y_val=labels[:35])
    proba = many.predict_proba(X_VAL)
    expected = -np.log(np.where(labels[:35], proba, 1 - proba)).sum(axis=1).mean()
    assert many.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-10)
    assert many.validation_scores_[-1] == many.score(X_VAL, labels[:35])
    numbers = X[:, 0, :2] + 5
    reg = network(CNNRegressor).fit(X, numbers, X_val=X_VAL, y_val=numbers[:35])
    d = reg.predict(X_VAL) - numbers[:35]
    assert reg.validation_loss_curve_[-1] == pytest.approx((d**2).sum() / 70, rel=1e-10)
    expected = r2_score(numbers[:35], reg.predict(X_VAL))
    assert reg.validation_scores_[-1] == pytest.approx(expected, rel=1e-9)


def test_weights_count_in_the_score():
    weights = RNG.random(N)
    _, held = rows_seen(lambda: noting().fit(NUMBERED, Y))
    clf = network(early_stopping=True, max_iter=1).fit(X, Y, weights)
    right = clf.predict(X[held]) == Y[held]
    expected = np.average(right, weights=weights[held])
    assert clf.validation_scores_[0] == pytest.approx(expected, rel=1e-12)
    expected = log_loss(Y[held], clf.predict_proba(X[held]), sample_weight=weights[held])
    assert clf.validation_loss_curve_[0] == pytest.approx(expected, rel=1e-10)


def no_scoring(estimator, X, y):
    raise ValueError("no score")


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
@pytest.mark.parametrize("scoring", [None, "neg_root_mean_squared_error"])
@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_of_zero_on_one_side(kind, scoring, where):
    weights = np.ones(N)
    weights[rows_seen(lambda: noting(kind).fit(NUMBERED, Y))[where]] = 0
    estimator = network(kind, early_stopping=True, scoring=scoring)
    with pytest.raises(ValueError, match="sample_weight must"):
        estimator.fit(X, Y, weights)


RARE = np.where(np.arange(N) == 5, 9, Y)
BAD = {
    "X_val only": ({"X_val": X_VAL}, {}, Y, "y_val must be passed together with X_val"),
    "y_val only": ({"y_val": Y_VAL}, {}, Y, "X_val must be passed together with y_val"),
    "shape": ({"X_val": X_VAL[:, :3], "y_val": Y_VAL}, {}, Y,
              r"X_val must hold images .*\(4, 5, 1\). Got \(3, 5, 1\) instead"),
    "transposed": ({"X_val": X_VAL.transpose(0, 2, 1), "y_val": Y_VAL}, {}, Y,
               r"X_val must hold images .*\(4, 5, 1\). Got \(5, 4, 1\) instead"),
    "width": ({"X_val": np.ones((35, 19)), "y_val": Y_VAL}, {}, Y,
              r"X_val must hold images .*\(4, 5, 1\). Got \(19,\) instead"),
    "labels": ({"X_val": X_VAL, "y_val": Y_VAL + 1}, {}, Y, r"labels among classes.*Got \[3\]"),
    "length": ({"X_val": X_VAL, "y_val": Y[:34]}, {}, Y, r"inconsistent numbers .*\[35, 34\]"),
    "NaN": ({"X_val": X_VAL * np.nan, "y_val": Y_VAL}, {}, Y, "contains NaN"),
    "one of a class": ({}, {}, RARE, "at least two samples of each class.*Got one of class .*9"),
    "scoring": ({}, {"scoring": "beauty"}, Y, "'beauty' is not a valid scoring value"),
    "fraction": ({}, {"validation_fraction": 1.0}, Y, "'validation_fraction' parameter of"),
    "kind of scoring": ({}, {"scoring": 3}, Y, "'scoring' parameter of"),
    "scoring fails": ({}, {"scoring": no_scoring}, Y, "no score"),
}  # fmt: skip


@pytest.mark.parametrize(("fit_params", "params", "y", "message"), BAD.values(), ids=BAD.keys())
def test_errors(fit_params, params, y, message):
    for clf in (network(), network().fit(X, Y)):
        before = state(clf.set_params(early_stopping=True, **params))
        with pytest.raises(ValueError, match=message):
            clf.fit(X, y, **fit_params)
        assert state(clf) == before


@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_training_goes_on_without_early_stopping(how):
    clf = network(early_stopping=True, warm_start=True).fit(X, Y)
    before = weights_of(clf)
    clf.set_params(early_stopping=False, learning_rate_init=0.1)
    _ = clf.fit(X, Y) if how == "warm_start" else clf.partial_fit(X, Y)
    assert np.abs(weights_of(clf) - before).max() > 1e-3
    clf.set_params(learning_rate_init=1e-300, max_iter=1, alpha=0).partial_fit(X, Y)
    assert clf.loss_ == pytest.approx(log_loss(Y, clf.predict_proba(X)), rel=1e-9)


@pytest.mark.parametrize("given", [False, True])
def test_sparse_labels(given):
    labels = np.c_[Y > 0, Y > 1].astype(int)
    y = sparse.csr_array(labels)
    val = {"X_val": X_VAL, "y_val": y[:35]} if given else {}
    plain_val = {"X_val": X_VAL, "y_val": labels[:35]} if given else {}
    clf = network(early_stopping=True).fit(X, y, **val)
    plain = network(early_stopping=True).fit(X, labels, **plain_val)
    assert_array_equal(weights_of(clf), weights_of(plain))


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_same_bits_for_any_n_jobs(workers, kind):
    layers = (Conv(4), BatchNorm(), Dropout(0.3), MaxPool(), Dense(8))
    params = {"layers": layers, "batch_size": 70, "early_stopping": True, "max_iter": 3}
    params["scoring"] = "neg_log_loss" if kind is CNNClassifier else None
    one, two = (network(kind, n_jobs=n_jobs, **params).fit(X, Y) for n_jobs in (1, 2))
    assert_array_equal(weights_of(one), weights_of(two))
    assert one.loss_curve_ == two.loss_curve_
    assert one.validation_scores_ == two.validation_scores_
    assert one.validation_loss_curve_ == two.validation_loss_curve_
    assert_array_equal(one.predict(X), two.predict(X))


def test_metadata_routing():
    flat, flat_val = X.reshape(N, -1), X_VAL.reshape(35, -1)
    with config_context(enable_metadata_routing=True):
        clf = network(max_iter=2).set_fit_request(X_val=True, y_val=True)
        expected = network(max_iter=2).fit(flat, Y, X_val=flat_val, y_val=Y_VAL)
        pipe = make_pipeline(FunctionTransformer(), clf).fit(flat, Y, X_val=flat_val, y_val=Y_VAL)
        assert pipe[-1].validation_scores_ == expected.validation_scores_
        double = FunctionTransformer(lambda X: 2 * X)
        pipe = make_pipeline(double, clf, transform_input=["X_val"])
        pipe.fit(flat / 2, Y, X_val=flat_val / 2, y_val=Y_VAL)
        assert pipe[-1].validation_scores_ == expected.validation_scores_
        search = GridSearchCV(clf, {"alpha": [0, 1e-4]}, cv=2, error_score="raise")
        best = search.fit(flat, Y, X_val=flat_val, y_val=Y_VAL).best_estimator_
        assert len(best.validation_scores_) == 2
        search = GridSearchCV(network(), {"alpha": [0]}, cv=2)
        with pytest.raises(ValueError, match="X_val"):
            search.fit(flat, Y, X_val=flat_val, y_val=Y_VAL)


def test_a_score_that_is_not_a_number_is_no_improvement():
    clf = network(early_stopping=True, scoring=lambda *arguments: np.nan, max_iter=20, tol=0)
    clf.set_params(n_iter_no_change=3).fit(X, Y)
    assert clf.n_iter_ == 4
