"""Augmentation: random changes of the images of a batch before a network trains on them.

The random numbers of an image depend only on the seed of the fit, the epoch and the index of the
image. The augmented image is therefore the same to the last bit, however a batch is split into
shards and whichever worker processes them.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from skcnn._engine.warp import blank, inverse_affine, move, relight, warp

# Largest value of each strength that is a single number.
MOST = {
    "flip": 1,
    "flip_vertical": 1,
    "rotate": 180,
    "zoom": 0.9,
    "shear": 60,
    "brightness": math.inf,
    "contrast": 1,
}

# Strengths in pixels, which may be a pair (rows, columns).
PIXELS = ("shift", "crop", "cutout")

# Fewest rows and columns of an image that a change has an effect on.
NEEDS = {"flip": (1, 2), "flip_vertical": (2, 1), "rotate": (2, 2), "shear": (2, 2)}

NAMES = ("shift", "crop", *MOST, "cutout")
MASK = 2**64 - 1


def check_augment(augment, image_shape):
    """Return a plan that augments images, or None if nothing is to be changed.

    Parameters
    ----------
    augment : dict, callable or None
        A dict that maps names to strengths; a strength of 0 changes nothing. A pixel value of 0,
        below, is the mean of the images if they are standardised. The changes, in the order in
        which they are applied:

        - ``"brightness"``: adds a number from ``-b`` to ``b``;
        - ``"contrast"``: multiplies by a number from ``1 - c`` to ``1 + c`` about the image's mean;
        - ``"flip"``, ``"flip_vertical"``: exchanges left and right, or top and bottom, with this
          probability; True means 0.5;
        - ``"shear"``: tilts the columns by up to this many degrees;
        - ``"rotate"``: rotates by up to this many degrees;
        - ``"zoom"``: enlarges by a factor from ``1 - z`` to ``1 + z``;
        - ``"shift"``: moves by up to this many whole pixels, an int or a pair (rows, columns), and
          sets the pixels left free to 0. ``"crop"`` is the same: a random crop of the image with a
          border of this many zeros;
        - ``"cutout"``: sets a square with sides of this many pixels, or a rectangle (rows,
          columns), to 0. Its centre is a random pixel, so that a part of it may be outside the
          image (DeVries and Taylor, 2017).

        All numbers are drawn uniformly. An int stands for both axes, except an axis of one pixel.

        A callable ``f(images, rng)`` receives a shard of a batch, standardised, as an array of
        shape (n_images, rows, columns, channels) that it may overwrite, and a
        `numpy.random.Generator`; it returns images of the same shape. The generator is seeded by
        the key of the epoch and the indices of the shard's images. The results are the same for any
        number of jobs, but change with the batch size, which determines the shards.
    image_shape : (int, int, int)
        Rows, columns and channels of an image.

    Returns
    -------
    plan : Augmentation, CallableAugmentation or None

    Raises
    ------
    TypeError, ValueError
        If `augment` is not of this form, or does not fit images of this shape.

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
    """Return a strength that is a single number, after checking it."""
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
    """Raise a `ValueError` if images have too few rows or columns for the change `name`."""
    needs = zip(NEEDS.get(name, (1, 1)), ("rows", "columns"), image_shape, strict=False)
    lacks = [f"{least} {axis}" for least, axis, n in needs if n < least]
    if lacks:
        raise ValueError(
            f"augment[{name!r}] needs images of at least {' and '.join(lacks)}. Got images of "
            f"shape {tuple(image_shape)} instead: leave {name!r} out."
        )


def _check_pixels(name, value, image_shape):
    """Return a strength in pixels as an array of rows and columns, after checking it."""
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
    """Return the key of an epoch, an int of 64 bits, from the ints `seed` and `epoch`."""
    return int(_outputs(seed, np.array([epoch]))[0])


def uniforms(key, index, n):
    """Return `n` random numbers from [0, 1) for each image, which depend only on key and index.

    Each image has a SplitMix64 generator (Steele, Lea and Flood, "Fast Splittable Pseudorandom
    Number Generators", 2014), and the numbers are its first outputs. Its seed is the output with
    the image's index of a generator with the seed `key`. SplitMix64 computes any output without the
    outputs before it.

    Parameters
    ----------
    key : int
        Key of the epoch, see `epoch_key`.
    index : ndarray of int of shape (n_images,)
        Indices of the images in the training set.
    n : int
        Number of random numbers per image.

    Returns
    -------
    numbers : ndarray of float64 of shape (n, n_images)
    """
    outputs = _outputs(_outputs(key, index), np.arange(n)[:, None])
    return (outputs >> 11) * 2.0**-53


def _outputs(seed, number):
    """Return the outputs of SplitMix64 generators with the indices `number`, counted from 0."""
    seed = seed if isinstance(seed, np.ndarray) else np.uint64(int(seed) & MASK)
    z = seed + (np.asarray(number).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class Augmentation:
    """Changes each image by random numbers of its own.

    Attributes
    ----------
    strengths : dict
        Checked strengths that are not 0.
    image_shape : (int, int, int)
        Rows, columns and channels of an image.
    """

    strengths: dict
    image_shape: tuple

    def draw(self, key, index):
        """Return the random changes of each image, in arrays whose last axis is the images."""
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
        """Return augmented maps; the maps given stay as they are.

        Rotation, zoom and shear are combined with flips and the shift into one affine map, so that
        images are resampled at most once. Flips and shifts alone only move pixels.

        Parameters
        ----------
        maps : ndarray of shape (rows, channels, columns, images)
        key : int
            Key of the epoch, see `epoch_key`.
        index : ndarray of int of shape (images,)
            Indices of the images in the training set.

        Returns
        -------
        maps : ndarray, with the same shape and dtype
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
    """Changes images by a function that the user has given, see `check_augment`."""

    function: object

    def apply(self, maps, key, index):
        """Return augmented maps; the parameters are those of `Augmentation.apply`.

        The generator is seeded by the key and the indices of all images of the shard.
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
