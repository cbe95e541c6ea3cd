"""Patches of images: drawn at random, made comparable, whitened; and filters that do the same."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from skcnn._engine.blocks import STATISTICS_BYTES, even_slices


def draw_patches(X, image_shape, kernel_size, n_patches, random_state, dtype):
    """Return patches from random places of random images, shape (n_patches, rows * columns * channels).

    Images smaller than the kernel get a border of zeros. There are at most as many patches as
    there are places, each place then taken once.

    Parameters
    ----------
    X : ndarray of shape (n_images, n_features)
        May be a memory map; only the images drawn are read, some at a time.
    image_shape : (int, int, int)
    kernel_size : (int, int)
    n_patches : int
    random_state : RandomState
    dtype : numpy dtype
    """
    border = [max(k - n, 0) for k, n in zip(kernel_size, image_shape[:2], strict=True)]
    margins = [(b // 2, b - b // 2) for b in border]
    rows, columns = (
        n + b - k + 1 for n, b, k in zip(image_shape[:2], border, kernel_size, strict=True)
    )
    n_places = len(X) * rows * columns
    if n_patches >= n_places:
        places = np.arange(n_places)
    else:
        places = np.sort(random_state.randint(n_places, size=n_patches))
    image, place = np.divmod(places, rows * columns)
    row, column = np.divmod(place, columns)
    patches = np.empty((len(places), *kernel_size, image_shape[2]), dtype)
    n_block = max(STATISTICS_BYTES // (8 * X.shape[1]), 1)
    for part in even_slices(len(places), n_block):
        images = X[image[part]].reshape(-1, *image_shape)
        if any(border):
            images = np.pad(images, ((0, 0), *margins, (0, 0)))
        windows = sliding_window_view(images, kernel_size, axis=(1, 2))
        drawn = windows[np.arange(len(images)), row[part], column[part]]
        patches[part] = np.moveaxis(drawn, 1, 3)
    return patches.reshape(len(patches), -1)


@dataclass
class Whitener:
    """Maps a patch to ``whitening @ (normalised patch - mean)``, and folds that into filters.

    A patch is scaled as all images are, by `center` and `scale`. Then its own mean is subtracted
    and it is divided by the root of its variance plus `contrast`, either of them if asked for.

    Attributes
    ----------
    center, scale : float
    removes_mean : bool
    contrast : float or None
    mean : ndarray of shape (patch_size,), or 0
    whitening : ndarray of shape (patch_size, patch_size) or None
        Symmetric (ZCA, Bell and Sejnowski, 1997); None for none.
    """

    center: float
    scale: float
    removes_mean: bool = False
    contrast: float | None = None
    mean: np.ndarray | float = 0.0
    whitening: np.ndarray | None = None

    @classmethod
    def fit(cls, patches, *, removes_mean, contrast, epsilon):
        """Return the `Whitener` of `patches`.

        To the variance of each principal component `epsilon` of their mean is added; None: no
        whitening.
        """
        center = float(patches.mean(dtype=np.float64))
        scale = float(patches.std(dtype=np.float64))
        scale = scale if scale > 1e-12 * max(abs(center), 1e-300) else 1.0
        whitener = cls(center, scale, removes_mean, contrast)
        if epsilon is None:
            return whitener
        normalised = whitener.normalise(patches)
        whitener.mean = normalised.mean(axis=0, dtype=np.float64)
        normalised -= whitener.mean.astype(patches.dtype)
        covariance = (normalised.T @ normalised).astype(np.float64) / len(normalised)
        values, vectors = np.linalg.eigh(covariance)
        variance = values.mean()
        if variance > 0:
            gains = 1 / np.sqrt(np.maximum(values, 0) + epsilon * variance)
            whitener.whitening = (vectors * gains) @ vectors.T
        return whitener

    def normalise(self, patches):
        """Return new patches, each scaled, without its mean and divided by its contrast."""
        patches = (patches - patches.dtype.type(self.center)) / patches.dtype.type(self.scale)
        if self.removes_mean:
            patches -= patches.mean(axis=1, keepdims=True)
        if self.contrast is not None:
            variance = np.var(patches, axis=1, keepdims=True)
            patches /= np.sqrt(variance + patches.dtype.type(self.contrast))
        return patches

    def transform(self, patches):
        """Return whitened patches."""
        patches = self.normalise(patches)
        patches -= np.asarray(self.mean, patches.dtype)
        return patches if self.whitening is None else patches @ self.whitening.astype(patches.dtype)

    def fold(self, atoms):
        """Return ``(filters, intercepts)`` whose responses to normalised patches are those of `atoms`.

        The atoms, shape (n, patch_size), respond to whitened patches; the filters are for patches
        from which no mean has been subtracted.
        """
        filters = atoms if self.whitening is None else atoms @ self.whitening
        intercepts = -(filters * self.mean).sum(axis=1)
        if self.removes_mean:
            filters = filters - filters.mean(axis=1, keepdims=True)
        return filters, intercepts
