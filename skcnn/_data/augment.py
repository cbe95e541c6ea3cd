"""Augmentation: what is done to the images of a batch before a network trains on them.

The random numbers of an image depend on the seed of the fit, the epoch and the image's number, and
on nothing else: however a batch is cut into shards, and whoever works on them, an image comes out
the same to the last bit.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from skcnn._engine.warp import blank, inverse_affine, move, relight, warp

# The most that each strength that is a number may be.
MOST = {
    "flip": 1,
    "flip_vertical": 1,
    "rotate": 180,
    "zoom": 0.9,
    "shear": 60,
    "brightness": math.inf,
    "contrast": 1,
}

# Those counted in pixels, for which there may be a pair.
PIXELS = ("shift", "crop", "cutout")

# Rows and columns below which there is nothing to be changed.
NEEDS = {"flip": (1, 2), "flip_vertical": (2, 1), "rotate": (2, 2), "shear": (2, 2)}

NAMES = ("shift", "crop", *MOST, "cutout")
MASK = 2**64 - 1


def check_augment(augment, image_shape):
    """Return a plan that augments images, or None if there is nothing to do.

    Parameters
    ----------
    augment : dict, callable or None
        A dict of names and strengths, of which 0 does nothing. Zero is the mean of the images if
        they are standardised. In the order in which they are applied:

        - ``"brightness"``: adds a number from ``-b`` to ``b``;
        - ``"contrast"``: multiplies by a number from ``1 - c`` to ``1 + c`` about the image's mean;
        - ``"flip"``, ``"flip_vertical"``: probability to exchange left and right, top and bottom;
          True is 0.5;
        - ``"shear"``: tilts the columns by up to so many degrees;
        - ``"rotate"``: turns by up to so many degrees;
        - ``"zoom"``: enlarges by a factor from ``1 - z`` to ``1 + z``;
        - ``"shift"``: moves by up to so many whole pixels, an int or a pair (rows, columns); what
          is left free is 0. ``"crop"`` is the same: a random crop of an image with so many zeros
          around it;
        - ``"cutout"``: sets a square of so many pixels, or a rectangle (rows, columns), to 0. Its
          centre is any pixel, so that a part may be outside (DeVries and Taylor, 2017).

        All numbers are drawn uniformly. An int for both axes leaves out an axis of one pixel.

        A callable ``f(images, rng)`` gets a shard of a batch, standardised, as an array of shape
        (n_images, rows, columns, channels) that it may write to, and a `numpy.random.Generator`;
        it returns images of this shape. The generator is seeded by the key and the numbers of the
        shard's images: results are the same for any number of jobs, but other batch sizes, whose
        shards are others, give others.
    image_shape : (int, int, int)
        Rows, columns, channels.

    Returns
    -------
    plan : Augmentation, CallableAugmentation or None

    Raises
    ------
    TypeError, ValueError
        If `augment` is not as above, or does not go with images of this shape.

    Examples
    --------
    >>> import numpy as np
    >>> from skcnn._data.augment import check_augment, epoch_key
    >>> plan = check_augment({"shift": 2, "rotate": 10}, (8, 8, 1))
    >>> maps = np.ones((8, 1, 8, 4))
    >>> plan.apply(maps, epoch_key(seed=0, epoch=3), index=np.array([5, 17, 2, 9])).shape
    (8, 1, 8, 4)
    """
    if augment is None:
        return None
    if callable(augment):
        return CallableAugmentation(augment)
    if not isinstance(augment, dict):
        raise TypeError(
            "augment must be a dict of names and strengths, a callable or None. "
            f"Got {augment!r} instead."
        )
    strengths = {}
    for name, value in augment.items():
        if name not in NAMES:
            raise ValueError(f"augment must have names among {NAMES}. Got {name!r} instead.")
        check = _check_pixels if name in PIXELS else _check_number
        strength = check(name, value, image_shape)
        if np.any(strength):
            strengths[name] = strength
    if "crop" in strengths:
        if "shift" in strengths:
            raise ValueError("augment must have 'shift' or 'crop', which mean the same, not both.")
        strengths["shift"] = strengths.pop("crop")
    return Augmentation(strengths, tuple(image_shape)) if strengths else None


def _check_number(name, value, image_shape):
    """Return a strength that is a number."""
    is_flip = name.startswith("flip")
    is_bool = isinstance(value, bool | np.bool_)
    if not (is_flip if is_bool else isinstance(value, Real)):
        allowed = "a bool or a probability" if is_flip else "a number"
        raise TypeError(f"augment[{name!r}] must be {allowed}. Got {value!r} instead.")
    if not 0 <= value <= MOST[name] or value == math.inf:
        most = "" if MOST[name] == math.inf else f" and at most {MOST[name]}"
        raise ValueError(
            f"augment[{name!r}] must be finite, at least 0{most}. Got {value!r} instead."
        )
    if value:
        _check_size(name, image_shape)
    return 0.5 * value if is_bool else float(value)


def _check_size(name, image_shape):
    """Raise a `ValueError` if images have too few rows or columns to be changed."""
    needs = zip(NEEDS.get(name, (1, 1)), ("rows", "columns"), image_shape, strict=False)
    lacks = [f"{least} {axis}" for least, axis, n in needs if n < least]
    if lacks:
        raise ValueError(
            f"augment[{name!r}] needs images of at least {' and '.join(lacks)}. Got images of "
            f"shape {tuple(image_shape)} instead: leave {name!r} out."
        )


def _check_pixels(name, value, image_shape):
    """Return a strength that is a number of rows and one of columns."""
    most = [n if name == "cutout" else n - 1 for n in image_shape[:2]]
    pair = value
    if _is_int(value):
        sizes = zip(image_shape[:2], most, strict=True)
        pair = [min(value, limit) if size == 1 else value for size, limit in sizes]
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(_is_int, pair)):
        raise TypeError(
            f"augment[{name!r}] must be an int or a pair of ints, (rows, columns). "
            f"Got {value!r} instead."
        )
    if not all(0 <= n <= limit for n, limit in zip(pair, most, strict=True)):
        raise ValueError(
            f"augment[{name!r}] must be at least 0 and at most {most[0]} rows and {most[1]} "
            f"columns for images of shape {tuple(image_shape)}. Got {value!r} instead."
        )
    return np.array(pair, dtype=np.intp)


def _is_int(value):
    return isinstance(value, Integral) and not isinstance(value, bool)


def epoch_key(seed, epoch):
    """Return the key of an epoch, an int of 64 bits, for ints `seed` and `epoch`."""
    return int(_outputs(seed, np.array([epoch]))[0])


def uniforms(key, index, n):
    """Return `n` numbers from [0, 1) for each image; they depend on the key and its number alone.

    They are the first outputs of a SplitMix64 generator (Steele, Lea and Flood, "Fast Splittable
    Pseudorandom Number Generators", 2014) for each image, whose seeds are outputs, with the images'
    numbers, of one with the seed `key`. Any output can be had without those before it.

    Parameters
    ----------
    key : int
        See `epoch_key`.
    index : ndarray of int of shape (n_images,)
        Numbers of the images in the training set.
    n : int

    Returns
    -------
    numbers : ndarray of float64 of shape (n, n_images)
    """
    outputs = _outputs(_outputs(key, index), np.arange(n)[:, None])
    return (outputs >> 11) * 2.0**-53


def _outputs(seed, number):
    """Return the outputs with some numbers, from 0, of SplitMix64 generators."""
    seed = seed if isinstance(seed, np.ndarray) else np.uint64(int(seed) & MASK)
    z = seed + (np.asarray(number).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class Augmentation:
    """Changes images by random numbers of their own.

    Attributes
    ----------
    strengths : dict
        Those that are not zero, checked.
    image_shape : (int, int, int)
    """

    strengths: dict
    image_shape: tuple

    def draw(self, key, index):
        """Return what is to be done to each image: a dict of arrays, the images last."""
        u = uniforms(key, index, 11)
        strength = {name: self.strengths.get(name, 0) for name in MOST}
        chances = [[strength["flip_vertical"]], [strength["flip"]]]
        reach = np.reshape(self.strengths.get("shift", (0, 0)), (2, 1))
        side = np.reshape(self.strengths.get("cutout", (0, 0)), (2, 1))
        size = np.reshape(self.image_shape[:2], (2, 1))
        signed = 2 * u - 1
        return {
            "shift": (u[0:2] * (2 * reach + 1)).astype(np.intp) - reach,
            "flip": np.where(u[2:4] < chances, -1, 1),
            "angle": strength["rotate"] * signed[4],
            "zoom": 1 + strength["zoom"] * signed[5],
            "shear": strength["shear"] * signed[6],
            "bias": strength["brightness"] * signed[7],
            "gain": 1 + strength["contrast"] * signed[8],
            "first": (u[9:11] * size).astype(np.intp) - side // 2,
        }

    def apply(self, maps, key, index):
        """Return maps augmented; those given are left as they are.

        Rotation, zoom and shear, with flips and the shift, are one affine map: images are
        resampled once at most. Without them pixels are only moved.

        Parameters
        ----------
        maps : ndarray of shape (rows, channels, columns, images)
        key : int
            Of the epoch, see `epoch_key`.
        index : ndarray of int of shape (images,)
            Numbers of the images in the training set.

        Returns
        -------
        maps : ndarray, of the same shape and dtype
        """
        drawn = self.draw(key, index)
        names = self.strengths.keys()
        if names & {"brightness", "contrast"}:
            maps = relight(maps, drawn["gain"], drawn["bias"])
        if names & {"rotate", "zoom", "shear"}:
            motion = {name: drawn[name] for name in ("shift", "flip", "angle", "zoom", "shear")}
            maps = warp(maps, *inverse_affine(self.image_shape, **motion))
        elif names & {"shift", "flip", "flip_vertical"}:
            maps = move(maps, drawn["shift"], drawn["flip"])
        if "cutout" in names:
            maps = blank(maps, drawn["first"], self.strengths["cutout"])
        return maps


@dataclass(frozen=True)
class CallableAugmentation:
    """Changes images by a function of the user's, see `check_augment`."""

    function: object

    def apply(self, maps, key, index):
        """Return maps augmented, with parameters as in `Augmentation`.

        The generator is seeded by the key and the numbers of all images of the shard.
        """
        images = maps.transpose(3, 0, 2, 1).copy(order="C")
        rng = np.random.default_rng([key, *np.asarray(index).tolist()])
        shape = images.shape
        changed = np.asarray(self.function(images, rng))
        if changed.shape != shape or changed.dtype.kind not in "fiub":
            raise ValueError(
                f"augment must return an array of real numbers of shape {shape}, as it was given. "
                f"Got shape {changed.shape} and dtype {changed.dtype} instead."
            )
        return np.ascontiguousarray(changed.transpose(1, 3, 2, 0), dtype=maps.dtype)
