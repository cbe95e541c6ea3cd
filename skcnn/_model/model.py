"""A network with its weights, and how images enter it: all that a prediction needs."""

from dataclasses import dataclass, replace

import numpy as np

from skcnn._data.images import Images
from skcnn._model.forward import predict_outputs
from skcnn._model.network import Network


@dataclass(frozen=True)
class Model:
    """A network, its weights, and the statistics by which images are standardised.

    Attributes
    ----------
    network : Network
    weights : ndarray of shape (n_weights,)
    center, scale : ndarray of shape (channels,)
        Subtracted from the values of each channel, and divided by.
    """

    network: Network
    weights: np.ndarray
    center: np.ndarray
    scale: np.ndarray

    @property
    def image_shape(self):
        """Rows, columns and channels of the images."""
        return self.network.image_shape

    def with_weights(self, weights):
        """Return the same model with other weights."""
        return replace(self, weights=weights)

    def images(self, X, dtype=None, checked_for=None):
        """Return checked images, shape (n_images, n_features), ready to enter the network.

        Parameters
        ----------
        X : ndarray of shape (n_images, n_features)
        dtype : numpy dtype, default=None
            Float type to compute in; None means that of the weights.
        checked_for : str, default=None
            Name of an estimator if X may hold values that are not finite; see `Images`.
        """
        dtype = self.weights.dtype if dtype is None else dtype
        return Images(X, self.image_shape, self.center, self.scale, dtype, checked_for)

    def outputs(self, images, n_jobs):
        """Return the outputs for `Images`, shape (n_images, channels, rows, columns)."""
        weights = self.weights.astype(images.dtype, copy=False)
        return predict_outputs(self.network, weights, images, n_jobs)

    def public_weights(self):
        """Return ``(coefs, intercepts)``: lists of views, in the order users see."""
        return self.network.public_weights(self.weights)

    def running_statistics(self):
        """Return ``(means, variances)`` of the BatchNorm layers: lists of views."""
        return self.network.running_statistics(self.weights)
