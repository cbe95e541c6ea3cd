"""Teams of workers: who does what, errors, ends, and how many there are."""

import os
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest

from skcnn._engine import team
from skcnn._engine.team import Team, n_threads

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="forks are made on Linux only")


@pytest.fixture(params=["forks", "threads", "alone"])
def way(request, monkeypatch):
    if request.param == "forks" and sys.platform != "linux":
        pytest.skip("forks are made on Linux only")
    if request.param == "threads":
        monkeypatch.setattr(team, "_forks_are_safe", lambda: False)
    return request.param


def make(way, n_jobs=3):
    return Team(n_jobs, flops=0 if way == "alone" else np.inf)


def test_each_item_once_and_arrays_are_shared(way):
    with make(way) as members:
        seen = members.empty(7, np.intp)
        factor = members.empty(1, float)

        def work(item, worker):
            seen[item] = os.getpid() if way == "forks" else worker
            return item * factor[0]

        members.set_work(work)
        for factor[0] in (1, 10):  # changed after the work was set, and seen by all
            for n_items in (7, 2, 1):
                assert members.run(n_items) == [i * factor[0] for i in range(n_items)]
        members.run(7)
        assert len(set(seen)) == (1 if way == "alone" else 3)


class Odd(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, item):
        super().__init__(item)
        self.held = lambda: item


@pytest.mark.parametrize("bad_item", [0, 1])
@pytest.mark.parametrize("kind", [ValueError, Odd])
def test_errors_come_through_and_the_team_goes_on(way, bad_item, kind):
    broken = [bad_item]

    def work(item, worker):
        if item in broken and item < 4:
            raise kind("no good")
        return item

    with make(way, 2) as members:
        members.set_work(work)
        with pytest.raises((kind, RuntimeError), match="no good"):
            members.run(4)
        broken.clear()
        if way != "forks":  # forks keep the list they were born with
            assert members.run(4) == [0, 1, 2, 3]


@on_linux
def test_a_worker_that_dies_is_an_error():
    parent = os.getpid()

    def work(item, worker):
        if os.getpid() != parent:
            os._exit(1)
        return item

    with Team(2) as members:
        members.set_work(work)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="ended unexpectedly"):
                members.run(2)


@on_linux
def test_forks_end_with_the_team():
    with Team(3) as members:
        pids = members.empty(3, np.intp)

        def work(item, worker):
            pids[item] = os.getpid()
            return 0

        members.set_work(work)
        members.run(3)
        children = set(pids.tolist()) - {os.getpid()}
        assert len(children) == 2
    deadline = time.monotonic() + 10
    while children and time.monotonic() < deadline:
        children = {child for child in children if Path(f"/proc/{child}").exists()}
    assert not children


def test_a_free_worker_takes_what_a_busy_one_leaves(way):
    """The first worker sleeps over its first item; another does all the rest."""
    with make(way, 2) as members:
        workers = members.empty(300, np.intp)

        def work(item, worker):
            workers[item] = worker
            time.sleep(0.5 if item == 0 else 0)
            return item

        members.set_work(work)
        for n_items in (300, 40):
            assert members.run(n_items) == list(range(n_items))
            if way != "alone":
                assert workers[0] == 0
                assert np.count_nonzero(workers[1:n_items] == 0) < n_items // 10


def test_little_work_is_done_alone():
    with Team(2, flops=1e6) as members:
        assert members.n_workers == 1


def inner(n_jobs):
    return n_threads(n_jobs)


def test_joblibs_share_is_respected(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = joblib.cpu_count()
    assert n_threads(None) == 1
    assert n_threads(-1) == cores
    assert n_threads(2) == 2
    for backend in ("loky", "threading"):
        shares = joblib.Parallel(2, backend=backend)(joblib.delayed(inner)(-1) for _ in range(2))
        assert max(shares) <= max(cores // 2, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert n_threads(-1) == cores
