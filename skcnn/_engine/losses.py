"""Losses: their value and, written over the logits, their gradient.

Logits, probabilities and predictions have shape (outputs, images), one column per image. Targets
are class codes of shape (images,), or labels or numbers of shape (images, outputs). Weights have
shape (images,).
"""

import numpy as np

# Largest logit of a Poisson rate: e^40 = 2e17 is more than any count, and in float32 the squares of
# such rates, which optimizers compute, and sums of many squares are still finite.
LARGEST_LOG_RATE = 40.0


def softmax(logits):
    """Write the softmax of each column over `logits`, and return it."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits


def log_softmax(logits):
    """Return the logarithm of the softmax of each column."""
    shifted = logits - logits.max(axis=0)
    return shifted - np.log(np.exp(shifted).sum(axis=0))


def logistic(logits):
    """Write the logistic function over `logits`, and return it."""
    logits *= 0.5
    np.tanh(logits, out=logits)
    logits += 1
    logits *= 0.5
    return logits


class CategoricalCrossEntropy:
    """Cross-entropy of the softmax of the logits against class codes.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over all classes (Szegedy et al., 2016).
    """

    output = "softmax"

    def __init__(self, label_smoothing=0.0):
        self.label_smoothing = label_smoothing

    def probabilities(self, logits):
        """Return the probabilities of the classes, one row per class."""
        return softmax(logits)

    def log_probabilities(self, logits):
        """Return the log-probabilities of the classes, one row per class."""
        return log_softmax(logits)

    def gradient(self, logits, codes, weights):
        """Return the sum of the weighted losses, and overwrite `logits` with its gradient."""
        spread = float(self.label_smoothing)
        columns = np.arange(len(codes))
        logits -= logits.max(axis=0)
        picked = logits[codes, columns]
        if spread:
            picked = (1 - spread) * picked + spread * logits.mean(axis=0)
        np.exp(logits, out=logits)
        totals = logits.sum(axis=0)
        loss = np.dot(np.log(totals) - picked, weights)
        logits /= totals
        logits[codes, columns] -= 1 - spread
        if spread:
            logits -= spread / len(logits)
        logits *= weights
        return float(loss)


class BinaryCrossEntropy:
    """Cross-entropy of one logistic unit against class codes 0 and 1.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over both classes (Szegedy et al., 2016).
    """

    output = "logistic"

    def __init__(self, label_smoothing=0.0):
        self.label_smoothing = label_smoothing

    def probabilities(self, logits):
        """Return the probabilities of the classes, one row per class."""
        return logistic(np.vstack([-logits, logits]))

    def log_probabilities(self, logits):
        """Return the log-probabilities of the classes, one row per class."""
        return -np.logaddexp(0, np.vstack([logits, -logits]))

    def gradient(self, logits, codes, weights):
        """Return the sum of the weighted losses, and overwrite `logits` with its gradient."""
        targets = _smooth(codes, self.label_smoothing, logits.dtype)
        losses = np.logaddexp(0, logits) - logits * targets
        loss = np.dot(losses[0], weights)
        logistic(logits)
        logits -= targets
        logits *= weights
        return float(loss)


class MultilabelCrossEntropy:
    """Cross-entropy of one logistic unit per label against labels 0 and 1, summed over labels.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of each label's target that is spread evenly over 0 and 1 (Szegedy et al., 2016).
    """

    output = "logistic"

    def __init__(self, label_smoothing=0.0):
        self.label_smoothing = label_smoothing

    def probabilities(self, logits):
        """Return the probabilities of the labels, one row per label."""
        return logistic(logits.copy())

    def log_probabilities(self, logits):
        """Return the log-probabilities of the labels, one row per label."""
        return -np.logaddexp(0, -logits)

    def gradient(self, logits, labels, weights):
        """Return the sum of the weighted losses, and overwrite `logits` with its gradient."""
        targets = _smooth(labels.T, self.label_smoothing, logits.dtype)
        losses = np.logaddexp(0, logits) - logits * targets
        logistic(logits)
        logits -= targets
        logits *= weights
        return _weighted_sum(losses, weights)


class _LinearUnits:
    """Base of losses whose predictions are the logits."""

    output = "identity"

    def predict(self, logits):
        """Return the predictions, one row per output."""
        return logits.copy()


class SquaredError(_LinearUnits):
    """Half the squared difference from the targets, summed over outputs, as in MLPRegressor."""

    def gradient(self, logits, targets, weights):
        """Return the sum of the weighted losses, and overwrite `logits` with its gradient."""
        logits -= targets.T
        losses = 0.5 * np.square(logits)
        logits *= weights
        return _weighted_sum(losses, weights)


class AbsoluteError(_LinearUnits):
    """The absolute difference from the targets, summed over outputs."""

    def gradient(self, logits, targets, weights):
        """Return the sum of the weighted losses, and overwrite `logits` with its gradient."""
        logits -= targets.T
        losses = np.abs(logits)
        np.sign(logits, out=logits)
        logits *= weights
        return _weighted_sum(losses, weights)


class HuberLoss(_LinearUnits):
    """The loss of Huber (1964), summed over outputs: squared if small, absolute if large.

    Parameters
    ----------
    delta : float, default=1.0
        Absolute difference d up to which the loss is ``d**2 / 2``; beyond it, the loss is a line
        of slope `delta`.
    """

    def __init__(self, delta=1.0):
        self.delta = delta

    def gradient(self, logits, targets, weights):
        """Return the sum of the weighted losses, and overwrite `logits` with its gradient."""
        delta = float(self.delta)
        logits -= targets.T
        slopes = np.clip(logits, -delta, delta)
        losses = slopes * (logits - 0.5 * slopes)
        np.multiply(slopes, weights, out=logits)
        return _weighted_sum(losses, weights)


class PoissonLoss:
    """Negative log-likelihood of counts, up to a constant, summed over outputs.

    A logit is the logarithm of the predicted rate: the loss is ``exp(logit) - target * logit``, as
    in torch.nn.PoissonNLLLoss. Logits above 40 predict a rate of e^40.
    """

    output = "exponential"

    def predict(self, logits):
        """Return the predictions, one row per output."""
        rates = np.minimum(logits, LARGEST_LOG_RATE)
        return np.exp(rates, out=rates)

    def gradient(self, logits, targets, weights):
        """Return the sum of the weighted losses, and overwrite `logits` with its gradient."""
        rates = self.predict(logits)
        losses = rates - targets.T * logits
        np.subtract(rates, targets.T, out=logits)
        logits *= weights
        return _weighted_sum(losses, weights)


def _smooth(targets, label_smoothing, dtype):
    """Return targets of which the share `label_smoothing` is spread evenly over 0 and 1."""
    spread = float(label_smoothing)
    return targets.astype(dtype) * (1 - spread) + spread / 2 if spread else targets


def _weighted_sum(losses, weights):
    """Return the sum of losses of shape (outputs, images), weighted by image."""
    return float(np.dot(losses.sum(axis=0), weights))
