"""The fully connected layer."""

from typing import ClassVar

import numpy as np

from skcnn._engine.activations import ACTIVATIONS
from skcnn._engine.blocks import FEW_UNITS, PREPARED_PARTS
from skcnn._engine.buffers import Scratch
from skcnn._engine.products import deep_shape, multiply_deep, multiply_high
from skcnn.layers.activation import ACTIVATION_OPTIONS, apart
from skcnn.layers.base import (
    POSITIVE,
    Arrays,
    Layer,
    Shape,
    Workspace,
    check_map_shape,
    spread,
)


def _copy_in_map_order(coef: np.ndarray, out: np.ndarray) -> None:
    """Copy `coef`, ordered by channel, row, column, to `out` (rows, channels, columns, units)."""
    rows, channels, columns, units = out.shape
    by_filter = coef.reshape(channels, rows, columns, units)
    np.copyto(out, by_filter.transpose(1, 0, 2, 3))


class Dense(Layer):
    """Fully connected layer.

    A map is flattened in the order (channel, row, column). The output is a map of one row and one
    column, with a channel for each unit.

    Parameters
    ----------
    units : int
        Number of outputs.

    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh", "elu", "silu", \
            "gelu"}, default="relu"
        Activation of the outputs.

    Examples
    --------
    >>> from skcnn.layers import Dense
    >>> Dense(10).output_shape((4, 4, 3))
    (1, 1, 10)
    >>> Dense(10).weight_shapes((4, 4, 3))
    {'coef': (48, 10), 'intercept': (10,)}
    """

    _parameter_constraints: ClassVar[dict] = {"units": [POSITIVE], "activation": ACTIVATION_OPTIONS}

    def __init__(self, units: int, *, activation: str = "relu") -> None:
        self.units = units
        self.activation = activation

    def output_shape(self, input_shape: Shape) -> Shape:
        check_map_shape(input_shape)
        return (1, 1, int(self.units))

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"coef": (int(np.prod(input_shape)), self.units), "intercept": (self.units,)}

    def buffer_shapes(self, input_shape: Shape, n_images: int) -> dict[str, Shape]:
        rows, columns, channels = input_shape
        return {
            "flat": (channels, rows, columns, n_images),
            "coef": (rows, channels, columns, self.units),
            "y": (1, self.units, 1, n_images),
            "parts": Scratch(deep_shape(rows * columns * channels, self.units, n_images)),
            "dcoef": Scratch((rows, channels, columns, self.units)),
            "dflat": Scratch((channels, rows, columns, n_images)),
            "dx": (rows, channels, columns, n_images),
        }

    def steps(self) -> list[Layer]:
        return apart(self)

    def initial_weights(self, input_shape: Shape, random_state: np.random.RandomState) -> Arrays:
        n_in = int(np.prod(input_shape))
        coef = random_state.normal(0, spread(self.activation, n_in, self.units), (n_in, self.units))
        return {"coef": coef, "intercept": np.zeros(self.units)}

    def _matrices(
        self, x: np.ndarray, coef: np.ndarray, work: Workspace
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the map and the coefficients as two matrices with the same order of inputs.

        The smaller of the two is copied into the order of the other.
        """
        n_images = x.shape[3]
        n_copied = self.units // PREPARED_PARTS if work.shard.weights_stay else self.units
        if len(x) > 1 and n_images < n_copied:
            np.copyto(work["flat"], x.transpose(1, 0, 2, 3))
            x = work["flat"]
        elif len(x) > 1:
            coef = work.prepare("coef", _copy_in_map_order, coef)
        return x.reshape(-1, n_images), coef.reshape(-1, self.units)

    def forward(self, x: np.ndarray, weights: Arrays, work: Workspace) -> np.ndarray:
        work["matrices"] = x, coef = self._matrices(x, weights["coef"], work)
        y = work["y"].reshape(self.units, -1)
        multiply_deep(coef, x, work["parts"], y)
        y += weights["intercept"][:, None]
        ACTIVATIONS[self.activation].forward(y, y)
        return work["y"]

    def backward(
        self, dy: np.ndarray, weights: Arrays, grads: Arrays, work: Workspace
    ) -> np.ndarray | None:
        ACTIVATIONS[self.activation].backward(dy, work["y"], dy)
        dz = dy.reshape(self.units, -1)
        np.sum(dz, axis=1, out=grads["intercept"])
        x, coef = work["matrices"]
        in_map_order = "coef" in work
        dcoef = work["dcoef"].reshape(coef.shape) if in_map_order else grads["coef"]
        if self.units < FEW_UNITS:
            multiply_high(x, np.ascontiguousarray(dz.T), dcoef)
        else:
            np.matmul(x, dz.T, out=dcoef)
        if in_map_order:
            by_filter = work["dcoef"].transpose(1, 0, 2, 3)
            np.copyto(grads["coef"].reshape(by_filter.shape), by_filter)
        if not work.needs_dx:
            return None
        if in_map_order or len(work["dx"]) == 1:
            multiply_high(coef, dz, work["dx"].reshape(x.shape))
        else:
            multiply_high(coef, dz, work["dflat"].reshape(x.shape))
            np.copyto(work["dx"], work["dflat"].transpose(1, 0, 2, 3))
        return work["dx"]
