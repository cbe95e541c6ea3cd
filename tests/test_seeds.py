"""The computations of the tutorials that this package started from."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.layers import AvgPool, Conv, Dense

# The digit nine, 7 rows and 5 columns; 1 is white.
NINE = [
    [-1, 1, 1, 1, -1],
    [-1, 1, -1, 1, -1],
    [-1, 1, 1, 1, -1],
    [-1, -1, -1, 1, -1],
    [-1, -1, -1, 1, -1],
    [-1, -1, 1, -1, -1],
    [-1, 1, -1, -1, -1],
]
BOX = [[1, 1, 1], [1, -1, 1], [1, 1, 1]]
VERTICAL = [[-1, 1, -1], [-1, 1, -1], [-1, 1, -1]]
DIAGONAL = [[-1, -1, 1], [-1, 1, -1], [1, -1, -1]]


def nine(filters, **params):
    """Return the maps of the nine, shape (rows, columns, filters)."""
    extractor = ConvFeatureExtractor(filters, padding="valid", flatten=False, **params)
    return extractor.fit_transform(np.array([NINE], dtype=float))[0]


def test_the_nine_convolved():
    # By hand, ninths: at the top the box's middle column covers the loop of the nine.
    filters = np.array([BOX, VERTICAL, DIAGONAL]) / 9
    maps = nine(filters, activation="identity", pooling=None)
    assert maps.shape == (5, 3, 3)
    assert_allclose(9 * maps[0, :, 0], [-1, 9, -1], atol=1e-12)
    # the nine's foot is a diagonal, its right side a vertical line
    assert 9 * maps[4, 1, 2] == pytest.approx(9)
    assert np.unravel_index(maps[..., 2].argmax(), (5, 3)) == (4, 1)
    for k, filter_ in enumerate((BOX, VERTICAL, DIAGONAL)):
        for i, j in np.ndindex(5, 3):
            window = np.array(NINE)[i : i + 3, j : j + 3]
            assert maps[i, j, k] == pytest.approx((window * filter_).sum() / 9, abs=1e-12)


def test_the_nine_rectified_and_pooled():
    filters = np.array([BOX, VERTICAL, DIAGONAL]) / 9
    maps = nine(filters, activation="identity", pooling=None)
    rectified = nine(filters, pooling=None)
    assert_allclose(rectified, np.maximum(maps, 0), atol=1e-15)
    pooled = nine(filters, pool_size=2, pool_stride=1)
    # the tutorial's "2x4": 2 columns and 4 rows
    assert pooled.shape == (4, 2, 3)
    for i, j in np.ndindex(4, 2):
        expected = rectified[i : i + 2, j : j + 2].max(axis=(0, 1))
        assert_allclose(pooled[i, j], expected, atol=1e-15)
    assert_allclose(pooled[0, :, 0], [1, 1])
    assert pooled[3, 0, 2] == pytest.approx(1)


def test_the_edges_by_name_hold_the_filters_of_the_nine():
    extractor = ConvFeatureExtractor("edges").fit(np.ones((1, 7, 5)))
    bank = dict(zip(extractor.filter_names_, extractor.filters_[..., 0], strict=True))
    assert_array_equal(bank["box"], BOX)
    assert_array_equal(bank["vertical"], VERTICAL)
    assert_array_equal(bank["antidiagonal"], DIAGONAL)
    assert_array_equal(bank["horizontal"], np.transpose(VERTICAL))
    assert_array_equal(bank["diagonal"], np.fliplr(DIAGONAL))


def test_three_stages_of_gads_tutorial():
    rng = np.random.default_rng(0)
    image = rng.random((1, 60, 75))
    banks = [
        np.array([[[-1, 0, 1]] * 3, [[1] * 3, [0] * 3, [-1] * 3]], float),
        rng.normal(size=(3, 5, 5, 2)),
        rng.normal(size=(1, 7, 7, 3)),
    ]
    # each stage: rows - size + 1, then halved, rounded down
    shapes = [(1, 29, 36, 2), (1, 12, 16, 3), (1, 3, 5, 1)]
    maps, expected = image, image[..., None]
    for bank, shape in zip(banks, shapes, strict=True):
        stage = ConvFeatureExtractor(bank, padding="valid", flatten=False)
        maps = stage.fit_transform(maps)
        assert maps.shape == shape
        filters = bank if bank.ndim == 4 else bank[..., None]
        expected = reference.pool(reference.conv(expected, filters, padding="valid"))
        assert_allclose(maps, expected, rtol=1e-10, atol=1e-10)


def test_gads_first_filters_find_edges():
    image = np.zeros((1, 6, 6))
    image[:, :, 3:] = 1
    bank = [[[-1, 0, 1]] * 3, [[1] * 3, [0] * 3, [-1] * 3]]
    maps = ConvFeatureExtractor(bank, padding="valid", pooling=None, flatten=False).fit_transform(
        image
    )
    assert_array_equal(maps[0, ..., 0], [[0, 3, 3, 0]] * 4)
    assert_array_equal(maps[0, ..., 1], np.zeros((4, 4)))


@pytest.mark.parametrize("n", [5, 6, 32])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_output_size(n, size, padding, stride):
    expected = (n - size + 2 * padding) // stride + 1
    layer = Conv(4, size, stride=stride, padding=padding)
    assert layer.output_shape((n, n, 1)) == (expected, expected, 4)
    bank = np.ones((2, size, size))
    extractor = ConvFeatureExtractor(bank, stride=stride, padding=padding, pooling=None)
    assert extractor.fit_transform(np.ones((1, n, n))).shape == (1, 2 * expected**2)


def test_a_5x5_image_valid_and_same():
    assert Conv(1, padding="valid").output_shape((5, 5, 1)) == (3, 3, 1)
    assert Conv(1, padding="same").output_shape((5, 5, 1)) == (5, 5, 1)


def test_lenet_5():
    layers = (
        Conv(6, 5, padding="valid", activation="tanh"),
        AvgPool(),
        Conv(16, 5, padding="valid", activation="tanh"),
        AvgPool(),
        Conv(120, 5, padding="valid", activation="tanh"),
        Dense(84, activation="tanh"),
    )
    shape, shapes = (32, 32, 1), []
    for layer in layers:
        shape = layer.output_shape(shape)
        shapes.append(shape)
    assert shapes == [
        (28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (1, 1, 120), (1, 1, 84)
    ]  # fmt: skip
    X = np.random.default_rng(0).random((20, 32, 32), dtype=np.float32)
    clf = CNNClassifier(layers, max_iter=1).fit(X, np.arange(20) % 10)
    sizes = [c.size + i.size for c, i in zip(clf.coefs_, clf.intercepts_, strict=True)]
    # filters * (5 * 5 * channels + 1), then units * (inputs + 1)
    assert sizes == [156, 2416, 48120, 10164, 850]
    assert sum(sizes) == 61706
