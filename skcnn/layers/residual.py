"""Residual blocks."""

import numpy as np

from skcnn._engine.activations import ACTIVATIONS
from skcnn.layers._params import LayerParamsMixin
from skcnn.layers.activation import ACTIVATION_OPTIONS, apart
from skcnn.layers.base import Layer


class Residual(LayerParamsMixin, Layer):
    """Sum of an input and the output of layers applied to it (He, Zhang, Ren and Sun, 2016).

    Parameters
    ----------
    layers : tuple of Layer
        The layers of the block, which must keep the shape of the map.

    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh", "elu", "silu", \
            "gelu"}, default="relu"
        Activation of the sum.

    Examples
    --------
    >>> from skcnn.layers import BatchNorm, Conv, Residual
    >>> block = Residual((Conv(16), BatchNorm(), Conv(16, activation="identity")))
    >>> block.output_shape((8, 8, 16))
    (8, 8, 16)
    """

    _parameter_constraints: dict = {
        "layers": [tuple, list],
        "activation": ACTIVATION_OPTIONS,
    }

    def __init__(self, layers, *, activation="relu"):
        self.layers = layers
        self.activation = activation

    def validate(self):
        super().validate()
        for index, layer in enumerate(self.layers):
            if isinstance(layer, type) or not isinstance(layer, Layer):
                raise ValueError(f"layers[{index}] must be a layer. Got {layer!r} instead.")
            layer.validate()

    def output_shape(self, input_shape):
        shape = input_shape
        for layer in self.layers:
            shape = layer.output_shape(shape)
        if shape != input_shape:
            raise ValueError(
                f"layers must keep the shape of the map, {input_shape}. Got {shape} instead"
            )
        return shape

    def steps(self):
        fork = Fork()
        return [fork, *self.layers, Join(fork, self.activation)]


class Fork(Layer):
    """Keeps its input for a `Join`, and adds the gradients of both branches."""

    def flops(self, input_shape):
        return 0

    def forward(self, x, weights, work):
        work.shard.kept[self] = x
        return x

    def backward(self, dy, weights, grads, work):
        dy += work.shard.kept[self]
        return dy


class Join(Layer):
    """Adds the map that `fork` has kept, and applies an activation."""

    def __init__(self, fork, activation):
        self.fork = fork
        self.activation = activation

    def steps(self):
        return apart(self)

    def flops(self, input_shape):
        return int(np.prod(input_shape))

    def buffer_shapes(self, input_shape, n_images):
        rows, columns, channels = input_shape
        shape = (rows, channels, columns, n_images)
        return {"y": shape, "dskip": shape}

    def forward(self, x, weights, work):
        y = work["y"]
        np.add(x, work.shard.kept[self.fork], out=y)
        ACTIVATIONS[self.activation].forward(y, y)
        return y

    def backward(self, dy, weights, grads, work):
        ACTIVATIONS[self.activation].backward(dy, work["y"], dy)
        work.shard.kept[self.fork] = work["dskip"]
        np.copyto(work["dskip"], dy)
        return dy
