"""A convolution and the 2x2 max pooling behind it, done in one pass."""

from skcnn._engine import convolution, epilogue, winograd
from skcnn._engine.activations import ACTIVATIONS
from skcnn._engine.geometry import pair
from skcnn._workers.memory import Scratch
from skcnn.layers.base import Layer, Mask
from skcnn.layers.conv import add_gradients, filter_gradient, kernel_shapes
from skcnn.layers.pool import MaxPool


class ConvPool(Layer):
    """What a `Conv` and a `MaxPool` compute, for the network's own use.

    The convolution's output is pooled block by block while it is in cache and never stored; of the
    backward pass's needs only who was the maximum is kept. Intercept and activation, which are
    monotone, come after the pooling, on a quarter of the values.

    Parameters
    ----------
    conv : Conv
    """

    def __init__(self, conv):
        self.conv = conv

    @staticmethod
    def replaces(conv, pool, input_shape):
        """Whether the pooling is 2x2, without padding, behind a convolution in one group."""
        rows, columns, _ = conv.output_shape(input_shape)
        return (
            type(pool) is MaxPool
            and pair(pool.pool_size) == (2, 2)
            and pair(2 if pool.stride is None else pool.stride) == (2, 2)
            and pool.padding in ("valid", 0)
            and conv.groups == 1
            and min(rows, columns) >= 2
        )

    def plan(self, input_shape):
        """Return the `ConvPlan`: by tiles, or by rows with even columns first."""
        plan = self.conv.plan(input_shape)
        return plan if winograd.pays(plan) else plan._replace(phases=2)

    def output_shape(self, input_shape):
        rows, columns, filters = self.conv.output_shape(input_shape)
        return (rows // 2, columns // 2, filters)

    def weight_shapes(self, input_shape):
        return self.conv.weight_shapes(input_shape)

    def flops(self, input_shape):
        return self.conv.flops(input_shape)

    def buffer_shapes(self, input_shape, n_images):
        plan = self.plan(input_shape)
        rows, columns, filters = plan.rows.n_out // 2, plan.columns.n_out // 2, plan.filters
        shapes = {
            **kernel_shapes(plan, n_images),
            "y": (rows, filters, columns, n_images),
            "dx": (input_shape[0], input_shape[2], input_shape[1], n_images),
        }
        if winograd.pays(plan):
            tiles = winograd.tiling(plan, n_images)
            row = (filters, tiles.run)
            return shapes | {
                "column_mask": Mask((tiles.n_blocks, 4, 2, *row)),
                "row_mask": Mask((tiles.n_blocks, 2, 2, *row)),
            }
        n_block = shapes["z"][1]
        row = (filters, columns * n_images)
        border = plan.rows.size - 1
        return shapes | {
            "pairs": Scratch((n_block, *row)),
            "column_mask": Mask((2 * rows, *row)),
            "row_mask": Mask((rows, *row)),
            "dz": (plan.rows.n_out + 2 * border, filters, plan.columns.n_out, n_images),
        }

    def initial_weights(self, input_shape, random_state):
        return self.conv.initial_weights(input_shape, random_state)

    def public_coef(self, coef):
        return self.conv.public_coef(coef)

    def _scratch(self, plan, n_images, work):
        """Return what a sink and a source work in: outputs, and the larger of each pair."""
        if not winograd.pays(plan):
            return work["z"], work["pairs"]
        row = plan.filters, winograd.tiling(plan, n_images).run
        return winograd.spare(work, ((2, 2, *row), (4, 2, *row)))

    def forward(self, x, weights, work):
        plan = work.once("plan", self.plan)
        work["x"], y = x, work["y"]
        masks = (work["column_mask"], work["row_mask"]) if work.learning else None
        activate = ACTIVATIONS[self.conv.activation].forward
        scratch = self._scratch(plan, x.shape[3], work)
        sink = epilogue.PoolSink(y, weights["intercept"], activate, *scratch, masks)
        if winograd.pays(plan):
            work.prepare("filters", winograd.transform_filters, weights["coef"])
            winograd.forward(plan, x, work, sink)
        else:
            convolution.forward(plan, x, weights["coef"], work["wide"], sink)
        return y

    def backward(self, dy, weights, grads, work):
        plan = work.once("plan", self.plan)
        grads["intercept"].fill(0)
        dx = work["dx"] if work.needs_dx else None
        inputs = {name: work[name] for name in ("x", "y", "column_mask", "row_mask")}
        outputs = {"dy": dy, "dintercept": grads["intercept"]}
        if winograd.pays(plan):
            filter_gradient(self, plan, work, inputs, outputs | {"dx": dx}, grads["coef"])
            return dx
        border = plan.rows.size - 1
        keep = work["dz"][border : border + plan.n_rows] if work.needs_dx else None
        filter_gradient(self, plan, work, inputs, outputs | {"dz": keep}, grads["coef"])
        if work.needs_dx:
            plan = plan._replace(phases=1)
            convolution.backward_input(plan, work["dz"], weights["coef"], work["pieces"], dx)
        return dx

    def join(self, loop, arrays, work):
        """Do blocks of a backward pass; see `filter_gradient`."""
        plan = work.once("plan", self.plan)
        source = epilogue.PoolSource(
            arrays["dy"],
            arrays["y"],
            ACTIVATIONS[self.conv.activation],
            arrays["dintercept"],
            *self._scratch(plan, arrays["dy"].shape[3], work),
            (arrays["column_mask"], arrays["row_mask"]),
        )
        if not winograd.pays(plan):
            source = epilogue.Recorder(source, arrays["dz"])
        add_gradients(plan, loop, source, arrays, work)
