"""Pools of workers: the contract, and the choice of the kind that pays."""

import sys
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import numpy as np

from skcnn._workers.blas import UFUNC_BUFFER, engine_settings, n_workers, undisturbed
from skcnn._workers.processes import hire, release_locks, take_tickets
from skcnn._workers.shared import SharedArrays

# Floating-point operations from which on more workers pay: 50 ms of one worker, while to hand a job to
# a process takes 5 to 20 ms. From the second number on it pays to start a process, which takes a second.
WORKER_FLOPS = 1e9
START_FLOPS = 2e10


class Pool:
    """One worker, and the contract of all pools."""

    def array(self, shape, dtype):
        """Return a new array that all workers see, for as long as the pool is open."""
        return np.empty(shape, dtype)

    def start(self, job):
        """Take ``job(item, worker, *numbers)``, once; workers see it as it is now, but for the arrays."""
        self._job = job

    def run(self, n_items, *numbers):
        """Call the job for each of so many items; return when all are done.

        Whichever worker is free takes the next item. An error of one of them is raised here, after
        the others have stopped.
        """
        for item in range(n_items):
            self._job(item, 0, *numbers)

    def open(self, may_start):
        """Find the workers; `may_start` says whether new processes are worth their start."""

    def close(self):
        """End what the pool has begun; doing it again changes nothing."""


class Threads(Pool):
    """Workers that are threads: they are there at once, but share the interpreter."""

    def __init__(self, n_workers):
        self._n_workers = n_workers
        self._executor = ThreadPoolExecutor(n_workers - 1)

    def run(self, n_items, *numbers):
        items = deque(range(n_items))  # several threads may take from it

        def work(worker):
            np.setbufsize(UFUNC_BUFFER)  # a setting of each thread, here of the executor's
            while items:
                try:
                    item = items.popleft()
                except IndexError:
                    return
                self._job(item, worker, *numbers)

        n_active = min(self._n_workers, n_items)
        helpers = [self._executor.submit(work, worker) for worker in range(1, n_active)]
        try:
            work(0)
        finally:
            items.clear()  # after an error the others take no more
            errors = [helper.exception() for helper in helpers]
        _raise_first(errors)

    def close(self):
        self._executor.shutdown()


class Processes(Threads):
    """Workers that are processes; each joins as soon as it has started and holds the job.

    Without processes, or for a job that cannot be pickled, threads do the work.
    """

    def __init__(self, n_workers):
        super().__init__(n_workers)
        self._arrays = SharedArrays()
        self._workers, self._pickled, self._lock = [], None, None

    def array(self, shape, dtype):
        return self._arrays.empty(shape, dtype) if self._workers else super().array(shape, dtype)

    def open(self, may_start):
        self._workers, self._lock = hire(self, self._n_workers - 1, may_start)

    def start(self, job):
        self._job = job
        self._tickets = self.array((1,), np.int64)
        with suppress(Exception):
            self._pickled = self._arrays.dumps((job, self._tickets)) if self._workers else None

    def run(self, n_items, *numbers):
        if self._pickled is None:
            super().run(n_items, *numbers)
            return
        active, absent, errors = [], self._workers if n_items > 1 else [], []
        self._tickets[0] = 0
        try:
            absent = self._call_in(absent, active, n_items, numbers)
            for item in take_tickets(self._tickets, self._lock, n_items):
                self._job(item, 0, *numbers)
                absent = self._call_in(absent, active, n_items, numbers)
        except Exception as error:
            self._tickets[0] = n_items
            errors.append(error)
        _raise_first(errors + [worker.finish() for worker in active])

    def _call_in(self, absent, active, n_items, numbers):
        """Have those workers take part that are ready by now, and return the others."""
        waiting = []
        for worker in absent:
            try:
                takes_part = worker.takes_part(self._pickled)
            except Exception as error:
                self._workers = [other for other in self._workers if other is not worker]
                worker.stop()
                warnings.warn(f"A worker process cannot take part: {error}", stacklevel=2)
                continue
            if takes_part:
                active.append(worker)
                worker.begin(n_items, numbers)
            else:
                waiting.append(worker)
        return waiting

    def close(self):
        super().close()
        release_locks(self._lock)
        for worker in self._workers:
            worker.release(self)
        self._arrays.close()


def _raise_first(errors):
    for error in errors:
        if error is not None:
            raise error


@contextmanager
def open_pool(n_jobs=None, flops=np.inf, *, is_long=True):
    """Open a pool of `n_jobs` workers, or of fewer where more do not pay.

    Parameters
    ----------
    n_jobs : int or None
        As everywhere in scikit-learn.
    flops : float
        Floating-point operations of all that the pool will be asked to do.
    is_long : bool
        Whether the job will be run again and again, so that processes are worth their start.
    """
    with engine_settings():
        pool = _choose(n_workers(n_jobs), flops, is_long)
        with undisturbed(pool.close):
            pool.open(may_start=flops > START_FLOPS)
            yield pool


def _choose(n, flops, is_long):
    """Return the kind of pool that pays for so much work."""
    if n == 1 or flops < WORKER_FLOPS:
        return Pool()
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()  # free-threaded Python has none
    return Processes(n) if is_long and has_lock else Threads(n)
