"""Importances on the image: each value lands on the pixels that its feature was made of."""

import math

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose
from threadpoolctl import threadpool_limits

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.layers import Activation, AvgPool, Conv, Dense, GlobalMaxPool, MaxPool

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 7, 6, 2)).cumsum(axis=1)
BANKS = ["random", "patches", "kmeans", "pca", "gabor", "edges", "array"]
ARRAY = RNG.normal(size=(3, 3, 2, 2))
ACTIVATIONS = [*reference.ACTIVATE, "crelu", "soft_threshold", "triangle"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Hold `MiniBatchKMeans` to one thread: beside other jobs its threads wait for each other."""
    with threadpool_limits(1):
        yield


def made(filters, **params):
    filters = ARRAY if isinstance(filters, str) and filters == "array" else filters
    extractor = ConvFeatureExtractor(filters, **{"random_state": 0, **params})
    if isinstance(filters, str) and filters != "edges":
        extractor.set_params(n_filters=3, kernel_size=(3, 2))
    return extractor.fit(X)


def spread_by_conv(values, filters, shape, stride, padding, dilation=1, groups=1):
    """Share the value of each position among the pixels under its filter, one at a time."""
    heat = np.zeros(shape)
    (down, right), (fall, slip) = reference.pair(stride), reference.pair(dilation)
    spans = [d * (k - 1) + 1 for d, k in zip((fall, slip), filters.shape[1:3], strict=True)]
    (top, _), (left, _) = reference.paddings(padding, spans)
    for (i, j, k), value in np.ndenumerate(values):
        pixels = {}
        for (a, b, c), weight in np.ndenumerate(filters[k]):
            row, column = i * down - top + a * fall, j * right - left + b * slip
            if 0 <= row < shape[0] and 0 <= column < shape[1]:
                channel = c + k // (len(filters) // groups) * filters.shape[3]
                pixels[row, column, channel] = abs(weight)
        for place, weight in pixels.items():
            heat[place] += value * weight / sum(pixels.values())
    return heat


def spread_by_pool(values, windows, map_shape):
    """Share the value of each window evenly; `windows` are (i, j, rows, columns)."""
    heat = np.zeros((*map_shape, values.shape[2]))
    for i, j, rows, columns in windows:
        part = heat[rows.start : rows.stop, columns.start : columns.stop]
        part += values[i, j] / (len(rows) * len(columns))
    return heat


def windows_of(params, map_shape):
    """Return the pooling windows that the parameters of an extractor mean."""
    grid, size, stride = params["pool_grid"], params["pool_size"], params["pool_stride"]
    if params["pooling"] is None:
        grid = map_shape
    elif params["pooling"].startswith("global"):
        grid = 1
    if grid is None:
        return list(reference.windows(map_shape, size, stride, "valid"))
    spans = [
        [range(math.floor(i * n / g), math.ceil((i + 1) * n / g)) for i in range(g)]
        for n, g in zip(map_shape, reference.pair(grid), strict=True)
    ]
    return [(i, j, r, c) for i, r in enumerate(spans[0]) for j, c in enumerate(spans[1])]


def by_hand(extractor, maps):
    """Return the heat map (rows, columns, channels) of values of the extractor's maps."""
    params, filters, shape = extractor.get_params(), extractor.filters_, extractor.image_shape_
    if len(filters) < maps.shape[2]:
        maps = maps[..., : len(filters)] + maps[..., len(filters) :]
    stride, padding = params["stride"], params["padding"]
    image = np.zeros((1, *shape))
    map_shape = reference.conv(image, filters, stride=stride, padding=padding).shape[1:3]
    maps = spread_by_pool(maps, windows_of(params, map_shape), map_shape)
    return spread_by_conv(maps, filters, shape, stride, padding)


def check(extractor, seed=0):
    """Compare all that `inverse_importance` takes and returns with the sharing by hand."""
    shape = extractor.output_shape_
    maps = np.random.default_rng(seed).normal(size=(2, *shape))
    expected = np.array([by_hand(extractor, values) for values in maps])
    assert_allclose(expected.sum(axis=(1, 2, 3)), maps.sum(axis=(1, 2, 3)), atol=1e-9)
    flat = reference.flatten(maps)
    for values in (maps, flat):
        assert_allclose(extractor.inverse_importance(values), expected.sum(axis=3), atol=1e-10)
        assert_allclose(
            extractor.inverse_importance(values, per_channel=True), expected, atol=1e-10
        )
        one = extractor.inverse_importance(values[1])
        assert_allclose(one, expected[1].sum(axis=2), atol=1e-10)
        one = extractor.inverse_importance(values[1:], per_channel=True)
        assert_allclose(one, expected[1:], atol=1e-10)
    assert_allclose(extractor.inverse_importance(flat.tolist()), expected.sum(axis=3), atol=1e-10)


@pytest.mark.parametrize("filters", BANKS)
@pytest.mark.parametrize("padding", ["same", "valid", 1, (0, 1)])
@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
def test_every_bank_and_geometry(filters, padding, stride):
    check(made(filters, padding=padding, stride=stride))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("filters", ["kmeans", "array"])
def test_every_activation(filters, activation):
    check(made(filters, activation=activation, pooling="avg"))


@pytest.mark.parametrize("reduce", ["max", "avg", "sum"])
@pytest.mark.parametrize(
    "params",
    [
        {"pool_size": (1, 1), "pool_stride": 2},
        {"pool_size": (3, 2), "pool_stride": (1, 2)},
        {"pool_size": 2, "pool_stride": 3},  # positions that no window covers
        {"pool_size": 9},
        {"pool_grid": (2, 4)},
        {"pool_grid": 9},
    ],
    ids=str,
)
def test_every_pooling(params, reduce):
    check(made("array", pooling=reduce, **params))
    check(made("patches", pooling=reduce, activation="crelu", **params))


@pytest.mark.parametrize("pooling", ["global_max", "global_avg", "global_sum", None])
def test_the_whole_map_or_no_pooling(pooling):
    check(made("array", pooling=pooling))
    check(made("pca", pooling=pooling, activation="crelu"))


def test_a_feature_lands_on_its_receptive_field():
    """By hand: stride 2, padding 1; row 2, column 1 of the map sees rows 3 to 5, columns 1 and 2."""
    weights = np.array([[1, -2], [0, 3], [-4, 0]])
    extractor = ConvFeatureExtractor(weights[None], stride=2, padding=1, pooling=None).fit(
        X[..., 0]
    )
    expected = np.zeros((7, 6))
    expected[3:6, 1:3] = np.abs(weights) * -7 / 10
    names = extractor.get_feature_names_out().tolist()
    values = np.zeros(len(names))
    values[names.index("filter0_r2_c1")] = -7
    assert_allclose(extractor.inverse_importance(values), expected)


def test_a_feature_at_the_border_lands_on_the_image_only():
    weights = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    extractor = ConvFeatureExtractor(weights[None], pooling=None).fit(X[..., 0])
    values = np.zeros((7, 6, 1))
    values[0, 0] = 2.0
    expected = np.zeros((7, 6))
    expected[:2, :2] = 2 * np.array([[5, 6], [8, 9]]) / 28
    assert_allclose(extractor.inverse_importance(values), expected)


def test_the_mean_of_a_window_is_shared_evenly():
    extractor = ConvFeatureExtractor([[[5.0]]], pooling="avg", pool_size=(2, 3)).fit(X[..., 0])
    values = np.arange(6.0).reshape(3, 2, 1) - 2
    expected = np.zeros((7, 6))
    for i, j in np.ndindex(3, 2):
        expected[2 * i : 2 * i + 2, 3 * j : 3 * j + 3] = values[i, j] / 6
    assert_allclose(extractor.inverse_importance(values), expected)


def test_both_codes_of_a_filter_add():
    extractor = ConvFeatureExtractor([[[2.0]]], activation="crelu", pooling=None).fit(X[..., 0])
    values = RNG.normal(size=(7, 6, 2))
    assert_allclose(extractor.inverse_importance(values), values[..., 0] + values[..., 1])


def test_a_filter_of_zeros_shares_evenly():
    extractor = ConvFeatureExtractor(np.zeros((1, 2, 2)), padding="valid").fit(X[..., 0])
    values = np.zeros(extractor.output_shape_)
    values[1, 0] = 8
    expected = np.zeros((7, 6))
    expected[2:5, 0:3] = np.outer([1, 2, 1], [1, 2, 1]) / 2
    assert_allclose(extractor.inverse_importance(values), expected)


@pytest.mark.parametrize("banks", [("kmeans", "pca"), ("patches", "random")])
def test_a_stack_of_two(banks):
    params = {"n_filters": 3, "kernel_size": 2, "activation": "crelu", "random_state": 0}
    first = ConvFeatureExtractor(banks[0], flatten=False, pool_stride=1, **params)
    second = ConvFeatureExtractor(banks[1], padding="valid", pool_grid=2, **params)
    maps = first.fit_transform(X)
    n_features = second.fit_transform(maps).shape[1]
    values = RNG.normal(size=(3, n_features))
    between = second.inverse_importance(values, per_channel=True)
    assert between.shape == (3, *first.output_shape_)
    heat = first.inverse_importance(between)
    assert_allclose(heat.sum(axis=(1, 2)), values.sum(axis=1))
    rows, columns, channels = second.output_shape_
    for own, value in zip(heat, values, strict=True):
        last = value.reshape(channels, rows, columns).transpose(1, 2, 0)
        expected = by_hand(first, by_hand(second, last)).sum(axis=2)
        assert_allclose(own, expected, atol=1e-10)


@pytest.mark.parametrize(
    "shape",
    [(89,), (2, 91), (3, 3, 9), (3, 2, 10), (1, 3, 10, 3), (90, 1), (1, 1, 90), (1, 1, 3, 3, 10)],
)
def test_values_of_another_shape(shape):
    extractor = made(np.ones((10, 3, 3)))
    assert extractor.output_shape_ == (3, 3, 10)
    with pytest.raises(ValueError, match=r"values must .* 90 features.*\(3, 3, 10\)|dim .* 5"):
        extractor.inverse_importance(np.ones(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value):
    with pytest.raises(ValueError, match="Input values contains"):
        made("array").inverse_importance(np.full(27, value))


@pytest.mark.parametrize(
    ("filters", "images", "params"),
    [
        ("edges", X, {"padding": 4}),
        ("sobel", X[:, :1], {}),
        ([[[1, 0, 0], [0, 0, 0], [0, 0, 0]]], X, {}),
    ],
    ids=["padding beyond the kernel", "sobel on signals", "weight on the padding"],
)
def test_the_sum_is_kept_where_a_filter_sees_nothing(filters, images, params):
    """A position whose weights all fall on the padding gives its value to the nearest pixel."""
    extractor = ConvFeatureExtractor(filters, pooling=None, **params).fit(images)
    values = np.ones(extractor.output_shape_)
    assert_allclose(extractor.inverse_importance(values).sum(), values.sum())
    corner = np.zeros(extractor.output_shape_)
    corner[0, 0, 0] = 3
    heat = extractor.inverse_importance(corner)
    assert_allclose(heat[0, 0], 3)


NETWORKS = [
    (Conv(3), MaxPool(), Dense(4)),
    (Conv(4, (2, 3), stride=2, padding=1), Conv(3, 2, padding="valid"), AvgPool(), Dense(4)),
    (Conv(4, dilation=2), Activation("tanh"), Conv(4, groups=2), MaxPool(3, stride=2)),
    (AvgPool(3, stride=1, padding="same"), Conv(4, groups=2), MaxPool(3, padding=1), Dense(2)),
    (Conv(3), GlobalMaxPool(), Dense(4)),
]


def through_the_network(clf, maps):
    """Return the heat map of values of the maps before the first dense layer, step by step."""
    shape, steps, coefs = clf.image_shape_, [], iter(clf.coefs_)
    for layer in clf.layers:
        if isinstance(layer, Dense):
            break
        image = np.zeros((1, *shape))
        if isinstance(layer, Conv):
            way = {k: getattr(layer, k) for k in ("stride", "padding", "dilation", "groups")}
            filters = next(coefs)
            steps.append((spread_by_conv, filters, shape, *way.values()))
            shape = reference.conv(image, filters, **way).shape[1:]
        elif isinstance(layer, MaxPool | AvgPool):
            is_global = isinstance(layer, GlobalMaxPool)
            way = (shape[:2], shape[:2], "valid") if is_global else geometry(layer)
            windows = list(reference.windows(shape[:2], *way))
            steps.append((spread_by_pool, windows, shape[:2]))
            shape = (windows[-1][0] + 1, windows[-1][1] + 1, shape[2])
    for function, *args in reversed(steps):
        maps = function(maps, *args)
    return maps


def geometry(layer):
    return layer.pool_size, layer.stride, layer.padding


@pytest.mark.parametrize("layers", NETWORKS, ids=str)
def test_a_network(layers):
    clf = CNNClassifier(layers, max_iter=1, random_state=0).fit(X, np.arange(len(X)) % 2)
    extractor = ConvFeatureExtractor(clf).fit(X)
    maps = RNG.normal(size=extractor.output_shape_)
    heat = extractor.inverse_importance(maps, per_channel=True)
    assert_allclose(heat.sum(), maps.sum())
    assert_allclose(heat, through_the_network(clf, maps), atol=1e-10)
    names = extractor.get_feature_names_out()
    assert_allclose(extractor.inverse_importance(np.ones(len(names))).sum(), len(names))
