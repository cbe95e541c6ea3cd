"""Banks of fixed filters."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skcnn.filters import BANKS, fixed_bank, given_bank

NAMES = {
    "edges": ["horizontal", "vertical", "diagonal", "antidiagonal", "box"],
    "sobel": [
        "north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest",
    ],
    "laplacian": ["laplacian4", "laplacian8"],
    "sharpen": ["sharpen"],
    "gabor": [f"gabor{k}" for k in range(8)],
}  # fmt: skip


def test_all_banks_are_listed():
    assert sorted(BANKS) == sorted(NAMES)


@pytest.mark.parametrize(("name", "names"), NAMES.items())
def test_names_and_shapes(name, names):
    bank = fixed_bank(name)
    assert list(bank) == names
    shape = (7, 7) if name == "gabor" else (3, 3)
    assert {filter_.shape for filter_ in bank.values()} == {shape}
    assert len({filter_.tobytes() for filter_ in bank.values()}) == len(names)


def test_a_bank_is_new_each_time():
    fixed_bank("edges")["box"][...] = 7
    assert fixed_bank("edges")["box"].max() == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("north", [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]),
        ("northeast", [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]),
        ("east", [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        ("south", [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        ("southwest", [[0, -1, -2], [1, 0, -1], [2, 1, 0]]),
        ("northwest", [[2, 1, 0], [1, 0, -1], [0, -1, -2]]),
    ],
)
def test_sobel_points_to_the_brighter_side(name, expected):
    assert_array_equal(fixed_bank("sobel")[name], expected)


def test_sobel_of_opposite_directions():
    filters = list(fixed_bank("sobel").values())
    for k in range(4):
        assert_array_equal(filters[k], -filters[k + 4])


@pytest.mark.parametrize("name", ["sobel", "laplacian"])
def test_no_answer_to_a_constant_image(name):
    for filter_ in fixed_bank(name).values():
        assert filter_.sum() == 0


def test_laplacian_and_sharpen():
    assert_array_equal(fixed_bank("laplacian")["laplacian4"], [[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    assert_array_equal(fixed_bank("laplacian")["laplacian8"], [[1, 1, 1], [1, -8, 1], [1, 1, 1]])
    assert_array_equal(fixed_bank("sharpen")["sharpen"], [[0, -1, 0], [-1, 5, -1], [0, -1, 0]])


@pytest.mark.parametrize(("n_filters", "size"), [(None, None), (4, (5, 5)), (6, (4, 9))])
def test_gabor(n_filters, size):
    bank = np.array(list(fixed_bank("gabor", n_filters, size).values()))
    assert bank.shape == (n_filters or 8, *(size or (7, 7)))
    assert_allclose(bank.sum(axis=(1, 2)), 0, atol=1e-14)
    assert_allclose(np.abs(bank).sum(axis=(1, 2)), 1)
    assert_allclose(bank, bank[:, ::-1, ::-1], atol=1e-15)


def test_gabor_directions():
    first, second = fixed_bank("gabor", 2, (7, 7)).values()
    # waves along the columns, then along the rows
    assert_allclose(second, first.T, atol=1e-15)
    wave = np.tile(np.cos(2 * np.pi * np.arange(-3, 4) / 3.5), (7, 1))
    assert (first * wave).sum() > 5 * abs((second * wave).sum())


def test_given_banks():
    array = np.arange(24.0).reshape(2, 3, 4)
    for given in (array, array.tolist(), list(array), array.astype(int)):
        bank, names = given_bank(given)
        assert_array_equal(bank, array[..., None])
        assert names == ["filter0", "filter1"]
    assert given_bank(np.ones((5, 2, 2, 3)))[0].shape == (5, 2, 2, 3)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ([[1, 2], [3]], "filters must be an array"),
        ([["a"]], "filters must be an array"),
        (None, "filters must"),
        (3.0, r"filters must have shape .*\(\)"),
        (np.ones((2, 2)), r"\(2, 2\)"),
        (np.ones((1, 0, 3)), r"\(1, 0, 3\)"),
        ([[[np.inf]]], "filters must be finite"),
    ],
)
def test_bad_banks(filters, message):
    with pytest.raises(ValueError, match=message):
        given_bank(filters)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("prewitt",), r"one of \['edges', .*'sobel'\]. Got 'prewitt'"),
        (("sobel", 4), "n_filters must be None or 8 .*Got 4"),
        (("edges", None, (5, 5)), r"kernel_size must be None or 3 .*Got \(5, 5\)"),
    ],
)
def test_bad_names_and_sizes(args, message):
    with pytest.raises(ValueError, match=message):
        fixed_bank(*args)
