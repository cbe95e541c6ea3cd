"""Residual blocks."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from skcnn._engine.activations import ACTIVATIONS
from skcnn.layers._params import LayerParamsMixin
from skcnn.layers.activation import ACTIVATION_OPTIONS, apart
from skcnn.layers.base import Arrays, Layer, Shape, Workspace


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

    _parameter_constraints: ClassVar[dict] = {
        "layers": [tuple, list],
        "activation": ACTIVATION_OPTIONS,
    }

    def __init__(self, layers: Sequence[Layer], *, activation: str = "relu") -> None:
        self.layers = layers
        self.activation = activation

    def validate(self) -> None:
        super().validate()
        for index, layer in enumerate(self.layers):
            if isinstance(layer, type) or not isinstance(layer, Layer):
                raise ValueError(f"layers[{index}] must be a layer. Got {layer!r} instead.")
            layer.validate()

    def output_shape(self, input_shape: Shape) -> Shape:
        shape = input_shape
        for layer in self.layers:
            shape = layer.output_shape(shape)
        if shape != input_shape:
            raise ValueError(
                f"layers must keep the shape of the map, {input_shape}. Got {shape} instead"
            )
        return shape

    def steps(self) -> list[Layer]:
        branch = Branch()
        return [branch, *self.layers, Merge(branch, self.activation)]


class Branch(Layer):
    """Keeps its input for a `Merge`, and adds the gradients of both branches."""

    def flops(self, input_shape: Shape) -> int:
        return 0

    def forward(self, x: np.ndarray, weights: Arrays, work: Workspace) -> np.ndarray:
        work.shard.kept[self] = x
        return x

    def backward(
        self, dy: np.ndarray, weights: Arrays, grads: Arrays, work: Workspace
    ) -> np.ndarray | None:
        dy += work.shard.kept[self]
        return dy


class Merge(Layer):
    """Adds the map that `branch` has kept, and applies an activation."""

    def __init__(self, branch: Branch, activation: str) -> None:
        self.branch = branch
        self.activation = activation

    def steps(self) -> list[Layer]:
        return apart(self)

    def flops(self, input_shape: Shape) -> int:
        return int(np.prod(input_shape))

    def buffer_shapes(self, input_shape: Shape, n_images: int) -> dict[str, Shape]:
        rows, columns, channels = input_shape
        shape = (rows, channels, columns, n_images)
        return {"y": shape, "dskip": shape}

    def forward(self, x: np.ndarray, weights: Arrays, work: Workspace) -> np.ndarray:
        y = work["y"]
        np.add(x, work.shard.kept[self.branch], out=y)
        ACTIVATIONS[self.activation].forward(y, y)
        return y

    def backward(
        self, dy: np.ndarray, weights: Arrays, grads: Arrays, work: Workspace
    ) -> np.ndarray | None:
        ACTIVATIONS[self.activation].backward(dy, work["y"], dy)
        work.shard.kept[self.branch] = work["dskip"]
        np.copyto(work["dskip"], dy)
        return dy
