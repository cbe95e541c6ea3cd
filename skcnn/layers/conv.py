"""The convolutional layer."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils._param_validation import StrOptions

from skcnn._engine.activations import ACTIVATIONS
from skcnn._engine.epilogue import PlainSink, PlainSource
from skcnn._engine.geometry import pair
from skcnn._engine.kernels import kernel_for
from skcnn._engine.plan import ConvPlan, plan_convolution
from skcnn.layers.activation import ACTIVATION_OPTIONS, apart
from skcnn.layers.base import (
    NOT_NEGATIVE,
    POSITIVE,
    Arrays,
    Layer,
    Shape,
    Workspace,
    check_map_shape,
    spread,
)


class Conv(Layer):
    """Convolution of a map with learned filters (cross-correlation, as everywhere in the field).

    The output has ``floor((n + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1``
    rows and columns.

    Parameters
    ----------
    filters : int
        Number of filters, that is of output channels.

    kernel_size : int or (int, int), default=3
        Rows and columns of a filter.

    stride : int or (int, int), default=1
        Step of the filter, in pixels.

    padding : {"valid", "same"}, int or (int, int), default="same"
        Zeros around the map: none, as many as keep its size (at stride 1), or a number on each
        side of rows and columns.

    dilation : int or (int, int), default=1
        Distance in pixels between neighbouring taps of a filter.

    groups : int, default=1
        The channels and the filters are cut into so many groups that do not see each other; equal
        to the number of channels for a depthwise convolution. Must divide both.

    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh", "elu", "silu", \
            "gelu"}, default="relu"

    init : array-like of shape (filters, kernel rows, kernel columns, channels of a group), \
            default=None
        Filters to start training from, those of a fitted `ConvFeatureExtractor` for example; they
        meet the images as `standardize` leaves them. None means random ones.

    Examples
    --------
    >>> from skcnn.layers import Conv
    >>> Conv(16, 5, stride=2, padding=2).output_shape((28, 28, 1))
    (14, 14, 16)
    """

    _parameter_constraints: ClassVar[dict] = {
        "filters": [POSITIVE],
        "kernel_size": [POSITIVE, tuple, list],
        "stride": [POSITIVE, tuple, list],
        "padding": [StrOptions({"valid", "same"}), NOT_NEGATIVE, tuple, list],
        "dilation": [POSITIVE, tuple, list],
        "groups": [POSITIVE],
        "activation": ACTIVATION_OPTIONS,
        "init": [None, "array-like"],
    }

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int] = 3,
        *,
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = "same",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        activation: str = "relu",
        init: ArrayLike | None = None,
    ) -> None:
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.activation = activation
        self.init = init

    def plan(self, input_shape: Shape) -> ConvPlan:
        """Return the `ConvPlan` of one group on a map of `input_shape`."""
        return plan_convolution(
            input_shape,
            int(self.filters),
            pair(self.kernel_size),
            pair(self.stride),
            pair(self.dilation),
            self.padding if isinstance(self.padding, str) else pair(self.padding),
            int(self.groups),
        )

    def kernel(self, input_shape: Shape) -> Any:
        """Return the kernel that computes this layer on a map of `input_shape`."""
        return kernel_for(self.plan(input_shape))

    def validate(self) -> None:
        super().validate()
        check_pair("kernel_size", self.kernel_size, 1)
        check_pair("stride", self.stride, 1)
        check_pair("dilation", self.dilation, 1)
        check_pair("padding", self.padding, 0)
        if self.init is not None:
            try:
                check_array(self.init, ensure_2d=False, allow_nd=True, input_name="init")
            except (TypeError, ValueError) as error:
                if "init" in str(error):
                    raise
                raise ValueError(f"init must be an array of finite numbers. {error}") from None

    def output_shape(self, input_shape: Shape) -> Shape:
        check_map_shape(input_shape)
        for name, value in (("channels", input_shape[2]), ("filters", self.filters)):
            if value % self.groups:
                raise ValueError(
                    f"groups={self.groups} must divide the number of {name}. Got {value} {name} instead."
                )
        plan = self.plan(input_shape)
        if plan.rows.n_out < 1 or plan.columns.n_out < 1:
            rows, columns, _ = input_shape
            dilated = "" if self.dilation == 1 else f"dilation={self.dilation!r}, "
            raise ValueError(
                f"kernel_size={(plan.rows.size, plan.columns.size)} exceeds its {rows}x{columns} "
                f"input ({dilated}padding={self.padding!r}). Use padding='same', a smaller "
                "kernel_size, less pooling before it, or larger images."
            )
        return (plan.rows.n_out, plan.columns.n_out, self.filters)

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        plan = self.plan(input_shape)
        rows, columns = plan.rows.size, plan.columns.size
        shape = (self.filters, rows, columns, plan.channels)
        if self.init is not None and np.shape(self.init) != shape:
            raise ValueError(f"init must have shape {shape}. Got {np.shape(self.init)} instead")
        return {
            "coef": (self.filters, rows, plan.channels, columns),
            "intercept": (self.filters,),
        }

    def buffer_shapes(self, input_shape: Shape, n_images: int) -> dict[str, Shape]:
        rows, columns, filters = self.output_shape(input_shape)
        return {
            **self.kernel(input_shape).buffer_shapes(n_images),
            "y": (rows, filters, columns, n_images),
            "dx": (input_shape[0], input_shape[2], input_shape[1], n_images),
        }

    def steps(self) -> list[Layer]:
        return apart(self)

    def initial_weights(self, input_shape: Shape, random_state: np.random.RandomState) -> Arrays:
        shapes = self.weight_shapes(input_shape)
        filters, rows, channels, columns = shapes["coef"]
        field = rows * columns
        scale = spread(self.activation, channels * field, filters // self.groups * field)
        coef = random_state.normal(0, scale, shapes["coef"])
        if self.init is not None:
            self.public_coef(coef)[...] = self.init
        return {"coef": coef, "intercept": np.zeros(shapes["intercept"])}

    def public_coef(self, coef: np.ndarray) -> np.ndarray:
        """Return `coef` as (filters, kernel rows, kernel columns, channels)."""
        return coef.transpose(0, 1, 3, 2)

    def forward(self, x: np.ndarray, weights: Arrays, work: Workspace) -> np.ndarray:
        kernel = work.once("kernel", self.kernel)
        work["x"] = x
        activate = ACTIVATIONS[self.activation].forward
        sink = PlainSink(work["y"], weights["intercept"], activate)
        kernel.forward(x, weights["coef"], work, sink)
        return work["y"]

    def backward(
        self, dy: np.ndarray, weights: Arrays, grads: Arrays, work: Workspace
    ) -> np.ndarray | None:
        kernel = work.once("kernel", self.kernel)
        grads["intercept"].fill(0)
        source = PlainSource(dy, work["y"], ACTIVATIONS[self.activation], grads["intercept"])
        return kernel.backward(work["x"], weights["coef"], work, source, grads["coef"])


def check_pair(name: str, value: Any, least: int) -> None:
    """Raise a `ValueError` unless `value` is one number or a pair of at least `least`."""
    if not isinstance(value, tuple | list):
        return
    whole = all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in value)
    if len(value) != 2 or not whole or min(value) < least:
        raise ValueError(
            f"{name} must be an int or a pair of ints, (rows, columns), of at least {least}. "
            f"Got {value!r} instead."
        )
