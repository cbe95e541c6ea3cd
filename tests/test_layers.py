"""Every layer, in one table: shapes, float types, batches, gradients, no arrays kept."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from reference import Run, run
from sklearn.base import clone

from skcnn.layers import (
    Activation,
    AvgPool,
    Conv,
    Dense,
    GlobalAvgPool,
    GlobalMaxPool,
    Layer,
    MaxPool,
)

ACTIVATIONS = ("identity", "relu", "leaky_relu", "logistic", "tanh", "elu")

# (layer, input shape, output shape)
TABLE = [
    *[(Conv(3, activation=a), (5, 6, 2), (5, 6, 3)) for a in ACTIVATIONS],
    *[(Dense(4, activation=a), (3, 5, 2), (1, 1, 4)) for a in ACTIVATIONS],
    *[(Activation(a), (3, 4, 2), (3, 4, 2)) for a in (*ACTIVATIONS, "silu", "gelu")],
    (Dense(4), (1, 1, 3), (1, 1, 4)),
    (Dense(2), (3, 5, 2), (1, 1, 2)),  # fewer units than images
    (Dense(1), (1, 6, 2), (1, 1, 1)),
    (Dense(3), (6, 1, 1), (1, 1, 3)),
    (Conv(1), (1, 1, 1), (1, 1, 1)),
    (Conv(3), (1, 9, 1), (1, 9, 3)),
    (Conv(3), (9, 1, 2), (9, 1, 3)),
    (Conv(4, 1), (4, 5, 3), (4, 5, 4)),
    (Conv(4, 1, stride=2), (5, 7, 3), (3, 4, 4)),
    (Conv(2, 1, padding=1), (3, 4, 2), (5, 6, 2)),
    (Conv(3, 2), (5, 4, 2), (5, 4, 3)),
    (Conv(3, 4), (5, 6, 2), (5, 6, 3)),
    (Conv(3, (3, 5), padding="valid"), (7, 8, 2), (5, 4, 3)),
    (Conv(3, (1, 4)), (5, 7, 2), (5, 7, 3)),
    (Conv(3, (4, 1)), (7, 5, 2), (7, 5, 3)),
    (Conv(3, (5, 1), padding="valid"), (7, 5, 2), (3, 5, 3)),
    (Conv(2, 3, padding="valid", activation="tanh"), (3, 3, 2), (1, 1, 2)),
    (Conv(2, (4, 5)), (4, 5, 2), (4, 5, 2)),
    (Conv(2, 5), (2, 3, 1), (2, 3, 2)),
    (Conv(3, padding=0), (5, 5, 2), (3, 3, 3)),
    (Conv(3, padding=2), (4, 5, 2), (6, 7, 3)),
    (Conv(3, padding=4), (3, 2, 2), (9, 8, 3)),
    (Conv(3, padding=(1, 0)), (4, 5, 2), (4, 3, 3)),
    (Conv(3, (2, 3), padding=(0, 2)), (4, 5, 2), (3, 7, 3)),
    (Conv(3, stride=2), (7, 6, 2), (4, 3, 3)),
    (Conv(3, stride=3), (8, 7, 2), (3, 3, 3)),
    (Conv(3, stride=(2, 1)), (7, 6, 2), (4, 6, 3)),
    (Conv(3, stride=(1, 3), padding="valid"), (5, 9, 2), (3, 3, 3)),
    (Conv(3, 2, stride=3, padding="valid"), (8, 9, 2), (3, 3, 3)),
    (Conv(2, 5, stride=2, padding=2), (9, 8, 1), (5, 4, 2)),
    (Conv(3, dilation=2), (6, 7, 2), (6, 7, 3)),
    (Conv(3, dilation=2, padding="valid"), (7, 8, 2), (3, 4, 3)),
    (Conv(3, dilation=(2, 1), padding=1), (7, 5, 2), (5, 5, 3)),
    (Conv(3, (2, 3), dilation=(1, 3), padding="valid"), (4, 9, 2), (3, 3, 3)),
    (Conv(3, dilation=2, stride=2, padding=1), (8, 9, 2), (3, 4, 3)),
    (Conv(2, 2, dilation=4), (5, 5, 1), (5, 5, 2)),
    (Conv(4, groups=2), (5, 6, 4), (5, 6, 4)),
    (Conv(3, groups=3), (5, 4, 3), (5, 4, 3)),
    (Conv(6, groups=3, stride=2), (5, 6, 3), (3, 3, 6)),
    (Conv(4, 1, groups=2), (3, 4, 6), (3, 4, 4)),
    (Conv(2, (1, 3), groups=2, padding="valid"), (4, 5, 2), (4, 3, 2)),
    (Conv(4, groups=2, dilation=2, padding="valid"), (6, 7, 2), (2, 3, 4)),
    (Conv(6, 5, groups=2, stride=(1, 2), padding=(2, 1)), (6, 7, 4), (6, 3, 6)),
    (MaxPool(), (4, 6, 2), (2, 3, 2)),
    (MaxPool(), (5, 7, 2), (2, 3, 2)),
    (MaxPool(3, stride=2), (7, 8, 2), (3, 3, 2)),
    (MaxPool(2, stride=1), (4, 5, 2), (3, 4, 2)),
    (MaxPool((1, 3)), (4, 6, 2), (4, 2, 2)),
    (MaxPool((3, 2), stride=(1, 3), padding=1), (5, 8, 2), (5, 3, 2)),
    (MaxPool(2, stride=3), (7, 8, 2), (2, 3, 2)),
    (MaxPool(3, stride=1, padding="same"), (5, 4, 2), (5, 4, 2)),
    (MaxPool(2, padding="same"), (5, 5, 2), (3, 3, 2)),
    (MaxPool(4), (2, 3, 2), (1, 1, 2)),
    (MaxPool(2), (1, 1, 2), (1, 1, 2)),
    (MaxPool(1), (3, 4, 2), (3, 4, 2)),
    (AvgPool(), (4, 6, 2), (2, 3, 2)),
    (AvgPool(), (5, 7, 2), (2, 3, 2)),
    (AvgPool(3, stride=2), (7, 8, 2), (3, 3, 2)),
    (AvgPool((3, 2), stride=(1, 3), padding=1), (5, 8, 2), (5, 3, 2)),
    (AvgPool(2, padding="same"), (5, 5, 2), (3, 3, 2)),
    (AvgPool(3, padding="same"), (6, 3, 2), (2, 1, 2)),
    (MaxPool(3, padding="same"), (6, 3, 2), (2, 1, 2)),
    (AvgPool(4), (2, 3, 2), (1, 1, 2)),
    (AvgPool(2, stride=3), (7, 8, 2), (2, 3, 2)),
    (GlobalMaxPool(), (4, 3, 2), (1, 1, 2)),
    (GlobalMaxPool(), (1, 5, 3), (1, 1, 3)),
    (GlobalAvgPool(), (4, 3, 2), (1, 1, 2)),
    (GlobalAvgPool(), (1, 5, 3), (1, 1, 3)),
]
# Enough numbers for the work to be cut into blocks.
LARGE = [
    (Conv(8), (14, 12, 16), (14, 12, 8)),
    (Conv(8, 5, padding="valid"), (14, 12, 8), (10, 8, 8)),
    (Conv(8, stride=2), (15, 12, 16), (8, 6, 8)),
    (Conv(8, dilation=2), (14, 12, 16), (14, 12, 8)),
    (Conv(16, groups=4), (14, 12, 16), (14, 12, 16)),
    (Conv(8, 1), (20, 20, 16), (20, 20, 8)),
    (MaxPool(3, stride=2), (20, 20, 16), (9, 9, 16)),
]


def name(row):
    return f"{row[0]!r} on {row[1]}".replace("activation=", "")


every_layer = pytest.mark.parametrize(
    ("layer", "shape"), [row[:2] for row in TABLE], ids=map(name, TABLE)
)


def example(layer, shape, n_images=3):
    """Return (x, weights) in float64 that lie far from every kink.

    With weights: sums of sixteenths, moved by a 32nd. Without: a shuffle of different numbers,
    none of them zero.
    """
    rng = np.random.default_rng(0)
    rows, columns, channels = shape
    x_shape = (rows, channels, columns, n_images)
    shapes = layer.weight_shapes(shape)
    if not shapes:
        size = int(np.prod(x_shape))
        return (rng.permutation(size).reshape(x_shape) - size // 2 + 0.5) / 8, {}
    weights = {
        "coef": rng.integers(-4, 5, shapes["coef"]) / 16,
        "intercept": rng.integers(-4, 5, shapes["intercept"]) / 16 + 1 / 32,
    }
    return rng.integers(-3, 4, x_shape).astype(float), weights


def slope(function, at, direction, step=1e-5):
    """Return the derivative of a function along a direction, by central differences."""
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)


def check_gradients(layer, shape, n_images=3):
    x, weights = example(layer, shape, n_images)
    rng = np.random.default_rng(1)
    projection = rng.normal(size=run(layer, x, weights=weights)[0].shape)
    _, dx, grads = run(layer, x, projection, weights)

    def along_x(x):
        return Run(layer, x, weights).forward(x)

    def along(name):
        return lambda w: Run(layer, x, weights | {name: w}).forward(x)

    functions = {"x": (along_x, x, dx)}
    functions |= {name: (along(name), w, grads[name]) for name, w in weights.items()}
    for what, (function, at, gradient) in functions.items():
        assert gradient.shape == at.shape, what
        for _ in range(3):
            direction = rng.normal(size=at.shape)
            expected = np.vdot(projection, slope(function, at, direction))
            got = np.vdot(gradient, direction)
            assert abs(got - expected) < 1e-6 * abs(expected), what


@every_layer
def test_gradients(layer, shape):
    check_gradients(layer, shape)


@pytest.mark.parametrize(("layer", "shape"), [row[:2] for row in LARGE], ids=map(name, LARGE))
def test_gradients_of_large_batches(layer, shape):
    check_gradients(layer, shape, 41)


@pytest.mark.parametrize(("layer", "shape", "expected"), TABLE + LARGE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shapes_and_dtypes(layer, shape, expected, dtype):
    rows, columns, channels = layer.output_shape(shape)
    assert (rows, columns, channels) == expected
    x, weights = example(layer, shape)
    y, dx, grads = run(layer, x.astype(dtype), weights=weights)
    assert y.shape == (rows, channels, columns, 3)
    assert dx.shape == x.shape
    assert y.dtype == dx.dtype == dtype
    for name, shape_ in layer.weight_shapes(shape).items():
        assert grads[name].shape == shape_
        assert grads[name].dtype == dtype


@every_layer
def test_float32_agrees_with_float64(layer, shape):
    x, weights = example(layer, shape)
    y, dx, grads = run(layer, x, weights=weights)
    y32, dx32, grads32 = run(layer, x.astype(np.float32), weights=weights)
    np.testing.assert_allclose(y32, y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx32, dx, rtol=1e-5, atol=1e-5)
    for name in grads:
        np.testing.assert_allclose(grads32[name], grads[name], rtol=1e-5, atol=1e-4)


@every_layer
def test_an_image_alone_equals_the_image_in_a_batch(layer, shape):
    x, weights = example(layer, shape, 5)
    y, dx, grads = run(layer, x, weights=weights)
    sums = dict.fromkeys(grads, 0)
    for i in range(5):
        alone, dx_alone, own = run(layer, np.ascontiguousarray(x[..., i : i + 1]), weights=weights)
        np.testing.assert_allclose(alone[..., 0], y[..., i], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(dx_alone[..., 0], dx[..., i], rtol=1e-12, atol=1e-12)
        sums = {name: sums[name] + own[name] for name in own}
    for name in grads:
        np.testing.assert_allclose(sums[name], grads[name], rtol=1e-12, atol=1e-11)


@every_layer
def test_buffers_can_be_used_again(layer, shape):
    x, weights = example(layer, shape)
    again = Run(layer, x, weights)
    again.backward(again.forward(x * 7 + 1))
    y = again.forward(x)
    dx = again.backward(np.ones_like(y))
    y_fresh, dx_fresh, grads = run(layer, x, weights=weights)
    np.testing.assert_array_equal(y, y_fresh)
    np.testing.assert_array_equal(dx, dx_fresh)
    for name in grads:
        np.testing.assert_array_equal(again.grads[name], grads[name])


@every_layer
def test_input_and_weights_are_not_written_to(layer, shape):
    x, weights = example(layer, shape)
    one = Run(layer, x, weights)
    kept = x.copy()
    x.flags.writeable = False
    for weight in one.weights.values():
        weight.flags.writeable = False
    y = layer.forward(x, one.weights, one.work).copy()
    layer.backward(np.ones_like(y), one.weights, one.grads, one.work)
    np.testing.assert_array_equal(x, kept)
    for name, weight in one.weights.items():
        np.testing.assert_array_equal(weight, weights[name])


@every_layer
def test_strides_of_axes_of_length_one_do_not_matter(layer, shape):
    x, weights = example(layer, shape, 1)
    strides = [s if n > 1 else 8 * x.size for n, s in zip(x.shape, x.strides, strict=True)]
    one = Run(layer, x, weights)
    y = layer.forward(as_strided(x, x.shape, strides), one.weights, one.work).copy()
    dx = one.backward(np.ones_like(y))
    y_plain, dx_plain, grads = run(layer, x, weights=weights)
    np.testing.assert_array_equal(y, y_plain)
    np.testing.assert_array_equal(dx, dx_plain)
    for name in grads:
        np.testing.assert_array_equal(one.grads[name], grads[name])


@every_layer
def test_layers_hold_no_arrays(layer, shape):
    layer = clone(layer)
    before = dict(vars(layer))
    x, weights = example(layer, shape)
    run(layer, x, weights=weights)
    assert vars(layer) == before == layer.get_params()


@every_layer
def test_threads_share_a_layer(layer, shape):
    inputs = [example(layer, shape, n)[0] for n in (1, 2, 3, 4)] * 2
    weights = example(layer, shape)[1]
    serial = [run(layer, x, weights=weights) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda x: run(layer, x, weights=weights), inputs))
    for (y, dx, grads), (y_, dx_, grads_) in zip(serial, threaded, strict=True):
        np.testing.assert_array_equal(y, y_)
        np.testing.assert_array_equal(dx, dx_)
        for name in grads:
            np.testing.assert_array_equal(grads[name], grads_[name])


@pytest.mark.parametrize("layer", [Conv(3), Conv(2, 1), Dense(4)])
def test_first_layers_need_no_gradient_of_their_input(layer):
    x, weights = example(layer, (4, 5, 2))
    _, dx, grads = run(layer, x, weights=weights, needs_dx=False)
    assert dx is None
    _, _, expected = run(layer, x, weights=weights)
    for name in grads:
        np.testing.assert_array_equal(grads[name], expected[name])


@every_layer
def test_clone_repr_pickle(layer, shape):
    params = layer.get_params()
    for copy in (clone(layer), pickle.loads(pickle.dumps(layer)), eval(repr(layer))):
        assert type(copy) is type(layer)
        assert copy is not layer
        assert copy.get_params() == params
        copy.validate()


def test_set_params():
    layer = Conv(3).set_params(filters=5, kernel_size=(1, 2))
    assert layer.output_shape((4, 4, 1)) == (4, 4, 5)
    with pytest.raises(ValueError, match="Invalid parameter 'units'"):
        layer.set_params(units=3)


@pytest.mark.parametrize(("layer", "shape"), [(Conv(400, 5), (9, 9, 8)), (Dense(600), (9, 9, 8))])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_initial_weights_keep_the_variance(layer, shape, activation):
    layer = clone(layer).set_params(activation=activation)
    start = layer.initial_weights(shape, np.random.RandomState(0))
    shapes = layer.weight_shapes(shape)
    assert {name: w.shape for name, w in start.items()} == shapes
    if isinstance(layer, Conv):
        fan_in, fan_out = 5 * 5 * 8, 5 * 5 * 400
    else:
        fan_in, fan_out = 9 * 9 * 8, 600
    # He et al. (2015) for rectifiers, Glorot and Bengio (2010) for the others
    variance = 2 / fan_in if activation == "relu" else 2 / (fan_in + fan_out)
    assert start["coef"].var() == pytest.approx(variance, rel=0.02)
    assert abs(start["coef"].mean()) < 0.02 * np.sqrt(variance)
    assert not start["intercept"].any()


def test_a_layer_of_ones_own_has_defaults():
    layer = Layer()
    assert layer.output_shape((3, 4, 5)) == (3, 4, 5)
    assert layer.weight_shapes((3, 4, 5)) == layer.buffer_shapes((3, 4, 5), 2) == {}
    with pytest.raises(NotImplementedError):
        layer.forward(None, {}, {})
