"""Optimizers against MLPClassifier's, and against their recurrences."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from skcnn.optimizers import SGD, Adam

N_STEPS = 7


def pairs(rate):
    """Yield (ours, theirs), both for vectors of zeros and ones to come."""

    def sgd(momentum, nesterov):
        return (
            lambda w: SGD(w, momentum, nesterov),
            lambda w: SGDOptimizer([w], rate, "constant", momentum, nesterov),
        )

    yield sgd(0, False)
    yield sgd(0, True)
    yield sgd(0.9, False)
    yield sgd(0.9, True)
    yield sgd(0.5, True)
    yield Adam, lambda w: AdamOptimizer([w], rate)
    yield (
        lambda w: Adam(w, beta_1=0.5, beta_2=0.7, epsilon=1e-2),
        lambda w: AdamOptimizer([w], rate, beta_1=0.5, beta_2=0.7, epsilon=1e-2),
    )


@pytest.mark.parametrize("case", range(7))
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("size", [1, 5, 100_003])
def test_steps_are_those_of_mlp(case, dtype, tolerance, size):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=size)
    ours, theirs = weights.astype(dtype), weights.copy()
    make_ours, make_theirs = list(pairs(0.1))[case]
    ours_of, theirs_of = make_ours(ours), make_theirs(theirs)
    for _ in range(N_STEPS):
        gradient = rng.normal(size=size)
        theirs_of.update_params([theirs], [gradient.copy()])
        ours_of.step(ours, gradient.astype(dtype), 0.1)
    assert ours.dtype == dtype
    assert_allclose(ours, theirs, rtol=tolerance, atol=10 * tolerance)
    assert np.abs(ours - weights).max() > 0.1


def test_adam_by_its_paper():
    weight, mean, square = 1.0, 0.0, 0.0
    ours = np.array([weight])
    adam = Adam(ours)
    for t, gradient in enumerate((0.5, -1.0, 2.0, 0.0), 1):
        adam.step(ours, np.array([gradient]), 0.01)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        step = 0.01 * (mean / (1 - 0.9**t)) / np.sqrt(square / (1 - 0.999**t))
        weight -= step
        assert ours[0] == pytest.approx(weight, rel=1e-6)
    assert adam.n_steps == 4


def test_momentum_by_hand():
    plain, nesterov = np.array([0.0]), np.array([0.0])
    a, b = SGD(plain, 0.5, False), SGD(nesterov, 0.5, True)
    for _ in range(2):
        a.step(plain, np.array([1.0]), 0.1)
        b.step(nesterov, np.array([1.0]), 0.1)
    # velocities -0.1, -0.15; Nesterov's steps look half a velocity ahead: -0.15, -0.175
    assert plain[0] == pytest.approx(-0.25)
    assert nesterov[0] == pytest.approx(-0.325)


def test_the_rate_may_change_from_step_to_step():
    weights = np.array([0.0])
    sgd = SGD(weights, 0, False)
    for rate in (1.0, 0.1, 0.01):
        sgd.step(weights, np.array([-1.0]), rate)
    assert weights[0] == pytest.approx(1.11)
