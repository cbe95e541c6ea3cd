"""Pools of workers: the contract, and the choice of the kind that pays."""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain

import numpy as np

from skcnn._workers.blas import n_workers, serial_blas
from skcnn._workers.processes import hire, take_items, ticket_lock
from skcnn._workers.shared import SharedArrays

# Floating-point operations from which on more workers pay. To hand a job to a process that has
# started takes some milliseconds, a tenth of what one worker needs for so many at 20 GFLOP/s.
WORKER_FLOPS = 1e9

# Floating-point operations from which on it pays to start processes, which takes them a second.
START_FLOPS = 2e10


class Pool:
    """One worker, and the contract of all pools."""

    def array(self, shape, dtype):
        """Return a new array that all workers see, for as long as the pool is open."""
        return np.empty(shape, dtype)

    def start(self, job):
        """Take ``job(item, worker, *numbers)``; workers see it as it is now, but for the arrays."""
        self._job = job

    def run(self, n_items, *numbers):
        """Call the job for each of so many items; return when all are done.

        Each worker begins with an item of its own and takes the next one whenever it is free. An
        error of one of them is raised here, after the others have stopped.
        """
        for item in range(n_items):
            self._job(item, 0, *numbers)

    def close(self):
        """End what the pool has begun."""


class Threads(Pool):
    """Workers that are threads: they are there at once, but share the interpreter."""

    def __init__(self, n_workers):
        self._n_workers = n_workers
        self._executor = ThreadPoolExecutor(n_workers - 1)

    def run(self, n_items, *numbers):
        n_active = min(self._n_workers, n_items)
        others = iter(range(n_active, n_items))  # to take the next of a range is atomic

        def work(worker):
            for item in chain((worker,), others):
                self._job(item, worker, *numbers)

        helpers = [self._executor.submit(work, worker) for worker in range(1, n_active)]
        try:
            work(0)
        finally:
            errors = [helper.exception() for helper in helpers]
        _raise_first(errors)

    def close(self):
        self._executor.shutdown()


class Processes(Pool):
    """Workers that are processes; each joins as soon as it has started and holds the job."""

    def __init__(self, workers):
        self._workers = workers
        self._arrays = SharedArrays()

    def array(self, shape, dtype):
        return self._arrays.empty(shape, dtype)

    def start(self, job):
        self._job = job
        self._tickets = self.array((1,), np.int64)
        self._pickled = self._arrays.dumps((job, self._tickets))

    def run(self, n_items, *numbers):
        active = [w for w in tuple(self._workers) if self._takes_part(w)][: n_items - 1]
        self._tickets[0] = 1 + len(active)
        for i, worker in enumerate(active):
            worker.begin(i + 1, n_items, numbers)
        errors = []
        try:
            take_items(self._job, self._tickets, ticket_lock(), 0, n_items, numbers)
        except Exception as error:
            errors.append(error)
        for worker in active:
            try:
                errors.append(worker.finish())
            except RuntimeError as error:
                errors.append(error)
        _raise_first(errors)

    def _takes_part(self, worker):
        try:
            return worker.takes_part(self._pickled)
        except Exception as error:
            self._workers.remove(worker)
            worker.stop()
            warnings.warn(f"A worker process cannot take part: {error}", stacklevel=2)
            return False

    def close(self):
        for worker in self._workers:
            worker.release()
        self._arrays.close()


def _raise_first(errors):
    for error in errors:
        if error is not None:
            raise error


@contextmanager
def open_pool(n_jobs=None, flops=np.inf):
    """Open a pool of `n_jobs` workers for so many floating-point operations, or of fewer if they pay."""
    n = n_workers(n_jobs)
    with serial_blas():
        pool = _choose(n, flops)
        try:
            yield pool
        finally:
            pool.close()


def _choose(n, flops):
    if n == 1 or flops < WORKER_FLOPS:
        return Pool()
    if not getattr(sys, "_is_gil_enabled", lambda: True)():  # free-threaded Python
        return Threads(n)
    workers = hire(n - 1, may_start=flops > START_FLOPS)
    return Processes(workers) if workers else Threads(n)
