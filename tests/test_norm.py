"""Batch normalisation: against the formulas, finite differences and torch; weights, workers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import Run, numeric_gradient
from sklearn.base import clone

from skcnn import CNNClassifier
from skcnn._model.shards import shard_slices
from skcnn.layers import Activation, BatchNorm, Conv, Dense, Dropout, MaxPool

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
    assert_allclose(one.work["mean"], mean)
    assert_allclose(one.work["variance"], variance)
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


def statistics(clf, step=0):
    own = clf._model.network.views(clf._model.weights)[step]
    return own["mean"], own["variance"]


def still(layers, **params):
    """Return a classifier whose weights hardly move."""
    return CNNClassifier(layers, solver="sgd", learning_rate_init=1e-12, alpha=0, **params)


@pytest.mark.parametrize("momentum", [0.1, 0.4])
@pytest.mark.parametrize("size", [20, 60])
def test_statistics_of_pieces_are_averaged(momentum, size):
    """Each piece counts by its images, as long as they are 256 in all."""
    clf = still((BatchNorm(momentum), Dense(3)), standardize=False)
    scales, n_seen = RNG.uniform(0.5, 2, 16), 0
    mean, variance = 0.0, 1.0
    for scale in scales:
        piece = IMAGES[:size] * scale
        clf.partial_fit(piece, Y[:size], classes=[0, 1])
        n_seen = min(n_seen + size, 256)
        share = max(size / n_seen, momentum)
        mean += share * (piece.mean() - mean)
        variance += share * (piece.var() - variance)
    assert_allclose(statistics(clf), [[mean], [variance]], rtol=1e-9)


def test_statistics_are_those_of_the_last_weights():
    """Of the first layer's outputs on all training images, however short the training was."""
    layers = (Conv(3, activation="identity"), BatchNorm(), Dense(4))
    for params in ({"max_iter": 1}, {"max_iter": 7, "batch_size": 7}, {"solver": "lbfgs"}):
        clf = CNNClassifier(layers, random_state=0, learning_rate_init=0.1, **params)
        maps = clf.fit(IMAGES, Y).trace(IMAGES[:56])["0 Conv"].reshape(-1, 3)
        if "batch_size" not in params:
            maps = clf.trace(IMAGES)["0 Conv"].reshape(-1, 3)
            assert_allclose(statistics(clf, 1), [maps.mean(axis=0), maps.var(axis=0)], rtol=1e-9)
        else:  # eight whole batches of 7, taken at even distances
            chosen = np.arange(56) * 60 // 56
            maps = clf.trace(IMAGES[chosen])["0 Conv"].reshape(-1, 3)
            assert_allclose(statistics(clf, 1), [maps.mean(axis=0), maps.var(axis=0)], rtol=1e-9)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("way", ["fit", "partial_fit", "warm"])
def test_statistics_do_not_lag(early_stopping, way):
    """After few steps the training images are predicted as they were learned."""
    X = np.random.default_rng(1).normal(size=(90, 8, 8))
    y = np.arange(90) % 3
    layers = (Conv(16), BatchNorm(), Conv(16), BatchNorm(), Dense(32), BatchNorm())
    clf = CNNClassifier(layers, learning_rate_init=0.01, random_state=0)
    if way == "fit":
        clf.set_params(early_stopping=early_stopping, max_iter=15).fit(X, y, X_val=X, y_val=y)
    for _ in range(15 if way != "fit" else 0):
        if way == "warm":
            clf.set_params(warm_start=True, max_iter=1).fit(X, y)
        else:
            clf.partial_fit(X, y, classes=[0, 1, 2])
    assert clf.loss_ < 0.2
    assert clf.score(X, y) == 1


def test_statistics_see_neither_dropout_nor_augmentation():
    layers = (Dropout(0.5), BatchNorm(), Dense(3))
    clf = still(layers, max_iter=1, standardize=False, augment={"brightness": 5.0})
    assert_allclose(statistics(clf.fit(IMAGES, Y), 1), [[IMAGES.mean()], [IMAGES.var()]])


def test_statistics_of_weighted_images():
    weights = np.where(np.arange(60) % 3, RNG.random(60), 0)
    clf = still((BatchNorm(), Dense(3)), max_iter=1, standardize=False)
    mean, variance = statistics(clf.fit(IMAGES, Y, sample_weight=weights))
    expected = np.average(IMAGES.mean(axis=(1, 2)), weights=weights)
    assert_allclose(mean, expected)
    squares = np.average(np.square(IMAGES - expected).mean(axis=(1, 2)), weights=weights)
    assert_allclose(variance, squares)


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
