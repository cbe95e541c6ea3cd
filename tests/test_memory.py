"""Memory for buffers: zeros, apart from each other, and kept for the next user."""

import os
import sys
import time

import numpy as np
import pytest

from skcnn._engine import forks, memory
from skcnn._engine.blocks import KEPT_REGIONS, OWN_BYTES, REGION_BYTES
from skcnn._engine.memory import Arena
from skcnn._engine.team import Team

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="regions are kept on Linux only")


@pytest.fixture(autouse=True)
def nothing_spare(monkeypatch):
    monkeypatch.setattr(memory, "_spare", [])


@pytest.mark.parametrize("dtype", [bool, np.float32, np.float64])
def test_arrays_are_zeros_and_apart(dtype):
    arena = Arena()
    arrays = [arena.zeros((n, 7), dtype) for n in (3, 50_000, 200_001, 1)]
    for number, array in enumerate(arrays):
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        assert not array.any()
        array[...] = number
    for number, array in enumerate(arrays):
        assert (array == dtype(number)).all()


@on_linux
def test_the_next_arena_finds_zeros_in_kept_memory():
    first = Arena()
    old = first.zeros(OWN_BYTES, np.float32)
    old[...] = 7
    place = old.ctypes.data
    del old
    first.close()
    second = Arena()
    new = second.zeros(OWN_BYTES, np.float32)
    assert new.ctypes.data == place
    assert not new.any()
    other = Arena().zeros(OWN_BYTES, np.float32)
    assert not np.shares_memory(new, other)


def test_what_does_not_fit_is_an_ordinary_array():
    arena = Arena()
    assert arena.zeros((10,), np.float32).base is None
    large = arena.zeros((REGION_BYTES + 1,), bool)
    assert large.base is None
    assert not large[::4096].any()


def test_only_so_many_regions_are_kept():
    arenas = [Arena().open() for _ in range(KEPT_REGIONS + 2)]
    for arena in arenas:
        arena.close()
        arena.close()  # the second time there is nothing to give back
    assert len(memory._spare) <= KEPT_REGIONS


@on_linux
def test_a_fork_leaves_the_regions_to_its_parent():
    Arena().open().close()
    assert len(memory._spare) == 1
    receive, send = os.pipe()
    process = os.fork()
    if process == 0:
        os.write(send, bytes([len(memory._spare)]))
        os._exit(0)
    os.waitpid(process, 0)
    assert os.read(receive, 1) == b"\0"


def interrupted(*args):
    raise KeyboardInterrupt


@on_linux
def test_a_busy_fork_is_gone_before_its_memory_is_used_again(monkeypatch):
    """After an interrupt a fork may be in the middle of its work."""
    parent = os.getpid()
    monkeypatch.setattr(forks, "_read_answer", interrupted)
    with Team(2) as team:
        seen = team.empty(1, np.intp)

        def work(item, worker):
            if os.getpid() != parent:
                seen[0] = os.getpid()
                time.sleep(60)
            while not seen[0]:
                time.sleep(0.001)
            return item

        team.set_work(work)
        with pytest.raises(KeyboardInterrupt):
            team.run(2)
    assert seen[0] > 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(seen[0]), 0)
