"""Interrupts between the messages of a pool and its workers, and workers that are left."""

import os
import subprocess
import sys
import warnings
from contextlib import suppress

import numpy as np
import pytest
from reference import needs_processes, use_workers
from test_worker_faults import shared_folders
from test_workers import Multiply, on_linux

from skcnn import stop_workers
from skcnn._workers import pool as pools
from skcnn._workers import processes, shared
from skcnn._workers.pool import open_pool


@on_linux
@needs_processes
def test_answers_to_an_earlier_pool_are_not_taken_for_those_to_the_next(monkeypatch):
    monkeypatch.setattr(pools, "START_FLOPS", -1)
    stop_workers()
    for _ in range(3):  # closed while its worker starts or loads the job
        with open_pool(2) as pool:
            pool.start(Multiply(pool.array((4,), float), pool.array((4,), np.int64)))
            pool.run(4, 1)
    use_workers(monkeypatch, "processes")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_pool(2) as pool:
            results, seen = pool.array((20,), float), pool.array((20,), np.int64)
            pool.start(Multiply(results, seen))
            pool.run(20, 1)
            assert len(set(seen.tolist())) == 2


class Tracker:
    """Stands in for joblib's resource tracker; an interrupt comes before or after one of its calls."""

    def __init__(self, interrupted):
        self.names, self.calls, self.interrupted = set(), [], interrupted

    def register(self, name, kind):
        self._call("register", lambda: self.names.add(name))

    def unregister(self, name, kind):
        self._call("unregister", lambda: self.names.remove(name))

    def _call(self, method, work):
        self.calls.append(method)
        call, when = self.interrupted
        if len(self.calls) == call and when == "before":
            raise KeyboardInterrupt
        work()
        if len(self.calls) == call:
            raise KeyboardInterrupt


@on_linux
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_interrupt_does_not_confuse_the_tracker_of_shared_memory(monkeypatch, call, when):
    """It printed a `KeyError` where a folder was unregistered twice."""
    before = shared_folders(os.getpid())
    monkeypatch.setattr(shared, "resource_tracker", tracker := Tracker((call, when)))
    arrays = shared.SharedArrays()
    with suppress(KeyboardInterrupt):
        arrays.empty((3,), float)
        arrays.close()
    assert len(tracker.calls) == call
    arrays.close()
    assert not tracker.names
    assert shared_folders(os.getpid()) == before


LEAVES = """
from skcnn._workers.processes import Worker, ticket_lock

worker = Worker(ticket_lock())
worker._connection.close()
worker._process.join(60)
"""


@on_linux
def test_a_worker_that_is_left_ends_without_a_word():
    """It printed the traceback of a `BrokenPipeError`, now and then after an interrupt."""
    ran = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, text=True, timeout=90)
    assert ran.stderr == ""
    assert ran.returncode == 0


class Interrupted:
    """A connection whose next message, or next answer, is followed by an interrupt."""

    def __init__(self, connection, method):
        self.connection, self.method = connection, method

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def send_bytes(self, message):
        self.connection.send_bytes(message)
        self._interrupt("send_bytes")

    def recv_bytes(self):
        answer = self.connection.recv_bytes()
        self._interrupt("recv_bytes")
        return answer

    def _interrupt(self, method):
        if method == self.method:
            self.method = None
            raise KeyboardInterrupt


@on_linux
@pytest.mark.parametrize("method", ["send_bytes", "recv_bytes"])
def test_a_worker_that_is_out_of_step_after_an_interrupt_is_not_used_again(monkeypatch, method):
    """Its answer to one message would be taken for that to the next, which it has not finished."""
    use_workers(monkeypatch, "processes")
    stop_workers()

    def multiply(worker=None):
        with open_pool(2) as pool:
            results, seen = pool.array((20,), float), pool.array((20,), np.int64)
            if worker is not None:
                worker._connection = Interrupted(worker._connection, method)
            pool.start(Multiply(results, seen))
            pool.run(20, 1)
            assert results.tolist() == list(range(20))
            assert len(set(seen.tolist())) == 2

    multiply()
    (worker,) = processes._workers
    with pytest.raises(KeyboardInterrupt):
        multiply(worker)
    assert not worker.is_alive()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        multiply()
