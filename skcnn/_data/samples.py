"""Everything known about the data of a fit, as one thing."""

from dataclasses import dataclass, replace

import numpy as np

from skcnn._data import images as checks
from skcnn._data.held_out import HeldOut, split
from skcnn._data.targets import Targets


@dataclass(frozen=True)
class Samples:
    """Checked images and targets, and which of them are trained on.

    Attributes
    ----------
    X : ndarray of shape (n_images, n_features)
        Images in their own dtype.
    image_shape : (int, int, int)
        Rows, columns and channels.
    y : array-like
        Targets as the user gave them.
    targets : Targets
    weights : ndarray of shape (n_images,)
        Weights in the loss, in the float type of the computation.
    train_index : ndarray of int
        The images to train on.
    held_out : HeldOut or None
    """

    X: np.ndarray
    image_shape: tuple
    y: object
    targets: Targets
    weights: np.ndarray
    train_index: np.ndarray
    held_out: HeldOut | None = None

    def split(self, fraction, seed):
        """Return the samples with a share of them held out."""
        train_index, index = split(self.targets, self.weights, fraction, seed)
        held_out = HeldOut(self.X, index, self.y, self.targets.values, self.weights)
        return replace(self, train_index=train_index, held_out=held_out)

    def with_validation(self, X, y, targets):
        """Return the samples with others held out: checked images and their targets."""
        ones = np.ones(len(X), self.weights.dtype)
        held_out = HeldOut(X, np.arange(len(X)), y, targets.values, ones)
        return replace(self, held_out=held_out)

    def train_weights(self):
        """Return the weights of the samples, 0 for those that are not trained on."""
        weights = np.zeros_like(self.weights)
        weights[self.train_index] = self.weights[self.train_index]
        return weights

    def channel_statistics(self):
        """Return mean and standard deviation of each channel of the images to train on."""
        is_plain = np.ptp(self.weights) == 0 and len(self.train_index) == len(self.X)
        weights = None if is_plain else self.train_weights()
        return checks.channel_statistics(self.X, self.image_shape, weights)


def check_validation_images(X, image_shape, estimator):
    """Return images to validate on as a checked 2-D array of images of the right shape."""
    X, own_shape = checks.check_images(X, estimator)
    if own_shape not in (None, image_shape) or X.shape[1] != np.prod(image_shape):
        raise ValueError(
            f"X_val must hold images of the shape of those in X, {image_shape}. "
            f"Got {own_shape or X.shape[1:]} instead."
        )
    return X
