"""References in plain loops and SciPy, and the little that runs one layer alone.

Images here are channels-last, (images, rows, columns, channels), as users have them.
"""

import os
import time

import numpy as np
import pytest
from scipy.signal import correlate
from scipy.special import erf, expit

from skcnn._engine.buffers import Buffers, Zeros
from skcnn._model import shards
from skcnn._workers import pool as pools
from skcnn.layers.base import Shard, Workspace

NO_PROCESSES = os.environ.get("SKCNN_PROCESSES") == "0"
needs_processes = pytest.mark.skipif(NO_PROCESSES, reason="SKCNN_PROCESSES is 0")

ACTIVATE = {
    "identity": lambda z: z,
    "relu": lambda z: np.where(z > 0, z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "logistic": expit,
    "tanh": np.tanh,
    "elu": lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "gelu": lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
}


def pair(value):
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def paddings(padding, spans):
    """Return ((top, bottom), (left, right)) for windows that span so many pixels."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding == "same":
        return tuple(((span - 1) // 2, span - 1 - (span - 1) // 2) for span in spans)
    return tuple((p, p) for p in pair(padding))


def conv(
    images,
    filters,
    intercept=0.0,
    stride=1,
    padding="same",
    dilation=1,
    groups=1,
    activation="relu",
    init=None,
):
    """Convolve by SciPy, one image and one filter at a time; `init` is only a layer's parameter."""
    (rows, columns), (down, right) = filters.shape[1:3], pair(dilation)
    spread = np.zeros(
        (len(filters), down * (rows - 1) + 1, right * (columns - 1) + 1, filters.shape[3])
    )
    spread[:, ::down, ::right] = filters
    padded = np.pad(images, ((0, 0), *paddings(padding, spread.shape[1:3]), (0, 0)))
    step_down, step_right = pair(stride)
    per_group, seen = len(filters) // groups, images.shape[3] // groups
    maps = []
    for f, filter_ in enumerate(spread):
        first = f // per_group * seen
        maps.append(
            [
                correlate(image[..., first : first + seen], filter_, "valid", "direct")[..., 0]
                for image in padded
            ]
        )
    z = np.moveaxis(np.array(maps), 0, -1)[:, ::step_down, ::step_right] + intercept
    return ACTIVATE[activation](z)


def windows(image_shape, size, stride, padding):
    """Yield (row, column, rows covered, columns covered) of the windows of a pooling."""
    stride = pair(size if stride is None else stride)
    size = tuple(min(k, n) for k, n in zip(pair(size), image_shape, strict=False))
    if not isinstance(padding, str):
        padding = tuple(min(p, k - 1) for p, k in zip(pair(padding), size, strict=True))
    pads = paddings(padding, size)
    spans = []
    for n, k, s, (before, after) in zip(image_shape, size, stride, pads, strict=False):
        starts = range(-before, n + after - k + 1, s)
        spans.append([range(max(a, 0), min(a + k, n)) for a in starts])
    for i, rows in enumerate(spans[0]):
        for j, columns in enumerate(spans[1]):
            yield i, j, rows, columns


def pool(images, size=2, stride=None, padding="valid", reduce=np.max):
    """Pool window by window."""
    places = list(windows(images.shape[1:3], size, stride, padding))
    n_rows, n_columns = places[-1][0] + 1, places[-1][1] + 1
    y = np.empty((len(images), n_rows, n_columns, images.shape[3]))
    for i, j, rows, columns in places:
        part = images[:, rows.start : rows.stop, columns.start : columns.stop]
        y[:, i, j] = reduce(part, axis=(1, 2))
    return y


def flatten(images):
    """Flatten filter by filter, as a dense layer reads a map."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def to_maps(images):
    """Return images in the layout of the layers: (rows, channels, columns, images)."""
    return np.ascontiguousarray(images.transpose(1, 3, 2, 0))


def to_images(maps):
    return maps.transpose(3, 0, 2, 1)


class SpoiledBuffers(Buffers):
    """Buffers that hold NaN wherever a pass may not rely on what an earlier one has left."""

    def __init__(self):
        super().__init__()
        self._scratch_arrays, self._others = [], []

    def array(self, shape, dtype):
        array = super().array(shape, dtype)
        if not isinstance(shape, Zeros):
            self._others.append(array)
            self._spoil([array])
        return array

    def scratch(self, start, shape, dtype):
        array, end = super().scratch(start, shape, dtype)
        self._scratch_arrays.append(array)
        self._spoil([array])
        return array, end

    def spoil(self, *, forward):
        """Spoil all before a pass forward, and only the scratch before one backward."""
        self._spoil(self._scratch_arrays + self._others * forward)

    @staticmethod
    def _spoil(arrays):
        for array in arrays:
            array.fill(np.nan)  # True in a mask


class Run:
    """One layer with weights and buffers of its own, on a batch of images in its layout."""

    def __init__(self, layer, x, weights=None, needs_dx=True):
        rows, channels, columns, n_images = x.shape
        self.layer = layer
        self.shape = (rows, columns, channels)
        shard = Shard()
        shard.begin(np.ones(n_images, x.dtype), seed=0)
        self.buffers = SpoiledBuffers()
        self.work = Workspace(
            layer,
            self.shape,
            n_images,
            x.dtype,
            needs_dx=needs_dx,
            shard=shard,
            buffers=self.buffers,
        )
        self.weights = {} if weights is None else weights
        self.weights = {name: w.astype(x.dtype) for name, w in self.weights.items()}
        self.grads = {name: np.full_like(w, np.nan) for name, w in self.weights.items()}

    def forward(self, x):
        self.buffers.spoil(forward=True)
        return self.layer.forward(x.copy(), self.weights, self.work).copy()

    def backward(self, dy):
        """Return the gradient of the input; those of the weights are in `grads`."""
        self.buffers.spoil(forward=False)
        dx = self.layer.backward(dy.copy(), self.weights, self.grads, self.work)
        return None if dx is None else dx.copy()


def run(layer, x, dy=None, weights=None, needs_dx=True):
    """Return (y, dx, grads) of a forward and a backward pass, in buffers that others have used."""
    one = Run(layer, x, weights, needs_dx)
    before = np.random.default_rng(99).standard_normal(x.shape).astype(x.dtype)
    one.backward(1 + one.forward(before))
    for gradient in one.grads.values():
        gradient.fill(np.nan)
    y = one.forward(x)
    return y, one.backward(np.ones_like(y) if dy is None else dy), one.grads


def numeric_gradient(function, at, step=1e-6):
    """Return the gradient of a function of one array, by central differences."""
    gradient = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        kept = at[place]
        at[place] = kept + step
        above = function(at)
        at[place] = kept - step
        gradient[place] = (above - function(at)) / (2 * step)
        at[place] = kept
    return gradient


def scaled_up(weights):
    """Return weights of samples as the package counts them, with a mean of at least 1, zeros aside."""
    return weights * max(np.count_nonzero(weights) / weights.sum(), 1)


def use_workers(monkeypatch, kind):
    """Have fits with several workers use "processes" or "threads", however small they are.

    Processes that are starting are waited for; else a short fit would end without them. Where the
    environment forbids processes, a test that uses them is skipped.
    """
    if kind == "processes" and NO_PROCESSES:
        pytest.skip("SKCNN_PROCESSES is 0")
    monkeypatch.setattr(pools, "WORKER_FLOPS", -1)
    monkeypatch.setattr(pools, "START_FLOPS", -1)
    monkeypatch.setattr(shards, "WORTHWHILE_SIZE", 1)
    if kind == "threads":
        monkeypatch.setattr(pools, "hire", lambda pool, n, may_start: ([], None))
        return
    start = pools.Processes.start

    def start_and_wait(self, job):
        start(self, job)
        deadline = time.monotonic() + 60
        while not all(worker.takes_part(self._pickled) for worker in self._workers):
            assert time.monotonic() < deadline, "a worker process did not start"
            time.sleep(0.001)

    monkeypatch.setattr(pools.Processes, "start", start_and_wait)
