"""Images moved, resampled, relit and blanked: against SciPy and NumPy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from skcnn._engine import warp as kernels
from skcnn._engine.warp import blank, inverse_affine, move, relight, warp

SHAPE = (9, 7, 2)
both_floats = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def random_maps(shape=SHAPE, n=11, dtype=np.float64):
    rows, columns, channels = shape
    maps = np.random.default_rng(0).normal(size=(rows, channels, columns, n))
    return maps.astype(dtype)


def by_scipy(maps, matrix, offset, mode):
    out = np.empty_like(maps)
    for n in range(maps.shape[3]):
        for c in range(maps.shape[1]):
            out[:, c, :, n] = ndimage.affine_transform(
                maps[:, c, :, n], matrix[:, :, n], offset[:, n], order=1, mode=mode
            )
    return out


@pytest.mark.parametrize(
    "shape", [SHAPE, (1, 12, 1), (6, 6, 5), (12, 1, 1), (1, 1, 1), (40, 30, 1)]
)
@both_floats
def test_warp_is_scipys(shape, dtype):
    rng = np.random.default_rng(1)
    n = 5
    maps = random_maps(shape, n, dtype)
    matrix, offset = inverse_affine(
        shape,
        shift=rng.integers(-2, 3, (2, n)),
        flip=rng.choice([-1, 1], (2, n)),
        angle=rng.uniform(-180, 180, n),
        zoom=rng.uniform(0.5, 2, n),
        shear=rng.uniform(-40, 40, n),
    )
    out = warp(maps, matrix, offset)
    assert out.dtype == dtype
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    assert_allclose(out, by_scipy(maps, matrix, offset, "grid-constant"), atol=tolerance)
    plain = by_scipy(maps, matrix, offset, "constant")  # which cuts off what is next to the border
    inside = by_scipy(np.ones_like(maps), matrix, offset, "constant") == 1
    assert_allclose(out[inside], plain[inside], atol=tolerance)


def test_warp_in_blocks_and_of_more_pixels_than_float32_counts(monkeypatch):
    maps = random_maps((30, 20, 3), 4, np.float32)
    motion = inverse_affine((30, 20, 3), angle=np.array([3.0, 50, -90, 0]), zoom=np.full(4, 1.2))
    expected = warp(maps, *motion)
    monkeypatch.setattr(kernels, "PIXEL_BLOCK", 4 * 7 * 80)
    assert_array_equal(warp(maps, *motion), expected)
    monkeypatch.setattr(kernels, "FLOAT32_COUNT", 100)
    assert_allclose(warp(maps, *motion), expected, atol=1e-4)
    assert warp(maps, *motion).dtype == np.float32


@both_floats
def test_warp_that_does_nothing_is_exact(dtype):
    maps = random_maps(dtype=dtype)
    neutral = np.zeros(11)
    motion = inverse_affine(SHAPE, angle=neutral, zoom=neutral + 1, shear=neutral)
    assert_array_equal(warp(maps, *motion), maps)


def one_motion(shape, **motion):
    return (numbers[..., None] for numbers in inverse_affine(shape, **motion))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_angles_are_counter_clockwise(quarters):
    maps = random_maps((8, 8, 2), 1)
    expected = np.rot90(maps, quarters, axes=(0, 2))
    assert_allclose(warp(maps, *one_motion((8, 8, 2), angle=90 * quarters)), expected, atol=1e-12)


def test_zoom_enlarges_and_shear_tilts_columns():
    maps = np.zeros((9, 1, 9, 1))
    maps[3:6, :, 3:6] = 1
    assert warp(maps, *one_motion((9, 9), zoom=2.0)).sum() > 3 * maps.sum()
    assert warp(maps, *one_motion((9, 9), zoom=0.5)).sum() < maps.sum() / 3
    tilted = warp(maps, *one_motion((9, 9), shear=45))[:, 0, :, 0]
    expected = [np.roll(maps[row, 0, :, 0], 4 - row) for row in range(9)]
    assert_allclose(tilted, expected, atol=1e-12)


SHIFTS = np.array([[0, 1, -2, 0, 8, -3], [0, 0, 3, -6, -1, 2]])
FLIPS = np.array([[1, -1, 1, -1, 1, -1], [1, 1, -1, -1, -1, 1]])


@both_floats
def test_move_flips_then_shifts(dtype, monkeypatch):
    maps = random_maps(n=6, dtype=dtype)
    out = move(maps, SHIFTS, FLIPS)
    assert out.dtype == dtype
    for n in range(6):
        flipped = maps[..., n]
        if FLIPS[0, n] < 0:
            flipped = np.flip(flipped, 0)
        if FLIPS[1, n] < 0:
            flipped = np.flip(flipped, 2)
        down, right = SHIFTS[:, n]
        assert_array_equal(out[..., n], ndimage.shift(flipped, (down, 0, right), order=0))
    assert_allclose(warp(maps, *inverse_affine(SHAPE, shift=SHIFTS, flip=FLIPS)), out)
    monkeypatch.setattr(kernels, "PIXEL_BLOCK", 100)
    assert_array_equal(move(maps, SHIFTS, FLIPS), out)


@both_floats
def test_relight_keeps_means_but_for_the_bias(dtype):
    maps = random_maps(dtype=dtype)
    gain, bias = np.linspace(0, 2, 11), np.linspace(-1, 1, 11)
    mean = maps.mean(axis=(0, 1, 2))
    out = relight(maps, gain, bias)
    assert out.dtype == dtype
    assert_allclose(out, (maps - mean) * gain + mean + bias, atol=1e-5)
    assert_array_equal(relight(maps, np.ones_like(gain), np.zeros_like(bias)), maps)


def test_blank_sets_a_rectangle_to_zero():
    maps = np.ones((9, 2, 7, 4))
    out = blank(maps, np.array([[0, -1, 8, 3], [0, 2, 6, -2]]), (3, 2))
    expected = maps.copy()
    expected[:3, :, :2, 0] = 0
    expected[:2, :, 2:4, 1] = 0
    expected[8:, :, 6:, 2] = 0
    assert_array_equal(out, expected)
