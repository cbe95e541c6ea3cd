"""Memory for the buffers of a network, kept for the next one.

To touch memory that the system hands out costs more than to use it: the first shard of a network took
six times as long as the second, a tenth of an epoch of 20 batches (Zen 5, virtual machine, 2026-11).
So regions are given back to this module, not to the system, and forks of this process write to the
same regions as those before them.
"""

import mmap
import os
import sys
import threading

import numpy as np

from skcnn._engine.blocks import KEPT_BYTES, KEPT_REGIONS, LINE_BYTES, OWN_BYTES, REGION_BYTES

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


class Arena:
    """Hands out the buffers of one worker, until it is closed; then nobody may use them any more."""

    def __init__(self):
        self._region = None
        self._used = 0

    def open(self):
        """Take a region at once: it must be there before forks are to use it."""
        if self._region is None:
            self._region = _take_region()
        return self

    def zeros(self, shape, dtype):
        """Return a new array of zeros; a small or a very large one is an ordinary array."""
        count = int(np.prod(shape))
        n_bytes = count * np.dtype(dtype).itemsize
        # one line more than is needed: neighbours then begin on different lines of the cache
        n_taken = (n_bytes // LINE_BYTES + 2) * LINE_BYTES
        if (
            n_bytes < OWN_BYTES
            or self._used + n_taken > REGION_BYTES
            or self.open()._region is None
        ):
            return np.zeros(shape, dtype)
        array = np.frombuffer(self._region, dtype, count, self._used).reshape(shape)
        self._used += n_taken
        array.fill(0)
        return array

    def close(self):
        """Give the memory back."""
        if self._region is not None:
            _keep_region(self._region)
        self._region, self._used = None, 0
