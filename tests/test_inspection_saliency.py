"""Saliency: gradients by differences, completeness, hand computations, and a cross that is found."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.inspection import saliency
from skcnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    Residual,
)

SIDE = 16
LAYERS = (
    Conv(6),
    BatchNorm(),
    MaxPool(),
    Residual((Conv(6), BatchNorm(), Conv(6, activation="identity"))),
    Dropout(),
    AvgPool(3, stride=2, padding=1),
    Activation("tanh"),
    Dense(7, activation="logistic"),
)


def crosses(n, random_state, channels=1):
    """Return images with a straight or a slanted cross in a corner, their kinds, and the corners."""
    rng = np.random.RandomState(random_state)
    straight, slanted = np.zeros((5, 5)), np.maximum(np.eye(5), np.eye(5)[::-1])
    straight[2] = straight[:, 2] = 1
    X, y = rng.normal(0, 0.3, (n, SIDE, SIDE, channels)), rng.randint(2, size=n)
    corners = np.where(rng.randint(2, size=(n, 2)), SIDE - 6, 1)
    for image, kind, (row, column) in zip(X, y, corners, strict=True):
        image[row : row + 5, column : column + 5] += 2 * (slanted if kind else straight)[..., None]
    return X, y, corners


X, y, CORNERS = crosses(500, 0)
FITTED = {}


def fitted(layers, channels=1):
    """Return a network that tells crosses apart, trained once for all tests."""
    key = str(layers), channels
    if key not in FITTED:
        images, kinds, _ = crosses(500, 0, channels)
        clf = CNNClassifier(layers, learning_rate_init=0.01, max_iter=20, random_state=0)
        FITTED[key] = clf.fit(images[:400], kinds[:400])
    return FITTED[key]


def logits(estimator, images):
    return estimator.trace(images)["output"]


@pytest.mark.parametrize(
    ("method", "layers"),
    [
        ("gradient", (Conv(16, 5), GlobalMaxPool())),
        ("integrated_gradients", (Conv(16, 5), GlobalMaxPool())),
        ("integrated_gradients", (Conv(8), MaxPool(), Conv(16), MaxPool(), Dense(32))),
        ("grad_cam", (Conv(8), Conv(16), GlobalAvgPool())),
        ("occlusion", (Conv(8), Conv(16), GlobalAvgPool())),
    ],
)
def test_the_peak_is_on_the_cross(method, layers):
    clf = fitted(layers)
    assert clf.score(X[400:], y[400:]) > 0.98
    options = {"patch_size": 3, "stride": 1} if method == "occlusion" else {}
    values = np.abs(saliency(clf, X[400:], method=method, **options))
    peaks = np.array([np.unravel_index(v.argmax(), v.shape) for v in values])
    found = ((peaks >= CORNERS[400:]) & (peaks < CORNERS[400:] + 5)).all(axis=1)
    assert found.mean() >= 0.9


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("target", [None, 0, 1])
def test_gradient_is_the_slope_of_the_logit(target, channels):
    images, kinds, _ = crosses(60, 1, channels)
    clf = CNNClassifier(LAYERS, max_iter=3, random_state=0).fit(images, kinds)
    few = images[:5]
    values = saliency(clf, few, method="gradient", target=target, per_channel=True)
    signs = np.sign(logits(clf, few)) if target is None else np.full((5, 1), 2 * target - 1)
    direction = np.random.RandomState(2).normal(size=few.shape)
    step = 1e-6
    change = logits(clf, few + step * direction) - logits(clf, few - step * direction)
    slopes = np.sum(values * direction, axis=(1, 2, 3))
    assert_allclose(slopes, (signs * change / (2 * step))[:, 0], rtol=1e-4, atol=1e-7)
    flat = saliency(clf, few, method="gradient", target=target)
    assert_array_equal(flat, values[..., 0] if channels == 1 else np.abs(values).max(axis=3))


@pytest.mark.parametrize("baseline", [None, 0.5, [1.0, 0.0, -1.0], "image"])
def test_integrated_gradients_are_complete(baseline):
    images, _, _ = crosses(300, 3, 3)
    clf = fitted((Conv(8), MaxPool(), Conv(16), MaxPool(), Dense(32)), 3)
    image = images[-1] if isinstance(baseline, str) else baseline
    values = saliency(clf, images[:40], target=1, baseline=image, n_steps=256)
    start = np.broadcast_to(clf._model.center if image is None else image, (1, SIDE, SIDE, 3))
    expected = (logits(clf, images[:40]) - logits(clf, start.astype(float)))[:, 0]
    assert np.abs(values.sum(axis=(1, 2)) - expected).max() < 0.01 * np.abs(expected).max()
    apart = saliency(clf, images[:40], target=1, baseline=image, n_steps=256, per_channel=True)
    assert_allclose(apart.sum(axis=3), values, atol=1e-12)


def test_integrated_gradients_of_a_linear_model_are_exact():
    reg = CNNRegressor((), max_iter=2, random_state=0).fit(X, X[:, 0, 0, 0])
    values = saliency(reg, X[:3], n_steps=1)
    slopes = saliency(reg, X[:1], method="gradient")
    assert_allclose(values, slopes * (X[:3, ..., 0] - reg._model.center), atol=1e-12)


def test_integrated_gradients_of_squares_are_exact_at_the_middle():
    class Square(Layer):
        def forward(self, x, weights, work):
            work["x"] = x
            return x**2

        def backward(self, dy, weights, grads, work):
            return 2 * work["x"] * dy

    reg = CNNRegressor((Square(),), max_iter=2, standardize=False, random_state=0)
    reg.fit(X, X[:, 0, 0, 0])
    values = saliency(reg, X[:3], n_steps=1)
    expected = reg.y_scale_ * X[:3].reshape(3, -1) ** 2 * reg.coefs_[0].T
    assert_allclose(values, expected.reshape(3, SIDE, SIDE))


def test_grad_cam_by_hand():
    layers = (Conv(1, 3, padding="valid"), Dense(2, activation="identity"))
    clf = CNNClassifier(layers, max_iter=3, random_state=0).fit(X, y)
    weight, units, last = clf.coefs_
    slopes = units @ last[:, 0]
    maps = np.maximum(
        np.einsum(
            "nrcij,ij->nrc",
            np.lib.stride_tricks.sliding_window_view(
                (X[:4, ..., 0] - X.mean()) / X.std(), (3, 3), axis=(1, 2)
            ),
            weight[0, ..., 0],
        )
        + clf.intercepts_[0],
        0,
    )
    cams = saliency(clf, X[:4], method="grad_cam", target=1, layer="0 Conv relu")
    expected = np.maximum(slopes.mean() * maps, 0)
    assert cams.shape == (4, SIDE, SIDE)
    rows = (np.arange(SIDE) + 0.5) * 14 / 16 - 0.5  # where the pixels lie on the 14 x 14 map
    low = np.clip(np.floor(rows).astype(int), 0, 13)
    high, share = np.clip(low + 1, 0, 13), np.clip(rows, 0, 13) - low
    share = np.clip(share, 0, 1)
    between = expected[:, low] * (1 - share)[:, None] + expected[:, high] * share[:, None]
    between = between[:, :, low] * (1 - share) + between[:, :, high] * share
    assert_allclose(cams, between, atol=1e-9)
    assert_allclose(saliency(clf, X[:4], method="grad_cam", target=0).min(), 0)


def test_grad_cam_takes_the_last_convolution_or_another():
    clf = fitted((Conv(8), MaxPool(), Conv(16), MaxPool(), Dense(32)))
    told = saliency(clf, X[:3], method="grad_cam", layer="2 Conv relu")
    assert_array_equal(saliency(clf, X[:3], method="grad_cam"), told)
    other = saliency(clf, X[:3], method="grad_cam", layer="0 Conv")
    assert other.shape == told.shape
    assert not np.allclose(other, told)
    deep = CNNClassifier(LAYERS, max_iter=1, random_state=0).fit(X, y)
    told = saliency(deep, X[:3], method="grad_cam", layer="3 Residual relu")
    assert_allclose(saliency(deep, X[:3], method="grad_cam"), told)


@pytest.mark.parametrize(
    ("size", "stride", "step"), [(3, 2, 2), ((2, 5), (1, 3), (1, 3)), (None, None, 2), (99, 1, 1)]
)
def test_occlusion_by_brute_force(size, stride, step):
    clf = fitted((Conv(8), MaxPool(), Conv(16), MaxPool(), Dense(32)))
    values = saliency(
        clf, X[:3], method="occlusion", target=1, patch_size=size, stride=stride, baseline=0.7
    )
    height, width = np.minimum(np.broadcast_to(4 if size is None else size, 2), SIDE)
    down, along = np.broadcast_to(step, 2)
    falls, counts = np.zeros((3, SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for row in sorted({*range(0, SIDE - height, down), SIDE - height}):
        for column in sorted({*range(0, SIDE - width, along), SIDE - width}):
            covered, patch = X[:3].copy(), np.s_[row : row + height, column : column + width]
            covered[:, patch[0], patch[1]] = 0.7
            fall = (logits(clf, X[:3]) - logits(clf, covered))[:, 0]
            falls[:, patch[0], patch[1]] += fall[:, None, None]
            counts[patch] += 1
    assert_allclose(values, falls / counts, atol=1e-10)


def test_targets():
    labels = np.array(["b", "a", "c"])[np.arange(300) % 3]
    clf = CNNClassifier((Conv(3), MaxPool(4)), max_iter=2, random_state=0).fit(X[:300], labels)
    each = [saliency(clf, X[:4], target=label) for label in clf.classes_]
    mixed = saliency(clf, X[:4], target=["a", "c", "b", "a"])
    assert_array_equal(mixed, np.stack([each[k][i] for i, k in enumerate([0, 2, 1, 0])]))
    assert_array_equal(saliency(clf, X[:4]), saliency(clf, X[:4], target=clf.predict(X[:4])))
    two = CNNClassifier((Conv(3),), max_iter=1, random_state=0).fit(X, y)
    for method in ("gradient", "integrated_gradients", "occlusion"):
        first, second = (saliency(two, X[:2], method=method, target=label) for label in (0, 1))
        assert_allclose(first, -second, atol=1e-12)
    many = CNNClassifier((Conv(3),), max_iter=1, random_state=0).fit(X, np.eye(2, dtype=int)[y])
    best = many.predict_proba(X[:4]).argmax(axis=1)
    assert_array_equal(saliency(many, X[:4]), saliency(many, X[:4], target=best))
    reg = CNNRegressor((Conv(3),), max_iter=1, random_state=0).fit(X, np.c_[y, -y].astype(float))
    assert_array_equal(saliency(reg, X[:2]), saliency(reg, X[:2], target=0))
    assert not np.allclose(saliency(reg, X[:2]), saliency(reg, X[:2], target=1))


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "grad_cam", "occlusion"])
def test_images_do_not_depend_on_each_other(method):
    clf = CNNClassifier(LAYERS, max_iter=2, random_state=0).fit(X.astype(np.float32), y)
    many = saliency(clf, X[:70], method=method)
    assert many.dtype == np.float32
    assert_allclose(saliency(clf, X[69:70], method=method)[0], many[69], atol=1e-5)


def test_signals_and_tables():
    signals = X.reshape(len(X), -1)
    clf = CNNClassifier((Conv(3, (1, 5)),), max_iter=1, image_shape=(1, SIDE**2), random_state=0)
    clf.fit(signals, y)
    for method in ("gradient", "integrated_gradients", "grad_cam", "occlusion"):
        assert saliency(clf, signals[:2], method=method).shape == (2, 1, SIDE**2)


def test_the_estimator_is_left_as_it_was():
    clf = fitted((Conv(8), Conv(16), GlobalAvgPool()))
    before = [array.copy() for array in (*clf.coefs_, clf.predict_proba(X))]
    for method in ("gradient", "integrated_gradients", "grad_cam", "occlusion"):
        saliency(clf, X[:3], method=method)
    for old, new in zip(before, (*clf.coefs_, clf.predict_proba(X)), strict=True):
        assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "'method' parameter of saliency must be"),
        ({"target": 7}, r"target must hold labels of classes_, \[0 1\]. Got \[7\] instead"),
        ({"target": [0, 1]}, "target must be one label, or one for each of 3 images"),
        ({"baseline": np.zeros((2, 2))}, "baseline must be None, a number"),
        ({"method": "grad_cam", "layer": "9 Conv"}, "layer must be the name of a layer"),
        ({"method": "grad_cam", "per_channel": True}, "per_channel must be False"),
        ({"method": "occlusion", "patch_size": 2, "stride": 3}, "stride must not exceed"),
        ({"method": "occlusion", "patch_size": (2, 0)}, "patch_size must be an int or a pair"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        saliency(fitted((Conv(8), Conv(16), GlobalAvgPool())), X[:3], **options)


def test_bad_estimators():
    clf = fitted((Conv(8), Conv(16), GlobalAvgPool()))
    with pytest.raises(NotFittedError):
        saliency(clone(clf), X)
    with pytest.raises(TypeError, match="estimator must be a fitted CNNClassifier"):
        saliency(ConvFeatureExtractor(), X)
    with pytest.raises(ValueError, match="takes networks with a Conv layer"):
        saliency(CNNClassifier((Dense(2),), max_iter=1).fit(X, y), X[:1], method="grad_cam")
