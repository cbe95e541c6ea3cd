"""Memory for the buffers of a network, kept for the next one.

To touch memory that the system hands out costs more than to use it: the first shard of a network took
six times as long as the second, a tenth of an epoch of 20 batches (Zen 5, virtual machine, 2026-11).
So regions are given back to this module, not to the system, and forks of this process write to the
same regions as those before them.
"""

import math
import mmap
import os
import sys
import threading
from contextlib import suppress

import numpy as np

from skcnn._engine.blocks import KEPT_BYTES, KEPT_REGIONS, LINE_BYTES, OWN_BYTES, REGION_BYTES

# Map all pages at once (MADV_POPULATE_READ of Linux, not yet a name in Python's mmap). To take them one
# by one, as they are touched, took a fork five times as long: 28 ms for 64 MB.
_POPULATE_READ = 22

_spare = []  # regions that nobody uses
_lock = threading.Lock()


def _forget():
    """Leave the regions to the process that this one was forked from: both would write to them."""
    global _spare, _lock
    _spare, _lock = [], threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _take_region():
    """Return shared memory of `REGION_BYTES`, of which only what is touched is taken; or None."""
    with _lock:
        if _spare:
            return _spare.pop()
    if sys.platform != "linux":
        return None
    flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        return mmap.mmap(-1, REGION_BYTES, flags=flags)
    except OSError:
        return None


def _keep_region(region):
    """Keep the beginning of a region for whoever comes next, unless enough are kept."""
    try:
        region.madvise(mmap.MADV_REMOVE, KEPT_BYTES, REGION_BYTES - KEPT_BYTES)
    except OSError:  # then all of it goes with the last array in it
        return
    with _lock:
        if len(_spare) < KEPT_REGIONS:
            _spare.append(region)


def _line_bytes(shape, dtype):
    """Return the bytes that an array takes in whole lines of the cache.

    One line more than it needs: neighbours then begin on different lines of the cache's ways.
    """
    return (math.prod(shape) * np.dtype(dtype).itemsize // LINE_BYTES + 2) * LINE_BYTES


def _map_pages(memory, start, stop):
    """Map the pages of these bytes at once."""
    first_page = start // mmap.PAGESIZE * mmap.PAGESIZE
    with suppress(OSError):  # systems before Linux 5.14 do not know it, and do without
        memory.madvise(_POPULATE_READ, first_page, stop - first_page)


def _array(memory, start, shape, dtype):
    """Return an array in a region, or in an ordinary array's memory."""
    if isinstance(memory, mmap.mmap):
        _map_pages(memory, start, start + _line_bytes(shape, dtype))
    return np.frombuffer(memory, dtype, math.prod(shape), start).reshape(shape)


def shared_empty(shape, dtype):
    """Return an array in anonymous memory that forks share; freed with the last view of it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), dtype, int(np.prod(shape))).reshape(shape)


class Arena:
    """Hands out the buffers of one worker, until it is closed; then nobody may use them any more."""

    def __init__(self):
        self._region = None
        self._address = None  # where the region begins, in every process that has it
        self._used = 0

    def open(self):
        """Take a region at once: it must be there before forks are to use it."""
        if self._region is None:
            self._region = _take_region()
        return self

    def take(self, n_bytes):
        """Return ``(region, start)`` of so many bytes, or None if there is no room for them."""
        start = self._used
        if start + n_bytes > REGION_BYTES or self.open()._region is None:
            return None
        self._used += n_bytes
        return self._region, start

    def empty(self, shape, dtype):
        """Return a new array in shared memory, or None if there is no room for it."""
        place = self.take(_line_bytes(shape, dtype))
        return None if place is None else _array(*place, shape, dtype)

    def start(self, array):
        """Return at which byte of the shared memory an array begins, or None if it is not there."""
        if self._region is None:
            return None
        if self._address is None:
            self._address = np.frombuffer(self._region, np.uint8, 1).ctypes.data
        start = array.ctypes.data - self._address
        return start if 0 <= start < REGION_BYTES else None

    def view(self, start, shape, strides, dtype):
        """Return the array that another process has where `start` says."""
        array = np.ndarray(shape, dtype, self._region, start, strides)
        reach = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        _map_pages(self._region, start, start + reach + array.itemsize)
        return array

    def close(self):
        """Give the memory back."""
        if self._region is not None:
            _keep_region(self._region)
        self._region, self._address, self._used = None, None, 0


class Scratch(tuple):
    """The shape of a buffer whose contents no later call needs; it holds anything at first."""


class Buffers:
    """The buffers of all layers of a network; their scratch lies in the same place.

    What a layer works with is then still in cache from the layer before, and memory is half as much.

    Parameters
    ----------
    arena : Arena, default=None
        Where they lie; None: in ordinary arrays.
    """

    def __init__(self, arena=None):
        self._arena = arena
        self._scratch = None  # memory, start
        self._scratch_bytes = 0

    def reserve(self, shapes, dtype):
        """Make sure that there will be room for a layer's scratch, before anyone asks for it."""
        n_bytes = sum(_line_bytes(s, dtype) for s in shapes if isinstance(s, Scratch))
        self._scratch_bytes = max(self._scratch_bytes, n_bytes)

    def zeros(self, shape, dtype):
        """Return a new array of zeros; a small or a very large one is an ordinary array."""
        array = None
        if self._arena is not None and _line_bytes(shape, dtype) > OWN_BYTES:
            array = self._arena.empty(shape, dtype)
        if array is None:
            return np.zeros(shape, dtype)
        array.fill(0)
        return array

    def scratch(self, start, shape, dtype):
        """Return an array in the common place, ``start`` bytes from its beginning, and its end."""
        if self._scratch is None:
            n_bytes = self._scratch_bytes
            place = self._arena and n_bytes > OWN_BYTES and self._arena.take(n_bytes)
            self._scratch = place or (np.empty(n_bytes, np.uint8), 0)
        memory, first = self._scratch
        return _array(memory, first + start, shape, dtype), start + _line_bytes(shape, dtype)
