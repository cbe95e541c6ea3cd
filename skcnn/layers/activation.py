"""An activation as a layer of its own."""

from sklearn.utils._param_validation import StrOptions

from skcnn._engine.activations import ACTIVATIONS
from skcnn.layers.base import Layer

ACTIVATION_OPTIONS = [StrOptions(set(ACTIVATIONS))]


class Activation(Layer):
    """Apply an activation to each value of a map.

    `Conv` and `Dense` have an activation of their own; this one can stand anywhere.

    Parameters
    ----------
    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh"}, default="relu"
        "leaky_relu" has slope 0.01 below zero.

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
        return work["y"]

    def backward(self, dy, weights, grads, work):
        ACTIVATIONS[self.activation].backward(dy, work["y"], dy)
        return dy
