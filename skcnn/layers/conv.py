"""The convolutional layer."""

from functools import cache

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._param_validation import StrOptions

from skcnn._engine import convolution, depthwise, epilogue, winograd
from skcnn._engine.activations import ACTIVATIONS
from skcnn._engine.geometry import pair
from skcnn._workers.memory import Scratch
from skcnn.layers.activation import ACTIVATION_OPTIONS, apart
from skcnn.layers.base import NOT_NEGATIVE, POSITIVE, Layer, spread


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

    _parameter_constraints: dict = {
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
        filters,
        kernel_size=3,
        *,
        stride=1,
        padding="same",
        dilation=1,
        groups=1,
        activation="relu",
        init=None,
    ):
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.activation = activation
        self.init = init

    def plan(self, input_shape):
        """Return the `ConvPlan` of one group on a map of `input_shape`."""
        return convolution.plan_convolution(
            input_shape,
            self.filters,
            pair(self.kernel_size),
            pair(self.stride),
            pair(self.dilation),
            self.padding if isinstance(self.padding, str) else pair(self.padding),
            self.groups,
        )

    def validate(self):
        super().validate()
        check_pair("kernel_size", self.kernel_size, 1)
        check_pair("stride", self.stride, 1)
        check_pair("dilation", self.dilation, 1)
        check_pair("padding", self.padding, 0)
        if self.init is not None:
            check_array(self.init, ensure_2d=False, allow_nd=True, input_name="init")

    def output_shape(self, input_shape):
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

    def weight_shapes(self, input_shape):
        plan = self.plan(input_shape)
        rows, columns = plan.rows.size, plan.columns.size
        told = (self.filters, rows, columns, plan.channels)
        if self.init is not None and np.shape(self.init) != told:
            raise ValueError(f"init must have shape {told}. Got {np.shape(self.init)} instead")
        return {
            "coef": (self.filters, rows, plan.channels, columns),
            "intercept": (self.filters,),
        }

    def buffer_shapes(self, input_shape, n_images):
        plan = self.plan(input_shape)
        rows, columns, filters = self.output_shape(input_shape)
        shapes = kernel_shapes(plan, n_images)
        border = plan.rows.size - 1
        return shapes | {
            "y": (rows, filters, columns, n_images),
            "dz": (rows + 2 * border, filters, columns, n_images),
            "dx": (input_shape[0], input_shape[2], input_shape[1], n_images),
        }

    def steps(self):
        return apart(self)

    def initial_weights(self, input_shape, random_state):
        shapes = self.weight_shapes(input_shape)
        filters, rows, channels, columns = shapes["coef"]
        field = rows * columns
        scale = spread(self.activation, channels * field, filters // self.groups * field)
        coef = random_state.normal(0, scale, shapes["coef"])
        if self.init is not None:
            self.public_coef(coef)[...] = self.init
        return {"coef": coef, "intercept": np.zeros(shapes["intercept"])}

    def public_coef(self, coef):
        """Return `coef` as (filters, kernel rows, kernel columns, channels)."""
        return coef.transpose(0, 1, 3, 2)

    def _groups(self, plan):
        """Yield the channels and the filters of each group as slices."""
        for g in range(plan.groups):
            channels = slice(g * plan.channels, (g + 1) * plan.channels)
            yield channels, slice(g * plan.filters, (g + 1) * plan.filters)

    def forward(self, x, weights, work):
        plan = work.once("plan", self.plan)
        work["x"] = x
        activate = ACTIVATIONS[self.activation].forward
        if winograd.pays(plan):
            sink = epilogue.PlainSink(work["y"], weights["intercept"], activate)
            work.prepare("filters", winograd.transform_filters, weights["coef"])
            winograd.forward(plan, x, work, sink)
            return work["y"]
        if depthwise.applies(plan):
            sink = epilogue.PlainSink(work["y"], weights["intercept"], activate)
            depthwise.forward(plan, x, weights["coef"], work["scratch"], sink)
            return work["y"]
        for channels, filters in self._groups(plan):
            y, coef = work["y"][:, filters], weights["coef"][filters]
            sink = epilogue.PlainSink(y, weights["intercept"][filters], activate, work["z"])
            convolution.forward(plan, x[:, channels], coef, work["wide"], sink)
        return work["y"]

    def backward(self, dy, weights, grads, work):
        plan = work.once("plan", self.plan)
        x, y, dx = work["x"], work["y"], work["dx"] if work.needs_dx else None
        coef, dcoef, dintercept = weights["coef"], grads["coef"], grads["intercept"]
        dintercept.fill(0)
        if winograd.pays(plan):
            outputs = {"dy": dy, "dz": dy, "dintercept": dintercept, "dx": dx}
            filter_gradient(self, plan, work, {"x": x, "y": y}, outputs, dcoef)
            return dx
        if depthwise.applies(plan):
            source = epilogue.PlainSource(dy, y, dy, ACTIVATIONS[self.activation], dintercept)
            source.finish(slice(None))
            source.add_intercepts()
            depthwise.backward(plan, x, coef, dy, work["scratch"], dcoef, dx)
            return dx
        border = plan.rows.size - 1
        dz = work["dz"][border : border + len(dy)] if work.needs_dx else dy
        for channels, filters in self._groups(plan):
            own = dy[:, filters]
            target = dz[:, filters] if work.needs_dx else own
            inputs = {"x": x[:, channels], "y": y[:, filters]}
            outputs = {"dy": own, "dz": target, "dintercept": dintercept[filters]}
            filter_gradient(self, plan, work, inputs, outputs, dcoef[filters])
            if work.needs_dx:
                part = dx[:, channels]
                convolution.backward_input(
                    plan, work["dz"][:, filters], coef[filters], work["pieces"], part
                )
        return dx

    def join(self, loop, arrays, work):
        """Do blocks of a backward pass; see `filter_gradient`."""
        dy, y, dz, dintercept = (arrays[name] for name in ("dy", "y", "dz", "dintercept"))
        source = epilogue.PlainSource(dy, y, dz, ACTIVATIONS[self.activation], dintercept)
        add_gradients(work.once("plan", self.plan), loop, source, arrays, work)


def filter_gradient(layer, plan, work, inputs, outputs, dcoef):
    """Write the gradient of a layer's filters, and all else that its `join` writes.

    This is done in blocks, some of them perhaps by other workers, each with scratch of its own in its
    `Work`.

    Parameters
    ----------
    layer : Conv or ConvPool
        ``layer.join(loop, arrays, work)`` does the blocks that a `Loop` yields.
    plan : ConvPlan
    work : Work
    inputs, outputs : dict of ndarray
        What the blocks read, and what they also write.
    dcoef : ndarray
    """
    n_images, total = inputs["x"].shape[3], work["total"]
    total.fill(0)
    outputs = outputs | {"total": total}
    if winograd.pays(plan):
        inputs = inputs | {"filters": work["filters"]}
        n_blocks = winograd.tiling(plan, n_images).n_blocks
    else:
        n_blocks = len(plan.blocks(n_images))
    layer.join(work.loop(n_blocks, inputs, outputs), inputs | outputs, work)
    if winograd.pays(plan):
        winograd.transform_filters_back(total, dcoef)
    else:
        dcoef.reshape(plan.filters, plan.kernel_volume)[...] = total.T


def add_gradients(plan, loop, source, arrays, work):
    """Add up the gradients of a layer's filters over the blocks of a loop."""
    x, total = arrays["x"], arrays["total"]
    if winograd.pays(plan):
        filters, dx = arrays["filters"], arrays["dx"]
        winograd.backward(plan, x, filters, source, work, total, dx, loop)
    else:
        convolution.backward_weights(plan, x, source, work, total, loop)


@cache
def kernel_shapes(plan, n_images):
    """Return the shapes of the scratch arrays that the kernel for `plan` needs."""
    if winograd.pays(plan):
        return winograd.buffer_shapes(plan, n_images)
    if depthwise.applies(plan):
        return {"scratch": Scratch(depthwise.scratch_shape(plan, n_images))}
    pieces = Scratch(convolution.gradient_shape(plan, n_images))
    return plan.buffer_shapes(n_images) | {"pieces": pieces}


def check_pair(name, value, least):
    """Raise a `ValueError` unless `value` is one number or a pair of at least `least`."""
    if not isinstance(value, tuple | list):
        return
    whole = all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in value)
    if len(value) != 2 or not whole or min(value) < least:
        raise ValueError(
            f"{name} must be an int or a pair of ints, (rows, columns), of at least {least}. "
            f"Got {value!r} instead."
        )
