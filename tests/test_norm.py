"""Batch normalisation: against the formulas, finite differences and torch; weights, workers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import Run, numeric_gradient
from sklearn.base import clone

from skcnn import CNNClassifier
from skcnn._model.shards import shard_slices
from skcnn.layers import Activation, BatchNorm, Conv, Dense, MaxPool

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 2, 4, 5)) * 3 + 7
WEIGHTS = {
    "coef": np.array([1.5, -0.5]),
    "intercept": np.array([0.2, 3.0]),
    "mean": np.array([5.0, 6.0]),
    "variance": np.array([4.0, 0.5]),
}
IMAGES = RNG.normal(size=(60, 8, 8)) + 3
Y = (IMAGES[:, :4].mean(axis=(1, 2)) > IMAGES[:, 4:].mean(axis=(1, 2))).astype(int)
LAYERS = (Conv(3, activation="identity"), BatchNorm(), Activation("relu"), MaxPool(), Dense(4))


def by_hand(x, weights, share, epsilon=1e-5):
    """Normalise by the mean and the variance of the samples, counted by their shares."""
    share = share / share.sum() / (x.shape[0] * x.shape[2])
    mean = np.einsum("rcwn,n->c", x, share)[:, None, None]
    variance = np.einsum("rcwn,n->c", (x - mean) ** 2, share)[:, None, None]
    normalised = (x - mean) / np.sqrt(variance + epsilon)
    y = normalised * weights["coef"][:, None, None] + weights["intercept"][:, None, None]
    return y, mean.ravel(), variance.ravel()


@pytest.mark.parametrize("share", [np.ones(5), np.array([1.0, 2, 0, 0.5, 3])], ids=["1", "w"])
def test_training(share):
    one = Run(BatchNorm(), X, WEIGHTS)
    one.work.shard.weights = share
    y, mean, variance = by_hand(X, WEIGHTS, share)
    assert_allclose(one.forward(X), y, rtol=1e-12)
    dy = RNG.normal(size=X.shape)
    dx = one.backward(dy)
    assert_allclose(one.grads["mean"], mean * share.sum())
    assert_allclose(one.grads["variance"], variance * share.sum())
    x, weights = X.copy(), {name: w.copy() for name, w in WEIGHTS.items()}

    def value(_):
        return float((by_hand(x, weights, share)[0] * dy).sum())

    assert_allclose(dx, numeric_gradient(value, x), rtol=1e-6, atol=1e-7)
    for name in ("coef", "intercept"):
        assert_allclose(one.grads[name], numeric_gradient(value, weights[name]), rtol=1e-6)


def test_prediction_uses_the_running_statistics():
    one = Run(BatchNorm(epsilon=1e-3), X, WEIGHTS)
    one.work.learning = False
    expected = (X - WEIGHTS["mean"][:, None, None]) / np.sqrt(
        WEIGHTS["variance"][:, None, None] + 1e-3
    )
    expected = expected * WEIGHTS["coef"][:, None, None] + WEIGHTS["intercept"][:, None, None]
    assert_allclose(one.forward(X), expected, rtol=1e-12)


def test_constant_channels():
    y = Run(BatchNorm(), np.ones((2, 2, 2, 3)), WEIGHTS).forward(np.ones((2, 2, 2, 3)))
    assert_allclose(y, np.broadcast_to(WEIGHTS["intercept"][:, None, None], y.shape))


def test_running_statistics_follow_the_batches():
    clf = CNNClassifier(
        (BatchNorm(momentum=0.25), Dense(3)), solver="sgd", learning_rate_init=1e-12, alpha=0,
        standardize=False, batch_size=60, shuffle=False,
    )  # fmt: skip
    mean, variance = 0.0, 1.0
    for _ in range(3):
        clf.partial_fit(IMAGES, Y, classes=[0, 1])
        mean += 0.25 * (IMAGES.mean() - mean)
        variance += 0.25 * (IMAGES.var() - variance)
    own = clf._model.network.views(clf._model.weights)[0]
    assert_allclose([own["mean"], own["variance"]], [[mean], [variance]], rtol=1e-9)
    assert_allclose([clf.coefs_[0], clf.intercepts_[0]], [[1], [0]], atol=1e-9)


def test_weights_count_like_copies():
    weights = np.tile([1.0, 2.0, 0.0], 20)
    repeated = np.repeat(np.arange(60), weights.astype(int))
    step = {"max_iter": 1, "shuffle": False, "random_state": 0, "standardize": False, "alpha": 0}
    a = CNNClassifier(LAYERS, batch_size=60, **step).fit(IMAGES, Y, sample_weight=weights)
    b = CNNClassifier(LAYERS, batch_size=60, **step).fit(IMAGES[repeated], Y[repeated])
    for one, other in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    assert_allclose(a.predict_proba(IMAGES), b.predict_proba(IMAGES), rtol=1e-6)


def test_workers_and_bits(workers):
    images = np.random.default_rng(1).normal(size=(300, 16, 16))
    labels = np.arange(300) % 2
    clf = CNNClassifier(LAYERS, max_iter=2, random_state=0)
    one = clone(clf).fit(images, labels)
    two = clone(clf).set_params(n_jobs=2).fit(images, labels)
    assert_array_equal(one._model.weights, two._model.weights)
    assert_array_equal(one.predict_proba(images), two.predict_proba(images))


def test_learns_and_predicts_single_images():
    clf = CNNClassifier(LAYERS, max_iter=60, learning_rate_init=0.01, random_state=0)
    clf.fit(IMAGES, Y)
    assert clf.score(IMAGES, Y) > 0.95
    alone = np.vstack([clf.predict_proba(image[None]) for image in IMAGES])
    assert_allclose(alone, clf.predict_proba(IMAGES), rtol=1e-9)


def test_against_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.BatchNorm2d(2, dtype=torch.float64)
    with torch.no_grad():
        theirs.weight[:] = torch.from_numpy(WEIGHTS["coef"])
        theirs.bias[:] = torch.from_numpy(WEIGHTS["intercept"])
    x = torch.from_numpy(X.transpose(3, 1, 0, 2).copy()).requires_grad_()
    dy = RNG.normal(size=X.shape)
    y = theirs(x)
    y.backward(torch.from_numpy(dy.transpose(3, 1, 0, 2).copy()))
    one = Run(BatchNorm(), X, WEIGHTS)
    assert_allclose(one.forward(X).transpose(3, 1, 0, 2), y.detach(), rtol=1e-10)
    assert_allclose(one.backward(dy).transpose(3, 1, 0, 2), x.grad, rtol=1e-8, atol=1e-12)
    assert_allclose(one.grads["coef"], theirs.weight.grad, rtol=1e-10)


@pytest.mark.parametrize("params", [{"momentum": 0}, {"momentum": 1.5}, {"epsilon": 0}])
def test_bad_parameters(params):
    with pytest.raises(ValueError, match=rf"layers\[0\] BatchNorm: The '{next(iter(params))}'"):
        CNNClassifier((BatchNorm(**params),)).fit(IMAGES, Y)


def test_a_shard_without_weight_changes_nothing():
    """Its mean and variance are not defined; they must not reach the weights."""
    images = np.random.default_rng(1).normal(size=(128, 16, 16))
    labels, weights = np.arange(128) % 2, np.ones(128)
    weights[:64] = 0
    params = {"batch_size": 128, "max_iter": 2, "shuffle": False, "random_state": 0, "tol": 0}
    clf = CNNClassifier(LAYERS, **params).fit(images, labels, sample_weight=weights)
    assert len(shard_slices(128, clf._model.network.map_size)) > 1
    assert np.isfinite(clf._model.weights).all()
    assert np.isfinite(clf.predict_proba(images)).all()
