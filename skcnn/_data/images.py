"""Images in: from what users pass to batches of maps."""

import math

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from skcnn._data.containers import stacked
from skcnn._engine.blocks import STATISTICS_BYTES, even_slices, spaced
from skcnn.layers._params import naming

FAR = 2.0**12  # deviations from zero, beyond which float32 leaves less than 12 bits to a deviation


def flatten_images(X, name="X"):
    """Return X as it is or as a 2-D view, and the shape of an image if X has it, else None."""
    X = stacked(X, name)
    shape = getattr(X, "shape", ())
    if len(shape) < 3:
        return X, None
    if len(shape) > 4:
        raise ValueError(
            f"{name} must have shape (n_samples, n_features), (n_samples, rows, columns) or "
            f"(n_samples, rows, columns, channels). Got an array of {len(shape)} dimensions instead."
        )
    X = np.asarray(X)
    image_shape = (*X.shape[1:], 1)[:3]
    return X.reshape(len(X), math.prod(image_shape)), image_shape


def infer_image_shape(n_features, own_shape, image_shape):
    """Return ``(rows, columns, channels)``.

    Parameters
    ----------
    n_features : int
        Width of the 2-D X.
    own_shape : tuple or None
        The shape of an image if X is n-D.
    image_shape : tuple or None
        The estimator's parameter.
    """
    if image_shape is None:
        side = int(np.sqrt(n_features))
        square = (side, side, 1) if side * side == n_features else (1, n_features, 1)
        return own_shape or square
    shape = tuple(int(n) for n in (*image_shape, 1)[:3])
    if own_shape is not None and own_shape != shape:
        raise ValueError(
            f"image_shape must be the shape of the images in X, {own_shape}. Got {shape} instead."
        )
    if np.prod(shape) != n_features:
        raise ValueError(
            f"image_shape must multiply to the number of features of X, {n_features}. "
            f"Got {image_shape!r} instead, which multiplies to {np.prod(shape)}."
        )
    return shape


def check_image_shape(image_shape):
    """Raise a `ValueError` unless `image_shape` is None or two or three positive ints."""
    if image_shape is None:
        return
    sizes = image_shape if isinstance(image_shape, tuple | list) else ()
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in sizes)
    if len(sizes) not in (2, 3) or not whole or min(sizes) < 1:
        raise ValueError(
            "image_shape must be (rows, columns) or (rows, columns, channels), positive ints. "
            f"Got {image_shape!r} instead."
        )


def check_images(X, estimator, name="X"):
    """Return X as a checked 2-D array of any real dtype, and the shape of an image if X is n-D."""
    flat, own_shape = flatten_images(X, name)
    return _check_flat(flat, estimator, name=name), own_shape


def check_images_as_fitted(X, estimator, finite=True):
    """Return X as a checked 2-D array, and raise an error unless it is like the X of fit.

    If not `finite`, plain float arrays are not searched for NaN and infinity; `Images` does that.
    """
    flat, own_shape = flatten_images(X)
    _refuse_one_image(X, estimator)
    is_table = own_shape is None and len(getattr(flat, "shape", ())) == 2
    if is_table:
        check_features(estimator, X, flat, reset=False)  # an error of names before one of values
        flat = _values_of(flat)
    checked = _check_flat(flat, estimator, finite)
    if own_shape not in (None, estimator.image_shape_):
        raise ValueError(
            f"X must hold images of shape {estimator.image_shape_}, as in fit. Got {own_shape} instead."
        )
    if not is_table:
        check_features(estimator, checked, checked, reset=False)
    return checked


def _refuse_one_image(X, estimator):
    """Raise a `ValueError` if X is an image and not a set of images."""
    shape, image_shape = tuple(getattr(X, "shape", ())), estimator.image_shape_
    if shape == image_shape or (shape == image_shape[:2] and image_shape[2] == 1 < shape[0]):
        raise ValueError(
            f"X must hold images of shape {image_shape}, the first axis counting them. Got one image "
            f"of shape {shape} instead: pass X[None]."
        )


def _values_of(table):
    """Return the values of a table of numbers as an array; `check_array` looks at each column."""
    if not hasattr(table, "to_numpy"):
        return table
    values = table.to_numpy()
    return np.ascontiguousarray(values) if values.dtype.kind in "fiub" else table


def _check_flat(flat, estimator, finite=True, name="X"):
    """Return a 2-D array that is real and, if that is asked for, finite."""
    if _is_in_order(flat, finite):
        return flat  # `check_array` would take a fifth of a single image's prediction
    with naming(name, "an array of real numbers"), np.errstate(invalid="ignore"):
        flat = check_array(flat, dtype="numeric", order="C", estimator=estimator, input_name=name)
    if flat.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} must be an array of real numbers. Got dtype {flat.dtype} instead."
        )
    return flat


def _is_in_order(flat, finite):
    """Return whether X surely is a plain array that needs no further check."""
    if (
        type(flat) is not np.ndarray
        or flat.ndim != 2
        or not flat.size
        or not flat.flags.c_contiguous
    ):
        return False
    return flat.dtype.kind in "iub" or (
        flat.dtype.kind == "f" and not (finite and _may_not_be_finite(flat))
    )


def _may_not_be_finite(flat):
    """Whether the sum of an image is not finite: some value is not, or the sum overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        # a product with ones reads memory half as fast again as a sum
        is_fast = flat.dtype.itemsize in (4, 8)
        sums = flat @ np.ones(flat.shape[1], flat.dtype) if is_fast else flat.sum()
        return not np.isfinite(sums).all()


def check_features(estimator, X, flat, *, reset):
    """Check, or with `reset` keep, the names and the number of features."""
    if not reset and flat.shape[1] == estimator.n_features_in_ and _are_known(X, estimator):
        return  # the checks below would take a fifth of a single image's prediction
    named = X if tuple(getattr(X, "shape", ())) == flat.shape else flat
    validate_data(estimator, named, skip_check_array=True, reset=reset)


def _are_known(X, estimator):
    """Return whether X surely has the names of the features that the estimator knows, if any."""
    known = getattr(estimator, "feature_names_in_", None)
    if known is None:
        return isinstance(X, np.ndarray)
    names = getattr(X, "columns", None)
    return names is not None and np.array_equal(np.asarray(names, dtype=object), known)


def is_far(center, scale):
    """Return whether values lie so far from zero that float32 would lose what tells them apart."""
    return bool((np.abs(center) > FAR * np.asarray(scale)).any())


def float_type(dtype):
    """Return the float type to compute in: X's own, float32 for all that is not float."""
    is_double = dtype.kind == "f" and dtype.itemsize >= 8
    return np.dtype(np.float64 if is_double else np.float32)


class Images:
    """A set of images, standardised and turned into maps batch by batch.

    Parameters
    ----------
    X : ndarray of shape (n_images, rows * columns * channels)
        Kept as it is, in its own dtype; may be a memory map.
    image_shape : (int, int, int)
    center, scale : ndarray of shape (channels,)
        Subtracted from each value, and divided by.
    dtype : numpy dtype
        Of the maps.
    checked_for : str, default=None
        Name of the estimator that does not accept values that are not finite, if X may hold some. To
        look for them here, where each worker has its images in cache, takes a fifth of the time.
    """

    def __init__(self, X, image_shape, center, scale, dtype, checked_for=None):
        self.X = X
        self.checked_for = checked_for if X.dtype.kind == "f" else None
        self.image_shape = image_shape
        self.dtype = np.dtype(dtype)
        self.exact_center = np.asarray(center, np.float64)[:, None, None]
        self.center = self.exact_center.astype(self.dtype)
        self.factor = (1 / np.asarray(scale, np.float64)).astype(self.dtype)[:, None, None]
        # values that are finite in X may not be so in a smaller float type
        self.narrows = X.dtype.kind == "f" and X.dtype.itemsize > self.dtype.itemsize
        # large numbers that vary little lose their digits in a smaller float type
        self.is_wide = X.dtype.kind in "iu" and X.dtype.itemsize > 2 and is_far(center, scale)
        self.is_plain = not self.center.any() and bool((self.factor == 1).all())

    def __len__(self):
        return len(self.X)

    def maps(self, index):
        """Return images as maps of shape (rows, channels, columns, images).

        Parameters
        ----------
        index : slice or ndarray of int
        """
        images = self.X[index]
        if self.checked_for is not None and _may_not_be_finite(images):
            with np.errstate(invalid="ignore"):
                check_array(images, dtype=None, estimator=self.checked_for, input_name="X")
        images = _spaced_out(images)
        images = images.reshape(len(images), *self.image_shape)
        maps = np.ascontiguousarray(images.transpose(1, 3, 2, 0))
        if self.is_wide:
            return ((maps - self.exact_center) * self.factor).astype(self.dtype)
        if self.narrows:
            with np.errstate(over="ignore"):
                maps = maps.astype(self.dtype)
            if not np.isfinite(maps).all():
                raise ValueError(
                    f"Input X contains a value too large for dtype({self.dtype.name!r})."
                )
        maps = maps.astype(self.dtype, copy=False)
        if not self.is_plain:
            maps = np.subtract(maps, self.center, out=maps if maps.base is None else None)
            maps *= self.factor
        return maps


def _spaced_out(images):
    """Return images whose rows do not all begin in the same few sets of the cache.

    Transposing 64 images of 32x32x3 into maps then took a quarter of the time (Zen 5, 2026-11).
    """
    n_features = images.shape[1]
    if spaced(n_features) == n_features:
        return images
    wide = np.empty((len(images), spaced(n_features)), images.dtype)[:, :n_features]
    np.copyto(wide, images)
    return wide


class AugmentedImages:
    """Images as `Images` gives them, changed by a plan of `check_augment`."""

    def __init__(self, images, plan, key):
        self.images = images
        self.plan = plan
        self.key = key
        self.dtype = images.dtype

    def __len__(self):
        return len(self.images)

    def maps(self, index):
        """Return images as maps; `index` is as in `Images.maps`."""
        numbers = index
        if isinstance(index, slice):
            numbers = np.arange(*index.indices(len(self)))
        return self.plan.apply(self.images.maps(index), self.key, numbers)


def channel_statistics(X, image_shape, sample_weight):
    """Return the weighted mean and standard deviation of each channel, in float64.

    A channel that does not vary, apart from rounding errors and denormal numbers, has deviation 1.
    """
    channels = image_shape[2]
    weights = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    share = weights / weights.sum() / (X.shape[1] // channels)
    n_block = max(STATISTICS_BYTES // (8 * X.shape[1]), 1)
    center = np.zeros(channels)
    for part in even_slices(len(X), n_block):
        block = X[part].reshape(-1, X.shape[1] // channels, channels)
        center += share[part] @ block.sum(axis=1, dtype=np.float64)
    variance = np.zeros(channels)
    for part in even_slices(len(X), n_block):
        block = X[part].reshape(-1, X.shape[1] // channels, channels) - center
        with np.errstate(over="ignore", invalid="ignore"):
            variance += share[part] @ np.square(block, out=block).sum(axis=1)
    if not np.isfinite(variance).all():  # the squares of large numbers overflow
        unit = max(abs(float(X.max())), abs(float(X.min())))
        return [unit * part for part in channel_statistics(X / unit, image_shape, sample_weight)]
    scale = np.sqrt(variance)
    noise = 10 * np.finfo(np.float64).eps * np.abs(center)
    scale[scale <= np.maximum(noise, np.finfo(np.float32).tiny)] = 1
    return center, scale
