"""Losses: their value and, written over the logits, their gradient.

Logits, probabilities and predictions have shape (outputs, images), one column per image. Targets
are class codes of shape (images,), or labels or numbers of shape (images, outputs). Weights have
shape (images,).
"""

import numpy as np

# Largest logit of a Poisson rate: e^40 = 2e17 is more than any count, and in float32 the squares of
# such rates, which optimizers compute, and sums of many squares are still finite.
LARGEST_LOG_RATE = 40.0
SMALLEST_RATE = 1e-6  # of which training starts where all counts are 0
ROUNDING = 4 * np.finfo(np.float64).eps


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


class Loss:
    """Base class of losses, each a sum of parts that are told apart where their units differ.

    Attributes
    ----------
    units : ndarray of shape (n_parts,)
        What a part counts in the units in which users see the loss.
    """

    units = np.ones(1)

    def begin(self, targets, weights):
        """Learn the scale of the targets, before training."""

    def encode(self, targets, dtype):
        """Return targets as `gradient` takes them."""
        return targets

    def gradient(self, logits, targets, weights):
        """Return the sum of the weighted losses, for each part, and write its gradient to `logits`."""
        raise NotImplementedError

    def activate(self, logits):
        """Return what predictions are made of: `output` of the logits, which may be overwritten."""
        raise NotImplementedError

    def mean(self, logits, targets, weights):
        """Return the weighted mean of the losses, in users' units; `logits` stay as they are."""
        parts = np.atleast_1d(self.gradient(logits.copy(), targets, weights))
        return float(parts @ self.units) / float(weights.sum(dtype=np.float64))


class CategoricalCrossEntropy(Loss):
    """Cross-entropy of the softmax of the logits against class codes.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over all classes (Szegedy et al., 2016).
    """

    output = "softmax"
    activate = staticmethod(softmax)

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


class BinaryCrossEntropy(Loss):
    """Cross-entropy of one logistic unit against class codes 0 and 1.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over both classes (Szegedy et al., 2016).
    """

    output = "logistic"
    activate = staticmethod(logistic)

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


class MultilabelCrossEntropy(Loss):
    """Cross-entropy of one logistic unit per label against labels 0 and 1, summed over labels.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of each label's target that is spread evenly over 0 and 1 (Szegedy et al., 2016).
    """

    output = "logistic"
    activate = staticmethod(logistic)

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


class NumbersLoss(Loss):
    """Base of losses for numbers, each output of which is trained in units of its own.

    Attributes
    ----------
    center, scale : ndarray of shape (outputs,)
        Weighted mean and standard deviation of the targets, in float64. The network's outputs are
        deviations from the one, divided by the other.
    """

    output = "identity"
    center = np.zeros(1)
    scale = np.ones(1)

    def begin(self, targets, weights):
        """Take center and scale from targets of shape (images, outputs)."""
        share = np.asarray(weights, np.float64)
        share = share / share.sum()
        largest = np.abs(targets).max(axis=0)  # squares of large numbers would overflow
        largest[largest == 0] = 1
        parts = targets / largest
        center = share @ parts
        scale = np.sqrt(share @ np.square(parts - center))
        # numbers that do not vary are told apart by no more than rounding errors
        is_constant = scale <= ROUNDING * np.abs(center)
        scale[is_constant] = np.abs(center[is_constant])
        scale[scale == 0] = 1
        self.center, self.scale = center * largest, scale * largest

    def encode(self, targets, dtype):
        """Return targets in the units of the outputs."""
        return ((targets - self.center) / self.scale).astype(dtype)

    def predict(self, logits):
        """Return the predictions in the units of the targets, one row per output, in float64."""
        return logits * self.scale[:, None] + self.center[:, None]

    def activate(self, logits):
        """Return the predictions."""
        return self.predict(logits)


class SquaredError(NumbersLoss):
    """Half the squared difference from the targets, summed over outputs, as in MLPRegressor."""

    @property
    def units(self):
        """Squares of the scales."""
        with np.errstate(over="ignore"):
            return np.square(self.scale)

    def gradient(self, logits, targets, weights):
        """Return the sums of the weighted losses, and overwrite `logits` with their gradient."""
        logits -= targets.T
        losses = 0.5 * np.square(logits)
        logits *= weights
        return _weighted_sums(losses, weights)


class AbsoluteError(NumbersLoss):
    """The absolute difference from the targets, summed over outputs."""

    @property
    def units(self):
        """The scales."""
        return self.scale

    def gradient(self, logits, targets, weights):
        """Return the sums of the weighted losses, and overwrite `logits` with their gradient."""
        logits -= targets.T
        losses = np.abs(logits)
        np.sign(logits, out=logits)
        logits *= weights
        return _weighted_sums(losses, weights)


class HuberLoss(NumbersLoss):
    """The loss of Huber (1964), summed over outputs: squared if small, absolute if large.

    Parameters
    ----------
    delta : float, default=1.0
        Absolute difference d, in the units of the targets, up to which the loss is ``d**2 / 2``;
        beyond it, the loss is a line of slope `delta`.
    """

    def __init__(self, delta=1.0):
        self.delta = delta

    @property
    def units(self):
        """Squares of the scales, and scales times delta where delta is less than a scale."""
        with np.errstate(over="ignore"):
            return np.square(self.scale) * np.minimum(self.delta / self.scale, 1)

    def gradient(self, logits, targets, weights):
        """Return the sums of the weighted losses, and overwrite `logits` with their gradient."""
        logits -= targets.T
        limits = np.finfo(logits.dtype)
        delta = np.clip(self.delta / self.scale[:, None], limits.tiny, limits.max)
        delta = delta.astype(logits.dtype)
        slopes = np.clip(logits, -delta, delta)
        slopes /= np.minimum(delta, 1)  # a line of slope 1 however small delta is
        losses = slopes * (logits - 0.5 * np.clip(logits, -delta, delta))
        np.multiply(slopes, weights, out=logits)
        return _weighted_sums(losses, weights)


class PoissonLoss(NumbersLoss):
    """Negative log-likelihood of counts, up to a constant, summed over outputs.

    The predicted rate is the mean count times the exponential of the logit, and the loss
    ``rate - target * log(rate)``, as in torch.nn.PoissonNLLLoss. Logits above 40 count as 40.
    """

    output = "exponential"

    @property
    def units(self):
        """The means."""
        return self.scale

    def begin(self, targets, weights):
        """Take the scale, the means, from targets of shape (images, outputs)."""
        means = np.average(targets, axis=0, weights=weights)
        self.scale = np.where(means > 0, means, SMALLEST_RATE)
        self.center = np.zeros_like(means)

    def encode(self, targets, dtype):
        """Return targets as shares of the means."""
        return (targets / self.scale).astype(dtype)

    def predict(self, logits):
        """Return the predicted rates, one row per output, in float64."""
        return self.scale[:, None] * self._shares(logits)

    def _shares(self, logits):
        shares = np.minimum(logits, LARGEST_LOG_RATE)
        return np.exp(shares, out=shares)

    def gradient(self, logits, targets, weights):
        """Return the sums of the weighted losses, and overwrite `logits` with their gradient."""
        shares = self._shares(logits)
        log_scale = np.log(self.scale).astype(logits.dtype)[:, None]
        losses = shares - targets.T * (logits + log_scale)
        np.subtract(shares, targets.T, out=logits)
        logits *= weights
        return _weighted_sums(losses, weights)


def _smooth(targets, label_smoothing, dtype):
    """Return targets of which the share `label_smoothing` is spread evenly over 0 and 1."""
    spread = float(label_smoothing)
    return targets.astype(dtype) * (1 - spread) + spread / 2 if spread else targets


def _weighted_sum(losses, weights):
    """Return the sum of losses of shape (outputs, images), weighted by image."""
    return float(np.dot(losses.sum(axis=0), weights))


def _weighted_sums(losses, weights):
    """Return the sum for each output of losses of shape (outputs, images), weighted by image."""
    return losses @ weights
