"""Every fast path of the engine against the plainest computation, on random shapes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from properties import given, settings, st
from reference import conv, pool, run, to_images, to_maps
from sklearn.datasets import load_digits

from skcnn import CNNClassifier
from skcnn._engine import blocks, plan
from skcnn._engine.kernels import BY_ROWS, kernel_for
from skcnn._engine.products import row_products, sums_shape, transposed_shape
from skcnn._model.conv_pool import ConvPool
from skcnn._model.network import Network
from skcnn.layers import AvgPool, Conv, Dense, MaxPool

SIDES = st.integers(1, 14)
PADDINGS = st.sampled_from(["same", "valid", 1, 2, (0, 1), (2, 0)])


def random_conv(rng, layer, shape, n_images, dtype=float):
    """Return images, the weights of the layer and its filters as users see them."""
    images = rng.standard_normal((n_images, *shape)).astype(dtype)
    weights = {k: rng.standard_normal(s) for k, s in layer.weight_shapes(shape).items()}
    return images, weights, layer.public_coef(weights["coef"])


def forget():
    """Let what depends on the size of blocks be found anew."""
    plan._blocks.cache_clear()


def fits(layer, shape):
    try:
        return min(layer.output_shape(shape)[:2]) >= 1
    except ValueError:
        return False


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(16, 40), st.integers(16, 40), PADDINGS, st.integers(0, 2**31))
def test_tiles_against_scipy(rows, columns, channels, filters, padding, seed):
    layer, shape = (
        Conv(filters, 3, padding=padding, activation="identity"),
        (rows, columns, channels),
    )
    if not fits(layer, shape):
        return
    rng = np.random.default_rng(seed)
    images, weights, public = random_conv(rng, layer, shape, 2)
    expected = conv(images, public, weights["intercept"], padding=padding, activation="identity")
    dy = rng.standard_normal(expected.shape)
    y, dx, grads = run(layer, to_maps(images), to_maps(dy), weights)
    assert_allclose(to_images(y), expected, rtol=0, atol=1e-10)
    product = np.vdot(dy, expected - weights["intercept"])
    assert_allclose(np.vdot(to_images(dx), images), product, atol=1e-7)
    assert_allclose(np.vdot(grads["coef"], weights["coef"]), product, atol=1e-7)


# by 128 most rows of tiles are a block, and zeros follow their runs
@pytest.mark.parametrize("n_images", [2, 128])
@pytest.mark.parametrize("padding", ["same", "valid", 1, 2, (2, 0)])
@pytest.mark.parametrize("side", range(2, 10))
def test_narrow_maps_in_used_buffers(side, padding, n_images):
    """On them some taps of a tile read nothing, and must not find what the last pass has left."""
    rng = np.random.default_rng(side)
    for layer, shape in [
        (Conv(20, 3, padding=padding, activation="identity"), (8, side, 24)),
        (Conv(20, 3, padding=padding, activation="identity"), (side, side, 24)),
    ]:
        if not fits(layer, shape):
            continue
        images, weights, public = random_conv(rng, layer, shape, n_images)
        expected = conv(
            images, public, weights["intercept"], padding=padding, activation="identity"
        )
        dy = rng.standard_normal(expected.shape)
        for made in (layer, ConvPool(layer)):
            if made is not layer:
                if min(expected.shape[1:3]) < 2:
                    continue
                expected, dy = pool(expected), np.ones_like(pool(dy))
            y, dx, grads = run(made, to_maps(images), to_maps(dy), weights)
            assert_allclose(to_images(y), expected, rtol=0, atol=1e-10)
            linear = np.vdot(dy, expected) - dy.sum(axis=(0, 1, 2)) @ weights["intercept"]
            assert_allclose(np.vdot(to_images(dx), images), linear, atol=1e-7)
            assert_allclose(np.vdot(grads["coef"], weights["coef"]), linear, atol=1e-7)


def kernel_name(layer, shape):
    return type(layer.kernel(shape)).__name__


def test_the_cheapest_kernel_is_chosen():
    sizes = [(16, 64, 64), (32, 32, 32), (16, 1, 32), (1, 64, 64)]
    names = [kernel_name(Conv(f), (side, side, c)) for side, c, f in sizes]
    assert names == ["TileKernel", "TileKernel", "RowKernel", "CropKernel"]
    shape = (16, 16, 64)
    assert kernel_name(Conv(64, stride=2), shape) == "RowKernel"
    assert kernel_name(Conv(64, 5), shape) == "RowKernel"
    assert kernel_name(Conv(64, 1), shape) == "PointwiseKernel"
    assert kernel_name(Conv(64, 1, stride=2), shape) == "RowKernel"
    for layer in (Conv(64, groups=64), Conv(128, 5, groups=64), Conv(64, 1, groups=64)):
        assert kernel_name(layer, shape) == "DepthwiseKernel"
    assert kernel_name(Conv(64, groups=32), shape) == "RowKernel"
    chosen = kernel_for(Conv(64).plan(shape), BY_ROWS)  # one that hands over whole rows
    assert type(chosen).__name__ == "RowKernel"


@settings(max_examples=80)
@given(
    st.integers(2, 13),
    st.integers(2, 13),
    st.sampled_from([1, 3, 24]),
    st.sampled_from([2, 5, 33]),
    st.sampled_from([1, 2, 3, (3, 2), 5]),
    st.sampled_from([1, 2, (1, 2)]),
    PADDINGS,
    st.sampled_from(["identity", "relu", "tanh"]),
    st.integers(0, 2**31),
)
def test_convolution_with_pooling(rows, columns, c, filters, size, stride, padding, act, seed):
    layer = Conv(filters, size, stride=stride, padding=padding, activation=act)
    shape = (rows, columns, c)
    if not fits(layer, shape) or min(layer.output_shape(shape)[:2]) < 2:
        return
    assert ConvPool.replaces(layer, MaxPool(), shape)
    rng = np.random.default_rng(seed)
    images, weights, public = random_conv(rng, layer, shape, 2)
    maps = conv(images, public, weights["intercept"], stride, padding, activation=act)
    expected = pool(maps)
    dy = rng.standard_normal(expected.shape)
    y, dx, grads = run(ConvPool(layer), to_maps(images), to_maps(dy), weights)
    assert_allclose(to_images(y), expected, rtol=0, atol=1e-9)
    # the two layers one after the other, each tested against loops elsewhere
    z, _, _ = run(layer, to_maps(images), weights=weights)
    _, dz, _ = run(MaxPool(), z, to_maps(dy))
    _, dx_apart, grads_apart = run(layer, to_maps(images), dz, weights)
    if act != "relu":  # relu's zeros tie after it, not before it
        assert_allclose(dx, dx_apart, rtol=0, atol=1e-9)
        assert_allclose(grads["coef"], grads_apart["coef"], rtol=0, atol=1e-9)
    assert_allclose(grads["intercept"], grads_apart["intercept"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("n_left", "n_right", "transposes"),
    [
        (9, 8, False),
        (27, 32, False),
        (75, 20, True),
        (150, 16, True),
        (300, 48, True),
        (150, 64, False),
    ],
)
@pytest.mark.parametrize("run", [1, 63, 640, 1000, 1792])
def test_products_of_rows(n_left, n_right, transposes, run):
    """Few results in pieces, more of few right rows transposed, others as they are: the same sum."""
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((3, n_left, run)), rng.standard_normal((3, n_right, run))
    shape = 4, n_left, n_right, run  # room for one row more than there is
    scratch, transposed = (np.full(f(*shape), np.nan) for f in (sums_shape, transposed_shape))
    assert (transposed.size > 0) == transposes
    found = row_products(left, right, scratch, transposed)
    assert_allclose(found, np.einsum("rik,rjk->ij", left, right), atol=1e-10)


def test_ties_in_a_fused_pooling_go_to_the_first():
    layer = Conv(1, 1, activation="identity")
    weights = {"coef": np.ones((1, 1, 1, 1)), "intercept": np.zeros(1)}
    x = np.array([[0.0, 5.0], [5.0, 5.0]]).reshape(2, 1, 2, 1)
    _, dx, _ = run(ConvPool(layer), x, np.ones((1, 1, 1, 1)), weights)
    assert_array_equal(dx[:, 0, :, 0], [[0, 1], [0, 0]])


@pytest.mark.parametrize("channels", [32, 128])
def test_tiles_in_single_precision(channels):
    layer, shape = Conv(channels, activation="identity"), (16, 16, channels)
    images, weights, public = random_conv(np.random.default_rng(0), layer, shape, 2, np.float32)
    expected = conv(images.astype(float), public, weights["intercept"], activation="identity")
    y, _, _ = run(layer, to_maps(images), weights=weights)
    assert np.abs(to_images(y) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("layer", [Conv(5, (3, 2)), Conv(5, 3, stride=2), Conv(4, 3, dilation=2)])
def test_blocks_of_any_size(layer, monkeypatch):
    shape = (9, 8, 3)
    images, weights, _ = random_conv(np.random.default_rng(0), layer, shape, 4)
    rows, columns, filters = layer.output_shape(shape)
    dy = np.random.default_rng(1).standard_normal((rows, filters, columns, 4))
    results = []
    for size in (1, 700, 10**6):
        monkeypatch.setattr(blocks, "BLOCK_SIZE", size)
        forget()
        results.append(run(layer, to_maps(images), dy, weights))
        results.append(run(layer, to_maps(images), dy, weights, needs_dx=False))
    forget()
    y, dx, grads = results[0]
    for other_y, other_dx, other_grads in results[1:]:
        assert_allclose(other_y, y, atol=1e-12)
        assert other_dx is None or np.allclose(other_dx, dx, atol=1e-12)
        assert_allclose(other_grads["coef"], grads["coef"], atol=1e-12)


def test_single_precision_trains_like_double():
    """After 100 steps the losses agree to 1e-4, on a network without kinks, where errors grow."""
    X, y = load_digits(return_X_y=True)
    losses = []
    for dtype in (np.float32, np.float64):
        smooth = (Conv(16, activation="tanh"), Conv(16, activation="tanh"), AvgPool())
        clf = CNNClassifier(smooth, max_iter=20, random_state=0)
        clf.set_params(tol=0, n_iter_no_change=20, shuffle=False)
        losses.append(clf.fit(X[:1000].astype(dtype), y[:1000]).loss_curve_)
    assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_the_network_joins_convolution_and_pooling():
    layers = (Conv(8), MaxPool(), Conv(8), MaxPool(3), Conv(8, groups=2), MaxPool(), Dense(4))
    kinds = [type(step).__name__ for step in Network(layers, (24, 24, 1)).steps]
    assert kinds == ["ConvPool", "Conv", "MaxPool", "Conv", "MaxPool", "Dense"]
