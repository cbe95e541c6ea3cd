"""Convolution against SciPy, against numbers by hand, and against its own adjoint."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from properties import given, st
from reference import run, to_images, to_maps
from sklearn.base import clone

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.layers import Conv, MaxPool

GEOMETRIES = [
    {},
    {"kernel_size": 1},
    {"kernel_size": (2, 4)},
    {"kernel_size": (5, 3), "padding": "valid"},
    {"padding": 1, "stride": 2},
    {"padding": (3, 0), "stride": (1, 2)},
    {"stride": 3},
    {"stride": (3, 1), "kernel_size": 2},
    {"dilation": 2},
    {"dilation": (1, 3), "padding": 2},
    {"dilation": 2, "stride": 2, "padding": "valid"},
    {"groups": 2},
    {"groups": 4},
    {"groups": 4, "stride": 2, "dilation": (2, 1)},
    {"kernel_size": (7, 8), "padding": "valid"},
    {"activation": "tanh", "padding": 2},
]


def convolve(layer, images, filters, intercept):
    """Return the layer's output; filters are (filters, rows, columns, channels)."""
    weights = {"coef": np.zeros(layer.weight_shapes(images.shape[1:])["coef"])}
    layer.public_coef(weights["coef"])[...] = filters
    weights["intercept"] = np.asarray(intercept, float)
    return to_images(run(layer, to_maps(images), weights=weights)[0])


@pytest.mark.parametrize("params", GEOMETRIES, ids=str)
@pytest.mark.parametrize(("n_images", "channels"), [(1, 4), (3, 8)])
def test_forward_is_scipys_correlation(params, n_images, channels):
    rng = np.random.default_rng(0)
    layer = Conv(**{"filters": 8, "activation": "identity", **params})
    images = rng.normal(size=(n_images, 7, 8, channels))
    size = reference.pair(layer.kernel_size)
    filters = rng.normal(size=(8, *size, channels // layer.groups))
    intercept = rng.normal(size=8)
    geometry = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "groups")}
    expected = reference.conv(images, filters, intercept, **geometry, activation=layer.activation)
    got = convolve(layer, images, filters, intercept)
    assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def one_or_pair(least, most):
    numbers = st.integers(least, most)
    return numbers | st.tuples(numbers, numbers)


@st.composite
def convolutions(draw):
    """Draw (layer, image shape) that fit each other."""
    groups = draw(st.integers(1, 3))
    padding = draw(st.sampled_from(["valid", "same"]) | one_or_pair(0, 3))
    size, dilation = draw(one_or_pair(1, 4)), draw(one_or_pair(1, 3))
    spans = [
        d * (k - 1) + 1 for k, d in zip(reference.pair(size), reference.pair(dilation), strict=True)
    ]
    pads = reference.paddings(padding, spans)
    smallest = [max(span - sum(p), 1) for span, p in zip(spans, pads, strict=True)]
    shape = tuple(least + draw(st.integers(0, 6)) for least in smallest)
    layer = Conv(
        groups * draw(st.integers(1, 2)),
        size,
        stride=draw(one_or_pair(1, 4)),
        padding=padding,
        dilation=dilation,
        groups=groups,
        activation="identity",
    )
    return layer, (*shape, groups * draw(st.integers(1, 2)))


@given(convolutions(), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_any_geometry(drawn, n_images, seed):
    """Forward equals SciPy's, backward is its adjoint."""
    layer, shape = drawn
    rng = np.random.default_rng(seed)
    images = rng.integers(-5, 6, (n_images, *shape)).astype(float)
    size = reference.pair(layer.kernel_size)
    filters = rng.integers(-5, 6, (layer.filters, *size, shape[2] // layer.groups)).astype(float)
    geometry = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "groups")}
    expected = reference.conv(images, filters, 0.0, **geometry, activation="identity")
    assert expected.shape[1:] == layer.output_shape(shape)

    weights = {"coef": np.zeros(layer.weight_shapes(shape)["coef"])}
    layer.public_coef(weights["coef"])[...] = filters
    weights["intercept"] = np.zeros(layer.filters)
    dy = rng.integers(-5, 6, expected.shape).astype(float)
    y, dx, grads = run(layer, to_maps(images), to_maps(dy), weights)
    assert_allclose(to_images(y), expected, rtol=0, atol=1e-9)
    # <dy, A x> is <A' dy, x> for the images and for the filters
    product = np.vdot(dy, expected)
    assert_allclose(np.vdot(to_images(dx), images), product, atol=1e-8)
    assert_allclose(np.vdot(layer.public_coef(grads["coef"]), filters), product, atol=1e-8)
    assert_allclose(grads["intercept"], dy.sum(axis=(0, 1, 2)), atol=1e-9)


@given(convolutions())
def test_output_size(drawn):
    layer, shape = drawn
    size, stride, dilation = map(reference.pair, (layer.kernel_size, layer.stride, layer.dilation))
    spans = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
    pads = reference.paddings(layer.padding, spans)
    expected = tuple(
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(shape, pads, dilation, size, stride, strict=False)
    )
    assert layer.output_shape(shape) == (*expected, layer.filters)


BY_HAND = {
    "3x3 with 2x2": (
        [[1, 7, 2], [11, 1, 23], [2, 2, 2]],
        [[1, 1], [0, 1]],
        [[9, 32], [14, 26]],
    ),
    "vertical edge": (
        [[10, 10, 10, 0, 0, 0]] * 6,
        [[1, 0, -1]] * 3,
        [[0, 30, 30, 0]] * 4,
    ),
    "1x1": ([[1, 2], [3, 4]], [[-2]], [[-2, -4], [-6, -8]]),
}
by_hand = pytest.mark.parametrize(
    ("image", "filter_", "expected"), BY_HAND.values(), ids=BY_HAND.keys()
)


@by_hand
def test_by_hand_through_conv(image, filter_, expected):
    image, filter_ = np.array(image, float), np.array(filter_, float)
    layer = Conv(1, filter_.shape, padding="valid", activation="identity")
    got = convolve(layer, image[None, ..., None], filter_[None, ..., None], [0])
    assert_allclose(got[0, ..., 0], expected, atol=1e-13)


@by_hand
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_by_hand_through_the_extractor(image, filter_, expected, dtype):
    extractor = ConvFeatureExtractor(
        np.array([filter_]), padding="valid", activation="identity", pooling=None
    )
    got = extractor.fit_transform(np.array([image], dtype))
    assert_allclose(got, np.ravel(expected)[None], atol=1e-5)


def test_same_padding_puts_the_odd_zero_last():
    # a 1x2 filter that takes its second tap sees the next column, and zero behind the last
    layer = Conv(1, (1, 2), activation="identity")
    images = np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
    got = convolve(layer, images, np.array([0.0, 1.0]).reshape(1, 1, 2, 1), [0])
    assert_array_equal(got.ravel(), [2, 3, 0])


def test_intercept_and_activation_by_hand():
    images = np.array([[1.0, -1.0], [2.0, -2.0]]).reshape(1, 2, 2, 1)
    filters = np.array([1.0, -1.0]).reshape(2, 1, 1, 1)
    got = convolve(Conv(2, 1), images, filters, [1, -1])
    assert_array_equal(got[0, ..., 0], [[2, 0], [3, 0]])
    assert_array_equal(got[0, ..., 1], [[0, 0], [0, 1]])
    leaky = convolve(Conv(2, 1, activation="leaky_relu"), images, filters, [1, -1])
    assert_allclose(leaky[0, ..., 1], [[-0.02, 0], [-0.03, 1]], atol=1e-15)


def test_depthwise_keeps_channels_apart():
    rng = np.random.default_rng(0)
    images, filters = rng.normal(size=(2, 5, 5, 3)), rng.normal(size=(3, 3, 3, 1))
    layer = Conv(3, groups=3, activation="identity")
    got = convolve(layer, images, filters, np.zeros(3))
    for channel in range(3):
        own = slice(channel, channel + 1)
        expected = reference.conv(images[..., own], filters[own], activation="identity")
        assert_allclose(got[..., own], expected, atol=1e-13)


@pytest.mark.parametrize(
    ("params", "shape", "message"),
    [
        ({"kernel_size": 5, "padding": "valid"}, (3, 3, 1), "5, 5.*exceeds its 3x3 input"),
        (
            {"kernel_size": (1, 4), "padding": 1},
            (9, 1, 1),
            "1, 4.*exceeds its 9x1 input.*padding=1",
        ),
        ({"dilation": 3, "padding": 0}, (6, 9, 1), "3, 3.*exceeds its 6x9 input.*dilation=3"),
        ({"groups": 2}, (5, 5, 3), "groups=2 must divide the number of channels. Got 3"),
        ({"groups": 3}, (5, 5, 3), "groups=3 must divide the number of filters. Got 4"),
    ],
)
def test_what_does_not_fit(params, shape, message):
    with pytest.raises(ValueError, match=message):
        Conv(4, **params).output_shape(shape)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(n, v) for n in ("kernel_size", "stride", "dilation") for v in (0, -1, 1.5, "3", (0, 1))],
        *[
            (n, v)
            for n in ("kernel_size", "stride", "dilation")
            for v in ((1,), (1, 2, 3), (1, 2.0))
        ],
        *[("padding", v) for v in (-1, 0.5, "full", None, (-1, 0), (1,))],
        *[("filters", v) for v in (0, 2.5, None)],
        *[("groups", v) for v in (0, (1, 1))],
        *[("activation", v) for v in ("swish", None)],
    ],
)
def test_parameters_are_checked(name, value):
    with pytest.raises(ValueError, match=f"{name}.* must be .*Got "):
        Conv(**{"filters": 2, name: value}).validate()


def test_filters_to_start_from():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 6, 5, 3)), np.arange(20) % 2
    init = ConvFeatureExtractor("patches", n_filters=4, kernel_size=3).fit(X).filters_
    layer = Conv(4, 3, init=init)
    kept = init.copy()
    nothing_learned = {"learning_rate_init": 1e-300, "solver": "sgd", "alpha": 0, "max_iter": 1}
    nothing_learned["random_state"] = 0
    clf = CNNClassifier((layer, MaxPool()), **nothing_learned).fit(X, y)
    assert_array_equal(clf.coefs_[0], init)
    clf.set_params(learning_rate_init=0.1).fit(X, y)
    assert not np.array_equal(clf.coefs_[0], init)
    assert_array_equal(layer.init, kept)
    assert_array_equal(clone(clf).fit(X, y).coefs_[0], clf.coefs_[0])


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (np.ones((4, 3, 3, 1)), r"init must have shape \(4, 3, 3, 3\). Got \(4, 3, 3, 1\) instead"),
        (np.ones((3, 3)), r"layers\[0\] Conv: init must have shape"),
        (np.full((4, 3, 3, 3), np.nan), "Input init contains NaN"),
        ("he", "'init' parameter of Conv must be"),
    ],
)
def test_filters_that_do_not_fit(init, message):
    X = np.random.default_rng(0).normal(size=(20, 6, 5, 3))
    with pytest.raises(ValueError, match=message):
        CNNClassifier((Conv(4, 3, init=init),)).fit(X, np.arange(20) % 2)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
def test_spread_of_initial_filters(groups, activation):
    """He's for rectifiers, Glorot's for others, by the inputs and outputs within a group."""
    layer = Conv(64, 5, groups=groups, activation=activation)
    coef = layer.initial_weights((9, 9, 32), np.random.RandomState(0))["coef"]
    fan_in, fan_out = 25 * 32 // groups, 25 * 64 // groups
    expected = np.sqrt(2 / fan_in if "relu" in activation else 2 / (fan_in + fan_out))
    assert coef.std() == pytest.approx(expected, rel=0.03)


def test_the_slope_of_leaky_relu_at_zero_is_the_small_one():
    """As in torch: the derivative there is that of the negative side."""
    layer = Conv(1, 1, activation="leaky_relu")
    weights = {"coef": np.ones((1, 1, 1, 1)), "intercept": np.zeros(1)}
    x = np.array([-1.0, 0.0, 1.0]).reshape(1, 1, 3, 1)
    _, dx, _ = run(layer, x, np.ones((1, 1, 3, 1)), weights)
    assert_allclose(dx.ravel(), [0.01, 0.01, 1], rtol=1e-12)
