"""Augmentation: against SciPy and NumPy, the numbers drawn, shards, and what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

from skcnn._data.augment import _outputs, check_augment, epoch_key, uniforms

SHAPE = (9, 7, 2)
INDEX = np.array([4, 100, 7, 12, 59_999, 3, 0, 21, 33, 8, 2])
KEY = epoch_key(7, 5)
EVERYTHING = {
    "shift": (1, 2),
    "flip": True,
    "flip_vertical": 0.3,
    "rotate": 30,
    "zoom": 0.2,
    "shear": 10,
    "brightness": 0.5,
    "contrast": 0.4,
    "cutout": 3,
}
EACH = [{name: value} for name, value in EVERYTHING.items()]
TOGETHER = [EVERYTHING, {"crop": 2, "flip": 0.5, "cutout": (2, 3)}]
every_plan = pytest.mark.parametrize("augment", EACH + TOGETHER, ids=lambda a: "-".join(a))
both_floats = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def random_maps(shape=SHAPE, n=11, dtype=np.float64):
    rows, columns, channels = shape
    maps = np.random.default_rng(0).normal(size=(rows, channels, columns, n))
    return maps.astype(dtype)


def many(augment, shape=(28, 28, 1), n=20_000):
    """Return what is drawn for many images."""
    return check_augment(augment, shape).draw(KEY, np.arange(n))


# the random numbers


def test_numbers_are_those_of_splitmix64():
    """The outputs of Vigna's splitmix64.c for the seed 1234567."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert _outputs(1234567, np.arange(5)).tolist() == expected
    assert epoch_key(1234567, 2) == expected[2]
    assert epoch_key(np.int64(1234567), np.intp(2)) == expected[2]
    seeds = _outputs(KEY, INDEX)
    numbers = uniforms(KEY, INDEX, 3)
    assert numbers[2, 1] == (int(_outputs(int(seeds[1]), [2])[0]) >> 11) / 2**53


def test_numbers_are_uniform_and_unrelated():
    numbers = uniforms(KEY, np.arange(10_000), 4)
    assert numbers.shape == (4, 10_000)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    others = uniforms(epoch_key(7, 6), np.arange(10_000), 4)
    for row in (*numbers, *others):
        assert stats.kstest(row, "uniform").pvalue > 1e-4
    related = np.corrcoef(np.vstack([numbers, others, numbers[:, np.arange(10_000) - 1]]))
    assert np.abs(related - np.eye(12)).max() < 0.05


def test_numbers_of_an_image_are_its_own():
    assert_array_equal(uniforms(KEY, INDEX[3:5], 2), uniforms(KEY, INDEX, 6)[:2, 3:5])
    assert len({epoch_key(seed, epoch) for seed in range(50) for epoch in range(50)}) == 2500
    assert 0 <= epoch_key(2**32 - 1, 10**6) < 2**64


# plans


@every_plan
@both_floats
@pytest.mark.parametrize("shape", [SHAPE, (6, 6, 1), (3, 3, 8)])
def test_plans_keep_shape_and_type_and_leave_their_input(augment, dtype, shape):
    maps = random_maps(shape, dtype=dtype)
    before = maps.copy()
    maps.flags.writeable = False
    out = check_augment(augment, shape).apply(maps, KEY, INDEX)
    assert out.shape == maps.shape
    assert out.dtype == dtype
    assert out.flags.c_contiguous
    assert not np.array_equal(out, maps)
    assert_array_equal(maps, before)


@every_plan
@both_floats
def test_an_image_comes_out_the_same_in_any_shard(augment, dtype):
    maps = random_maps(dtype=dtype)
    plan = check_augment(augment, SHAPE)
    whole = plan.apply(maps, KEY, INDEX)
    assert_array_equal(plan.apply(maps, KEY, INDEX), whole)
    for parts in ([slice(0, 5), slice(5, 11)], [slice(n, n + 1) for n in range(11)]):
        cut = [plan.apply(np.ascontiguousarray(maps[..., p]), KEY, INDEX[p]) for p in parts]
        assert_array_equal(np.concatenate(cut, axis=3), whole)
    order = np.random.default_rng(0).permutation(11)
    assert_array_equal(plan.apply(maps[..., order], KEY, INDEX[order]), whole[..., order])
    assert not np.array_equal(plan.apply(maps, epoch_key(7, 6), INDEX), whole)
    assert not np.array_equal(plan.apply(maps, epoch_key(8, 5), INDEX), whole)


@pytest.mark.parametrize("augment", [None, {}, dict.fromkeys(EVERYTHING, 0), {"flip": False}])
def test_nothing_to_do(augment):
    assert check_augment(augment, SHAPE) is None
    assert check_augment(augment, (1, 1, 1)) is None


def test_a_strength_of_zero_changes_nothing():
    maps = random_maps()
    expected = check_augment({"shift": 1}, SHAPE).apply(maps, KEY, INDEX)
    padded = check_augment({**dict.fromkeys(EVERYTHING, 0), "shift": 1}, SHAPE)
    assert_array_equal(padded.apply(maps, KEY, INDEX), expected)


def test_crop_is_shift():
    maps = random_maps()
    expected = check_augment({"shift": (2, 1)}, SHAPE).apply(maps, KEY, INDEX)
    assert_array_equal(check_augment({"crop": [2, 1]}, SHAPE).apply(maps, KEY, INDEX), expected)
    padded = np.pad(maps, ((2, 2), (0, 0), (1, 1), (0, 0)))
    down, right = check_augment({"crop": (2, 1)}, SHAPE).draw(KEY, INDEX)["shift"]
    for n, (i, j) in enumerate(zip(2 - down, 1 - right, strict=True)):
        assert_array_equal(expected[..., n], padded[i : i + 9, :, j : j + 7, n])


def test_what_is_drawn_for_one_change_does_not_depend_on_others():
    together = many(EVERYTHING)
    for augment in EACH:
        alone = many(augment)
        used = [name for name in alone if np.ptp(alone[name]) > 0 and name != "first"]
        for name in [] if "flip_vertical" in augment or "flip" in augment else used:
            assert_array_equal(alone[name], together[name])


def test_shifts_are_uniform_and_the_axes_unrelated():
    shift = many({"shift": (1, 3)})["shift"]
    counts = np.zeros((3, 7))
    np.add.at(counts, (shift[0] + 1, shift[1] + 3), 1)
    assert counts.sum() == 20_000
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4


@pytest.mark.parametrize(("strength", "rate"), [(True, 0.5), (0.2, 0.2), (1, 1), (np.True_, 0.5)])
@pytest.mark.parametrize("name", ["flip", "flip_vertical"])
def test_flips_have_their_rate(strength, rate, name):
    vertical, sideways = (many({name: strength})["flip"] < 0).mean(axis=1)
    flips, others = (sideways, vertical) if name == "flip" else (vertical, sideways)
    assert flips == pytest.approx(rate, abs=0.015)
    assert others == 0


@pytest.mark.parametrize(
    ("name", "drawn", "strength", "center"),
    [
        ("rotate", "angle", 20, 0),
        ("zoom", "zoom", 0.3, 1),
        ("shear", "shear", 15, 0),
        ("brightness", "bias", 2, 0),
        ("contrast", "gain", 0.5, 1),
    ],
)
def test_strengths_are_the_ends_of_uniform_distributions(name, drawn, strength, center):
    numbers = many({name: strength})[drawn]
    expected = stats.uniform(center - strength, 2 * strength)
    assert stats.kstest(numbers, expected.cdf).pvalue > 1e-4


def test_cut_outs_lie_anywhere():
    maps = np.ones((10, 1, 10, 20_000))
    out = check_augment({"cutout": 4}, (10, 10, 1)).apply(maps, KEY, np.arange(20_000))
    removed = (out == 0).sum(axis=(0, 1, 2))
    assert removed.max() == 16
    assert removed.min() == 4
    row = many({"cutout": 4}, (10, 10, 1))["first"][0]
    assert stats.chisquare(np.bincount(row + 2, minlength=10)).pvalue > 1e-4


def test_signals_of_one_row():
    maps = random_maps((1, 20, 2))
    for augment in ({"shift": 3}, {"crop": 3}, {"zoom": 0.2}, {"cutout": 5}, {"flip": True}):
        out = check_augment(augment, (1, 20, 2)).apply(maps, KEY, INDEX)
        assert np.all(out.any(axis=(0, 1, 2)))
        assert not np.array_equal(out, maps)
    drawn = check_augment({"shift": 3}, (1, 20, 2)).draw(KEY, INDEX)["shift"]
    assert not drawn[0].any()
    assert check_augment({"shift": 0, "cutout": 0}, (1, 20, 2)) is None


# callables


def add_noise(images, rng):
    images += rng.normal(size=images.shape)
    return images


@both_floats
def test_a_callable(dtype):
    for n in (1, 11):
        maps = random_maps((4, 5, 3), n, dtype)
        before = maps.copy()
        seen = []

        def reverse(images, rng, seen=seen):
            seen.append(images)
            return np.flip(images, 2).astype(np.float64)

        out = check_augment(reverse, (4, 5, 3)).apply(maps, KEY, INDEX[:n])
        assert seen[0].shape == (n, 4, 5, 3)
        assert seen[0].dtype == out.dtype == dtype
        assert out.flags.c_contiguous
        assert_array_equal(out, np.flip(maps, 2))
        check_augment(add_noise, (4, 5, 3)).apply(maps, KEY, INDEX[:n])
        assert_array_equal(maps, before)


def test_the_generator_of_a_callable_depends_on_epoch_and_images():
    maps = np.zeros((4, 1, 4, 3))
    plan = check_augment(add_noise, (4, 4, 1))
    first = plan.apply(maps, KEY, INDEX[:3])
    assert_array_equal(plan.apply(maps, KEY, INDEX[:3]), first)
    assert not np.array_equal(plan.apply(maps, KEY + 1, INDEX[:3]), first)
    assert not np.array_equal(plan.apply(maps, KEY, INDEX[3:6]), first)


@pytest.mark.parametrize(
    "function",
    [lambda x, rng: None, lambda x, rng: x[:, :1], lambda x, rng: x * 1j, lambda x, rng: x[..., 0]],
)
def test_a_callable_that_returns_something_else(function):
    with pytest.raises(ValueError, match=r"augment must return an array .* shape \(3, 4, 4, 1\)"):
        check_augment(function, (4, 4, 1)).apply(np.zeros((4, 1, 4, 3)), KEY, INDEX[:3])


# what is refused


@pytest.mark.parametrize("augment", [3, "flip", ["flip"], True])
def test_not_an_augmentation(augment):
    with pytest.raises(TypeError, match="augment must be a dict of names and strengths, a call"):
        check_augment(augment, SHAPE)


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        ({"rotation": 3}, ValueError, r"names among \('shift', .*'cutout'\). Got 'rotation'"),
        ({3: 3}, ValueError, "names among .* Got 3 instead"),
        ({"shift": 2, "crop": 2}, ValueError, "'shift' or 'crop', which mean the same, not both"),
        ({"shift": 1.5}, TypeError, "'shift'. must be an int or a pair of ints.* Got 1.5"),
        ({"shift": True}, TypeError, "must be an int or a pair"),
        ({"shift": (1, 2, 3)}, TypeError, "must be an int or a pair"),
        ({"shift": (1, 0.5)}, TypeError, "must be an int or a pair"),
        ({"cutout": None}, TypeError, "must be an int or a pair"),
        ({"shift": -1}, ValueError, "at least 0 and at most 8 rows and 6 columns .* Got -1"),
        ({"shift": 7}, ValueError, r"shape \(9, 7, 2\). Got 7 instead"),
        ({"crop": (9, 0)}, ValueError, r"augment\['crop'\] must .* Got \(9, 0\)"),
        ({"cutout": 8}, ValueError, "at most 9 rows and 7 columns"),
        ({"rotate": "10"}, TypeError, r"augment\['rotate'\] must be a number. Got '10'"),
        ({"rotate": True}, TypeError, "must be a number"),
        ({"zoom": (0.1, 0.2)}, TypeError, "must be a number"),
        ({"flip": None}, TypeError, "must be a bool or a probability"),
        ({"flip": 1.5}, ValueError, "at least 0 and at most 1. Got 1.5"),
        ({"flip_vertical": -0.5}, ValueError, "at least 0 and at most 1. Got -0.5"),
        ({"rotate": 181}, ValueError, "at most 180"),
        ({"zoom": 1}, ValueError, "at most 0.9"),
        ({"shear": 90}, ValueError, "at most 60"),
        ({"contrast": 2}, ValueError, "at most 1"),
        ({"brightness": -1}, ValueError, "must be finite, at least 0. Got -1"),
        ({"brightness": np.inf}, ValueError, "must be finite"),
        ({"rotate": np.nan}, ValueError, "must be finite"),
    ],
)
def test_strengths_that_are_refused(augment, error, message):
    with pytest.raises(error, match=message):
        check_augment(augment, SHAPE)


@pytest.mark.parametrize(
    ("name", "shape", "needs"),
    [
        ("flip", (5, 1, 1), "2 columns"),
        ("flip_vertical", (1, 5, 1), "2 rows"),
        ("rotate", (1, 5, 1), "2 rows"),
        ("rotate", (1, 1, 1), "2 rows and 2 columns"),
        ("shear", (5, 1, 1), "2 columns"),
    ],
)
def test_images_too_small_to_be_changed(name, shape, needs):
    with pytest.raises(ValueError, match=f"'{name}'. needs images of at least {needs}. Got images"):
        check_augment({name: 1}, shape)
    assert check_augment({name: 0}, shape) is None
