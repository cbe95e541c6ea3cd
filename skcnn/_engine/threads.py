"""A team of threads that shares the shards of a batch."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock

import joblib
import numpy as np
from joblib.parallel import get_active_backend
from threadpoolctl import ThreadpoolController

from skcnn._engine.blocks import UFUNC_BUFFER


@cache
def _controller():
    """Return the process's controller of BLAS threads; finding the libraries takes milliseconds."""
    return ThreadpoolController().select(user_api="blas")


class _SerialBlas:
    """Holds BLAS to one thread while anyone asks for it; the last to leave restores it."""

    def __init__(self):
        self._lock = Lock()
        self._n_holders = 0
        self._limiter = None

    def __enter__(self):
        with self._lock:
            if self._n_holders == 0:
                self._limiter = _controller().limit(limits=1)
            self._n_holders += 1

    def __exit__(self, *error):
        with self._lock:
            self._n_holders -= 1
            if self._n_holders == 0:
                self._limiter.restore_original_limits()


_serial_blas = _SerialBlas()


def n_threads(n_jobs):
    """Return how many threads `n_jobs` means here.

    A process that joblib started beside others uses no more than joblib allots it.
    """
    n = joblib.effective_n_jobs(n_jobs)
    if get_active_backend()[0].nesting_level:
        n = min(n, int(os.environ.get("OMP_NUM_THREADS", n)))
    return n


@contextmanager
def small_ufunc_buffer():
    """Let NumPy work on runs where they are; see `UFUNC_BUFFER`."""
    before = np.setbufsize(UFUNC_BUFFER)
    try:
        yield
    finally:
        np.setbufsize(before)


class Team:
    """Run a function on many items in `n_jobs` threads, BLAS held to one thread meanwhile.

    NumPy releases the interpreter lock inside its loops and products, so threads suffice. The
    calling thread works too. BLAS is held to one thread for `n_jobs=1` as well: its own threads
    may add in another order, and results must not depend on `n_jobs`.
    """

    def __init__(self, n_jobs=None):
        self.n_workers = n_threads(n_jobs)
        self._pool = None

    def __enter__(self):
        _serial_blas.__enter__()
        return self

    def __exit__(self, *error):
        _serial_blas.__exit__()
        if self._pool is not None:
            self._pool.shutdown()

    def map(self, function, items):
        """Return ``[function(item, worker) for item in items]``; each worker takes every n-th."""
        items = list(items)
        n_workers = min(self.n_workers, len(items))
        results = [None] * len(items)

        def work(worker):
            with small_ufunc_buffer():
                for i in range(worker, len(items), n_workers):
                    results[i] = function(items[i], worker)

        if n_workers == 1:
            work(0)
            return results
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.n_workers - 1)
        helpers = [self._pool.submit(work, worker) for worker in range(1, n_workers)]
        try:
            work(0)
        finally:
            errors = [helper.exception() for helper in helpers]
        for error in filter(None, errors):
            raise error
        return results
