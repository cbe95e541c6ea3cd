"""A team that shares the shards of a batch: this process and, where it pays, forks of it.

NumPy releases the interpreter lock for each operation, but taking it back costs a sleeping thread
some microseconds, a hundred times a shard: measured, two threads trained small networks no faster
than one and large ones 1.3 to 1.5 times as fast, two processes 2.0 times (Zen 4, CPython 3.11,
2026-11). So workers are forks, which see the images without copying them and hand their results
back in shared memory. Where forking is not safe, threads do the work; where neither pays, one does.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain

import joblib
import numpy as np
from joblib.parallel import get_active_backend
from threadpoolctl import ThreadpoolController

from skcnn._engine.blocks import (
    FORK_FLOPS,
    LONGER,
    SHARED_BYTE_FLOPS,
    THREAD_FLOPS,
    UFUNC_BUFFER,
)
from skcnn._workers.forks import Forks
from skcnn._workers.memory import Arena, shared_empty


@cache
def _controller():
    """Return the process's controller of BLAS threads; finding the libraries takes milliseconds."""
    return ThreadpoolController().select(user_api="blas")


class _SerialBlas:
    """Holds BLAS to one thread while anyone asks for it; the last to leave restores it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._limiter = None
        self.n_holders = 0

    def __enter__(self):
        with self._lock:
            if self.n_holders == 0:
                self._limiter = _controller().limit(limits=1)
            self.n_holders += 1

    def __exit__(self, *error):
        with self._lock:
            self.n_holders -= 1
            if self.n_holders == 0:
                self._limiter.restore_original_limits()


_serial_blas = _SerialBlas()


def n_threads(n_jobs):
    """Return how many workers `n_jobs` means here.

    Beside other workers of joblib's it is no more than joblib allots to each: one in its threads,
    in its processes what it has put into the environment.
    """
    n = joblib.effective_n_jobs(n_jobs)
    if n > 1 and get_active_backend()[0].nesting_level:
        allotted = os.environ.get("OMP_NUM_THREADS", "")
        n = min(n, int(allotted) if allotted.isdecimal() else 1)
    return max(n, 1)


@contextmanager
def small_ufunc_buffer():
    """Let NumPy work on runs where they are; see `UFUNC_BUFFER`."""
    before = np.setbufsize(UFUNC_BUFFER)
    try:
        yield
    finally:
        np.setbufsize(before)


def _forks_are_safe():
    """Whether no other thread may hold a lock that a fork would inherit and wait for."""
    alone = _serial_blas.n_holders == 1 and threading.current_thread() is threading.main_thread()
    return sys.platform == "linux" and alone


class Team:
    """Runs a function on numbered items, in `n_jobs` workers if that pays, BLAS held to one thread.

    BLAS is held to one thread for one worker as well: its own threads may add in another order,
    and results must not depend on `n_jobs`.

    Parameters
    ----------
    n_jobs : int or None
    flops : float
        Floating-point operations of all that the team will be asked to do.
    shared_bytes : int
        Bytes of the results that forks would have to share.
    long : bool
        Whether single operations take long, so that threads seldom wait for each other.
    """

    def __init__(self, n_jobs=None, flops=np.inf, shared_bytes=0, long=False):
        fork_factor, thread_factor = LONGER if long else (1, 1)
        self.n_workers = n_threads(n_jobs)
        self._forks_pay = flops - SHARED_BYTE_FLOPS * shared_bytes > FORK_FLOPS * fork_factor
        self._threads_pay = flops > THREAD_FLOPS / thread_factor
        self._forks = None
        self._pool = None
        self._arenas = {}

    def __enter__(self):
        _serial_blas.__enter__()
        self._may_fork = self.n_workers > 1 and self._forks_pay and _forks_are_safe()
        if not self._may_fork and not self._threads_pay:
            self.n_workers = 1
        return self

    def __exit__(self, *error):
        if self._forks is not None:
            self._forks.close()
        if self._pool is not None:
            self._pool.shutdown()
        # last to first: what is given back last is taken first, so that the next team's worker has
        # the pages that this one's had
        for arena in reversed(self._arenas.values()):
            arena.close()
        _serial_blas.__exit__()

    def empty(self, shape, dtype):
        """Return a new array that all workers see; only such arrays may change after `set_work`."""
        return shared_empty(shape, dtype) if self._may_fork else np.empty(shape, dtype)

    def lasting(self, shape, dtype):
        """As `empty`, for an array that is used no longer than the team."""
        array = self.arena("all").empty(shape, dtype)
        return self.empty(shape, dtype) if array is None else array

    def arena(self, worker):
        """Return the `Arena` of a worker's buffers, which last as long as the team."""
        return self._arenas.setdefault(worker, Arena())

    def set_work(self, function, finish=None, join=None):
        """Set what `run` calls, once and for all.

        Parameters
        ----------
        function : callable
            ``function(item, worker)`` leaves its result in an array that all workers see.
        finish : callable, default=None
            ``finish(part, n_parts)`` does one of so many parts of what remains to be done then.
        join : callable, default=None
            ``join(place, loop, arrays, worker)`` does blocks of a `loop` of another worker's.
        """
        self._function = function
        self._finish = finish
        if self._may_fork:
            for worker in range(self.n_workers):
                self.arena(worker).open()
            self._forks = Forks(self._share, self.n_workers, self._arenas, join)
            self._forks.start()

    def loop_maker(self, worker):
        """Return what makes the loops of a worker's that others may join, or None; see `Desks.loop`."""
        if self._forks is None or self._forks.desks is None:
            return None
        return partial(self._forks.desks.loop, worker)

    def _share(self, worker, items, meet=None):
        """Do a worker's items, and finish its part if it is to meet the others."""
        with small_ufunc_buffer():
            for item in items:
                self._function(item, worker)
            if meet:
                self._finish(worker, meet())

    def run(self, n_items, finishes=False):
        """Call ``function(item, worker)`` for each of so many items.

        If it `finishes`, `finish` is called once all are done: by each fork for a part, or once.
        """
        n_workers = min(self.n_workers, n_items)
        if n_workers > 1 and self._forks is not None:
            self._forks.run(n_items, n_workers, finishes)
            return
        if n_workers > 1:
            self._run_threads(n_items, n_workers)
        else:
            self._share(0, range(n_items))
        if finishes:
            with small_ufunc_buffer():
                self._finish(0, 1)

    def _run_threads(self, n_items, n_workers):
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.n_workers - 1)
        others = iter(range(n_workers, n_items))  # whoever is free takes the next
        helpers = [
            self._pool.submit(self._share, worker, chain((worker,), others))
            for worker in range(1, n_workers)
        ]
        try:
            self._share(0, chain((0,), others))
        finally:
            errors = [helper.exception() for helper in helpers]
        for error in filter(None, errors):
            raise error
