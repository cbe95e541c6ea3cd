"""Random networks: a strategy of hypothesis draws one to six layers of every kind and geometry."""

from functools import cache
from typing import NamedTuple

import numpy as np
from properties import st

from skcnn._engine.activations import ACTIVATIONS
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
