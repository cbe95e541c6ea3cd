"""Faults of workers: killed processes, interrupts, locks of the program, and what is left behind."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from reference import needs_processes, use_workers
from test_workers import Multiply, on_linux

from skcnn import CNNClassifier, stop_workers
from skcnn._workers import pool as pools
from skcnn._workers import shared
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
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
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
    assert clf.fit(X, y).n_iter_ == 2


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
