"""A few passes of training through a network of `random_nets`, and what their errors are.

In a pass a batch goes forward and its gradient backward, in the buffers that earlier passes of as many
images have left, and the weights take a step. What is expected comes from whoever compares.
"""

from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np
from reference import SpoiledBuffers, to_images, to_maps

from skcnn._engine import activations, blocks, depthwise, pieces, plan, products, winograd
from skcnn._engine.kernels import kernel_for
from skcnn._model import network as networks
from skcnn._model.network import Network

TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
# Errors are shares of at least so much: outputs of saturated activations are as small as rounding. In
# single precision, the logistic function is exact to 3e-8, and far below zero silu to 4e-7.
LEAST = {"float64": 1e-3, "float32": 1e-2}


def least_gradient(net, largest):
    """Return the least number that errors of an array of gradients are shares of.

    Gradients that cancel consist of rounding, as those of intercepts before a `BatchNorm` do, and
    those of saturated activations are as small as rounding: a slope that follows from the output is
    exact to 1e-16 in double precision, not to as many digits.
    """
    return max(1e-3 * largest, 1e-5) if net.dtype == "float64" else max(1e-2 * largest, 0.1)


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
            statistics_found(works),
        )
        take_step(network, vector, grads, works)


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


def statistics_found(works):
    """Return copies of the means and variances that a forward pass has left."""
    return [(work["mean"].copy(), work["variance"].copy()) for work in works if "mean" in work]


def take_step(network, vector, grads, works):
    """Go down the gradient, and follow the statistics."""
    learned = slice(0, network.n_learned)
    largest = np.abs(grads[learned]).max(initial=np.finfo(grads.dtype).tiny)
    vector[learned] -= 0.2 / largest * grads[learned]
    for own, work in zip(network.views(vector), works, strict=True):
        for name in own.keys() & {"mean", "variance"}:
            own[name] += 0.3 * (work[name] - own[name])


@contextmanager
def engine_blocks(small):
    """Let the engine cut its work into small blocks, or leave it as it is."""
    sizes = [
        (blocks, "BLOCK_SIZE", 500),
        (pieces, "BLOCK_SIZE", 500),
        (pieces, "LONG_ROW", 60),
        (pieces, "LEAST_SHARES", 1),
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
    for cached in (plan._blocks, depthwise._pieces, winograd.tiling, pieces.pieces_of, kernel_for):
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
