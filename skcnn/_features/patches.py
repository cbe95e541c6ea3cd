"""Patches of images: sampling, normalisation and whitening, also folded into filters."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from skcnn._engine.blocks import STATISTICS_BYTES, even_slices


def draw_patches(X, image_shape, kernel_size, n_patches, random_state, dtype):
    """Return patches from random positions in random images, one in each row.

    Images smaller than the kernel get a border of zeros. If there are no more than `n_patches`
    positions in all images, each of them is taken once.

    Parameters
    ----------
    X : ndarray of shape (n_images, n_features)
        Images; a memory map is possible, of which only the sampled images are read, some at a time.
    image_shape : (int, int, int)
        Rows, columns and channels of an image.
    kernel_size : (int, int)
        Rows and columns of a patch.
    n_patches : int
        Largest number of patches.
    random_state : RandomState
    dtype : numpy dtype
        Data type of the patches.

    Returns
    -------
    patches : ndarray of shape (n_patches, rows * columns * channels)
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
    """Maps a patch to ``whitening @ (normalised patch - mean)``, and folds this map into filters.

    To normalise a patch, `center` is subtracted and the result divided by `scale`. Optionally, the
    mean of the patch is then subtracted, and the patch divided by the root of its variance plus
    `contrast`.

    Attributes
    ----------
    center, scale : float
        Mean and standard deviation of all values of the patches in `fit`.
    removes_mean : bool
        Whether the mean of each patch is subtracted.
    contrast : float or None
        Number added to the variance of a patch; None means no division by the contrast.
    mean : ndarray of shape (patch_size,), or 0
        Mean of the normalised patches.
    whitening : ndarray of shape (patch_size, patch_size) or None
        Symmetric whitening matrix (ZCA, Bell and Sejnowski, 1997); None means no whitening.
    """

    center: float
    scale: float
    removes_mean: bool = False
    contrast: float | None = None
    mean: np.ndarray | float = 0.0
    whitening: np.ndarray | None = None

    @classmethod
    def fit(cls, patches, *, removes_mean, contrast, epsilon):
        """Return a `Whitener` fitted to `patches`.

        To regularise the whitening, `epsilon` times the mean variance of the principal components
        is added to the variance of each; None means no whitening.
        """
        center = float(patches.mean(dtype=np.float64))
        scale = float(patches.std(dtype=np.float64))
        scale = scale if scale > 1e-12 * max(abs(center), 1e-300) else 1.0
        smallest = np.finfo(patches.dtype).tiny
        if scale < smallest:  # images could not be divided by it
            raise ValueError(
                f"X must have a standard deviation of at least {smallest:.2g}, the smallest normal "
                f"number of its float type. Got {scale:.2g} instead: scale the images."
            )
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
        """Return a copy of the patches, scaled, centred and divided by their contrasts."""
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
        """Return ``(filters, intercepts)`` with the responses of `atoms` to whitened patches.

        The atoms have shape (n, patch_size). The filters take patches that are scaled and divided
        by their contrast, but not yet whitened; subtracting a patch's mean is part of the filters.
        """
        filters = atoms if self.whitening is None else atoms @ self.whitening
        intercepts = -(filters * self.mean).sum(axis=1)
        if self.removes_mean:
            filters = filters - filters.mean(axis=1, keepdims=True)
        return filters, intercepts
