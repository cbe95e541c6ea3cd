"""Batch normalisation."""

from numbers import Real
from typing import ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skcnn._engine.buffers import Scratch
from skcnn.layers.base import Arrays, Layer, Shape, Workspace


class BatchNorm(Layer):
    """Standardise each channel over a batch, then scale and shift it (Ioffe and Szegedy, 2015).

    In training, the mean and the variance are weighted by `sample_weight` and taken over a shard of
    the batch: at least 16 images if maps are large, the whole batch if they are small ("ghost
    batches", Hoffer, Hubara and Soudry, 2017). The shards depend on the network and the batch,
    never on `n_jobs`. In prediction, the mean and the variance over some of the training images take
    their place: they are measured with the weights as they are at the end of `fit`, and before each
    validation score (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021). The scale and the
    shift are the layer's entries in ``coefs_`` and ``intercepts_``.

    Parameters
    ----------
    momentum : float, default=0.1
        Least weight of what a call of `partial_fit` has measured in the running statistics. The
        weight is larger for the first 256 images, and the more images a call has.

    epsilon : float, default=1e-5
        Number added to the variance before its root is taken.

    Examples
    --------
    >>> from skcnn.layers import Activation, BatchNorm, Conv, MaxPool
    >>> layers = (Conv(16, activation="identity"), BatchNorm(), Activation("relu"), MaxPool())
    """

    _parameter_constraints: ClassVar[dict] = {
        "momentum": [Interval(Real, 0, 1, closed="right")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        self.momentum = momentum
        self.epsilon = epsilon

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return dict.fromkeys(("coef", "intercept", "mean", "variance"), (input_shape[2],))

    def flops(self, input_shape: Shape) -> int:
        return 2 * int(np.prod(input_shape))

    def buffer_shapes(self, input_shape: Shape, n_images: int) -> dict[str, Shape]:
        rows, columns, channels = input_shape
        shape = (rows, channels, columns, n_images)
        return {"y": shape, "centred": shape, "scratch": Scratch(shape)}

    def initial_weights(self, input_shape: Shape, random_state: np.random.RandomState) -> Arrays:
        ones, zeros = np.ones(input_shape[2]), np.zeros(input_shape[2])
        return {"coef": ones, "intercept": zeros, "mean": zeros, "variance": ones}

    def forward(self, x: np.ndarray, weights: Arrays, work: Workspace) -> np.ndarray:
        y = work["y"]
        if not work.learning:
            slope = weights["coef"] / np.sqrt(weights["variance"] + self.epsilon)
            np.multiply(x, slope[:, None, None], out=y)
            y += (weights["intercept"] - weights["mean"] * slope)[:, None, None]
            return y
        centred, scratch = work["centred"], work["scratch"]
        share = work.shard.weights / max(work.shard.weights.sum(), np.finfo(work.dtype).tiny)
        share = (share / (x.shape[0] * x.shape[2])).astype(work.dtype)
        mean = (x @ share).sum(axis=(0, 2))
        np.subtract(x, mean[:, None, None], out=centred)
        np.multiply(centred, centred, out=scratch)
        variance = (scratch @ share).sum(axis=(0, 2))
        slope = 1 / np.sqrt(variance + work.dtype.type(self.epsilon))
        centred *= slope[:, None, None]
        np.multiply(centred, weights["coef"][:, None, None], out=y)
        y += weights["intercept"][:, None, None]
        work["mean"], work["variance"], work["found"] = mean, variance, (share, slope)
        return y

    def backward(
        self, dy: np.ndarray, weights: Arrays, grads: Arrays, work: Workspace
    ) -> np.ndarray | None:
        share, slope = work["found"]
        normalised, scratch = work["centred"], work["scratch"]
        np.sum(dy, axis=(0, 2, 3), out=grads["intercept"])
        np.multiply(dy, normalised, out=scratch)
        np.sum(scratch, axis=(0, 2, 3), out=grads["coef"])
        # the mean and the variance depend on each image in proportion to its share
        np.multiply(normalised, grads["coef"][:, None, None], out=scratch)
        scratch += grads["intercept"][:, None, None]
        scratch *= share
        dy -= scratch
        dy *= (weights["coef"] * slope)[:, None, None]
        return dy
