"""The loop of training: ``train -> run_epoch -> train_step``, each at its own level."""

import warnings
from dataclasses import dataclass, field

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skcnn._engine.blocks import even_slices, shard_slices


@dataclass
class Progress:
    """All that a fit learns and that a later fit may go on from."""

    weights: np.ndarray
    optimizer: object
    random_state: np.random.RandomState
    loss_curve: list = field(default_factory=list)
    best_loss: float = np.inf
    n_no_change: int = 0
    n_samples_seen: int = 0


@dataclass
class Task:
    """What training is about; does not change while it runs."""

    network: object
    loss: object
    images: object
    targets: np.ndarray
    sample_weight: np.ndarray
    alpha: float
    learning_rate: float
    batch_size: int
    shuffle: bool


class Shards:
    """Runs a batch through a network in shards, one thread to a shard.

    Each shard writes gradients of its own, which are then added in the order of the shards: sums
    come out the same for any number of threads.
    """

    def __init__(self, network, weights, team):
        self.network = network
        self.team = team
        self.dtype = weights.dtype
        self.weights = network.views(weights)
        self._works = [{} for _ in range(team.n_workers)]
        self._grads = []

    def works(self, worker, n_images):
        """Return a worker's buffers for shards of `n_images`."""
        own = self._works[worker]
        if n_images not in own:
            own[n_images] = self.network.works(n_images, self.dtype)
        return own[n_images]

    def output(self, images, index, worker):
        """Return the network's output for some images, shape (outputs, images)."""
        maps = images.maps(index)
        works = self.works(worker, maps.shape[3])
        return self.network.forward(maps, self.weights, works), works

    def gradient(self, task, batch):
        """Return ``(sum of losses, gradient of the sum over the weights)`` for a batch."""
        shards = shard_slices(len(batch), self.network.images_per_shard)
        while len(self._grads) < len(shards):
            vector = np.empty(self.network.n_weights, self.dtype)
            self._grads.append((vector, self.network.views(vector)))

        def run(number, worker):
            index = batch[shards[number]]
            y, works = self.output(task.images, index, worker)
            logits = y.reshape(-1, len(index))
            loss = task.loss.gradient(logits, task.targets[index], task.sample_weight[index])
            self.network.backward(y, self.weights, self._grads[number][1], works)
            return loss

        losses = self.team.map(run, range(len(shards)))
        total = self._grads[0][0]
        for vector, _ in self._grads[1 : len(shards)]:
            total += vector
        return sum(losses), total


def train(task, progress, team, *, max_iter, tol, n_iter_no_change, verbose):
    """Run up to `max_iter` epochs, updating `progress`."""
    shards = Shards(task.network, progress.weights, team)
    for epoch in range(max_iter):
        loss = run_epoch(task, progress, shards)
        if not np.isfinite(loss):
            raise ValueError(
                f"The loss became non-finite in epoch {epoch + 1}. Lower learning_rate_init "
                f"(now {task.learning_rate}) or scale the data (standardize=True)."
            )
        progress.loss_curve.append(loss)
        if verbose:
            print(f"Iteration {len(progress.loss_curve)}, loss = {loss:.8f}")
        progress.n_no_change = progress.n_no_change + 1 if loss > progress.best_loss - tol else 0
        progress.best_loss = min(loss, progress.best_loss)
        if progress.n_no_change > n_iter_no_change:
            if verbose:
                print(
                    f"Training loss did not improve more than tol={tol:f} for "
                    f"{n_iter_no_change} consecutive epochs. Stopping."
                )
            return
    if max_iter > 1:
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({max_iter}) reached and the optimization "
            "hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=4,
        )


def run_epoch(task, progress, shards):
    """Train on each batch once, and return the mean loss."""
    n_images = len(task.images)
    order = np.arange(n_images)
    if task.shuffle:
        progress.random_state.shuffle(order)
    total = 0.0
    for batch in even_slices(n_images, task.batch_size):
        total += train_step(task, progress, shards, order[batch])
    progress.n_samples_seen += n_images
    return total / task.sample_weight.sum(dtype=np.float64)


def train_step(task, progress, shards, batch):
    """Update the weights once, and return the batch's sum of losses, penalty included."""
    total_weight = float(task.sample_weight[batch].sum(dtype=np.float64))
    if total_weight == 0:
        return 0.0
    loss, grads = shards.gradient(task, batch)
    coefs = progress.weights[: task.network.n_coefs]
    if task.alpha:
        loss += 0.5 * task.alpha * float(np.dot(coefs, coefs))
        grads[: len(coefs)] += task.alpha * coefs
    grads /= total_weight
    progress.optimizer.step(progress.weights, grads, task.learning_rate)
    return loss


def predict_outputs(network, weights, images, team):
    """Return the network's outputs, shape (n_images, ...) in the order of flattened maps."""
    shards = Shards(network, weights, team)
    rows, columns, channels = network.output_shape
    outputs = np.empty((len(images), channels, rows, columns), weights.dtype)

    def run(part, worker):
        y, _ = shards.output(images, part, worker)
        outputs[part] = y.transpose(3, 1, 0, 2)

    team.map(run, even_slices(len(images), network.images_per_shard))
    return outputs
