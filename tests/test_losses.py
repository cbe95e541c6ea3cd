"""Losses against SciPy, their gradients against finite differences."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit, log_expit, log_softmax
from scipy.special import softmax as scipy_softmax

from skcnn.losses import BinaryCrossEntropy, CategoricalCrossEntropy, logistic, softmax

RNG = np.random.default_rng(0)
CODES = np.array([0, 3, 1, 1, 2, 0, 3])
WEIGHTS = np.array([1.0, 2.0, 0.5, 0.0, 3.0, 1.0, 0.25])


def categorical(logits, codes, weights):
    return -(weights * log_softmax(logits, axis=0)[codes, np.arange(len(codes))]).sum()


def binary(logits, codes, weights):
    return -(weights * log_expit(np.where(codes == 1, logits[0], -logits[0]))).sum()


CASES = {
    "categorical": (CategoricalCrossEntropy(), categorical, RNG.normal(size=(4, 7)), CODES),
    "binary": (BinaryCrossEntropy(), binary, RNG.normal(size=(1, 7)), CODES % 2),
}
cases = pytest.mark.parametrize(
    ("loss", "expected", "logits", "codes"), CASES.values(), ids=CASES.keys()
)


@cases
@pytest.mark.parametrize("scale", [1, 30])
def test_value(loss, expected, logits, codes, scale):
    logits = scale * logits
    got = loss.gradient(logits.copy(), codes, WEIGHTS)
    assert got == pytest.approx(expected(logits, codes, WEIGHTS), rel=1e-12)


@cases
def test_gradient(loss, expected, logits, codes):
    gradient = logits.copy()
    loss.gradient(gradient, codes, WEIGHTS)
    for place in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[place] = 1e-5
        slope = expected(logits + step, codes, WEIGHTS) - expected(logits - step, codes, WEIGHTS)
        assert gradient[place] == pytest.approx(slope / 2e-5, rel=1e-6, abs=1e-9)


@cases
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_logits_neither_overflow_nor_warn(loss, expected, logits, codes, dtype):
    large = (1e4 * np.sign(logits)).astype(dtype)
    gradient = large.copy()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = loss.gradient(gradient, codes, WEIGHTS.astype(dtype))
        probabilities = loss.probabilities(large.copy())
    assert got == pytest.approx(expected(large.astype(float), codes, WEIGHTS), rel=1e-6)
    assert gradient.dtype == probabilities.dtype == dtype
    assert np.isfinite(gradient).all()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_probabilities():
    logits = 10 * RNG.normal(size=(3, 5))
    assert_allclose(softmax(logits.copy()), scipy_softmax(logits, axis=0), rtol=1e-12)
    assert_allclose(logistic(logits.copy()), expit(logits), rtol=1e-9, atol=1e-15)
    assert CategoricalCrossEntropy.output == "softmax"
    assert BinaryCrossEntropy.output == "logistic"


def test_by_hand():
    # equal logits: log 4 for each of four classes, log 2 for two
    weights = np.array([1.0, 3.0])
    logits = np.zeros((4, 2))
    assert CategoricalCrossEntropy().gradient(logits, np.array([0, 2]), weights) == pytest.approx(
        4 * np.log(4)
    )
    assert_allclose(logits, [[-0.75, 0.75], [0.25, 0.75], [0.25, -2.25], [0.25, 0.75]])
    logits = np.zeros((1, 2))
    assert BinaryCrossEntropy().gradient(logits, np.array([0, 1]), weights) == pytest.approx(
        4 * np.log(2)
    )
    assert_allclose(logits, [[0.5, -1.5]])
