"""Optimizers against MLPClassifier's, torch's, and their recurrences."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from skcnn._training import optimizers
from skcnn._training.optimizers import SGD, Adam, AdamW, RMSprop, clip_norm

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


def adamw(weights, gradients, rate, n_coefs, decay, beta_1, beta_2, epsilon):
    """Return the weights after steps by the gradients, by the formulas of the paper."""
    weights, mean, square = weights.copy(), 0, 0
    decays = decay * (np.arange(len(weights)) < n_coefs)
    for t, gradient in enumerate(gradients, 1):
        mean = beta_1 * mean + (1 - beta_1) * gradient
        square = beta_2 * square + (1 - beta_2) * gradient**2
        root = np.sqrt(square / (1 - beta_2**t)) + epsilon
        weights = weights - rate * (mean / (1 - beta_1**t) / root + decays * weights)
    return weights


def rmsprop(weights, gradients, rate, rho, epsilon, momentum):
    """Return the weights after steps by the gradients, by the formulas of the paper."""
    weights, square, velocity = weights.copy(), 0, 0
    for gradient in gradients:
        square = rho * square + (1 - rho) * gradient**2
        velocity = momentum * velocity + gradient / (np.sqrt(square) + epsilon)
        weights = weights - rate * velocity
    return weights


def share(size):
    """Return a number of coefficients that ends within a block."""
    return 2 * size // 3


def torch_adamw(torch, weights, rate, decay, beta_1, beta_2, epsilon):
    n_coefs = share(len(weights))
    groups = [
        {"params": [weights[:n_coefs]], "weight_decay": decay},
        {"params": [weights[n_coefs:]], "weight_decay": 0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(beta_1, beta_2), eps=epsilon)


def torch_rmsprop(torch, weights, rate, rho, epsilon, momentum):
    return torch.optim.RMSprop([weights], lr=rate, alpha=rho, eps=epsilon, momentum=momentum)


# the reference, torch's, ours, and parameters
CASES = {
    "AdamW": (adamw, torch_adamw, AdamW, (0.01, 0.9, 0.999, 1e-8)),
    "AdamW 2": (adamw, torch_adamw, AdamW, (0.5, 0.5, 0.7, 1e-2)),
    "RMSprop": (rmsprop, torch_rmsprop, RMSprop, (0.99, 1e-8, 0.0)),
    "RMSprop 2": (rmsprop, torch_rmsprop, RMSprop, (0.7, 1e-2, 0.9)),
}
every_case = pytest.mark.parametrize(
    ("reference", "torchs", "kind", "params"), CASES.values(), ids=CASES.keys()
)


def problem(size, dtype):
    """Return weights and a gradient per step."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=size).astype(dtype)
    return weights, rng.normal(size=(N_STEPS, size)).astype(dtype)


def run(kind, params, weights, gradients, rate):
    """Return the weights after our steps, and the optimizer."""
    weights = weights.copy()
    optimizer = kind(weights, *params)
    for gradient in gradients:
        optimizer.step(weights, gradient.copy(), rate)
    return weights, optimizer


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("size", [1, 5, 100_003])
def test_steps_are_those_of_the_papers(reference, torchs, kind, params, dtype, tolerance, size):
    weights, gradients = problem(size, dtype)
    params = (share(size), *params) if kind is AdamW else params
    # a rate in double precision must not turn float32 into float64
    ours, optimizer = run(kind, params, weights, gradients, np.float64(0.1))
    expected = reference(weights.astype(float), gradients.astype(float), 0.1, *params)
    assert_allclose(ours, expected, rtol=tolerance, atol=10 * tolerance)
    assert np.abs(ours - weights).max() > 0.1
    arrays = [value for value in vars(optimizer).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 2
    assert all(array.dtype == dtype for array in (ours, *arrays))


@every_case
def test_steps_are_those_of_torch(reference, torchs, kind, params):
    torch = pytest.importorskip("torch")
    weights, gradients = problem(1000, np.float64)
    whole = torch.tensor(weights)
    theirs = torchs(torch, whole, 0.1, *params)
    parts = [part for group in theirs.param_groups for part in group["params"]]
    for gradient in torch.tensor(gradients):
        for part, of_part in zip(parts, gradient.split([len(p) for p in parts]), strict=True):
            part.grad = of_part.clone()
        theirs.step()
    params = (share(1000), *params) if kind is AdamW else params
    ours, _ = run(kind, params, weights, gradients, 0.1)
    assert_allclose(ours, whole.numpy(), rtol=1e-11, atol=1e-12)


def test_without_decay_adamw_is_adam():
    weights, gradients = problem(50, np.float64)
    adam, _ = run(Adam, (), weights, gradients, 0.1)
    ours, _ = run(AdamW, (50, 0.0), weights, gradients, 0.1)
    # but for epsilon, which it adds to another root
    assert_allclose(ours, adam, rtol=1e-4)


def test_only_coefficients_decay():
    weights, optimizer = run(AdamW, (2, 0.5), np.full(4, 8.0), np.zeros((2, 4)), 0.1)
    # twice 8 less 0.1 times 0.5 of it
    assert_allclose(weights, [7.22, 7.22, 8, 8])
    assert optimizer.n_steps == 2


def test_rmsprop_by_hand():
    weights, _ = run(RMSprop, (0.75, 0.0, 0.5), np.array([1.0]), np.array([[2.0], [0.0]]), 0.1)
    # the mean square is 1, then 0.75; the velocity 2, then 1
    assert weights[0] == pytest.approx(1 - 0.2 - 0.1)


@pytest.mark.parametrize("make", [Adam, lambda w: AdamW(w, 3), RMSprop, SGD])
def test_a_pickled_optimizer_goes_on(make):
    weights, gradients = problem(5, np.float32)
    optimizer = make(weights)
    optimizer.step(weights, gradients[0].copy(), 0.1)
    copy, other = pickle.loads(pickle.dumps(optimizer)), weights.copy()
    optimizer.step(weights, gradients[1].copy(), 0.1)
    copy.step(other, gradients[1].copy(), 0.1)
    assert_array_equal(weights, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 5, 100_003])
def test_clip_norm(dtype, size):
    grads = np.random.default_rng(0).normal(size=size).astype(dtype)
    norm = np.linalg.norm(grads.astype(float))
    clipped = grads.copy()
    assert clip_norm(clipped, 2 * norm) == pytest.approx(norm, rel=1e-12)
    assert_array_equal(clipped, grads)
    assert clip_norm(clipped, np.float64(norm / 4)) == pytest.approx(norm, rel=1e-12)
    assert clipped.dtype == dtype
    assert_allclose(clipped, grads / 4, rtol=1e-6)


def test_clip_norm_of_squares_beyond_float32():
    grads = np.array([3e25, -4e25], np.float32)
    assert clip_norm(grads, 1) == pytest.approx(5e25)
    assert_allclose(grads, [0.6, -0.8], rtol=1e-6)
    zeros = np.zeros(3, np.float32)
    assert clip_norm(zeros, 1) == 0
    assert not zeros.any()


def test_weight_decay_leaves_blocks_of_intercepts_alone(monkeypatch):
    """A block that begins behind the coefficients has none to decay."""
    monkeypatch.setattr(optimizers, "VECTOR_BLOCK", 4)
    weights = np.ones(12)
    AdamW(weights, n_coefs=6, weight_decay=0.5).step(weights, np.zeros(12), 0.1)
    assert_allclose(weights, [0.95] * 6 + [1.0] * 6, rtol=1e-12)


@pytest.mark.parametrize("factor", [0.5, 0.99, 1.01, 1.5, 1.99, 3])
def test_gradients_are_clipped_from_the_limit_on(factor):
    direction = np.array([3.0, 4.0]) / 5
    grads = 2.0 * factor * direction
    assert clip_norm(grads, 2.0) == pytest.approx(2 * factor)
    assert_allclose(grads, 2.0 * min(factor, 1) * direction, rtol=1e-12)
