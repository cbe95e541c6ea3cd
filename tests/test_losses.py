"""Losses against SciPy, scikit-learn and torch, their gradients against finite differences."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, log_expit, log_softmax
from scipy.special import softmax as scipy_softmax
from sklearn.metrics import (
    log_loss,
    mean_absolute_error,
    mean_poisson_deviance,
    mean_squared_error,
)

from skcnn._engine.losses import (
    LARGEST_LOG_RATE,
    AbsoluteError,
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    HuberLoss,
    MultilabelCrossEntropy,
    PoissonLoss,
    SquaredError,
    logistic,
    softmax,
)

RNG = np.random.default_rng(0)
CODES = np.array([0, 3, 1, 1, 2, 0, 3])
LABELS = RNG.integers(0, 2, (7, 3))
NUMBERS = RNG.normal(size=(7, 2))
COUNTS = RNG.poisson(3, (7, 2)).astype(float)
WEIGHTS = np.array([1.0, 2.0, 0.5, 0.0, 3.0, 1.0, 0.25])


def categorical(smoothing):
    def expected(logits, codes, weights):
        targets = np.eye(len(logits))[codes].T * (1 - smoothing) + smoothing / len(logits)
        return -(weights * targets * log_softmax(logits, axis=0)).sum()

    return expected


def multilabel(smoothing):
    def expected(logits, labels, weights):
        # codes of shape (images,) serve as one row of labels
        targets = labels.T * (1 - smoothing) + smoothing / 2
        losses = targets * log_expit(logits) + (1 - targets) * log_expit(-logits)
        return -(weights * losses).sum()

    return expected


def squared(logits, targets, weights):
    return (weights * (logits - targets.T) ** 2).sum() / 2


def absolute(logits, targets, weights):
    return (weights * np.abs(logits - targets.T)).sum()


def huber(delta):
    """The loss divided by delta if that is less than 1, so that its steepest slope is 1."""

    def expected(logits, targets, weights):
        far = np.abs(logits - targets.T)
        losses = np.where(far <= delta, far**2 / 2, delta * (far - delta / 2))
        return (weights * losses).sum() / min(delta, 1)

    return expected


def poisson(logits, targets, weights):
    rates = np.exp(np.minimum(logits, LARGEST_LOG_RATE))
    return (weights * (rates - targets.T * logits)).sum()


def logits(n_outputs):
    return RNG.normal(size=(n_outputs, 7))


CASES = {
    "categorical": (CategoricalCrossEntropy(), categorical(0), logits(4), CODES),
    "categorical smoothed": (CategoricalCrossEntropy(0.2), categorical(0.2), logits(4), CODES),
    "binary": (BinaryCrossEntropy(), multilabel(0), logits(1), CODES % 2),
    "binary smoothed": (BinaryCrossEntropy(0.2), multilabel(0.2), logits(1), CODES % 2),
    "multilabel": (MultilabelCrossEntropy(), multilabel(0), logits(3), LABELS),
    "multilabel smoothed": (MultilabelCrossEntropy(0.2), multilabel(0.2), logits(3), LABELS),
    "squared": (SquaredError(), squared, logits(2), NUMBERS),
    "absolute": (AbsoluteError(), absolute, logits(2), NUMBERS),
    "huber": (HuberLoss(), huber(1), logits(2), NUMBERS),
    "huber 0.3": (HuberLoss(delta=0.3), huber(0.3), logits(2), NUMBERS),
    "poisson": (PoissonLoss(), poisson, logits(2), COUNTS),
}
cases = pytest.mark.parametrize(
    ("loss", "expected", "logits", "targets"), CASES.values(), ids=CASES.keys()
)


def predict(loss, logits):
    return loss.predict(logits) if hasattr(loss, "predict") else loss.probabilities(logits)


@cases
@pytest.mark.parametrize("scale", [1, 30])
def test_value(loss, expected, logits, targets, scale):
    logits = scale * logits
    got = loss.gradient(logits.copy(), targets, WEIGHTS)
    assert np.shape(got) == (() if targets is not NUMBERS and targets is not COUNTS else (2,))
    assert np.sum(got) == pytest.approx(expected(logits, targets, WEIGHTS), rel=1e-12)


@cases
def test_gradient(loss, expected, logits, targets):
    gradient = logits.copy()
    loss.gradient(gradient, targets, WEIGHTS)
    for place in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[place] = 1e-5
        slope = expected(logits + step, targets, WEIGHTS)
        slope -= expected(logits - step, targets, WEIGHTS)
        assert gradient[place] == pytest.approx(slope / 2e-5, rel=1e-6, abs=1e-9)


@cases
def test_a_weight_of_2_is_the_image_twice(loss, expected, logits, targets):
    counts = np.array([1, 2, 0, 3, 1, 2, 1])
    index = np.repeat(np.arange(7), counts)
    once, repeated = logits.copy(), logits[:, index]
    value = loss.gradient(once, targets, counts.astype(float))
    assert_allclose(value, loss.gradient(repeated, targets[index], np.ones(10)), rtol=1e-12)
    assert_allclose(once[:, index], repeated * counts[index], rtol=1e-12)
    assert not once[:, 2].any()


@cases
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_logits_neither_overflow_nor_warn(loss, expected, logits, targets, dtype):
    large = (1e4 * np.sign(logits)).astype(dtype)
    gradient = large.copy()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = loss.gradient(gradient, targets, WEIGHTS.astype(dtype))
        predicted = predict(loss, large.copy())
    assert np.sum(got) == pytest.approx(expected(large.astype(float), targets, WEIGHTS), rel=1e-6)
    assert gradient.dtype == dtype
    assert predicted.dtype == (dtype if hasattr(loss, "probabilities") else np.float64)
    assert np.isfinite(gradient).all()
    assert np.isfinite(predicted).all()
    if hasattr(loss, "probabilities"):
        assert ((predicted >= 0) & (predicted <= 1)).all()
        log_probabilities = loss.log_probabilities(large)
        assert log_probabilities.dtype == dtype
        assert np.isfinite(log_probabilities).all()


@cases
def test_float32_is_near_float64_whatever_the_type_of_targets(loss, expected, logits, targets):
    exact = logits.copy()
    value = loss.gradient(exact, targets, WEIGHTS)
    for kind in (targets.dtype, np.float32 if targets.dtype.kind == "f" else np.int8):
        got = logits.astype(np.float32)
        approximate = loss.gradient(got, targets.astype(kind), WEIGHTS.astype(np.float32))
        assert_allclose(approximate, value, rtol=1e-5)
        assert_allclose(got, exact, rtol=1e-4, atol=1e-6)


@cases
def test_losses_pickle(loss, expected, logits, targets):
    assert vars(pickle.loads(pickle.dumps(loss))) == vars(loss)


def test_probabilities():
    logits = 10 * RNG.normal(size=(3, 5))
    assert_allclose(softmax(logits.copy()), scipy_softmax(logits, axis=0), rtol=1e-12)
    assert_allclose(logistic(logits.copy()), expit(logits), rtol=1e-9, atol=1e-15)
    assert CategoricalCrossEntropy.output == "softmax"
    assert BinaryCrossEntropy.output == MultilabelCrossEntropy.output == "logistic"


def test_probabilities_of_labels():
    logits = 10 * RNG.normal(size=(3, 5))
    before = logits.copy()
    loss = MultilabelCrossEntropy()
    assert_allclose(loss.probabilities(logits), expit(logits), rtol=1e-9, atol=1e-15)
    assert_allclose(loss.log_probabilities(logits), log_expit(logits), rtol=1e-12)
    assert_array_equal(logits, before)


@pytest.mark.parametrize("loss", [SquaredError(), AbsoluteError(), HuberLoss(), PoissonLoss()])
def test_predictions_are_new_arrays(loss):
    logits = RNG.normal(size=(2, 5))
    before = logits.copy()
    predictions = loss.predict(logits)
    if isinstance(loss, PoissonLoss):
        assert loss.output == "exponential"
        assert_allclose(predictions, np.exp(logits), rtol=1e-12)
    else:
        assert loss.output == "identity"
        assert_array_equal(predictions, logits)
    assert not np.shares_memory(predictions, logits)
    assert_array_equal(logits, before)


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


def test_smoothing_by_hand():
    # four classes, a share of 0.4: targets of 0.7 and 0.1; of two classes 0.8 and 0.2
    logits = np.zeros((4, 1))
    CategoricalCrossEntropy(label_smoothing=0.4).gradient(logits, np.array([1]), np.ones(1))
    assert_allclose(logits.ravel(), [0.15, -0.45, 0.15, 0.15])
    for loss, targets in (
        (BinaryCrossEntropy(label_smoothing=0.4), np.array([0, 1])),
        (MultilabelCrossEntropy(label_smoothing=0.4), np.array([[0], [1]])),
    ):
        logits = np.zeros((1, 2))
        loss.gradient(logits, targets, np.ones(2))
        assert_allclose(logits, [[0.3, -0.3]])


def test_errors_by_hand():
    targets, weights = np.array([[1.0], [1.0], [1.0]]), np.array([1.0, 1.0, 2.0])
    for loss, value, slopes in (
        (SquaredError(), 0.125 + 2 * 4.5, [0, -0.5, 6]),
        (AbsoluteError(), 0.5 + 2 * 3, [0, -1, 2]),
        (HuberLoss(), 0.125 + 2 * 2.5, [0, -0.5, 2]),
        (HuberLoss(delta=2), 0.125 + 2 * 4, [0, -0.5, 4]),
    ):
        logits = np.array([[1.0, 0.5, 4.0]])
        assert loss.gradient(logits, targets, weights) == pytest.approx(value)
        assert_allclose(logits[0], slopes)


def mean_loss(loss, logits, targets):
    return np.sum(loss.gradient(logits.copy(), targets, WEIGHTS)) / WEIGHTS.sum()


def test_values_are_those_of_scikit_learn():
    kwargs = {"sample_weight": WEIGHTS}
    logits = RNG.normal(size=(4, 7))
    value = log_loss(CODES, scipy_softmax(logits, axis=0).T, labels=range(4), **kwargs)
    assert mean_loss(CategoricalCrossEntropy(), logits, CODES) == pytest.approx(value)
    value = log_loss(CODES % 2, expit(logits[0]), **kwargs)
    assert mean_loss(BinaryCrossEntropy(), logits[:1], CODES % 2) == pytest.approx(value)
    value = sum(log_loss(y, expit(z), **kwargs) for y, z in zip(LABELS.T, logits[:3], strict=True))
    assert mean_loss(MultilabelCrossEntropy(), logits[:3], LABELS) == pytest.approx(value)
    kwargs["multioutput"] = "raw_values"
    value = mean_squared_error(NUMBERS, logits[:2].T, **kwargs).sum() / 2
    assert mean_loss(SquaredError(), logits[:2], NUMBERS) == pytest.approx(value)
    value = mean_absolute_error(NUMBERS, logits[:2].T, **kwargs).sum()
    assert mean_loss(AbsoluteError(), logits[:2], NUMBERS) == pytest.approx(value)
    # deviance is twice the difference from the loss of perfect predictions
    counts, best = COUNTS + 1, np.log(COUNTS + 1).T
    value = mean_loss(PoissonLoss(), logits[:2], counts) - mean_loss(PoissonLoss(), best, counts)
    deviances = (
        mean_poisson_deviance(y, np.exp(z), sample_weight=WEIGHTS)
        for y, z in zip(counts.T, logits[:2], strict=True)
    )
    assert 2 * value == pytest.approx(sum(deviances))


@cases
def test_values_and_gradients_are_those_of_torch(loss, expected, logits, targets):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    z = torch.tensor(logits.T, requires_grad=True)
    y, smoothing = torch.tensor(targets), getattr(loss, "label_smoothing", 0)
    match loss:
        case CategoricalCrossEntropy():
            losses = functional.cross_entropy(z, y, reduction="none", label_smoothing=smoothing)
        case BinaryCrossEntropy() | MultilabelCrossEntropy():
            y = y.double().reshape(z.shape) * (1 - smoothing) + smoothing / 2
            losses = functional.binary_cross_entropy_with_logits(z, y, reduction="none")
        case SquaredError():
            losses = functional.mse_loss(z, y, reduction="none") / 2
        case AbsoluteError():
            losses = functional.l1_loss(z, y, reduction="none")
        case HuberLoss():
            losses = functional.huber_loss(z, y, reduction="none", delta=loss.delta)
        case PoissonLoss():
            losses = functional.poisson_nll_loss(z, y, reduction="none")
    total = (losses.reshape(7, -1).sum(1) * torch.tensor(WEIGHTS)).sum()
    total.backward()
    gradient = logits.copy()
    unit = min(getattr(loss, "delta", 1), 1)
    value = unit * np.sum(loss.gradient(gradient, targets, WEIGHTS))
    assert value == pytest.approx(total.item(), rel=1e-10)
    assert_allclose(unit * gradient, z.grad.numpy().T, rtol=1e-9, atol=1e-12)


def test_rates_of_counts_are_capped():
    """Logits above 40 predict e^40, in the prediction, the loss and its gradient."""
    logits, targets = np.array([[39.0, 40.0, 41.0, 500.0]]), np.ones((4, 1))
    rates = np.exp([39.0, 40.0, 40.0, 40.0])
    assert_allclose(PoissonLoss().predict(logits.copy())[0], rates, rtol=1e-12)
    gradient = logits.copy()
    loss = PoissonLoss().gradient(gradient, targets, np.ones(4))
    assert loss == pytest.approx(np.sum(rates - logits[0]), rel=1e-12)
    assert_allclose(gradient[0], rates - 1, rtol=1e-12)
