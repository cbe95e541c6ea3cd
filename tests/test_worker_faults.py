"""Faults of workers: killed processes, interrupts, locks of the program, and what is left behind."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from reference import needs_processes, use_workers
from test_workers import Multiply, on_linux

from skcnn import CNNClassifier, stop_workers
from skcnn._workers import pool as pools
from skcnn._workers import processes, shared
from skcnn._workers.pool import open_pool
from skcnn.layers import Conv, Dense, Layer, MaxPool


class Die:
    """Kills every process but one."""

    def __init__(self, parent):
        self.parent = parent

    def __call__(self, item, worker):
        time.sleep(0.05)
        if os.getpid() != self.parent[0]:
            os.kill(os.getpid(), signal.SIGKILL)


@on_linux
def test_a_worker_that_is_killed_is_an_error_within_a_second(monkeypatch):
    use_workers(monkeypatch, "processes")
    with open_pool(3) as pool:
        parent = pool.array((1,), np.int64)
        parent[...] = os.getpid()
        pool.start(Die(parent))
        start = time.monotonic()
        with pytest.raises(RuntimeError, match="ended unexpectedly"):
            pool.run(8)
        assert time.monotonic() - start < 2
    with open_pool(3) as pool:  # and others are started
        results, seen = pool.array((8,), float), pool.array((8,), np.int64)
        pool.start(Multiply(results, seen))
        pool.run(8, 1)
        assert results.tolist() == list(range(8))


def wait_for_the_end_of(pids):
    """Return those that still live after a while."""
    deadline = time.monotonic() + 10
    while pids and time.monotonic() < deadline:
        pids = {pid for pid in pids if Path(f"/proc/{pid}").exists()}
        time.sleep(0.01)
    return pids


def shared_folders(pid):
    return set(Path("/dev/shm").glob(f"skcnn-{pid}-*"))


PROGRAM = """
import os, sys, time
sys.path.insert(0, {tests!r})
import numpy as np
import pytest
from reference import use_workers
from skcnn._workers.pool import open_pool

print("the program runs", flush=True)
use_workers(pytest.MonkeyPatch(), "processes")

def job(item, worker):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep({seconds})

with open_pool(3) as pool:
    pool.start(job)
    try:
        pool.run(3)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def program(seconds):
    code = PROGRAM.format(tests=str(Path(__file__).parent), seconds=seconds)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@on_linux
@needs_processes
def test_workers_and_memory_end_with_a_program_that_is_killed():
    with program(60) as parent:
        assert parent.stdout.readline() == "the program runs\n"
        pids = {int(parent.stdout.readline()) for _ in range(3)}
        folders = shared_folders(parent.pid)
        assert folders
        parent.kill()
    assert not wait_for_the_end_of(pids)
    deadline = time.monotonic() + 10
    while any(folder.exists() for folder in folders) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(folder.exists() for folder in folders)


@on_linux
@needs_processes
def test_an_interrupt_reaches_the_program_once_and_no_worker():
    """Ctrl-C goes to all processes of a terminal; a worker must not run the user's program."""
    with program(60) as parent:
        assert parent.stdout.readline() == "the program runs\n"
        pids = {int(parent.stdout.readline()) for _ in range(3)}
        os.killpg(parent.pid, signal.SIGINT)
        rest, errors = parent.communicate(timeout=30)
    assert rest == "interrupted\n"
    assert errors == ""
    assert not wait_for_the_end_of(pids)


@on_linux
@needs_processes
def test_an_interrupt_while_workers_start_is_not_seen_by_them():
    with program(60) as parent:
        assert parent.stdout.readline() == "the program runs\n"
        time.sleep(0.3)
        os.killpg(parent.pid, signal.SIGINT)
        _, errors = parent.communicate(timeout=30)
    assert "runpy" not in errors  # which a traceback of a worker begins with


@on_linux
def test_fits_beside_a_thread_that_multiplies_matrices(monkeypatch):
    """A fork hung there: it inherited a lock of BLAS that nobody released."""
    use_workers(monkeypatch, "processes")
    ends, multiplied = threading.Event(), []

    def multiply():
        a = np.ones((256, 256))
        while not ends.is_set():
            multiplied.append((a @ a)[0, 0])

    thread = threading.Thread(target=multiply)
    thread.start()
    try:
        X, y = np.random.default_rng(0).normal(size=(64, 8, 8)), np.arange(64) % 2
        clf = CNNClassifier((Conv(4), MaxPool()), batch_size=32, max_iter=2, random_state=0)
        expected = clf.fit(X, y).coefs_[0].copy()
        for _ in range(15):
            clf.set_params(n_jobs=2).fit(X, y)
            np.testing.assert_array_equal(clf.coefs_[0], expected)
    finally:
        ends.set()
        thread.join()
    assert multiplied


class Locked(Layer):
    """Needs a lock that another thread of the program holds when the fit begins."""

    def forward(self, x, weights, work):
        with a_lock:
            return x

    def backward(self, dy, weights, grads, work):
        return dy


a_lock = threading.Lock()


def test_a_lock_of_the_program_is_not_inherited(workers):
    X, y = np.random.default_rng(0).normal(size=(64, 8, 8)), np.arange(64) % 2
    a_lock.acquire()
    threading.Timer(0.2, a_lock.release).start()
    clf = CNNClassifier((Locked(), Dense(3)), max_iter=2, n_jobs=2, batch_size=32)
    clf.fit(X, y)


def in_daemon(connection):
    X, y = np.random.default_rng(0).normal(size=(64, 8, 8)), np.arange(64) % 2
    pools.WORKER_FLOPS = pools.START_FLOPS = -1
    clf = CNNClassifier((Dense(3),), max_iter=2, n_jobs=2, batch_size=32, random_state=0)
    connection.send(clf.fit(X, y).coefs_[0])


def test_a_daemonic_process_uses_threads():
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    process = context.Process(target=in_daemon, args=(other,), daemon=True)
    process.start()
    assert mine.recv().shape == (64, 3)
    process.join()


@on_linux
def test_nothing_is_left_once_workers_are_stopped(workers):
    def state():
        gc.collect()
        children = {p.pid for p in multiprocessing.active_children()}
        return children, len(os.listdir("/proc/self/fd")), shared_folders(os.getpid())

    X, y = np.random.default_rng(0).normal(size=(64, 8, 8)), np.arange(64) % 2
    clf = CNNClassifier((Conv(4), MaxPool()), batch_size=32, max_iter=2, n_jobs=2)
    clf.fit(X, y)
    stop_workers()
    before = state()
    for _ in range(3):
        clf.fit(X, y)
        stop_workers()
    after = state()
    assert after[0] == before[0]
    assert after[1] <= before[1]
    assert after[2] == before[2]


class HoldTheLock:
    """Takes the lock of the tickets in every process but one, and ends it."""

    def __init__(self, parent):
        self.parent = parent

    def __call__(self, item, worker):
        time.sleep(0.02)
        if os.getpid() != self.parent[0]:
            frame = sys._getframe(1)
            frame.f_locals["lock"].acquire()
            os.kill(os.getpid(), signal.SIGKILL)


@on_linux
def test_a_worker_that_dies_with_the_lock_of_the_tickets_is_survived(monkeypatch):
    use_workers(monkeypatch, "processes")
    with open_pool(2) as pool:
        parent = pool.array((1,), np.int64)
        parent[...] = os.getpid()
        pool.start(HoldTheLock(parent))
        with pytest.raises(RuntimeError, match="ended unexpectedly"):
            pool.run(20)
    for _ in range(2):
        with open_pool(2) as pool:
            results, seen = pool.array((20,), float), pool.array((20,), np.int64)
            pool.start(Multiply(results, seen))
            pool.run(20, 1)
            assert results.tolist() == list(range(20))
            assert len(set(seen.tolist())) == 2


@on_linux
def test_files_lie_elsewhere_where_memory_has_no_room(monkeypatch, tmp_path):
    use_workers(monkeypatch, "processes")
    monkeypatch.setattr(shared, "MEMORY_FOLDER", "/proc")  # which takes no folders
    monkeypatch.setattr(shared.tempfile, "gettempdir", lambda: str(tmp_path))
    with open_pool(2) as pool:
        results, seen = pool.array((20,), float), pool.array((20,), np.int64)
        assert len(list(tmp_path.iterdir())) == 1
        pool.start(Multiply(results, seen))
        pool.run(20, 1)
        assert results.tolist() == list(range(20))
    assert not list(tmp_path.iterdir())


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
