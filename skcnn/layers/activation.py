"""The activation layer."""

import copy
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import StrOptions

from skcnn._engine.activations import ACTIVATIONS, has_own_step
from skcnn.layers.base import Arrays, Layer, Shape, Workspace

ACTIVATION_OPTIONS = [StrOptions(set(ACTIVATIONS))]


class Activation(Layer):
    """Apply an activation function to each value of a map.

    `Conv` and `Dense` include an activation; this layer applies one anywhere else.

    Parameters
    ----------
    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh", "elu", "silu", \
            "gelu"}, default="relu"
        "leaky_relu" has slope 0.01 below zero. "elu" approaches -1 below zero (Clevert, Unterthiner
        and Hochreiter, 2016). "silu" is x times the logistic function of x, and "gelu" is x times
        the normal distribution function of x (Hendrycks and Gimpel, 2016).

    Examples
    --------
    >>> from skcnn.layers import Activation, Conv
    >>> layers = (Conv(8, activation="identity"), Activation("tanh"))
    """

    _parameter_constraints: ClassVar[dict] = {"activation": ACTIVATION_OPTIONS}

    def __init__(self, activation: str = "relu") -> None:
        self.activation = activation

    def buffer_shapes(self, input_shape: Shape, n_images: int) -> dict[str, Shape]:
        rows, columns, channels = input_shape
        return {"y": (rows, channels, columns, n_images)}

    def forward(self, x: np.ndarray, weights: Arrays, work: Workspace) -> np.ndarray:
        ACTIVATIONS[self.activation].forward(x, work["y"])
        work["seen"] = x if has_own_step(self.activation) else work["y"]
        return work["y"]

    def backward(
        self, dy: np.ndarray, weights: Arrays, grads: Arrays, work: Workspace
    ) -> np.ndarray | None:
        ACTIVATIONS[self.activation].backward(dy, work["seen"], dy)
        return dy


def apart(layer: Any) -> list[Layer]:
    """Return the steps that compute a layer, with its activation as a step of its own if needed."""
    if not has_own_step(layer.activation):
        return [layer]
    inner = copy.copy(layer)
    inner.activation = "identity"
    return [inner, Activation(layer.activation)]
