"""Optimizers: in-place updates of one flat vector of weights.

They run through the vector in blocks, so that their arrays stay in cache and nothing of the
vector's size is allocated in a step.
"""

import numpy as np

from skcnn._engine.blocks import VECTOR_BLOCK, even_slices


class Adam:
    """Adam (Kingma and Ba, 2015), with MLPClassifier's parameters and update."""

    def __init__(self, weights, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_steps = 0
        # decaying sums: the running means over 1 - beta
        self.total = np.zeros_like(weights)
        self.squares = np.zeros_like(weights)

    def step(self, weights, grads, learning_rate):
        """Update `weights` in place; `grads` is overwritten."""
        rate, _ = self._count_step(learning_rate)
        self._descend(weights, grads, rate, self.epsilon)

    def _count_step(self, learning_rate):
        """Return the rate corrected for the step, and the correction of the root of squares."""
        self.n_steps += 1
        root = np.sqrt(1 - self.beta_2**self.n_steps)
        correction = root / (1 - self.beta_1**self.n_steps)
        return float(learning_rate * correction), float(root)

    def _descend(self, weights, grads, rate, epsilon):
        """Take the step."""
        # the factors of both means, put off until the step, take two passes less
        spread = np.sqrt(1 - self.beta_2)
        rate, epsilon = float(rate * (1 - self.beta_1) / spread), float(epsilon / spread)
        for block in even_slices(len(weights), VECTOR_BLOCK):
            grad, total, squares = grads[block], self.total[block], self.squares[block]
            total *= self.beta_1
            total += grad
            squares *= self.beta_2
            grad *= grad
            squares += grad
            np.sqrt(squares, out=grad)
            grad += epsilon
            np.divide(total, grad, out=grad)
            grad *= rate
            weights[block] -= grad


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as torch.optim.AdamW.

    Parameters
    ----------
    weights : ndarray of shape (n_weights,)
        What is optimized, coefficients first.

    n_coefs : int
        The number of coefficients; the intercepts behind them do not decay.

    weight_decay : float, default=0.01
        Share of the coefficients, times the learning rate, that each step takes off.

    beta_1, beta_2, epsilon : float
        As for `Adam`, but `epsilon` is added to the corrected root, as the paper of Adam has it.
    """

    def __init__(self, weights, n_coefs, weight_decay=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        super().__init__(weights, beta_1, beta_2, epsilon)
        self.n_coefs = n_coefs
        self.weight_decay = weight_decay

    def step(self, weights, grads, learning_rate):
        """Update `weights` in place; `grads` is overwritten."""
        weights[: self.n_coefs] *= float(1 - learning_rate * self.weight_decay)
        rate, root = self._count_step(learning_rate)
        self._descend(weights, grads, rate, self.epsilon * root)


class RMSprop:
    """Steps over the running root mean square of gradients (Tieleman and Hinton, 2012).

    Parameters and update are those of torch.optim.RMSprop, where `rho` is called ``alpha``.

    Parameters
    ----------
    weights : ndarray of shape (n_weights,)
        What is optimized.

    rho : float, default=0.99
        Share of the mean square that a step keeps.

    epsilon : float, default=1e-8
        Added to the root.

    momentum : float, default=0.0
        Share of the velocity that a step keeps.
    """

    def __init__(self, weights, rho=0.99, epsilon=1e-8, momentum=0.0):
        self.rho = rho
        self.epsilon = epsilon
        self.momentum = momentum
        self.square = np.zeros_like(weights)
        self.velocity = np.zeros_like(weights)

    def step(self, weights, grads, learning_rate):
        """Update `weights` in place; `grads` is overwritten."""
        rate = float(learning_rate)
        for block in even_slices(len(weights), VECTOR_BLOCK):
            grad, square, velocity = grads[block], self.square[block], self.velocity[block]
            square *= self.rho
            scratch = grad * grad
            scratch *= 1 - self.rho
            square += scratch
            np.sqrt(square, out=scratch)
            scratch += self.epsilon
            grad /= scratch
            velocity *= self.momentum
            velocity += grad
            np.multiply(velocity, rate, out=scratch)
            weights[block] -= scratch


class SGD:
    """Stochastic gradient descent with momentum, plain or Nesterov's, as MLPClassifier has it."""

    def __init__(self, weights, momentum=0.9, nesterov=True):
        self.momentum = momentum
        self.nesterov = nesterov
        self.velocity = np.zeros_like(weights)

    def step(self, weights, grads, learning_rate):
        """Update `weights` in place; `grads` is overwritten."""
        for block in even_slices(len(weights), VECTOR_BLOCK):
            grad, velocity = grads[block], self.velocity[block]
            grad *= learning_rate
            velocity *= self.momentum
            velocity -= grad
            if self.nesterov:
                weights[block] += self.momentum * velocity
                weights[block] -= grad
            else:
                weights[block] += velocity


def clip_norm(grads, limit):
    """Scale `grads` in place to a Euclidean norm of at most `limit` (Pascanu et al., 2013).

    Returns
    -------
    norm : float
        The norm before, computed in float64.
    """
    total = 0.0
    for block in even_slices(len(grads), VECTOR_BLOCK):
        grad = grads[block].astype(np.float64)
        total += np.dot(grad, grad)
    norm = float(np.sqrt(total))
    if norm > limit:
        grads *= float(limit / norm)
    return norm
