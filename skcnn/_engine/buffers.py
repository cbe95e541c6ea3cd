"""Where a layer's arrays lie, and what each of them promises."""

import math

import numpy as np

from skcnn._engine.blocks import LINE_BYTES


class Mask(tuple):
    """The shape of a buffer of booleans; every other buffer has the network's float type."""


class Zeros(tuple):
    """The shape of a buffer that begins as zeros, and in which some must stay zero.

    The padding of a map, for example: no pass writes there. All other buffers hold anything when a
    forward pass begins.
    """


class Scratch(tuple):
    """The shape of a buffer whose contents no later call needs; other layers write to it as well."""


def _line_bytes(shape, dtype):
    """Return the bytes that an array takes in whole lines of the cache.

    This is one line more than needed, so that neighbours begin in different sets of the cache.
    """
    return (math.prod(shape) * np.dtype(dtype).itemsize // LINE_BYTES + 2) * LINE_BYTES


class Buffers:
    """The buffers of all layers of a network, whose scratch lies in the same memory.

    What a layer works with is then still in cache from the layer before, and memory is half as much.
    """

    def __init__(self):
        self._scratch = None
        self._scratch_bytes = 0

    def reserve(self, shapes, dtype):
        """Make sure that there will be room for a layer's scratch, before anyone asks for it."""
        n_bytes = sum(_line_bytes(s, dtype) for s in shapes if isinstance(s, Scratch))
        self._scratch_bytes = max(self._scratch_bytes, n_bytes)

    def array(self, shape, dtype):
        """Return a new array of zeros."""
        return np.zeros(shape, dtype)

    def scratch(self, start, shape, dtype):
        """Return an array ``start`` bytes from the beginning of the scratch, and where it ends."""
        if self._scratch is None:
            self._scratch = np.empty(self._scratch_bytes, np.uint8)
        array = np.frombuffer(self._scratch, dtype, math.prod(shape), start).reshape(shape)
        return array, start + _line_bytes(shape, dtype)
