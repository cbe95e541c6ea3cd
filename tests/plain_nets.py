"""Networks in plain NumPy, one operation after the other, for images and weights that may be complex.

All functions are those of real numbers, continued, and order is by real parts. So a derivative is
the imaginary part that a tiny step along the imaginary axis leaves: a finite difference without
cancellation, exact to rounding, and next to a kink as well (Squire and Trapp, 1998). With real
numbers they are the usual networks. Images are (images, rows, columns, channels).
"""

from dataclasses import dataclass, field

import numpy as np
from reference import flatten, paddings, pair, windows
from scipy.special import erfc

from skcnn import layers as L

STEP = 1e-20


def above(z):
    return z.real > 0


def logistic(z):
    return 1 / (1 + np.exp(-z))


ACTIVATE = {
    "identity": lambda z: z,
    "relu": lambda z: np.where(above(z), z, 0),
    "leaky_relu": lambda z: np.where(above(z), z, 0.01 * z),
    "logistic": logistic,
    "tanh": np.tanh,
    "elu": lambda z: np.where(above(z), z, np.expm1(np.where(above(z), 0, z))),
    "silu": lambda z: z * logistic(z),
    "gelu": lambda z: z * erfc(-z / np.sqrt(2)) / 2,
}


@dataclass
class Shard:
    """What layers see beside maps.

    Attributes
    ----------
    weights : iterator of (ndarray, ndarray)
        Coefficients and intercepts that no layer has used yet.
    shares : ndarray of shape (n_images,)
        The images' weights.
    random : object
        Has a method `random`, which `Dropout` draws by.
    running : iterator of (ndarray, ndarray), default=None
        Means and variances to predict with; None while learning.
    moments : list of (ndarray, ndarray)
        Those that each `BatchNorm` finds, for whoever wants to see them.
    move : callable, default=None
        Applied to the output of each layer and wherever a `BatchNorm` reads its input, as rounding
        would be.
    """

    weights: object
    shares: object
    random: object
    running: object = None
    moments: list = field(default_factory=list)
    move: object = None

    def moved(self, x):
        return x if self.move is None else self.move(x)


def run(layers, x, shard):
    """Return what the layers make of images."""
    for layer in layers:
        x = shard.moved(OPERATIONS[type(layer)](layer, x, shard))
    return x


def conv(layer, x, shard):
    """Add up the maps that each tap of the filters makes of a shifted image."""
    coef, intercept = next(shard.weights)
    n_filters, taps_down, taps_right, n_seen = coef.shape
    (down, right), steps = pair(layer.dilation), pair(layer.stride)
    spans = down * (taps_down - 1) + 1, right * (taps_right - 1) + 1
    x = np.pad(x, ((0, 0), *paddings(layer.padding, spans), (0, 0)))
    n_windows = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:3], spans, steps, strict=True)]
    z = np.zeros((len(x), *n_windows, n_filters), np.result_type(x, coef)) + intercept
    size = n_filters // layer.groups
    for group in range(layer.groups):
        filters, channels = (slice(group * n, (group + 1) * n) for n in (size, n_seen))
        for i, j in np.ndindex(taps_down, taps_right):
            rows, columns = (
                slice(at, at + (n - 1) * s + 1, s)
                for at, n, s in zip((i * down, j * right), n_windows, steps, strict=True)
            )
            shifted = x[:, rows, columns, channels]
            z[..., filters] += np.tensordot(shifted, coef[filters, i, j], (3, 1))
    return ACTIVATE[layer.activation](z)


def dense(layer, x, shard):
    coef, intercept = next(shard.weights)
    return ACTIVATE[layer.activation](flatten(x) @ coef + intercept)[:, None, None]


def pool(reduce):
    """Return the pooling that reduces a window of shape (images, pixels, channels)."""

    def operation(layer, x, shard):
        size = layer.get_params().get("pool_size", x.shape[1:3])
        stride, padding = getattr(layer, "stride", None), getattr(layer, "padding", "valid")
        found = {
            (i, j): reduce(x[:, rows][:, :, columns].reshape(len(x), -1, x.shape[3]))
            for i, j, rows, columns in windows(x.shape[1:3], size, stride, padding)
        }
        n_rows, n_columns = np.max(list(found), axis=0) + 1
        values = np.stack(list(found.values()), axis=1)
        return values.reshape(len(x), n_rows, n_columns, x.shape[3])

    return operation


def first_maximum(pixels):
    largest = pixels.real.argmax(axis=1)[:, None]
    return np.take_along_axis(pixels, largest, axis=1)[:, 0]


def mean(pixels):
    return pixels.mean(axis=1)


def batch_norm(layer, x, shard):
    scale, shift = next(shard.weights)
    if shard.running is None:
        share = (shard.shares / shard.shares.sum())[:, None]
        centre = (shard.moved(x).mean(axis=(1, 2)) * share).sum(axis=0)
        # a variance does not depend on the mean that it is taken around, except by rounding
        squares = (shard.moved(x) - centre.real) ** 2
        variance = (squares.mean(axis=(1, 2)) * share).sum(axis=0)
        shard.moments.append((centre, variance))
    else:
        centre, variance = next(shard.running)
    return (x - centre) / np.sqrt(variance + layer.epsilon) * scale + shift


def dropout(layer, x, shard):
    if not layer.rate or shard.running is not None:
        return x
    drawn = shard.random.random((*x.shape[1::2], x.shape[2], len(x)))  # in skcnn's order of axes
    return x * (drawn.transpose(3, 0, 2, 1) >= layer.rate) / (1 - layer.rate)


def activation(layer, x, shard):
    return ACTIVATE[layer.activation](x)


def residual(layer, x, shard):
    return ACTIVATE[layer.activation](x + run(layer.layers, x, shard))


OPERATIONS = {
    L.Activation: activation,
    L.AvgPool: pool(mean),
    L.BatchNorm: batch_norm,
    L.Conv: conv,
    L.Dense: dense,
    L.Dropout: dropout,
    L.GlobalAvgPool: pool(mean),
    L.GlobalMaxPool: pool(first_maximum),
    L.MaxPool: pool(first_maximum),
    L.Residual: residual,
}
