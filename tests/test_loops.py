"""Loops that workers with nothing left to do join: each block once, in turn, and the same bits."""

import os
import sys
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skcnn import CNNClassifier
from skcnn._engine import blocks, convolution, winograd
from skcnn._model.forward import Runner
from skcnn._training import steps as _trainer
from skcnn._workers import loops, memory, team
from skcnn._workers.loops import Desk, Desks, Loop
from skcnn._workers.memory import shared_empty
from skcnn._workers.team import Team
from skcnn.layers import AvgPool, Conv, Dense, GlobalAvgPool, MaxPool
from skcnn.layers.conv import kernel_shapes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are made on Linux only")
N_BLOCKS = 20


@pytest.fixture
def patient(monkeypatch):
    """Before its loops, worker 0 waits until another worker waits."""
    own = Desks.loop

    def loop(self, worker, *args):
        deadline = time.monotonic() + 5
        while worker == 0 and 1 not in self._waits.tolist() and time.monotonic() < deadline:
            time.sleep(1e-4)
        return own(self, worker, *args)

    monkeypatch.setattr(Desks, "loop", loop)


def leave_blocks(monkeypatch, waits):
    """Let worker 0 leave the blocks that it offers to others while ``waits(step)``, for some seconds."""
    parent, make, take, own = os.getpid(), Desks.loop, Desk.take, {}

    def loop(self, worker, place, *args):
        own.update(desk=self._desks[worker], step=place[0])
        return make(self, worker, place, *args)

    def take_late(self):
        deadline = time.monotonic() + 5
        while os.getpid() == parent and self is own.get("desk") and waits(own["step"]):
            if time.monotonic() > deadline:
                break
            time.sleep(1e-4)
        return take(self)

    monkeypatch.setattr(Desks, "loop", loop)
    monkeypatch.setattr(Desk, "take", take_late)


def test_alone():
    loop = Loop(4)
    seen = []
    for block in loop:
        with loop.turn(block):
            seen.append(block)
    assert seen == [0, 1, 2, 3]


class Blocks:
    """One worker's loop over blocks, which the others join."""

    def __init__(self, members, before_turn, n_loops=1):
        self.members = members
        self.before_turn = before_turn
        self.n_loops = n_loops
        self.order = members.lasting((N_BLOCKS + 1,), np.intp)  # their number, then blocks
        self.products = members.lasting((N_BLOCKS,), float)
        self.workers = members.lasting((N_BLOCKS,), np.intp)
        # not in shared memory
        self.inputs = {"numbers": np.arange(N_BLOCKS, dtype=float), "twos": np.full(N_BLOCKS, 2.0)}
        members.set_work(self.work, lambda part, n_parts: None, self.join)

    def work(self, item, worker):
        """Do loops one after the other, each of which writes to the places of all."""
        if item == 0:
            outputs = {"products": self.products, "nothing": None}
            for place in range(self.n_loops):
                self.order[0] = 0
                loop = self.members.loop_maker(worker)(place, N_BLOCKS, self.inputs, outputs)
                self.join(place, loop, self.inputs | outputs, worker)

    def join(self, place, loop, arrays, worker):
        assert arrays["nothing"] is None
        assert loop.is_joined == (worker != 0)
        for block in loop:
            time.sleep(1e-3)
            self.before_turn(block, worker)
            product = arrays["twos"][block] * arrays["numbers"][block]
            arrays["products"][block] += (place + 1) * product
            with loop.turn(block):
                self.order[0] += 1
                self.order[self.order[0]] = block
                self.workers[block] = worker
            if worker == 1:  # the loop may be over before it takes its next block
                time.sleep(3e-3)

    def run(self):
        self.order[...], self.workers[...], self.products[...] = 0, -1, 0
        self.members.run(self.members.n_workers, True)


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_each_block_once_and_in_turn(patient, n_jobs):
    with Team(n_jobs) as members:
        work = Blocks(members, lambda block, worker: None)
        for _ in range(3):
            work.run()
            assert work.order.tolist() == [N_BLOCKS, *range(N_BLOCKS)]
            assert_array_equal(work.products, 2.0 * np.arange(N_BLOCKS))
            assert set(work.workers) == set(range(n_jobs))


def test_who_joins_one_loop_after_the_other_does_not_mix_them_up(patient):
    with Team(4) as members:
        work = Blocks(members, lambda block, worker: None, n_loops=8)
        for _ in range(3):
            work.run()
            assert work.order.tolist() == [N_BLOCKS, *range(N_BLOCKS)]
            assert_array_equal(work.products, 36 * 2.0 * np.arange(N_BLOCKS))


@pytest.mark.parametrize("bad_worker", [0, 1])
def test_errors_in_a_joined_loop_come_through_and_the_team_goes_on(patient, bad_worker):
    with Team(3) as members:
        fails = members.lasting((1,), bool)

        def fail(block, worker):
            if fails and worker == bad_worker:
                raise ValueError("no good")

        work = Blocks(members, fail)
        for fails[...] in (True, True, False):
            if fails:
                with pytest.raises(ValueError, match="no good"):
                    work.run()
            else:
                work.run()
                assert work.order.tolist() == [N_BLOCKS, *range(N_BLOCKS)]


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_a_helper_that_dies_is_an_error(patient, n_jobs):
    parent = os.getpid()

    def die(block, worker):
        if os.getpid() != parent:
            os._exit(1)

    with Team(n_jobs) as members, pytest.raises(RuntimeError, match="ended unexpectedly"):
        Blocks(members, die).run()


def test_what_others_cannot_see_is_not_offered(patient):
    with Team(2) as members:
        work = Blocks(members, lambda block, worker: None)
        seen, work.products = work.products, np.zeros(N_BLOCKS)
        seen[...] = 0
        work.run()
        assert set(work.workers) == {0}
        assert_array_equal(work.products, 2.0 * np.arange(N_BLOCKS))
        assert not seen.any()


def test_what_there_is_no_room_for_is_not_offered(patient, monkeypatch):
    monkeypatch.setattr(loops, "OFFER_BYTES", 16)
    with Team(2) as members:
        work = Blocks(members, lambda block, worker: None)
        work.run()
        assert set(work.workers) == {0}


STACKS = {  # and the steps whose blocks others take
    "tiles": ((Conv(16), Conv(24), Conv(16), Dense(5)), {0, 1, 2}),
    "pooled tiles": ((Conv(16), MaxPool(), Conv(24), MaxPool(), Dense(5)), {0, 1}),
    "rows": ((Conv(3, 5, stride=2, activation="tanh"), AvgPool(), Dense(5)), {0}),
    "pooled rows": ((Conv(4, 5), Conv(3, 5), MaxPool(), Dense(5)), {0, 1}),
    "groups": ((Conv(6), Conv(4, groups=2, padding="valid"), GlobalAvgPool()), {0, 1}),
}


@pytest.mark.parametrize(("layers", "joined"), STACKS.values(), ids=STACKS.keys())
@pytest.mark.parametrize("n_jobs", [2, 3])
def test_same_bits_if_workers_help_each_other(layers, joined, n_jobs, patient, monkeypatch):
    monkeypatch.setattr(team, "FORK_FLOPS", -np.inf)
    monkeypatch.setattr(_trainer, "SHARED_UPDATE", 0)
    monkeypatch.setattr(memory, "OWN_BYTES", 0)
    monkeypatch.setattr(blocks, "BLOCK_SIZE", 8 * 1024)
    monkeypatch.setattr(blocks, "WORTHWHILE_SIZE", 1)
    monkeypatch.setattr(winograd, "TILE_RUN", 32)
    helped = shared_empty((9,), np.intp)
    join = Runner.join

    def counted(self, place, *args):
        helped[place[0]] += 1
        join(self, place, *args)

    monkeypatch.setattr(Runner, "join", counted)
    leave_blocks(monkeypatch, lambda place: place in joined and not helped[place])
    caches = convolution._blocks, kernel_shapes, winograd.tiling, blocks.shard_slices
    for cached in caches:
        cached.cache_clear()
    rng = np.random.default_rng(0)
    y = np.arange(128) % 3
    X = (rng.normal(size=(128, 14, 13, 2)) + y[:, None, None, None]).astype(np.float32)
    fits = [
        CNNClassifier(
            layers, batch_size=64, max_iter=3, early_stopping=False, random_state=0, n_jobs=n
        ).fit(X, y)
        for n in (1, n_jobs)
    ]
    for cached in caches:
        cached.cache_clear()
    assert set(np.flatnonzero(helped)) == joined
    one, other = (clf.coefs_ + clf.intercepts_ for clf in fits)
    for a, b in zip(one, other, strict=True):
        assert_array_equal(a, b)
    assert fits[0].loss_curve_ == fits[1].loss_curve_
