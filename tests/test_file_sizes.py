"""What a saved estimator takes on disk, and less of it without the optimizer."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError

from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.layers import BatchNorm, Conv, Dense, MaxPool, Residual

RNG = np.random.default_rng(1)
X = RNG.normal(size=(400, 20, 20)).astype(np.float32)
Y = np.arange(400) % 4
LAYERS = (Conv(8), BatchNorm(), MaxPool(), Residual((Conv(8),)), Dense(24))
CONSTANT = 20_000  # bytes, for parameters, layers, curves and the state of the random numbers


def network(**params):
    return CNNClassifier(LAYERS, random_state=0, **{"max_iter": 2, **params})


def n_bytes(*objects):
    """Return the size of all arrays that objects hold as attributes, each counted once."""
    arrays = [value for each in objects if each is not None for value in vars(each).values()]
    return sum({id(a): a.nbytes for a in arrays if isinstance(a, np.ndarray)}.values())


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"solver": "sgd"},
        {"solver": "lbfgs"},
        {"early_stopping": True, "max_iter": 4},
        {"augment": {"rotate": 5}, "n_test_augment": 2},
        {"scoring": "balanced_accuracy", "early_stopping": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("validates", [False, True])
def test_a_file_is_as_large_as_weights_and_optimizer(params, validates):
    clf = network(**params)
    held_out = {"X_val": X[:200], "y_val": Y[:200]} if validates else {}
    clf.fit(X, Y, **held_out)
    # the best weights of early stopping count beside the last ones, with which training goes on
    progress = clf._progress
    expected = n_bytes(progress, progress.optimizer)
    assert len(pickle.dumps(clf)) <= 1.1 * expected + CONSTANT < X.nbytes
    weights = clf._model.weights.nbytes
    assert len(pickle.dumps(clf.drop_optimizer())) <= 1.1 * weights + CONSTANT


def test_callbacks_add_no_data():
    callback = pytest.importorskip("sklearn.callback")
    clf = network()
    without = len(pickle.dumps(clf.fit(X, Y)))
    clf.set_callbacks(callback.ScoringMonitor(scoring="accuracy")).fit(X, Y)
    assert len(pickle.dumps(clf)) <= without + CONSTANT


@pytest.mark.parametrize("name", ["edges", "gabor", "random", "patches", "kmeans", "pca"])
def test_an_extractor_holds_filters_and_no_patches(name):
    extractor = ConvFeatureExtractor(name, n_filters=None, random_state=0)
    sizes = [len(pickle.dumps(extractor.fit(images))) for images in (X[:100], X)]
    assert abs(sizes[1] - sizes[0]) < 200
    learned = extractor._learned
    bank, model = learned.bank, learned.features.model
    learner = getattr(bank, "learner", None)
    expected = n_bytes(learned.features, model, bank, bank.whitener, learner)
    assert sizes[1] <= 1.1 * expected + CONSTANT < X.nbytes


def test_an_extractor_keeps_no_optimizer_of_a_network_that_it_has_trained():
    extractor = ConvFeatureExtractor(network()).fit(X, Y)
    weights = extractor.cnn_._model.weights.nbytes
    assert len(pickle.dumps(extractor)) <= 2.2 * weights + CONSTANT


@pytest.mark.parametrize(
    "params",
    [{}, {"solver": "adamw", "early_stopping": True}, {"solver": "rmsprop"}, {"solver": "lbfgs"}],
    ids=str,
)
@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_without_the_optimizer(kind, params):
    model = kind((Conv(3), Dense(6)), max_iter=3, random_state=0, warm_start=True, **params)
    model.fit(X[:60], Y[:60])
    as_it_was, before = copy.copy(model), model.predict(X)
    assert model.drop_optimizer() is model
    assert_array_equal(model.predict(X), before)
    assert model._progress.optimizer is None
    assert model._progress.weights is model._model.weights
    assert (as_it_was._progress.optimizer is None) == (model.solver == "lbfgs")
    again = pickle.loads(pickle.dumps(model))
    for each in (model, again):  # training goes on, with one step for each epoch
        each.fit(X[:60], Y[:60])
        assert each.n_iter_ > as_it_was.n_iter_
    assert_array_equal(again._progress.weights, model._progress.weights)
    if model.solver.startswith("adam"):
        assert model._progress.optimizer.n_steps == model.n_iter_ - as_it_was.n_iter_


@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_goes_on_from_the_weights_that_predict(early_stopping):
    clf = network(early_stopping=early_stopping, max_iter=8, learning_rate_init=0.02)
    clf = clf.fit(X, Y).drop_optimizer()
    before = clf.coefs_[0].copy()
    clf.set_params(learning_rate_init=1e-12).partial_fit(X, Y)
    np.testing.assert_allclose(clf.coefs_[0], before, atol=1e-6)


def test_without_momentum_a_new_optimizer_goes_on_as_the_old_one():
    kept, dropped = (network(solver="sgd", momentum=0).fit(X, Y) for _ in range(2))
    kept.partial_fit(X, Y)
    dropped.drop_optimizer().partial_fit(X, Y)
    assert_array_equal(dropped.predict_proba(X), kept.predict_proba(X))


def test_a_new_optimizer_is_as_the_parameters_say():
    clf = network().fit(X, Y).drop_optimizer().set_params(solver="sgd", momentum=0.5)
    assert clf.partial_fit(X, Y)._progress.optimizer.momentum == 0.5


def test_there_is_nothing_to_drop_before_fit():
    with pytest.raises(NotFittedError):
        network().drop_optimizer()
