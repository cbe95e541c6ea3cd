"""Random networks, a few passes of training through each, and what they are compared by.

A strategy of hypothesis draws networks of one to six layers of every kind and every geometry. In a
pass a batch goes forward and its gradient backward, in the buffers that earlier passes of as many
images have left, and the weights take a step. What is expected comes from whoever compares.
"""

from contextlib import ExitStack, contextmanager
from functools import cache, partial
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from reference import SpoiledBuffers, to_images, to_maps

from skcnn._engine import activations, blocks, depthwise, plan, products, winograd
from skcnn._engine.activations import ACTIVATIONS
from skcnn._model import network as networks
from skcnn._model.network import Network
from skcnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    Residual,
)

LARGEST_BATCH = 40
# Most numbers in a map of a whole batch, so that the batches of large maps are small.
MOST_NUMBERS = 60_000
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
# Errors are shares of at least so much: outputs of saturated activations are as small as rounding. In
# single precision, the logistic function is exact to 3e-8, and far below zero silu to 4e-7.
LEAST = {"float64": 1e-3, "float32": 1e-2}

names = st.sampled_from(sorted(ACTIVATIONS))
norms = st.builds(BatchNorm, st.sampled_from([0.1, 0.5, 1.0]), st.sampled_from([1e-5, 0.1]))
dropouts = st.builds(Dropout, st.sampled_from([0.0, 0.3, 0.6]))


# Everyday convolutions, for which there are kernels of their own: of wide ones the second is computed
# in tiles.
plain_convs = st.builds(
    Conv,
    st.integers(1, 8) | st.sampled_from([24, 32]),
    st.sampled_from([3, 3, 1, 5, 2]),
    padding=st.sampled_from(["same", "valid", 1]),
    activation=names,
)
wide_convs = st.tuples(
    st.builds(Conv, st.just(32), st.sampled_from([1, 3]), activation=names),
    st.builds(
        Conv,
        st.integers(24, 40),
        padding=st.sampled_from(["same", "valid", 1, 2]),
        activation=names,
    ),
    st.sampled_from([MaxPool(), MaxPool(3, stride=1), AvgPool()]),
)


def one_or_pair(numbers):
    return numbers | st.tuples(numbers, numbers)


class RandomNet(NamedTuple):
    """A network and the batches that go through it.

    Attributes
    ----------
    layers : tuple of Layer
    image_shape : (int, int, int)
    dtype : {"float32", "float64"}
    sizes : list of int
        Images in each batch.
    weighted : bool
        Whether the images have different weights.
    dark : bool
        Whether the images have a border of zeros, on which maxima tie.
    small_blocks : bool
        Whether the engine cuts its work into blocks of a few numbers.
    seed : int
        Of images and weights.
    """

    layers: tuple
    image_shape: tuple
    dtype: str
    sizes: list
    weighted: bool
    dark: bool
    small_blocks: bool
    seed: int


@st.composite
def nets(draw):
    """Draw a `RandomNet`."""
    sides = st.integers(1, 12)
    rows, columns = draw(
        st.tuples(sides, sides)
        | st.tuples(st.just(1), st.integers(1, 48))  # a signal
        | st.tuples(st.integers(1, 48), st.just(1))
        | st.sampled_from([(1, 1), (16, 16)])
    )
    shape = image_shape = rows, columns, draw(st.integers(1, 4) | st.sampled_from([8, 24]))
    layers, largest = [], int(np.prod(shape))
    for _ in range(draw(st.integers(1, 6))):
        for layer in draw(layers_on(shape[2])):
            if len(layers) < 6 and fits(layer, shape):
                shape = layer.output_shape(shape)
                layers.append(layer)
                largest = max(largest, int(np.prod(shape)))
    most = min(max(MOST_NUMBERS // largest, 1), LARGEST_BATCH)
    numbers = st.integers(1, most) | st.sampled_from([n for n in (1, 8, 16, 32) if n <= most])
    sizes = draw(st.lists(numbers, min_size=2, max_size=2))
    if draw(st.booleans()):
        sizes.append(draw(st.sampled_from(sizes)))  # buffers that are used again
    return RandomNet(
        tuple(layers or [Activation(draw(names))]),
        image_shape,
        draw(st.sampled_from(["float64", "float32"])),
        sizes,
        weighted=draw(st.booleans()),
        dark=draw(st.booleans()),
        small_blocks=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def kinds(layers):
    """Return the names of the classes of layers, those within blocks too."""
    inner = [kinds(layer.layers) for layer in layers if isinstance(layer, Residual)]
    return {type(layer).__name__ for layer in layers}.union(*inner)


def least_gradient(net, largest):
    """Return the least number that errors of an array of gradients are shares of.

    Gradients that cancel consist of rounding, as those of intercepts before a `BatchNorm` do, and
    those of saturated activations are as small as rounding: a slope that follows from the output is
    exact to 1e-16 in double precision, not to as many digits.
    """
    return max(1e-3 * largest, 1e-5) if net.dtype == "float64" else max(1e-2 * largest, 0.1)


def fits(layer, shape):
    """Whether a layer takes maps of a shape, and makes none that are too large to test."""
    layer.validate()
    try:
        return np.prod(layer.output_shape(shape)) <= MOST_NUMBERS
    except ValueError:
        return False


@cache  # to make a strategy takes as long as to draw from it
def layers_on(channels):
    """Return a strategy of one layer, or two that belong together, on maps of some channels."""
    return st.one_of(
        convs(channels).map(one),
        plain_convs.map(one),
        plain_convs.map(lambda conv: [conv, MaxPool()]),  # computed in one pass
        wide_convs,
        pools(MaxPool).map(one),
        pools(AvgPool).map(one),
        st.sampled_from([GlobalMaxPool(), GlobalAvgPool()]).map(one),
        st.builds(Dense, st.integers(1, 6) | st.just(40), activation=names).map(one),
        norms.map(one),
        st.builds(Activation, names).map(one),
        residuals(channels).map(one),
        dropouts.map(one),
    )


def one(layer):
    return [layer]


@st.composite
def convs(draw, channels):
    """Draw a convolution of any geometry."""
    small = st.integers(1, 3)
    groups = draw(st.sampled_from(divisors(channels)))
    return Conv(
        groups * draw(small),
        draw(one_or_pair(st.integers(1, 5))),
        stride=draw(one_or_pair(small)),
        padding=draw(st.sampled_from(["same", "valid"]) | one_or_pair(st.integers(0, 3))),
        dilation=draw(one_or_pair(small)),
        groups=groups,
        activation=draw(names),
    )


def divisors(n):
    return [g for g in range(1, n + 1) if n % g == 0]


@st.composite
def pools(draw, kind):
    """Draw a pooling, with windows that overlap, leave gaps or reach beyond the map."""
    size = draw(one_or_pair(st.integers(1, 4)))
    least = size if isinstance(size, int) else min(size)
    padding = draw(st.sampled_from(["valid", "same"]) | one_or_pair(st.integers(0, least - 1)))
    return kind(size, stride=draw(st.none() | one_or_pair(st.integers(1, 4))), padding=padding)


@cache
def residuals(channels, depth=0):
    """Return a strategy of blocks of up to three layers, each of which keeps the map's shape."""
    window = {"stride": st.just(1), "padding": st.just("same")}
    keeping = [
        st.builds(
            Conv,
            st.just(channels),
            one_or_pair(st.integers(1, 4)),
            dilation=one_or_pair(st.integers(1, 3)),
            groups=st.sampled_from(divisors(channels)),
            activation=names,
        ),
        st.builds(Conv, st.just(channels), activation=names),
        st.builds(MaxPool, one_or_pair(st.integers(1, 4)), **window),
        st.builds(AvgPool, one_or_pair(st.integers(1, 4)), **window),
        norms,
        st.builds(Activation, names),
        dropouts,
    ]
    if depth < 2:
        keeping.append(st.deferred(lambda: residuals(channels, depth + 1)))
    layers = st.lists(st.one_of(keeping), max_size=3).map(tuple)
    return st.builds(Residual, layers, activation=names)


class Pass(NamedTuple):
    """What went into a pass, and what skcnn has made of it.

    Attributes
    ----------
    images : ndarray of shape (n_images, rows, columns, channels)
    shares : ndarray of shape (n_images,)
        The images' weights.
    dy : ndarray
        Gradient of the outputs, like them (n_images, rows, columns, channels).
    random : callable
        Returns a generator of the random numbers of this pass, from their beginning.
    coefs, intercepts : list of ndarray
        As users see them.
    running : list of (ndarray, ndarray)
        Means and variances that each `BatchNorm` predicts with.
    outputs, predictions : ndarray
        While learning, and after it.
    gradients : list of ndarray
        Of `coefs`, then of `intercepts`.
    moments : list of (ndarray, ndarray)
        Means and variances that each `BatchNorm` has found.
    """

    images: np.ndarray
    shares: np.ndarray
    dy: np.ndarray
    random: object
    coefs: list
    intercepts: list
    running: list
    outputs: np.ndarray
    predictions: np.ndarray
    gradients: list
    moments: list


def passes(net):
    """Return a list of the passes of a `RandomNet`'s batches."""
    with engine_blocks(net.small_blocks):
        return list(_passes(net))


def _passes(net):
    network = Network(net.layers, net.image_shape)
    rng = np.random.default_rng(net.seed)
    vector = random_weights(network, rng).astype(net.dtype)
    grads = np.empty_like(vector)
    weights, grad_views = network.views(vector), network.views(grads)
    kept = {}
    for number, n_images in enumerate(net.sizes):
        if n_images not in kept:
            kept[n_images] = spoiled(network, n_images, net.dtype)
        works = kept[n_images]
        images = random_images(net, n_images, rng)
        shares = rng.uniform(0.25, 2, n_images) if net.weighted else np.ones(n_images)
        shares = shares.astype(net.dtype)
        seed = net.seed, number
        works[0]._buffers.spoil(forward=True)
        works[0].shard.begin(shares, seed)
        y = network.forward(to_maps(images), weights, works).copy()
        dy = rng.standard_normal(y.shape).astype(net.dtype)
        works[0]._buffers.spoil(forward=False)
        assert y.dtype == dy.dtype == net.dtype
        grads.fill(np.nan)
        network.backward(dy.copy(), weights, grad_views, works)
        own = vector.copy()
        coefs, intercepts = network.public_weights(own)
        dcoefs, dintercepts = network.public_weights(grads.copy())
        yield Pass(
            images,
            shares,
            to_images(dy),
            partial(generator, seed, net.dtype),
            coefs,
            intercepts,
            statistics(network, own),
            to_images(y),
            predictions(network, weights, images),
            dcoefs + dintercepts,
            statistics(network, grads / shares.sum()),
        )
        take_step(network, vector, grads, shares.sum())


def random_weights(network, rng):
    """Return a vector of weights that keep the size of the maps; no scale or variance is near 0."""
    vector = np.empty(network.n_weights)
    for views in network.views(vector):
        for name, array in views.items():
            if name == "variance":
                array[...] = rng.uniform(0.5, 2, array.shape)
            elif name == "coef" and array.ndim > 1:
                n_in = len(array) if array.ndim == 2 else array[0].size
                array[...] = rng.normal(0, np.sqrt(2 / n_in), array.shape)
            else:
                array[...] = rng.normal(name == "coef", 0.3, array.shape)
    return vector


def random_images(net, n_images, rng):
    images = rng.standard_normal((n_images, *net.image_shape))
    if net.dark:
        rows, columns, _ = net.image_shape
        dark = np.ones((rows, columns, 1))
        dark[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4] = 0
        images *= 1 - dark
    return images.astype(net.dtype)


def spoiled(network, n_images, dtype, **how):
    """Return buffers in which NaN stands wherever a pass may not rely on what it finds."""
    with mock.patch.object(networks, "Buffers", SpoiledBuffers):
        return network.workspaces(n_images, dtype, **how)


def generator(seed, dtype):
    """Return what draws the numbers of `Dropout`, an array of the type that the network has."""
    random = np.random.Generator(np.random.SFC64(seed)).random
    return SimpleNamespace(random=partial(random, dtype=dtype))


def statistics(network, vector):
    """Return the means and variances that lie in a vector."""
    views = network.views(vector)
    return [(own["mean"], own["variance"]) for own in views if "mean" in own]


def predictions(network, weights, images):
    """Return outputs as a prediction of several parts makes them, of which this is the second."""
    works = spoiled(network, len(images), images.dtype, learning=False, weights_stay=True)
    for part in (images[::-1], images):
        works[0]._buffers.spoil(forward=False)
        works[0].shard.begin(None, None)
        y = network.forward(to_maps(part), weights, works)
    return to_images(y.copy())


def take_step(network, vector, grads, total):
    """Go down the gradient, and follow the statistics as training does."""
    learned = slice(0, network.n_learned)
    largest = np.abs(grads[learned]).max(initial=np.finfo(grads.dtype).tiny)
    vector[learned] -= 0.2 / largest * grads[learned]
    for step, own, found in zip(
        network.steps, network.views(vector), network.views(grads), strict=True
    ):
        for name in own.keys() & {"mean", "variance"}:
            own[name] += step.momentum * (found[name] / total - own[name])


@contextmanager
def engine_blocks(small):
    """Let the engine cut its work into small blocks, or leave it as it is."""
    sizes = [
        (blocks, "BLOCK_SIZE", 500),
        (winograd, "TILE_RUN", 16),
        (activations, "MAP_BLOCK", 300),
        (products, "SMALL_PRODUCT", 2000),
        (products, "PIECE_COLUMNS", (4, 32)),
        (products, "PIECE_ROWS", 32),
        (products, "PIECE_DEPTH", (4, 16)),
        (products, "ROW_RESULTS", 20),
    ]
    with ExitStack() as stack:
        stack.callback(forget_blocks)
        for module, name, size in sizes if small else ():
            stack.enter_context(mock.patch.object(module, name, size))
        forget_blocks()
        yield


def forget_blocks():
    """Let what depends on the size of blocks be found anew."""
    for cached in (plan._blocks, depthwise._pieces, winograd.tiling):
        cached.cache_clear()


def errors(found, evaluate, dtype, floors=None):
    """Return the error of each array found, a share of the largest number expected in it.

    Near a kink, or where numbers cancel, rounding moves the results of a network far. So an error
    above the tolerance counts only as far as rounding does not explain it: as far as it is above ten
    times what the same result moves by if all inputs, weights and maps are moved by a few roundings.

    Parameters
    ----------
    found : dict of ndarray
    evaluate : callable
        ``evaluate(rounding)`` returns a dict of what is expected. Unless `rounding` is None, each
        input, weight and map is multiplied by the first and moved by the second array that
        ``rounding(array)`` returns; sums are rounded by shares of their largest terms.
    dtype : {"float32", "float64"}
        Which the arrays found were computed in.
    floors : dict of float, default=None
        Least number of each array that errors are shares of, in the place of `LEAST`.

    Returns
    -------
    errors : dict of float
    sensitive : bool
        Whether there was an error above the tolerance.
    """
    floors = floors or {}
    exact = evaluate(None)
    assert found.keys() == exact.keys()
    for name in found:
        assert found[name].shape == exact[name].shape, name
    scales = {
        name: max(np.abs(array).max(initial=0), floors.get(name, LEAST[dtype]))
        for name, array in exact.items()
    }
    shares = {name: share(found[name] - exact[name], scales[name]) for name in found}
    if max(shares.values()) <= TOLERANCES[dtype]:
        return shares, False
    rng = np.random.default_rng(0)
    size = 8 * np.finfo(dtype).eps

    def rounding(array):
        factors, shifts = (size * rng.uniform(-1, 1, array.shape) for _ in range(2))
        return 1 + factors, shifts * np.abs(array).max(initial=0) * (array != 0)

    off = dict.fromkeys(found, 0.0)
    for _ in range(12):
        moved = evaluate(rounding)
        for name in found:
            off[name] = max(off[name], share(moved[name] - exact[name], scales[name]))
    return {name: max(shares[name] - 10 * off[name], 0.0) for name in found}, True


def share(difference, scale):
    """Return the largest difference over a scale; NaN, which no pass may leave, is infinite."""
    largest = np.abs(difference).max(initial=0) / scale
    return np.inf if np.isnan(largest) else float(largest)
