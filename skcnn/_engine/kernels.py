"""Which kernel computes a convolution: the cheapest of those that fit its geometry.

A kernel is made of a `ConvPlan` and holds no arrays. Its protocol:

``cost(plan)``
    what an image's forward pass costs, in floating-point operations of a matrix product, copies
    converted; infinite if the kernel does not fit. A static method.
``buffer_shapes(n_images)``
    the shapes of the buffers that it needs in a `Workspace`.
``forward(x, coef, work, sink)``
    convolves maps and hands the output to a sink of `epilogue`, block by block.
``backward(x, coef, work, source, dcoef)``
    takes the gradient of the output from a source of `epilogue`, block by block, writes that of the
    filters, and returns that of the input, or None if ``work.needs_dx`` is false.
``pooled()``, ``pool_shapes(n_images)``, ``pool_scratch(work)``
    the kernel, buffers and scratch to use where a 2x2 max pooling follows in the same pass.
``columns_at_once(plan, n_images)``, ``COLUMN_STEP``
    how many columns of a long row make a block, static, and of what number that is a multiple.

To add a kernel, write it in a file of its own and name it in `KERNELS`.
"""

from functools import cache

from skcnn._engine.depthwise import DepthwiseKernel
from skcnn._engine.pieces import CropKernel, SplitKernel, cropped, is_long
from skcnn._engine.rows import PointwiseKernel, RowKernel
from skcnn._engine.winograd import TileKernel

KERNELS = (DepthwiseKernel, PointwiseKernel, RowKernel, TileKernel)
BY_ROWS = (PointwiseKernel, RowKernel)  # those that hand over whole rows, as `encoding` needs them


@cache
def kernel_for(plan, kernels=KERNELS):
    """Return the cheapest of `kernels` for a `ConvPlan`; the first of those that cost the same.

    Where filters have taps that reach nothing, or rows are long, it is a kernel of `pieces` that makes
    use of one of them. Kernels that hand over whole rows get neither.
    """
    if kernels is KERNELS and cropped(plan) != plan:
        return CropKernel(plan, kernel_for(cropped(plan)))
    kind = min(kernels, key=lambda kernel: kernel.cost(plan))
    return SplitKernel(plan, kind) if kernels is KERNELS and is_long(plan) else kind(plan)
