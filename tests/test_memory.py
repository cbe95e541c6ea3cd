"""Memory for buffers: zeros, apart from each other, and kept for the next user."""

import os
import sys
import time

import numpy as np
import pytest

from skcnn._engine.blocks import KEPT_REGIONS, OWN_BYTES, REGION_BYTES
from skcnn._workers import forks, memory
from skcnn._workers.memory import Arena, Buffers, Scratch
from skcnn._workers.team import Team

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="regions are kept on Linux only")


@pytest.fixture(autouse=True)
def nothing_spare(monkeypatch):
    monkeypatch.setattr(memory, "_spare", [])


@pytest.mark.parametrize("dtype", [bool, np.float32, np.float64])
def test_arrays_are_zeros_and_apart(dtype):
    buffers = Buffers(Arena())
    arrays = [buffers.zeros((n, 7), dtype) for n in (3, 50_000, 200_001, 1)]
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
    old = Buffers(first).zeros((OWN_BYTES,), np.float32)
    old[...] = 7
    place = old.ctypes.data
    del old
    first.close()
    new = Buffers(Arena()).zeros((OWN_BYTES,), np.float32)
    assert new.ctypes.data == place
    assert not new.any()
    other = Buffers(Arena()).zeros((OWN_BYTES,), np.float32)
    assert not np.shares_memory(new, other)


def test_what_does_not_fit_is_an_ordinary_array():
    arena = Arena()
    buffers = Buffers(arena)
    assert buffers.zeros((10,), np.float32).base is None
    large = buffers.zeros((REGION_BYTES + 1,), bool)
    assert large.base is None
    assert not large[::4096].any()
    assert arena.empty((REGION_BYTES + 1,), bool) is None


@pytest.mark.parametrize("n", [30, 100_000])
@pytest.mark.parametrize("arena", [None, Arena()], ids=["ordinary", "arena"])
def test_scratch_of_a_layer_lies_apart_and_over_that_of_others(arena, n):
    buffers = Buffers(arena)
    layers = [[Scratch((3, n)), (n, 50), Scratch((n,))], [Scratch((n, 5))]]
    for shapes in layers:
        buffers.reserve(shapes, np.float64)
    first, end = buffers.scratch(0, (3, n), np.float64)
    second, _ = buffers.scratch(end, (n,), np.float64)
    other, _ = buffers.scratch(0, (n, 5), np.float64)
    for number, array in enumerate((first, second, other)):
        assert array.flags.c_contiguous
        array[...] = number
    assert not np.shares_memory(first, second)
    assert np.shares_memory(first, other)
    assert np.shares_memory(second, other)
    assert not np.shares_memory(other, buffers.zeros((n, 50), np.float64))


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
    monkeypatch.setattr(forks, "_read_error", interrupted)
    with Team(2) as team:
        seen = team.empty(1, np.intp)

        def work(item, worker):
            if os.getpid() != parent:
                seen[0] = os.getpid()
                time.sleep(60)
            while not seen[0]:
                time.sleep(0.001)

        team.set_work(work)
        with pytest.raises(KeyboardInterrupt):
            team.run(2)
    assert seen[0] > 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(seen[0]), 0)
