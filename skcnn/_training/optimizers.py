"""Optimizers: in-place updates of one flat vector of weights.

They update the vector in blocks, so that the arrays stay in cache and a step allocates nothing of
the vector's size. Blocks are independent of each other, and any worker can update any block.
"""

import copy
from abc import ABC, abstractmethod

import numpy as np

from skcnn._engine.blocks import VECTOR_BLOCK, even_slices


class Optimizer(ABC):
    """Base class of optimizers, whose arrays have one element per weight."""

    def step(self, weights, grads, learning_rate):
        """Update `weights` in place; `grads` is overwritten."""
        numbers = self.begin_step(learning_rate)
        for block in even_slices(len(weights), VECTOR_BLOCK):
            self.update(block, weights[block], grads[block], *numbers)

    @abstractmethod
    def begin_step(self, learning_rate):
        """Count a step, and return the tuple of floats that `update` takes as `numbers`."""

    @abstractmethod
    def update(self, block, weights, grads, *numbers):
        """Update the weights of `block`, a slice of the vector, in place; overwrite `grads`."""

    def go_on_from(self, before):
        """Take over the state of an optimizer of the same kind; of others nothing can be used."""
        if type(before) is type(self):
            for name, value in vars(before).items():
                if isinstance(value, np.ndarray) or name == "n_steps":
                    setattr(self, name, value)

    def copied(self, copy_array=np.copy):
        """Return an optimizer that continues from this state with copies of the arrays."""
        copied = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(copied, name, copy_array(value))
        return copied


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015), with MLPClassifier's parameters and update."""

    def __init__(self, weights, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_steps = 0
        # decaying sums, which are the running means of the paper divided by 1 - beta
        self.total = np.zeros_like(weights)
        self.squares = np.zeros_like(weights)

    def begin_step(self, learning_rate):
        """Count a step; return the bias-corrected rate, and the epsilon to add to the root."""
        rate, _ = self._corrections(learning_rate)
        return self._for_sums(rate, self.epsilon)

    def _corrections(self, learning_rate):
        """Count a step; return the bias-corrected rate and the bias correction of the root."""
        self.n_steps += 1
        root = np.sqrt(1 - self.beta_2**self.n_steps)
        return learning_rate * root / (1 - self.beta_1**self.n_steps), root

    def _for_sums(self, rate, epsilon):
        """Return `rate` and `epsilon` scaled for sums in place of means, which saves two passes."""
        spread = np.sqrt(1 - self.beta_2)
        return float(rate * (1 - self.beta_1) / spread), float(epsilon / spread)

    def update(self, block, weights, grads, rate, epsilon):
        """Update the weights of `block`, a slice of the vector, in place; overwrite `grads`."""
        total, squares = self.total[block], self.squares[block]
        total *= self.beta_1
        total += grads
        squares *= self.beta_2
        grads *= grads
        squares += grads
        np.sqrt(squares, out=grads)
        grads += epsilon
        np.divide(total, grads, out=grads)
        grads *= rate
        weights -= grads


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as in torch.optim.AdamW.

    Parameters
    ----------
    weights : ndarray of shape (n_weights,)
        The vector to optimize, with the coefficients first.

    n_coefs : int
        Number of coefficients; the intercepts that follow them do not decay.

    weight_decay : float, default=0.01
        Share of the coefficients that each step subtracts, times the learning rate.

    beta_1, beta_2, epsilon : float
        As in `Adam`, but `epsilon` is added to the bias-corrected root, as in the paper of Adam.
    """

    def __init__(self, weights, n_coefs, weight_decay=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        super().__init__(weights, beta_1, beta_2, epsilon)
        self.n_coefs = n_coefs
        self.weight_decay = weight_decay

    def begin_step(self, learning_rate):
        """Return the numbers of `Adam`, and the factor that decays the coefficients."""
        rate, root = self._corrections(learning_rate)
        left = float(1 - learning_rate * self.weight_decay)
        return *self._for_sums(rate, self.epsilon * root), left

    def update(self, block, weights, grads, rate, epsilon, left):
        """Update the weights of `block`, a slice of the vector, in place; overwrite `grads`."""
        weights[: max(self.n_coefs - block.start, 0)] *= left
        super().update(block, weights, grads, rate, epsilon)


class RMSprop(Optimizer):
    """Gradients divided by their running root mean square (Tieleman and Hinton, 2012).

    Parameters and update are those of torch.optim.RMSprop, where `rho` is called ``alpha``.

    Parameters
    ----------
    weights : ndarray of shape (n_weights,)
        The vector to optimize.

    rho : float, default=0.99
        Share of the running mean square that a step keeps.

    epsilon : float, default=1e-8
        Number added to the root.

    momentum : float, default=0.0
        Share of the velocity that a step keeps.
    """

    def __init__(self, weights, rho=0.99, epsilon=1e-8, momentum=0.0):
        self.rho = rho
        self.epsilon = epsilon
        self.momentum = momentum
        self.square = np.zeros_like(weights)
        self.velocity = np.zeros_like(weights)

    def begin_step(self, learning_rate):
        """Return the learning rate."""
        return (float(learning_rate),)

    def update(self, block, weights, grads, rate):
        """Update the weights of `block`, a slice of the vector, in place; overwrite `grads`."""
        square, velocity = self.square[block], self.velocity[block]
        square *= self.rho
        scratch = grads * grads
        scratch *= 1 - self.rho
        square += scratch
        np.sqrt(square, out=scratch)
        scratch += self.epsilon
        grads /= scratch
        velocity *= self.momentum
        velocity += grads
        np.multiply(velocity, rate, out=scratch)
        weights -= scratch


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, classical or Nesterov's, as in MLPClassifier."""

    def __init__(self, weights, momentum=0.9, nesterov=True):
        self.momentum = momentum
        self.nesterov = nesterov
        self.velocity = np.zeros_like(weights)

    def begin_step(self, learning_rate):
        """Return the learning rate."""
        return (float(learning_rate),)

    def update(self, block, weights, grads, rate):
        """Update the weights of `block`, a slice of the vector, in place; overwrite `grads`."""
        velocity = self.velocity[block]
        grads *= rate
        velocity *= self.momentum
        velocity -= grads
        if self.nesterov:
            weights += self.momentum * velocity
            weights -= grads
        else:
            weights += velocity


def clip_norm(grads, limit):
    """Scale `grads` in place to a Euclidean norm of at most `limit` (Pascanu et al., 2013).

    Returns
    -------
    norm : float
        The norm before scaling, computed in float64.
    """
    total = 0.0
    for block in even_slices(len(grads), VECTOR_BLOCK):
        grad = grads[block].astype(np.float64)
        total += np.dot(grad, grad)
    norm = float(np.sqrt(total))
    if norm > limit:
        grads *= float(limit / norm)
    return norm
