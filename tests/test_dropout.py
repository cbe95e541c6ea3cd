"""Dropout: shares, scale, prediction, reproducible for any number of workers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import Run
from sklearn.base import clone

from skcnn import CNNClassifier
from skcnn.layers import Conv, Dense, Dropout, MaxPool

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 4, 10, 50)).astype(np.float32)
IMAGES = RNG.normal(size=(300, 16, 16))
LABELS = np.arange(300) % 3
LAYERS = (Dropout(0.2), Conv(4), MaxPool(), Dropout(0.5), Dense(8))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_training(rate):
    one = Run(Dropout(rate), X)
    y = one.forward(X)
    kept = y != 0
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / X.size)
    assert_allclose(y[kept], X[kept] / (1 - rate), rtol=1e-6)
    dx = one.backward(np.ones_like(X))
    assert_allclose(dx, kept / (1 - rate), rtol=1e-6)
    assert not np.array_equal(one.forward(X) != 0, kept)  # the next shard draws anew


def test_prediction_and_rate_zero_change_nothing():
    one = Run(Dropout(0.5), X)
    one.work.learning = False
    assert_array_equal(one.forward(X), X)
    nothing = Run(Dropout(0), X)
    assert_array_equal(nothing.forward(X), X)
    assert_array_equal(nothing.backward(X), X)


def test_workers_and_bits(workers):
    clf = CNNClassifier(LAYERS, max_iter=3, random_state=0)
    one = clone(clf).fit(IMAGES, LABELS)
    two = clone(clf).set_params(n_jobs=2).fit(IMAGES, LABELS)
    assert_array_equal(one._model.weights, two._model.weights)
    other = clone(clf).set_params(random_state=1).fit(IMAGES, LABELS)
    assert not np.array_equal(one._model.weights, other._model.weights)


def test_every_step_draws_anew():
    step = {"solver": "sgd", "learning_rate_init": 1e-9, "alpha": 0, "tol": 0, "shuffle": False}
    clf = CNNClassifier((Dropout(0.5), Dense(5)), max_iter=4, random_state=0, **step)
    assert len(set(np.round(clf.fit(IMAGES, LABELS).loss_curve_, 6))) == 4
    still = CNNClassifier((Dense(5),), max_iter=4, random_state=0, **step).fit(IMAGES, LABELS)
    assert len(set(np.round(still.loss_curve_, 6))) == 1


def test_predictions_do_not_vary():
    clf = CNNClassifier(LAYERS, max_iter=2, random_state=0).fit(IMAGES, LABELS)
    assert_array_equal(clf.predict_proba(IMAGES), clf.predict_proba(IMAGES))
    assert_allclose(clf.predict_proba(IMAGES[:7]), clf.predict_proba(IMAGES)[:7], rtol=1e-9)


@pytest.mark.parametrize("rate", [1, -0.1, None])
def test_bad_rate(rate):
    with pytest.raises(ValueError, match=r"layers\[0\] Dropout: The 'rate' parameter"):
        CNNClassifier((Dropout(rate),)).fit(IMAGES, LABELS)
