"""Filters cropped to the taps that reach a map, and long rows cut into pieces."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skcnn._engine import kernels, pieces
from skcnn._engine.depthwise import DepthwiseKernel
from skcnn._engine.kernels import kernel_for
from skcnn._engine.pieces import CropKernel, SplitKernel, pieces_of
from skcnn._engine.rows import RowKernel
from skcnn._engine.winograd import TileKernel
from skcnn._model.network import build_network
from skcnn._model.shards import SHARD_BYTES, shard_slices
from skcnn.architectures import sklearn_default
from skcnn.layers import Conv
from skcnn.layers.base import Workspace


@pytest.fixture(autouse=True)
def no_memory_of_kernels():
    kernel_for.cache_clear()
    pieces_of.cache_clear()
    yield
    kernel_for.cache_clear()
    pieces_of.cache_clear()


def passes(layer, shape, n_images):
    """Return outputs and gradients of two batches, whose buffers are the same."""
    rng = np.random.default_rng(5)
    weights = {name: rng.normal(size=s) for name, s in layer.weight_shapes(shape).items()}
    work = Workspace(layer, shape, n_images, np.float64)
    work.shard.begin(np.ones(n_images), 0)
    grads = {name: np.full_like(array, np.nan) for name, array in weights.items()}
    found = []
    for _ in range(2):
        x = rng.normal(size=(shape[0], shape[2], shape[1], n_images))
        y = layer.forward(x, weights, work).copy()
        dx = layer.backward(rng.normal(size=y.shape), weights, grads, work).copy()
        found += [y, dx, *(array.copy() for array in grads.values())]
    return found


LAYERS = [
    (Conv(2, (1, 5)), (1, 40, 3)),
    (Conv(2, (3, 4), padding=(2, 3)), (4, 37, 2)),
    (Conv(2, (2, 3), stride=(1, 2), padding="valid"), (5, 41, 2)),
    (Conv(2, (3, 3), stride=(2, 3), dilation=(1, 2)), (6, 50, 2)),
    (Conv(6, 3, groups=3, activation="tanh"), (3, 33, 6)),
    (Conv(4, 3, groups=2), (3, 33, 4)),
    (Conv(8, 3, groups=4), (3, 33, 4)),
    (Conv(4, 1), (2, 30, 3)),
    (Conv(32, 3), (8, 42, 32)),
    (Conv(32, 3, padding=2), (5, 35, 32)),
    (Conv(2, (1, 3), padding=(0, 9)), (1, 30, 1)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda x: str(x)[:40])
@pytest.mark.parametrize("width", [1, 2])
def test_pieces_compute_what_the_whole_does(layer, shape, width, monkeypatch):
    whole = passes(layer, shape, 3)
    kind = type(kernel_for(layer.plan(shape)))
    kernel_for.cache_clear()
    monkeypatch.setattr(kernels, "is_long", lambda plan: True)
    monkeypatch.setattr(pieces, "LEAST_SHARES", 1)
    for each in (RowKernel, DepthwiseKernel, TileKernel):
        step = each.COLUMN_STEP
        monkeypatch.setattr(each, "columns_at_once", staticmethod(lambda p, n, s=step: width * s))
    kernel = kernel_for(layer.plan(shape))
    assert type(kernel) is SplitKernel
    assert kernel.kind is kind
    assert len(pieces_of(kernel.plan, kind, 3)) >= 3
    for a, b in zip(passes(layer, shape, 3), whole, strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 30, 2), (30, 1, 2), (1, 1, 3)])
@pytest.mark.parametrize("size", [3, 5, (7, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_cropped_filters_compute_what_whole_ones_do(shape, size, groups):
    shape = (*shape[:2], shape[2] * groups)
    layer = Conv(2 * groups, size, groups=groups)
    plan = layer.plan(shape)
    kernel = kernel_for(plan)
    assert isinstance(kernel, CropKernel)
    cropped = passes(layer, shape, 3)
    layer.kernel = lambda input_shape: RowKernel(layer.plan(input_shape))
    for a, b in zip(cropped, passes(layer, shape, 3), strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_a_long_row_takes_little_memory():
    plan = Conv(32).plan((1, 50_001, 32))
    kernel = kernel_for(plan)
    sizes = [np.prod(shape) for shape in kernel.buffer_shapes(4).values()]
    assert sum(sizes) < 8e6  # the map itself has 6.4e6 numbers


@pytest.mark.parametrize("shape", [(224, 224, 1), (1, 50_001, 1), (28, 28, 1), (500, 500, 3)])
def test_shards_are_limited_by_bytes(shape):
    network = build_network(sklearn_default(), shape, 1)
    n_bytes = network.bytes_per_image(np.float32)
    slices = shard_slices(200, network.map_size, n_bytes)
    sizes = [s.stop - s.start for s in slices]
    assert sum(sizes) == 200
    assert max(sizes) == 1 or max(sizes) * n_bytes <= SHARD_BYTES
    assert len(set(sizes)) <= 2
    if shape == (28, 28, 1):
        assert slices == shard_slices(200, network.map_size)
