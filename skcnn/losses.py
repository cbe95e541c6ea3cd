"""Losses: the value and, written over the logits, the gradient.

Logits have shape (outputs, images): one image a column.
"""

import numpy as np


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
    """Cross-entropy of the softmax of the logits against class codes."""

    output = "softmax"

    def probabilities(self, logits):
        """Return the probability of each class, a class a row."""
        return softmax(logits)

    def log_probabilities(self, logits):
        """Return the logarithm of the probability of each class, a class a row."""
        return log_softmax(logits)

    def gradient(self, logits, codes, weights):
        """Return the sum of weighted losses and write the gradient of that sum over `logits`."""
        columns = np.arange(len(codes))
        logits -= logits.max(axis=0)
        picked = logits[codes, columns]
        np.exp(logits, out=logits)
        totals = logits.sum(axis=0)
        loss = np.dot(np.log(totals) - picked, weights)
        logits /= totals
        logits[codes, columns] -= 1
        logits *= weights
        return float(loss)


class BinaryCrossEntropy:
    """Cross-entropy of one logistic unit against class codes 0 and 1."""

    output = "logistic"

    def probabilities(self, logits):
        """Return the probability of each class, a class a row."""
        return logistic(np.vstack([-logits, logits]))

    def log_probabilities(self, logits):
        """Return the logarithm of the probability of each class, a class a row."""
        return -np.logaddexp(0, np.vstack([logits, -logits]))

    def gradient(self, logits, codes, weights):
        """Return the sum of weighted losses and write the gradient of that sum over `logits`."""
        losses = np.logaddexp(0, logits) - logits * codes
        loss = np.dot(losses[0], weights)
        logistic(logits)
        logits -= codes
        logits *= weights
        return float(loss)
