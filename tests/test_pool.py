"""Pooling by hand and against loops; ties."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from properties import given, st
from reference import run, to_images, to_maps

from skcnn.layers import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool

SQUARE = np.array([[1, 2, 3, 4], [8, 7, 6, 5], [9, 0, 1, 2], [6, 5, 4, 3]], float)


def pooled(layer, image):
    return to_images(run(layer, to_maps(image[None, ..., None]))[0])[0, ..., 0]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (MaxPool(), [[8, 6], [9, 4]]),
        (MaxPool(2, stride=1), [[8, 7, 6], [9, 7, 6], [9, 5, 4]]),
        (MaxPool(3), [[9]]),
        (MaxPool((1, 4)), [[4], [8], [9], [6]]),
        (MaxPool((4, 1)), [[9, 7, 6, 5]]),
        (MaxPool(2, padding=1), [[1, 3, 4], [9, 7, 5], [6, 5, 3]]),
        (MaxPool(9), [[9]]),
        (MaxPool((9, 2)), [[9, 6]]),
        (GlobalMaxPool(), [[9]]),
        (AvgPool(), [[4.5, 4.5], [5, 2.5]]),
        (AvgPool((2, 3), stride=(2, 1)), [[4.5, 4.5], [25 / 6, 2.5]]),
        (AvgPool(2, padding=1), [[1, 2.5, 4], [8.5, 3.5, 3.5], [6, 4.5, 3]]),
        (AvgPool(9), [[66 / 16]]),
        (GlobalAvgPool(), [[66 / 16]]),
    ],
    ids=repr,
)
def test_by_hand(layer, expected):
    assert_allclose(pooled(layer, SQUARE), expected, rtol=1e-15)


def test_padding_never_is_the_maximum():
    assert_array_equal(pooled(MaxPool(2, padding=1), -SQUARE)[0], [-1, -2, -4])
    assert_array_equal(pooled(MaxPool(3, stride=1, padding="same"), SQUARE - 100), [
        [-92, -92, -93, -94], [-91, -91, -93, -94], [-91, -91, -93, -94], [-91, -91, -95, -96]
    ])  # fmt: skip


def test_padding_does_not_count_in_the_mean():
    assert_array_equal(pooled(AvgPool(3, stride=1, padding="same"), np.full((4, 5), 7.0)), 7)


def naive_max_backward(images, dy, size, stride, padding):
    """Give each window's gradient to its first maximum in reading order."""
    dx = np.zeros_like(images)
    for i, j, rows, columns in reference.windows(images.shape[1:3], size, stride, padding):
        for n in range(images.shape[0]):
            for c in range(images.shape[3]):
                best = None
                for row in rows:
                    for column in columns:
                        if best is None or images[n, row, column, c] > images[n, *best, c]:
                            best = row, column
                dx[n, *best, c] += dy[n, i, j, c]
    return dx


def naive_avg_backward(images, dy, size, stride, padding):
    dx = np.zeros_like(images)
    for i, j, rows, columns in reference.windows(images.shape[1:3], size, stride, padding):
        share = dy[:, i, j] / (len(rows) * len(columns))
        for row in rows:
            for column in columns:
                dx[:, row, column] += share
    return dx


GEOMETRIES = [
    ((6, 8), 2, None, "valid"),
    ((5, 7), 2, None, "valid"),
    ((4, 9), 3, None, "valid"),
    ((5, 6), 3, 1, "valid"),
    ((7, 6), 3, 2, "valid"),
    ((7, 9), 2, 3, "valid"),
    ((6, 7), (2, 3), (1, 2), "valid"),
    ((6, 5), 3, 1, "same"),
    ((5, 5), 2, None, "same"),
    ((5, 6), 4, 2, "same"),
    ((3, 6), 3, None, "same"),
    ((6, 9), 3, None, 1),
    ((6, 6), 3, 2, 1),
    ((6, 5), (3, 2), 2, (2, 1)),
    ((2, 3), 5, None, "valid"),
    ((2, 9), 4, 2, "valid"),
    ((2, 3), 5, 1, 4),
    ((1, 1), 2, None, "valid"),
]
geometries = pytest.mark.parametrize(("shape", "size", "stride", "padding"), GEOMETRIES)


def check(layer, shape, size, stride, padding, n_values, n_images=2):
    rng = np.random.default_rng(0)
    images = rng.integers(0, n_values, (n_images, *shape, 2)).astype(float)
    is_max = isinstance(layer, MaxPool)
    reduce = np.max if is_max else np.mean
    expected = reference.pool(images, size, stride, padding, reduce)
    dy = rng.integers(1, 100, expected.shape).astype(float)
    backward = naive_max_backward if is_max else naive_avg_backward
    expected_dx = backward(images, dy, size, stride, padding)
    y, dx, _ = run(layer, to_maps(images), to_maps(dy))
    assert_allclose(to_images(y), expected, rtol=1e-13)
    assert_allclose(to_images(dx), expected_dx, rtol=1e-13)


@geometries
@pytest.mark.parametrize("n_values", [1, 2, 3, 1000])
def test_max_and_its_ties_against_loops(shape, size, stride, padding, n_values):
    layer = MaxPool(size, stride=stride, padding=padding)
    check(layer, shape, size, stride, padding, n_values)


@geometries
def test_mean_against_loops(shape, size, stride, padding):
    layer = AvgPool(size, stride=stride, padding=padding)
    check(layer, shape, size, stride, padding, 1000)


@pytest.mark.parametrize("shape", [(4, 5), (1, 7), (6, 1), (1, 1)])
@pytest.mark.parametrize("n_values", [1, 2, 1000])
def test_global_against_loops(shape, n_values):
    check(GlobalMaxPool(), shape, shape, 1, "valid", n_values)
    check(GlobalAvgPool(), shape, shape, 1, "valid", n_values)


@given(
    st.sampled_from([MaxPool, AvgPool]),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from(["valid", "same", 0, 1]),
)
def test_any_geometry(kind, shape, size, stride, padding):
    if padding == 1:
        padding = tuple(min(1, k - 1) for k in size)
    layer = kind(size, stride=stride, padding=padding)
    layer.validate()
    check(layer, shape, size, stride, padding, 3)


@pytest.mark.parametrize("layer", [MaxPool(), MaxPool(2, stride=1), GlobalMaxPool()])
def test_a_constant_image_gives_the_gradient_to_the_first(layer):
    y, dx, _ = run(layer, to_maps(np.full((1, 4, 4, 1), 5.0)))
    got = to_images(dx)[0, ..., 0]
    expected = np.zeros((4, 4))
    step = 1 if layer.get_params().get("stride") == 1 else 2
    if isinstance(layer, MaxPool) and not isinstance(layer, GlobalMaxPool):
        expected[: 4 - 1 : step, : 4 - 1 : step] = 1
    else:
        expected[0, 0] = 1
    assert y.min() == 5
    assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("window", "place"),
    [
        ([[1, 1], [1, 1]], (0, 0)),
        ([[0, 1], [1, 1]], (0, 1)),
        ([[0, 0], [1, 1]], (1, 0)),
        ([[0, 1], [1, 0]], (0, 1)),
        ([[0, 0], [0, 1]], (1, 1)),
    ],
)
def test_ties_in_a_single_window(window, place):
    for layer in (MaxPool(), MaxPool(2, stride=1), GlobalMaxPool()):
        _, dx, _ = run(layer, to_maps(np.array(window, float)[None, ..., None]))
        expected = np.zeros((2, 2))
        expected[place] = 1
        assert_array_equal(to_images(dx)[0, ..., 0], expected)


@pytest.mark.parametrize("kind", [MaxPool, AvgPool])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("pool_size", v) for v in (0, 1.5, "2", None, (2,), (0, 2))],
        *[("stride", v) for v in (0, "1", (1, 0), (1, 2, 3))],
        *[("padding", v) for v in (-1, 2, (0, 2), "full", (1,))],
    ],
)
def test_parameters_are_checked(kind, name, value):
    with pytest.raises(ValueError, match=f"{name}.* must be .*Got "):
        kind(**{name: value}).validate()
