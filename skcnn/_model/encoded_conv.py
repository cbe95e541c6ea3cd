"""A convolution of patches with the encoding and the pooling behind it, in one pass; forward only."""

from typing import NamedTuple

from skcnn._engine import encoding
from skcnn._engine.geometry import grid_windows, pair, stepped_windows
from skcnn._engine.kernels import BY_ROWS, kernel_for
from skcnn.layers.base import Layer


class Pooling(NamedTuple):
    """What codes are pooled by: windows of a size and a stride, or a grid of windows."""

    reduce: str = "max"
    size: int | tuple = 1
    stride: int | tuple | None = None
    grid: int | tuple | None = None

    def windows(self, map_shape):
        """Return for rows and for columns a list of ``(start, stop)``."""
        if self.grid is not None:
            return [grid_windows(n, g) for n, g in zip(map_shape, pair(self.grid), strict=True)]
        strides = pair(self.size if self.stride is None else self.stride)
        axes = zip(map_shape, pair(self.size), strides, strict=True)
        return [stepped_windows(*axis) for axis in axes]


class EncodedConv(Layer):
    """What `ConvFeatureExtractor` computes, for its own use.

    Parameters
    ----------
    conv : Conv
        With as many filters as `encoder` takes responses; its activation is not used.
    encoder : Activated, BothSigns or Triangle
    pooling : Pooling
    contrast : float or None
        Added to the variance of each patch, by whose root its responses are divided; None: by 1.
    """

    def __init__(self, conv, encoder, pooling, contrast=None):
        self.conv = conv
        self.encoder = encoder
        self.pooling = pooling
        self.contrast = contrast

    def _windows(self, input_shape):
        return self.pooling.windows(self.conv.output_shape(input_shape)[:2])

    def output_shape(self, input_shape):
        rows, columns = self._windows(input_shape)
        return (len(rows), len(columns), self.encoder.n_codes)

    def map_size(self, input_shape):
        rows, _, n_codes = self.output_shape(input_shape)
        return rows * n_codes * self.conv.output_shape(input_shape)[1]

    def flops(self, input_shape):
        return self.conv.flops(input_shape)

    def weight_shapes(self, input_shape):
        coef = self.conv.weight_shapes(input_shape)["coef"]
        return {"coef": coef, "intercept": (self.encoder.n_intercepts,)}

    def public_coef(self, coef):
        return self.conv.public_coef(coef)

    def kernel(self, input_shape):
        """Return the kernel of the convolution, which must hand over whole rows."""
        return kernel_for(self.conv.plan(input_shape), BY_ROWS)

    def buffer_shapes(self, input_shape, n_images):
        kernel = self.kernel(input_shape)
        out_rows, out_columns, n_codes = self.output_shape(input_shape)
        rows, columns, n_responses = self.conv.output_shape(input_shape)
        n_block, run = kernel.plan.block_rows(n_images), columns * n_images
        n_part = min(encoding.filters_at_once(n_block * run), n_responses)
        return {
            **kernel.buffer_shapes(n_images),
            "codes": (n_block, n_part, run),
            "pooled": (out_rows, n_codes, columns, n_images),
            "y": (out_rows, n_codes, out_columns, n_images),
            "square": (input_shape[0], input_shape[2], input_shape[1], n_images),
            "box_columns": (input_shape[0], columns, n_images),
            "box": (2, rows, columns, n_images),
        }

    def forward(self, x, weights, work):
        kernel = work.once("kernel", self.kernel)
        rows, columns = work.once("windows", self._windows)
        factor = None
        if self.contrast is not None:
            factor = encoding.inverse_contrast(kernel.plan, x, self.contrast, work)
        sink = encoding.EncodeSink(
            self.encoder,
            weights["intercept"],
            factor,
            self.pooling.reduce,
            rows,
            work["codes"],
            work["pooled"],
        )
        kernel.forward(x, weights["coef"], work, sink)
        encoding.pool_columns(work["pooled"], self.pooling.reduce, rows, columns, work["y"])
        return work["y"]
