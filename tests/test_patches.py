"""Patches are windows of the images they are drawn from, and whitening does what the books say."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import inv, sqrtm, toeplitz

from skcnn._features import patches as _patches
from skcnn._features.patches import Whitener, draw_patches

RNG = np.random.default_rng(0)
GREY = RNG.normal(size=(4, 6, 7, 1))
COLOUR = RNG.normal(size=(4, 6, 7, 3))
NUMBERED = np.arange(40 * 6 * 7 * 2).reshape(40, 6, 7, 2)  # each value tells where it is
# Patches of 12 values, correlated as neighbouring pixels are, not centred, scaled unevenly.
PATCHES = RNG.normal(size=(500, 12)) @ toeplitz(0.7 ** np.arange(12)) * np.linspace(1, 5, 12) + 30
WAYS = [
    {"removes_mean": False, "contrast": None, "epsilon": None},
    {"removes_mean": True, "contrast": None, "epsilon": None},
    {"removes_mean": True, "contrast": 0.01, "epsilon": None},
    {"removes_mean": False, "contrast": None, "epsilon": 0.1},
    {"removes_mean": True, "contrast": None, "epsilon": 0.3},
    {"removes_mean": True, "contrast": 0.5, "epsilon": 0.1},
]


def draw(images, kernel, n_patches, seed=0, dtype=float):
    flat = images.reshape(len(images), -1)
    random_state = np.random.RandomState(seed)
    return draw_patches(flat, images.shape[1:], kernel, n_patches, random_state, dtype)


def windows(images, kernel):
    """Cut every window out of every image, in reading order."""
    (rows, columns), (n_rows, n_columns) = kernel, images.shape[1:3]
    cut = [
        image[i : i + rows, j : j + columns].ravel()
        for image in images
        for i in range(n_rows - rows + 1)
        for j in range(n_columns - columns + 1)
    ]
    return np.array(cut)


def contrasted(patches, way, keeps_mean=False):
    """Scale as PATCHES are, and normalise as the Whitener's docstring says."""
    patches = (patches - PATCHES.mean()) / PATCHES.std()
    offset = patches.mean(axis=1)[:, None] if way["removes_mean"] and not keeps_mean else 0
    if way["contrast"] is None:
        return patches - offset
    return (patches - offset) / np.sqrt(patches.var(axis=1) + way["contrast"])[:, None]


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (3, 2), (2, 5), (6, 7)], ids=str)
@pytest.mark.parametrize(("more", "block"), [(0, 10**7), (1, 1), (10_000, 1), (10_000, 30_000)])
def test_each_place_once_if_there_are_enough_patches(images, kernel, more, block, monkeypatch):
    monkeypatch.setattr(_patches, "STATISTICS_BYTES", block)
    expected = windows(images, kernel)
    patches = draw(images, kernel, len(expected) + more)
    assert_array_equal(patches, expected)


@pytest.mark.parametrize("kernel", [(3, 2), (1, 4), (6, 7)], ids=str)
def test_a_patch_is_a_window_of_one_image(kernel):
    known = {window[0]: window for window in windows(NUMBERED, kernel).astype(float)}
    patches = draw(NUMBERED, kernel, 30)
    assert len(patches) == 30
    for patch in patches:
        assert_array_equal(patch, known[patch[0]])


def test_patches_come_from_all_places_alike():
    """900 of 960 places, drawn with replacement: each count is within five deviations."""
    first = draw(NUMBERED[:, :5], (2, 2), 900)[:, 0].astype(int)
    for index, n in zip(np.unravel_index(first, (40, 6, 7, 2)), (40, 4, 6), strict=False):
        counts = np.bincount(index, minlength=n)
        assert len(counts) == n
        assert np.abs(counts - 900 / n).max() < 5 * np.sqrt(900 / n)


def test_the_random_state_chooses_the_places():
    first = [draw(NUMBERED, (2, 2), 50, seed)[:, 0] for seed in (0, 0, 1)]
    assert_array_equal(first[0], first[1])
    assert set(first[0]) != set(first[2])


@pytest.mark.parametrize(
    ("shape", "kernel", "top", "left"),
    [
        ((2, 3), (5, 4), 1, 0),
        ((2, 3), (4, 7), 1, 2),
        ((1, 1), (2, 2), 0, 0),
        ((1, 1), (3, 3), 1, 1),
    ],
    ids=str,
)
def test_images_smaller_than_the_kernel_get_a_border_of_zeros(shape, kernel, top, left):
    images = RNG.normal(size=(3, *shape, 2)) + 5
    expected = np.zeros((3, *kernel, 2))
    expected[:, top : top + shape[0], left : left + shape[1]] = images
    assert_array_equal(draw(images, kernel, 100), expected.reshape(3, -1))


def test_images_smaller_than_the_kernel_on_one_axis_only():
    images = RNG.normal(size=(3, 2, 6, 1))
    bordered = np.concatenate([images, np.zeros((3, 1, 6, 1))], axis=1)
    assert_array_equal(draw(images, (3, 2), 100), windows(bordered, (3, 2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("source", [np.uint8, np.int64, np.float32, np.float64])
def test_dtype(source, dtype):
    images = RNG.integers(0, 256, (4, 6, 7, 2)).astype(source)
    patches = draw(images, (3, 2), 10_000, dtype=dtype)
    assert patches.dtype == dtype
    assert_array_equal(patches, windows(images, (3, 2)))


@pytest.mark.parametrize("n_patches", [20, 10_000])
def test_a_memory_map(n_patches, tmp_path):
    np.save(tmp_path / "images.npy", NUMBERED.astype(np.uint16))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    known = {window[0]: window for window in windows(NUMBERED, (3, 2)).astype(float)}
    patches = draw(mapped, (3, 2), n_patches)
    assert len(patches) == min(n_patches, len(known))
    for patch in patches:
        assert_array_equal(patch, known[patch[0]])


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_whitening_by_the_book(way):
    """ZCA by SciPy: the inverse root of the covariance, a share of its mean variance added."""
    before, epsilon = PATCHES.copy(), way["epsilon"]
    whitener = Whitener.fit(PATCHES, **way)
    normalised = contrasted(PATCHES, way)
    others = RNG.normal(30, 9, size=(20, 12))
    expected = contrasted(others, way)
    if epsilon is not None:
        covariance = np.cov(normalised.T, bias=True)
        spread = epsilon * np.trace(covariance) / 12
        expected = (expected - normalised.mean(axis=0)) @ inv(
            sqrtm(covariance + spread * np.eye(12))
        )
    assert_allclose(whitener.transform(others), expected, rtol=1e-8, atol=1e-10)
    assert_array_equal(PATCHES, before)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("contrast", [None, 0.01])
@pytest.mark.parametrize("removes_mean", [False, True])
def test_whitened_patches_are_uncorrelated(removes_mean, contrast, dtype):
    patches = PATCHES.astype(dtype)
    whitener = Whitener.fit(patches, removes_mean=removes_mean, contrast=contrast, epsilon=1e-6)
    white = whitener.transform(patches)
    assert white.dtype == dtype
    assert_allclose(white.mean(axis=0), 0, atol=1e-3)
    # without its mean a patch has no part along the diagonal
    assert_allclose(np.cov(white.T, bias=True), np.eye(12) - removes_mean / 12, atol=1e-3)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_folded_filters_respond_as_atoms_do_to_whitened_patches(way):
    whitener = Whitener.fit(PATCHES, **way)
    atoms, others = RNG.normal(size=(5, 12)), RNG.normal(30, 9, size=(20, 12))
    filters, intercepts = whitener.fold(atoms)
    responses = contrasted(others, way, keeps_mean=True) @ filters.T + intercepts
    assert_allclose(responses, whitener.transform(others) @ atoms.T, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("value", [0, 7, 0.1, -1e20, 1e-20])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_patches_that_do_not_vary(way, dtype, value):
    patches = np.full((30, 6), value, dtype)
    whitener = Whitener.fit(patches, **way)
    assert_allclose(whitener.transform(patches), 0, atol=1e-5)
    filters, intercepts = whitener.fold(np.eye(6))
    assert np.isfinite(filters).all()
    assert np.isfinite(intercepts).all()
    assert np.isfinite(whitener.transform(patches + dtype(1))).all()
