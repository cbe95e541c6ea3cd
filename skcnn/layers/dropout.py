"""The dropout layer."""

from numbers import Real
from typing import ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skcnn._engine.buffers import Mask, Scratch
from skcnn.layers.base import Arrays, Layer, Shape, Workspace


class Dropout(Layer):
    """Set a random share of the values to 0 in training, and scale up the others.

    In prediction the layer does nothing (Srivastava et al., 2014).

    Parameters
    ----------
    rate : float, default=0.5
        Share of the values to set to 0, below 1.

    Examples
    --------
    >>> from skcnn.layers import Conv, Dense, Dropout, MaxPool
    >>> layers = (Conv(16), MaxPool(), Dropout(0.25), Dense(64), Dropout())
    """

    _parameter_constraints: ClassVar[dict] = {"rate": [Interval(Real, 0, 1, closed="left")]}

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = rate

    def buffer_shapes(self, input_shape: Shape, n_images: int) -> dict[str, Shape]:
        rows, columns, channels = input_shape
        shape = (rows, channels, columns, n_images)
        return {"random": Scratch(shape), "kept": Mask(shape), "y": shape}

    def forward(self, x: np.ndarray, weights: Arrays, work: Workspace) -> np.ndarray:
        if not (work.learning and work.shard.is_random and self.rate):
            return x
        random, kept, y = work["random"], work["kept"], work["y"]
        work.shard.random.random(out=random, dtype=work.dtype)
        np.greater_equal(random, self.rate, out=kept)
        np.multiply(x, kept, out=y)
        y *= 1 / (1 - self.rate)
        return y

    def backward(
        self, dy: np.ndarray, weights: Arrays, grads: Arrays, work: Workspace
    ) -> np.ndarray | None:
        if self.rate:
            dy *= work["kept"]
            dy *= 1 / (1 - self.rate)
        return dy
