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
        self.mean = np.zeros_like(weights)
        self.square = np.zeros_like(weights)

    def step(self, weights, grads, learning_rate):
        """Update `weights` in place; `grads` is overwritten."""
        self.n_steps += 1
        correction = np.sqrt(1 - self.beta_2**self.n_steps) / (1 - self.beta_1**self.n_steps)
        rate = float(learning_rate * correction)
        for block in even_slices(len(weights), VECTOR_BLOCK):
            grad, mean, square = grads[block], self.mean[block], self.square[block]
            mean *= self.beta_1
            scratch = grad * (1 - self.beta_1)
            mean += scratch
            square *= self.beta_2
            grad *= grad
            grad *= 1 - self.beta_2
            square += grad
            np.sqrt(square, out=grad)
            grad += self.epsilon
            np.divide(mean, grad, out=scratch)
            scratch *= rate
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
