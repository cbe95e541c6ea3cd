"""Teams of workers: who does what, errors, ends, and how many there are."""

import os
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest

from skcnn._workers import team
from skcnn._workers.forks import Forks
from skcnn._workers.team import Team, n_threads

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
        results, factor = members.empty(7, float), members.empty(1, float)

        def work(item, worker):
            seen[item] = os.getpid() if way == "forks" else worker
            results[item] += item * factor[0]

        members.set_work(work)
        for factor[0] in (1, 10):  # changed after the work was set, and seen by all
            for n_items in (7, 2, 1):
                results[...] = 0
                members.run(n_items)
                assert results[:n_items].tolist() == [i * factor[0] for i in range(n_items)]
                assert not results[n_items:].any()
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
    with make(way, 2) as members:
        broken, results = members.empty(1, np.intp), members.empty(4, np.intp)
        n_finished = members.empty(2, np.intp)

        def work(item, worker):
            if item == broken:
                raise kind("no good")
            results[item] = item

        def finish(part, n_parts):
            n_finished[part] += 1

        members.set_work(work, finish)
        results[...], n_finished[...] = -1, 0
        for finishes in (False, True, True):
            broken[...] = bad_item
            with pytest.raises((kind, RuntimeError), match="no good"):
                members.run(4, finishes)
            broken[...] = -1
            assert not n_finished.any()
        members.run(4)
        assert results.tolist() == [0, 1, 2, 3]
        members.run(4, True)
        assert n_finished.tolist() == [1, way == "forks"]


@pytest.mark.parametrize("slow_worker", [0, 1, 2])
def test_parts_are_finished_once_all_items_are_done(way, slow_worker):
    with make(way) as members:
        done, found = members.empty(5, bool), members.empty((3, 2), np.intp)

        def work(item, worker):
            time.sleep(0.01 if worker == slow_worker else 0)
            done[item] = True

        def finish(part, n_parts):
            found[part] = n_parts, np.count_nonzero(done)

        members.set_work(work, finish)
        for _ in range(3):
            done[...], found[...] = False, 0
            members.run(5, True)
            if way == "forks":
                assert found.tolist() == 3 * [[3, 5]]
            else:
                assert found.tolist() == [[1, 5], [0, 0], [0, 0]]
            members.run(5)


@on_linux
def test_who_fails_has_not_met_the_others(monkeypatch):
    """Even if it fails while another one is looking: that once finished its part of a failed order."""
    forks, found = Forks(None, 2), []
    forks._here = 0, 1, 2
    monkeypatch.setattr(forks, "_wait", lambda ready: found.append(ready()))
    for forks._met[1] in (0, 2, 3):  # not there yet, met, failed
        forks._meet()
    assert found == [False, True, False]
    forks.close()


@on_linux
@pytest.mark.parametrize("where", ["items", "meeting", "finish"])
def test_a_worker_that_dies_is_an_error(where):
    parent = os.getpid()

    def die(item, worker):
        if os.getpid() != parent:
            time.sleep(0.1 if where == "meeting" else 0)  # while the others wait
            os._exit(1)

    with Team(3) as members:
        members.set_work(*(2 * [die] if where != "finish" else [lambda item, worker: None, die]))
        for _ in range(2):
            with pytest.raises(RuntimeError, match="ended unexpectedly"):
                members.run(3, where != "items")


def wait_for_the_end_of(processes):
    """Return those that still live after a while."""
    deadline = time.monotonic() + 10
    while processes and time.monotonic() < deadline:
        processes = {process for process in processes if Path(f"/proc/{process}").exists()}
    return processes


@on_linux
@pytest.mark.parametrize("meets", [False, True])
def test_forks_end_with_a_parent_that_is_killed(meets):
    """Also those that wait for it in a meeting."""
    code = f"""
import os, time
from skcnn._workers.team import Team

def work(item, worker):
    if worker == 0:
        time.sleep(60)
    os.write(1, b"%d\\n" % os.getpid())

with Team(3) as members:
    members.set_work(work, work)
    members.run(3, {meets})
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        forks = {int(parent.stdout.readline()) for _ in range(2)}
        time.sleep(0.1)
        parent.kill()
    assert len(forks - {parent.pid}) == 2
    assert not wait_for_the_end_of(forks)


@on_linux
def test_forks_end_with_the_team():
    with Team(3) as members:
        pids = members.empty(3, np.intp)

        def work(item, worker):
            pids[item] = os.getpid()

        members.set_work(work)
        members.run(3)
        children = set(pids.tolist()) - {os.getpid()}
        assert len(children) == 2
    assert not wait_for_the_end_of(children)


def test_a_free_worker_takes_what_a_busy_one_leaves(way):
    """The first worker sleeps over its first item; another does all the rest."""
    with make(way, 2) as members:
        workers = members.empty(300, np.intp)

        def work(item, worker):
            workers[item] = worker
            time.sleep(0.5 if item == 0 else 0)

        members.set_work(work)
        for n_items in (300, 40):
            workers[...] = -1
            members.run(n_items)
            assert (workers >= 0).sum() == n_items
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
