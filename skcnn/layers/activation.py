"""An activation as a layer of its own."""

import copy

from sklearn.utils._param_validation import StrOptions

from skcnn._engine.activations import ACTIVATIONS, has_own_step
from skcnn.layers.base import Layer

ACTIVATION_OPTIONS = [StrOptions(set(ACTIVATIONS))]


class Activation(Layer):
    """Apply an activation to each value of a map.

    `Conv` and `Dense` have an activation of their own; this one can stand anywhere.

    Parameters
    ----------
    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh", "elu", "silu", \
            "gelu"}, default="relu"
        "leaky_relu" has slope 0.01 below zero; "elu" falls to -1 (Clevert, Unterthiner and
        Hochreiter, 2016); "silu" is x times its logistic function, "gelu" x times the normal
        distribution function of x (Hendrycks and Gimpel, 2016).

    Examples
    --------
    >>> from skcnn.layers import Activation, Conv
    >>> layers = (Conv(8, activation="identity"), Activation("tanh"))
    """

    _parameter_constraints: dict = {"activation": ACTIVATION_OPTIONS}

    def __init__(self, activation="relu"):
        self.activation = activation

    def buffer_shapes(self, input_shape, n_images):
        rows, columns, channels = input_shape
        return {"y": (rows, channels, columns, n_images)}

    def forward(self, x, weights, work):
        ACTIVATIONS[self.activation].forward(x, work["y"])
        work["seen"] = x if has_own_step(self.activation) else work["y"]
        return work["y"]

    def backward(self, dy, weights, grads, work):
        ACTIVATIONS[self.activation].backward(dy, work["seen"], dy)
        return dy


def apart(layer):
    """Return the steps that do what a layer does, its activation on its own if it must be."""
    if not has_own_step(layer.activation):
        return [layer]
    inner = copy.copy(layer)
    inner.activation = "identity"
    return [inner, Activation(layer.activation)]
