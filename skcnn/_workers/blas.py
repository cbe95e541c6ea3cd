"""Threads and settings of the numerical libraries while a pool is open."""

import os
import threading
import weakref
from contextlib import contextmanager
from functools import cache

import joblib
import numpy as np
from joblib.parallel import get_active_backend
from threadpoolctl import ThreadpoolController, threadpool_limits

# Elements of NumPy's buffer for elementwise operations. From its default of 8192 it copies runs of
# less than that to make them longer; with 1024, small networks trained 4 to 10% faster (Zen 5, NumPy
# 2.4, 2026-11).
UFUNC_BUFFER = 1024

_lock = threading.RLock()
_holders = {}  # for each pool that is open, the number of threads that it has found
_before = []  # numbers of threads before the first of them


class _Token:
    """Lives as long as a pool is open."""


@cache
def _libraries():
    """Return the controllers of the loaded BLAS libraries; to find them takes milliseconds."""
    return ThreadpoolController().select(user_api="blas").lib_controllers


def _set_threads(library, n_threads):
    """Set the number of threads of a library, whichever thread of the program set it before."""
    # From threadpoolctl 3.8 on, only the first thread that has set a limit may change it.
    release = getattr(library, "clear_controlling_thread", lambda force: None)
    release(force=True)
    library.set_num_threads(n_threads)
    release(force=True)


def _is_per_thread(library):
    """Whether a limit holds for the calling thread only, as with OpenMP."""
    return getattr(library, "threading_layer", None) == "openmp"


@contextmanager
def engine_settings():
    """Hold BLAS to one thread, and let NumPy work on short runs where they are.

    The first setting belongs to the whole process: the first pool that opens takes note of it, and
    the last one that closes restores it. Libraries that keep a setting for each thread are restored
    by each thread itself. If interrupts keep this function from its end, the end of the token
    restores the settings.
    """
    token = _Token()
    settings = id(token), np.getbufsize()
    weakref.finalize(token, _restore, *settings).atexit = False
    with undisturbed(lambda: (_restore(*settings), release_if_held(_lock))):
        with _lock:
            own = [library.get_num_threads() for library in _libraries()]
            if not _holders:  # before the token is one of them: an interrupt may come in between
                _before[:] = own
            _holders[id(token)] = own
            for library in _libraries():
                _set_threads(library, 1)
        np.setbufsize(UFUNC_BUFFER)
        yield


@contextmanager
def one_thread():
    """Hold all libraries to one thread in this thread of the program, those that use OpenMP as well.

    With more threads, clustering and decompositions give other bits, and beside another busy process
    they take several times as long.
    """
    with engine_settings(), threadpool_limits(1, user_api="openmp"):
        yield


def _restore(key, buffer_size):
    """Undo what a pool has set, the setting of the process if it is the last; once is enough."""
    with _lock:
        if key in _holders:
            is_last = len(_holders) == 1
            for library, own, before in zip(_libraries(), _holders[key], _before, strict=True):
                if is_last or _is_per_thread(library):
                    _set_threads(library, own if _is_per_thread(library) else before)
            np.setbufsize(buffer_size)
            del _holders[key]


def release_if_held(lock):
    """Release a reentrant lock that this thread still holds, since an interrupt kept it from that."""
    while lock._is_owned():
        lock.release()


@contextmanager
def undisturbed(clean_up):
    """Call `clean_up` at the end, again and again until no interrupt has disturbed it."""
    interrupt = None
    try:
        yield
    finally:
        while True:
            try:
                clean_up()
                break
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


def check_n_jobs(n_jobs):
    """Raise a `ValueError` for 0 workers."""
    if n_jobs == 0:
        raise ValueError("n_jobs must be None, a positive or a negative int. Got 0 instead.")


def n_workers(n_jobs):
    """Return how many workers `n_jobs` stands for here.

    Inside a worker of joblib's it is no more than joblib allots to each: one in its threads, and in
    its processes the number that it has put into the environment.
    """
    n = joblib.effective_n_jobs(n_jobs)
    if n > 1 and get_active_backend()[0].nesting_level:
        if threading.current_thread() is not threading.main_thread():
            return 1
        allotted = os.environ.get("OMP_NUM_THREADS", "")
        n = min(n, int(allotted) if allotted.isdecimal() else 1)
    return max(n, 1)
