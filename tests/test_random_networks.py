"""Random networks against networks in plain NumPy, whose slopes check the gradients.

`benchmarks/random_networks.py` compares more of them with torch.
"""

from functools import partial

import numpy as np
import plain_nets
from properties import HealthCheck, given, settings
from random_nets import nets
from random_passes import TOLERANCES, errors, least_gradient, passes


@given(nets())
@settings(max_examples=500, suppress_health_check=list(HealthCheck))
def test_random_networks(net):
    for done in passes(net):
        found_errors = errors_of_pass(net, done)
        assert max(found_errors.values()) <= TOLERANCES[net.dtype], found_errors


def errors_of_pass(net, done):
    """Return the errors of outputs, moments and the slope of all weights in a random direction."""
    directions = balanced_directions(net, done.gradients)
    slope = sum(np.vdot(g, d) for g, d in zip(done.gradients, directions, strict=True))
    found = results(done.outputs, done.predictions, slope, done.moments)
    evaluate = partial(expected, net, done, directions)
    return errors(found, evaluate, net.dtype, {"slope": 1.0})[0]


def balanced_directions(net, gradients):
    """Return a random direction for each array, along which slopes are of about the same size."""
    rng = np.random.default_rng(1)
    norms = [np.linalg.norm(gradient.astype(float)) for gradient in gradients]
    least = least_gradient(net, max(norms, default=0))
    return [
        rng.standard_normal(gradient.shape) / max(norm, least)
        for gradient, norm in zip(gradients, norms, strict=True)
    ]


def expected(net, done, directions, rounding):
    """Return the `results` of plain NumPy; `rounding` is as in `errors`."""

    def move(array):
        factors, shifts = rounding(array.real)
        return array * factors + shifts

    move = None if rounding is None else move
    exact = (done.images, done.shares, done.dy, done.coefs + done.intercepts, done.running)
    images, shares, dy, weights, running = moved(move, exact)
    stepped = [w + 1j * plain_nets.STEP * d for w, d in zip(weights, directions, strict=True)]
    learning = plain_nets.Shard(pairs(stepped), shares, done.random(), move=move)
    outputs = plain_nets.run(net.layers, images, learning)
    predicting = plain_nets.Shard(pairs(weights), None, None, iter(running), move=move)
    predictions = plain_nets.run(net.layers, images, predicting)
    slope = (outputs.imag * dy).sum() / plain_nets.STEP
    moments = [(mean.real, variance.real) for mean, variance in learning.moments]
    return results(outputs.real, predictions, slope, moments)


def moved(move, arrays):
    """Return arrays, which may lie in lists, in float64 and moved."""
    if isinstance(arrays, list | tuple):
        return [moved(move, each) for each in arrays]
    return arrays.astype(float) if move is None else move(arrays.astype(float))


def pairs(weights):
    """Yield the coefficients and intercepts of each layer."""
    half = len(weights) // 2
    return zip(weights[:half], weights[half:], strict=True)


def results(outputs, predictions, slope, moments):
    named = {"outputs": outputs, "predictions": predictions, "slope": np.array(slope)}
    return named | {f"moments {i}": np.array(both) for i, both in enumerate(moments)}
