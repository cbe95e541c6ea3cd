"""Activation functions, each followed by its gradient.

A monotone activation commutes with max pooling, and its gradient follows from its output `y`: a
layer can therefore apply it in place, after the pooling. The gradient of the other activations
needs their input, which must be kept; see `has_own_step`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from skcnn._engine.blocks import MAP_BLOCK, even_slices

LEAK = 0.01  # slope of leaky_relu below zero, as in PyTorch


class Activation(NamedTuple):
    """``forward(z, out)`` writes an activation to `out`, ``backward(dy, y, out)`` its gradient.

    Both can work in place, with `z` or `dy` as `out`. If the activation is not `monotone`,
    `backward` takes the input `z` instead of the output `y`.
    """

    forward: Callable
    backward: Callable
    monotone: bool = True


def _identity(z, out):
    if out is not z:
        np.copyto(out, z)


def _identity_backward(dy, y, out):
    if out is not dy:
        np.copyto(out, dy)


@lru_cache(maxsize=32)
def _zeros(shape, dtype):
    return np.zeros(shape, dtype)


def zeros_like_part(z):
    """Return an array of zeros that broadcasts to `z`, to be compared with it.

    A maximum with this array took a quarter of the time of one with the number 0 (10 and 2.7
    billion numbers a second, Zen 4).
    """
    return _zeros(z.shape[1:], z.dtype)


def _relu(z, out):
    np.maximum(z, zeros_like_part(z), out=out)


def _relu_backward(dy, y, out):
    np.multiply(dy, y > 0, out=out)


def _leaky_relu(z, out):
    np.maximum(z, z * z.dtype.type(LEAK), out=out)


def _leaky_relu_backward(dy, y, out):
    # the maximum of (y > 0) and LEAK is the slope, without a conditional copy
    slope = (y > 0).astype(y.dtype)
    np.maximum(slope, y.dtype.type(LEAK), out=slope)
    np.multiply(dy, slope, out=out)


def _logistic(z, out):
    # 0.5 * (1 + tanh(z / 2)) never overflows
    np.multiply(z, 0.5, out=out)
    np.tanh(out, out=out)
    out += 1
    out *= 0.5


def _logistic_backward(dy, y, out):
    slope = 1 - y
    slope *= y
    np.multiply(dy, slope, out=out)


def _tanh(z, out):
    np.tanh(z, out=out)


def _tanh_backward(dy, y, out):
    slope = y * y
    np.subtract(1, slope, out=slope)
    np.multiply(dy, slope, out=out)


def _elu(z, out):
    below = np.minimum(z, 0)
    np.expm1(below, out=below)
    np.maximum(z, zeros_like_part(z), out=out)
    out += below


def _elu_backward(dy, y, out):
    slope = np.minimum(y, 0)
    slope += 1
    np.multiply(dy, slope, out=out)


def _silu(z, out):
    gate = np.empty_like(z)
    _logistic(z, gate)
    np.multiply(z, gate, out=out)


def _silu_backward(dy, z, out):
    gate = np.empty_like(z)
    _logistic(z, gate)
    slope = 1 - gate
    slope *= z
    slope += 1
    slope *= gate
    np.multiply(dy, slope, out=out)


def _gelu(z, out):
    np.multiply(z, ndtr(z), out=out)


def _gelu_backward(dy, z, out):
    slope = z * z
    slope *= -0.5
    np.exp(slope, out=slope)
    slope *= z
    slope *= 1 / np.sqrt(2 * np.pi).astype(z.dtype)
    slope += ndtr(z)
    np.multiply(dy, slope, out=out)


def has_own_step(name):
    """Whether an activation needs its input for the gradient, so no layer can apply it in place."""
    return not ACTIVATIONS[name].monotone


def backward_in_blocks(activation, dy, y, out):
    """Write the gradient of an activation to `out`, a few rows at a time to stay in cache."""
    for rows in even_slices(len(y), max(MAP_BLOCK // int(np.prod(y.shape[1:])), 1)):
        activation.backward(dy[rows], y[rows], out[rows])


ACTIVATIONS = {
    "identity": Activation(_identity, _identity_backward),
    "relu": Activation(_relu, _relu_backward),
    "leaky_relu": Activation(_leaky_relu, _leaky_relu_backward),
    "logistic": Activation(_logistic, _logistic_backward),
    "tanh": Activation(_tanh, _tanh_backward),
    "elu": Activation(_elu, _elu_backward),
    "silu": Activation(_silu, _silu_backward, monotone=False),
    "gelu": Activation(_gelu, _gelu_backward, monotone=False),
}
