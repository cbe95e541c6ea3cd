"""Pools of workers: who does what, errors, ends, and how many there are."""

import os
import sys
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from reference import needs_processes, use_workers

from skcnn import stop_workers
from skcnn._workers import pool as pools
from skcnn._workers import processes
from skcnn._workers.blas import n_workers
from skcnn._workers.pool import open_pool

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev/shm")


@pytest.fixture(params=["processes", "threads", "alone"])
def way(request, monkeypatch):
    use_workers(monkeypatch, request.param)
    if request.param == "alone":
        monkeypatch.setattr(pools, "_choose", lambda *arguments: pools.Pool())
    return request.param


class Multiply:
    """Multiplies each item, and notes which worker has done it."""

    def __init__(self, results, seen, slow_item=None):
        self.results, self.seen, self.slow_item = results, seen, slow_item

    def __call__(self, item, worker, factor):
        time.sleep(0.3 if item == self.slow_item else 1e-3)
        self.results[item] += item * factor
        self.seen[item] = os.getpid() + worker


def test_each_item_once_and_arrays_are_shared(way):
    with open_pool(3) as pool:
        results, seen = pool.array((40,), float), pool.array((40,), np.int64)
        pool.start(Multiply(results, seen))
        for factor in (1, 10):
            for n_items in (40, 2, 1):
                results[...] = 0
                pool.run(n_items, factor)
                assert results[:n_items].tolist() == [i * factor for i in range(n_items)]
                assert not results[n_items:].any()
        pool.run(40, 1)
        assert len(set(seen.tolist())) == (1 if way == "alone" else 3)


def test_a_free_worker_takes_what_a_busy_one_leaves(way):
    with open_pool(2) as pool:
        results, seen = pool.array((100,), float), pool.array((100,), np.int64)
        pool.start(Multiply(results, seen, slow_item=0))
        pool.run(100, 1)
        if way != "alone":
            assert np.count_nonzero(seen == seen[0]) < 20


class Twice(Exception):
    """An exception that takes two arguments."""

    def __init__(self, what, number):
        super().__init__(f"{what} {number}")


class Odd(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.held = threading.Lock()


class Unsure(Exception):
    """An exception whose text would grow if its constructor were called again."""

    def __init__(self, what, number=3):
        super().__init__(f"{what} {number}")


class Unmade(Exception):
    """An exception that nothing but its constructor can make, nor pickle."""

    def __init__(self, what):
        super().__init__()
        self.what = what, threading.Lock()

    def __str__(self):
        return self.what[0]


class Silent(Exception):
    """An exception that counts as false."""

    def __bool__(self):
        return False


ERRORS = {
    "value": lambda: ValueError("no good"),
    "two arguments": lambda: Twice("no good", 3),
    "not picklable": lambda: Odd("no good"),
    "text that grows": lambda: Unsure("no good"),
    "unmade": lambda: Unmade("no good"),
    "false": lambda: Silent("no good"),
    "exit": lambda: SystemExit("no good"),
}


class Fail:
    """Fails at an item that its array names."""

    def __init__(self, bad_item, error, results):
        self.bad_item, self.error, self.results = bad_item, error, results

    def __call__(self, item, worker):
        if item == self.bad_item[0]:
            raise ERRORS[self.error]()
        self.results[item] = item
        time.sleep(1e-3)


@pytest.mark.parametrize("bad_item", [0, 1, 7])
@pytest.mark.parametrize("error", ERRORS)
def test_errors_come_through_and_the_pool_goes_on(way, bad_item, error):
    with open_pool(2) as pool:
        broken, results = pool.array((1,), np.int64), pool.array((8,), np.int64)
        pool.start(Fail(broken, error, results))
        for _ in range(2):
            broken[...] = bad_item
            kind = (type(ERRORS[error]()), RuntimeError)
            with pytest.raises(kind, match="no good"):
                pool.run(8)
            if error == "exit":  # which ends a pool, as an interrupt does
                break
            broken[...], results[...] = -1, -1
            pool.run(8)
            assert results.tolist() == list(range(8))


class FailElsewhere:
    """Fails in every process but one."""

    def __init__(self, parent, error):
        self.parent, self.error = parent, error

    def __call__(self, item, worker):
        time.sleep(0.02)
        if os.getpid() != self.parent[0]:
            in_the_users_function(self.error)


def in_the_users_function(error):
    raise ERRORS[error]()


@pytest.mark.parametrize("error", [name for name in ERRORS if name != "exit"])
def test_an_error_of_a_worker_keeps_its_type_and_text(monkeypatch, error):
    use_workers(monkeypatch, "processes")
    expected = ERRORS[error]()
    if error == "unmade":
        expected = RuntimeError("Unmade: no good")
    with open_pool(2) as pool:
        parent = pool.array((1,), np.int64)
        parent[...] = os.getpid()
        pool.start(FailElsewhere(parent, error))
        with pytest.raises(type(expected), match="no good") as caught:
            pool.run(8)
    assert str(caught.value) == str(expected)
    assert "In a worker process" in caught.value.__notes__[0]
    assert "in_the_users_function" in caught.value.__notes__[0]


def test_a_job_that_cannot_be_pickled_is_done_by_threads(monkeypatch):
    monkeypatch.setattr(pools, "START_FLOPS", -1)
    lock = threading.Lock()
    found = []

    def job(item, worker):
        with lock:
            found.append(item)

    with open_pool(2) as pool:
        pool.start(job)
        pool.run(20)
    assert sorted(found) == list(range(20))


@on_linux
def test_large_arrays_of_a_job_are_copied_once_and_maps_of_files_never(monkeypatch, tmp_path):
    use_workers(monkeypatch, "processes")
    large = np.arange(100_000.0)
    large.tofile(tmp_path / "numbers")
    on_disk = np.memmap(tmp_path / "numbers", float, "r", shape=(1000, 100))
    with open_pool(2) as pool:
        results = pool.array((20,), float)
        pool.start(Look(large, large, on_disk[3:], results))
        assert len(pool._pickled) < 5000
        folder = next(iter(pool._arrays._folders.values()))
        sizes = sorted(file.stat().st_size for file in Path(folder).iterdir())
        assert sizes == [8, 160, 800_000]
        pool.run(20)
        assert (results == large.sum() + on_disk[3:].sum()).all()
    assert not Path(folder).exists()


class Look:
    def __init__(self, first, second, on_disk, results):
        self.first, self.second, self.on_disk, self.results = first, second, on_disk, results

    def __call__(self, item, worker):
        time.sleep(1e-3)
        assert self.first is self.second or (self.first == self.second).all()
        self.results[item] = self.second.sum() + self.on_disk.sum()


def test_idle_workers_are_used_again(monkeypatch):
    use_workers(monkeypatch, "processes")
    stop_workers()
    found = []
    for _ in range(2):
        with open_pool(2) as pool:
            results, seen = pool.array((20,), float), pool.array((20,), np.int64)
            pool.start(Multiply(results, seen))
            pool.run(20, 1)
            found.append(set(seen.tolist()))
    assert found[0] == found[1]


@needs_processes
def test_two_pools_share_the_number_of_processes(monkeypatch):
    monkeypatch.setattr(pools, "START_FLOPS", -1)
    stop_workers()
    with open_pool(2) as first, open_pool(2) as second:
        assert len(first._workers) == 1
        assert not second._workers
    assert len(processes._workers) == 1


def test_little_work_is_done_alone():
    with open_pool(2, flops=1e6) as pool:
        assert type(pool) is pools.Pool


def test_free_threaded_python_uses_threads(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with open_pool(2) as pool:
        assert type(pool) is pools.Threads


def inner(n_jobs):
    return n_workers(n_jobs)


def test_joblibs_share_is_respected(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = joblib.cpu_count()
    assert n_workers(None) == 1
    assert n_workers(-1) == cores
    assert n_workers(2) == 2
    for backend in ("loky", "threading"):
        shares = joblib.Parallel(2, backend=backend)(joblib.delayed(inner)(-1) for _ in range(2))
        assert max(shares) <= max(cores // 2, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert n_workers(-1) == cores


class Inspect:
    """Notes in each worker what has become of arrays of the user's."""

    def __init__(self, masked, plain, frozen, kinds):
        self.masked, self.plain, self.frozen, self.kinds = masked, plain, frozen, kinds

    def __call__(self, item, worker):
        time.sleep(1e-3)
        self.kinds[item] = self.masked.mask.any(), self.plain[0] < 0, self.frozen.flags.writeable
        if self.plain.flags.writeable and item > 20:
            self.plain[0] = 1  # a worker's own copy


def test_arrays_of_the_users_keep_their_kind_in_workers(monkeypatch):
    use_workers(monkeypatch, "processes")
    masked = np.ma.masked_greater(np.arange(50_000.0), 10)
    plain, frozen = np.full(50_000, -1.0), np.ones(50_000)
    frozen.flags.writeable = False
    with open_pool(2) as pool:
        kinds = pool.array((20, 3), np.int64)
        pool.start(Inspect(masked, plain, frozen, kinds))
        pool.run(20)
        assert kinds.tolist() == [[1, 1, 0]] * 20
    assert plain[0] == -1


@pytest.mark.parametrize("part", ["lock", "process", "setting"])
def test_threads_do_the_work_where_there_may_be_no_processes(monkeypatch, part):
    def refuse(*arguments):
        raise OSError("not here")

    stop_workers()
    monkeypatch.setattr(pools, "START_FLOPS", -1)
    if part == "setting":
        monkeypatch.setenv("SKCNN_PROCESSES", "0")
    else:
        monkeypatch.setattr(processes, "ticket_lock" if part == "lock" else "Worker", refuse)
    with open_pool(2) as pool:
        assert not pool._workers
        results, seen = pool.array((20,), float), pool.array((20,), np.int64)
        results[...], seen[...] = 0, 0
        pool.start(Multiply(results, seen))
        pool.run(20, 1)
        assert results.tolist() == list(range(20))
        assert set(seen.tolist()) == {os.getpid(), os.getpid() + 1}


@needs_processes
@pytest.mark.parametrize("value", ["1", "2", ""])
def test_other_values_of_the_setting_change_nothing(monkeypatch, value):
    monkeypatch.setenv("SKCNN_PROCESSES", value)
    use_workers(monkeypatch, "processes")
    with open_pool(2) as pool:
        assert len(pool._workers) == 1


def test_threads_of_joblib_have_one_worker_each_whatever_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    shares = joblib.Parallel(2, backend="threading")(joblib.delayed(inner)(4) for _ in range(4))
    assert shares == [1] * 4
