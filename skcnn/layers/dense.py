"""The fully connected layer."""

import numpy as np

from skcnn._engine.activations import ACTIVATIONS
from skcnn._engine.blocks import FEW_UNITS
from skcnn._engine.memory import Scratch
from skcnn._engine.products import deep_shape, multiply_deep, multiply_high
from skcnn.layers.activation import ACTIVATION_OPTIONS, apart
from skcnn.layers.base import POSITIVE, Layer, spread


class Dense(Layer):
    """Fully connected layer.

    A map is flattened filter by filter (filter, row, column). The output is a map of one row and
    one column, its channels the units.

    Parameters
    ----------
    units : int
        Number of outputs.

    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh", "elu", "silu", \
            "gelu"}, default="relu"

    Examples
    --------
    >>> from skcnn.layers import Dense
    >>> Dense(10).output_shape((4, 4, 3))
    (1, 1, 10)
    >>> Dense(10).weight_shapes((4, 4, 3))
    {'coef': (48, 10), 'intercept': (10,)}
    """

    _parameter_constraints: dict = {"units": [POSITIVE], "activation": ACTIVATION_OPTIONS}

    def __init__(self, units, *, activation="relu"):
        self.units = units
        self.activation = activation

    def output_shape(self, input_shape):
        return (1, 1, self.units)

    def weight_shapes(self, input_shape):
        return {"coef": (int(np.prod(input_shape)), self.units), "intercept": (self.units,)}

    def buffer_shapes(self, input_shape, n_images):
        rows, columns, channels = input_shape
        return {
            "flat": (channels, rows, columns, n_images),
            "y": (1, self.units, 1, n_images),
            "parts": Scratch(deep_shape(rows * columns * channels, self.units, n_images)),
            "dflat": (channels, rows, columns, n_images),
            "dx": (rows, channels, columns, n_images),
        }

    def steps(self):
        return apart(self)

    def initial_weights(self, input_shape, random_state):
        n_in = int(np.prod(input_shape))
        coef = random_state.normal(0, spread(self.activation, n_in, self.units), (n_in, self.units))
        return {"coef": coef, "intercept": np.zeros(self.units)}

    def forward(self, x, weights, work):
        n_images = x.shape[3]
        if len(x) > 1:
            np.copyto(work["flat"], x.transpose(1, 0, 2, 3))
            x = work["flat"]
        work["x"] = x.reshape(-1, n_images)
        y = work["y"].reshape(self.units, n_images)
        multiply_deep(weights["coef"], work["x"], work["parts"], y)
        y += weights["intercept"][:, None]
        ACTIVATIONS[self.activation].forward(y, y)
        return work["y"]

    def backward(self, dy, weights, grads, work):
        ACTIVATIONS[self.activation].backward(dy, work["y"], dy)
        dz = dy.reshape(self.units, -1)
        if self.units < FEW_UNITS:
            multiply_high(work["x"], np.ascontiguousarray(dz.T), grads["coef"])
        else:
            np.matmul(work["x"], dz.T, out=grads["coef"])
        np.sum(dz, axis=1, out=grads["intercept"])
        if not work.needs_dx:
            return None
        dflat = work["dflat"]
        multiply_high(weights["coef"], dz, dflat.reshape(work["x"].shape))
        if dflat.shape[1] == 1:
            return dflat.transpose(1, 0, 2, 3)
        np.copyto(work["dx"], dflat.transpose(1, 0, 2, 3))
        return work["dx"]
