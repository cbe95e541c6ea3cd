"""A convolution and the 2x2 max pooling behind it, done in one pass."""

from skcnn._engine.activations import ACTIVATIONS
from skcnn._engine.epilogue import PoolSink, PoolSource
from skcnn._engine.geometry import pair
from skcnn._engine.pieces import is_long
from skcnn.layers.base import Layer
from skcnn.layers.pool import MaxPool


class ConvPool(Layer):
    """What a `Conv` and a `MaxPool` compute, for the network's own use.

    The convolution's output is pooled block by block while it is in cache, and never stored; for the
    backward pass, masks keep which value was the maximum. Intercept and activation, which are
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
            and not is_long(conv.plan(input_shape))
        )

    def kernel(self, input_shape):
        """Return the kernel of the convolution, with the pooling behind it."""
        return self.conv.kernel(input_shape).pooled()

    def output_shape(self, input_shape):
        rows, columns, filters = self.conv.output_shape(input_shape)
        return (rows // 2, columns // 2, filters)

    def weight_shapes(self, input_shape):
        return self.conv.weight_shapes(input_shape)

    def flops(self, input_shape):
        return self.conv.flops(input_shape)

    def buffer_shapes(self, input_shape, n_images):
        kernel = self.kernel(input_shape)
        rows, columns, filters = self.output_shape(input_shape)
        return {
            **kernel.buffer_shapes(n_images),
            **kernel.pool_shapes(n_images),
            "y": (rows, filters, columns, n_images),
            "dx": (input_shape[0], input_shape[2], input_shape[1], n_images),
        }

    def initial_weights(self, input_shape, random_state):
        return self.conv.initial_weights(input_shape, random_state)

    def public_coef(self, coef):
        return self.conv.public_coef(coef)

    def forward(self, x, weights, work):
        kernel = work.once("kernel", self.kernel)
        work["x"] = x
        masks = (work["column_mask"], work["row_mask"]) if work.learning else None
        activate = ACTIVATIONS[self.conv.activation].forward
        scratch = kernel.pool_scratch(work)
        sink = PoolSink(work["y"], weights["intercept"], activate, scratch, masks)
        kernel.forward(x, weights["coef"], work, sink)
        return work["y"]

    def backward(self, dy, weights, grads, work):
        kernel = work.once("kernel", self.kernel)
        grads["intercept"].fill(0)
        source = PoolSource(
            dy,
            work["y"],
            ACTIVATIONS[self.conv.activation],
            grads["intercept"],
            kernel.pool_scratch(work),
            (work["column_mask"], work["row_mask"]),
        )
        return kernel.backward(work["x"], weights["coef"], work, source, grads["coef"])
