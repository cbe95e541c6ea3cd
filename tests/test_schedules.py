"""Schedules by hand, against MLPClassifier's and against torch's."""

import pickle
from numbers import Number

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

from skcnn._training.schedules import Adaptive, Constant, Cosine, InvScaling, OneCycle

ALL = {
    "constant": Constant(0.1),
    "invscaling": InvScaling(0.1),
    "adaptive": Adaptive(0.1),
    "cosine": Cosine(0.1, 20, warmup=0.2),
    "onecycle": OneCycle(0.1, 20),
}
every_schedule = pytest.mark.parametrize("schedule", ALL.values(), ids=ALL.keys())


def rates(schedule, n_steps):
    return np.array([schedule.rate(step, 0) for step in range(n_steps)])


@every_schedule
def test_rates_are_plain_floats_and_state_plain_numbers(schedule):
    assert type(schedule.rate(3, 70)) is float
    assert all(isinstance(value, Number) for value in vars(schedule).values())
    if not isinstance(schedule, Cosine | OneCycle):
        assert type(type(schedule)(np.float32(0.5)).rate(3, 70)) is float


@every_schedule
def test_a_pickled_schedule_goes_on(schedule):
    schedule = pickle.loads(pickle.dumps(schedule))
    schedule.end_epoch(True)
    copy = pickle.loads(pickle.dumps(schedule))
    assert vars(copy) == vars(schedule)
    assert copy.rate(5, 100) == schedule.rate(5, 100)


def test_constant():
    schedule = Constant(0.25)
    assert rates(schedule, 3).tolist() == [0.25] * 3
    assert schedule.end_epoch(False) is False
    assert schedule.end_epoch(True) is True


def test_invscaling_by_hand():
    schedule = InvScaling(0.6)
    assert schedule.rate(0, 0) == 0.6
    assert schedule.rate(7, 0) == 0.6
    assert schedule.rate(8, 8) == pytest.approx(0.2)
    assert InvScaling(0.6, power_t=1).rate(8, 8) == pytest.approx(0.6 / 9)
    assert schedule.end_epoch(False) is False
    assert schedule.end_epoch(True) is True


def test_adaptive_by_hand():
    schedule = Adaptive(1e-4)
    got = []
    for stalled in (False, True, True, False, True, True):
        got.append((schedule.rate(0, 0), schedule.end_epoch(stalled)))
    assert_allclose([rate for rate, _ in got], [1e-4, 1e-4, 2e-5, 4e-6, 4e-6, 8e-7])
    assert [stop for _, stop in got] == [False] * 5 + [True]
    assert schedule.rate(0, 0) == pytest.approx(8e-7)
    assert schedule.end_epoch(False) is False


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [
        ("constant", Constant(0.3)),
        ("invscaling", InvScaling(0.3, 0.4)),
        ("adaptive", Adaptive(0.3)),
    ],
)
def test_epochs_are_those_of_mlp(kind, schedule):
    theirs = SGDOptimizer([], 0.3, kind, power_t=0.4)
    schedule = pickle.loads(pickle.dumps(schedule))
    random = np.random.default_rng(0)
    step = n_samples_seen = 0
    for _ in range(60):
        for _ in range(3):
            assert schedule.rate(step, n_samples_seen) == theirs.learning_rate
            step += 1
        n_samples_seen += 70
        theirs.iteration_ends(n_samples_seen)
        stalled = bool(random.random() < 0.4)
        theirs_stops = stalled and theirs.trigger_stopping("", False)
        assert schedule.end_epoch(stalled) == theirs_stops
    assert stalled or kind != "adaptive" or theirs.learning_rate <= 1e-6


def test_cosine_by_hand():
    # a rise in 4 of 12 steps, half a cosine over 8
    got = rates(Cosine(0.4, 12, warmup=1 / 3), 15)
    fall = 0.2 * (1 + np.cos(np.pi * np.arange(9) / 8))
    assert_allclose(got[:4], [0.1, 0.2, 0.3, 0.4])
    assert_allclose(got[4:13], fall, atol=1e-16)
    assert got[4] == 0.4
    assert got[8] == pytest.approx(0.2)
    assert got[12:].tolist() == [0, 0, 0]
    assert (got[:12] > 0).all()


def test_cosine_without_warmup_falls_from_the_first_step():
    got = rates(Cosine(0.4, 10), 12)
    assert got[0] == 0.4
    assert (np.diff(got[:11]) < 0).all()
    assert got[10] == got[11] == 0


def test_one_cycle_by_hand():
    # a rise over 3 of 11 steps, to step 2
    got = rates(OneCycle(1.0, 11, warmup=3 / 11, div=10, final_div=100), 14)
    assert_allclose(got[:3], [0.1, 0.55, 1])
    assert got[2] == 1
    assert got[6] == pytest.approx((1 + 0.001) / 2)
    assert got[10:].tolist() == [0.001] * 4


@pytest.mark.parametrize("n_steps", [10, 11, 1000])
@pytest.mark.parametrize("warmup", [0.1, 0.3, 0.55])
def test_schedules_rise_then_fall(n_steps, warmup):
    for schedule in (Cosine(0.1, n_steps, warmup), OneCycle(0.1, n_steps, warmup)):
        got = rates(schedule, n_steps)
        top = got.argmax()
        assert abs(top - warmup * n_steps) <= 2
        assert got[top] <= 0.1 * (1 + 1e-15)
        assert got[top] > 0.09
        assert (np.diff(got[: top + 1]) > 0).all()
        assert (np.diff(got[top:]) <= 0).all()
        assert (got > 0).all()
    assert got[0] == pytest.approx(0.1 if warmup * n_steps <= 1 else 0.1 / 25)
    assert got[-1] == pytest.approx(0.1 / 25e4)


@pytest.mark.parametrize("kind", [Cosine, OneCycle])
@pytest.mark.parametrize("n_steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0, 0.1, 0.5, 1])
def test_short_schedules(kind, n_steps, warmup):
    got = rates(kind(0.1, n_steps, warmup), 6)
    assert np.isfinite(got).all()
    assert (got >= 0).all()
    assert (got[:n_steps] > 0).all()
    assert (got[n_steps:] == got[n_steps]).all()
    assert got.max() <= 0.1


@pytest.mark.parametrize("schedule", [Cosine(0.1, 5), OneCycle(0.1, 5)])
def test_schedules_of_a_length_run_it(schedule):
    before = rates(schedule, 5)
    assert schedule.end_epoch(False) is False
    assert schedule.end_epoch(True) is False
    assert_allclose(rates(schedule, 5), before)


def torch_rates(make, n_steps):
    """Return the rates that torch's schedule gives to its steps."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    schedule = make(torch.optim.lr_scheduler, optimizer)
    got = []
    for _ in range(n_steps):
        got.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return got


@pytest.mark.parametrize("n_steps", [10, 37, 100])
def test_rates_are_those_of_torch(n_steps):
    expected = torch_rates(lambda s, o: s.CosineAnnealingLR(o, n_steps), n_steps)
    assert_allclose(rates(Cosine(0.1, n_steps), n_steps), expected, rtol=1e-9)
    for warmup in (0.3, 0.45):

        def make(schedulers, optimizer, warmup=warmup):
            return schedulers.OneCycleLR(optimizer, 0.1, n_steps, pct_start=warmup)

        expected = torch_rates(make, n_steps)
        assert_allclose(rates(OneCycle(0.1, n_steps, warmup), n_steps), expected, rtol=1e-9)
