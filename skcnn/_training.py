"""The loop of training: ``train -> run_epoch -> train_step``, each at its own level."""

import warnings
from dataclasses import dataclass, field

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skcnn._engine.blocks import (
    even_slices,
    images_to_predict,
    shard_slices,
)
from skcnn._engine.team import Team


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


class Runner:
    """Runs shards of images through a network, with buffers for each worker."""

    def __init__(self, network, weights, images, learning):
        self.network = network
        self.learning = learning
        self.images = images
        self.weights = network.views(weights)
        self.dtype = weights.dtype
        self._works = {}

    def output(self, index, worker):
        """Return the network's output for some images, and the buffers that it was made in."""
        maps = self.images.maps(index)
        key = worker, maps.shape[3]
        if key not in self._works:
            self._works[key] = self.network.works(maps.shape[3], self.dtype, self.learning)
        works = self._works[key]
        return self.network.forward(maps, self.weights, works), works


class Trainer:
    """Computes gradients of batches, shard by shard.

    Each shard writes gradients of its own, which are then added in the order of the shards: sums
    come out the same for any number of workers. `weights` is what they all see.
    """

    def __init__(self, task, weights, team):
        self.task = task
        self.team = team
        network = task.network
        self.weights = team.empty(weights.shape, weights.dtype)
        self.weights[...] = weights
        self.order = team.empty(len(task.images), np.intp)
        self._batch = team.empty(2, np.intp)
        n_shards = len(self._shards(task.batch_size))
        self._grads = team.empty((n_shards, network.n_weights), weights.dtype)
        self._views = [network.views(vector) for vector in self._grads]
        self._runner = Runner(network, self.weights, task.images, learning=True)
        team.set_work(self._run_shard)

    def _shards(self, n_images):
        return shard_slices(n_images, self.task.network.map_size)

    def _run_shard(self, number, worker):
        """Write the gradients of one shard of the batch, and return its sum of losses."""
        task, (start, stop) = self.task, self._batch
        shard = self._shards(int(stop - start))[number]
        index = self.order[start:stop][shard]
        y, works = self._runner.output(index, worker)
        logits = y.reshape(-1, len(index))
        loss = task.loss.gradient(logits, task.targets[index], task.sample_weight[index])
        task.network.backward(y, self._runner.weights, self._views[number], works)
        return loss

    def gradient(self, batch):
        """Return ``(sum of losses, gradient of the sum)`` for the slice `batch` of the order."""
        self._batch[...] = batch.start, batch.stop
        n_shards = len(self._shards(batch.stop - batch.start))
        losses = self.team.run(n_shards)
        total = self._grads[0]
        for vector in self._grads[1:n_shards]:
            total += vector
        return sum(losses), total


def train(task, progress, n_jobs, *, max_iter, tol, n_iter_no_change, verbose):
    """Run up to `max_iter` epochs, updating `progress`."""
    flops = 3 * task.network.flops * len(task.images) * max_iter
    with Team(n_jobs, flops) as team:
        trainer = Trainer(task, progress.weights, team)
        for epoch in range(max_iter):
            loss = run_epoch(task, progress, trainer)
            if not np.isfinite(loss):
                raise ValueError(
                    f"The loss became non-finite in epoch {epoch + 1}. Lower learning_rate_init "
                    f"(now {task.learning_rate}) or scale the data (standardize=True)."
                )
            progress.loss_curve.append(loss)
            if verbose:
                print(f"Iteration {len(progress.loss_curve)}, loss = {loss:.8f}")
            if _has_converged(progress, loss, tol, n_iter_no_change):
                break
        progress.weights = trainer.weights.copy()
    if progress.n_no_change > n_iter_no_change:
        if verbose:
            print(
                f"Training loss did not improve more than tol={tol:f} for "
                f"{n_iter_no_change} consecutive epochs. Stopping."
            )
    elif max_iter > 1:
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({max_iter}) reached and the optimization "
            "hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=6,
        )


def _has_converged(progress, loss, tol, n_iter_no_change):
    """Note the epoch's loss, and return whether it has failed to improve for too long."""
    progress.n_no_change = progress.n_no_change + 1 if loss > progress.best_loss - tol else 0
    progress.best_loss = min(loss, progress.best_loss)
    return progress.n_no_change > n_iter_no_change


def run_epoch(task, progress, trainer):
    """Train on each batch once, and return the mean loss."""
    n_images = len(task.images)
    order = np.arange(n_images)
    if task.shuffle:
        progress.random_state.shuffle(order)
    trainer.order[...] = order
    total = 0.0
    for batch in even_slices(n_images, task.batch_size):
        total += train_step(task, progress, trainer, batch)
    progress.n_samples_seen += n_images
    return total / task.sample_weight.sum(dtype=np.float64)


def train_step(task, progress, trainer, batch):
    """Update the weights once, and return the batch's sum of losses, penalty included."""
    total_weight = float(task.sample_weight[trainer.order[batch]].sum(dtype=np.float64))
    if total_weight == 0:
        return 0.0
    loss, grads = trainer.gradient(batch)
    coefs = trainer.weights[: task.network.n_coefs]
    if task.alpha:
        loss += 0.5 * task.alpha * float(np.dot(coefs, coefs))
        grads[: len(coefs)] += task.alpha * coefs
    grads /= total_weight
    progress.optimizer.step(trainer.weights, grads, task.learning_rate)
    return loss


def predict_outputs(network, weights, images, n_jobs):
    """Return the network's outputs, shape (n_images, ...) in the order of flattened maps."""
    rows, columns, channels = network.output_shape
    parts = even_slices(len(images), images_to_predict(network.map_size))
    runner = Runner(network, weights, images, learning=False)
    with Team(n_jobs, network.flops * len(images)) as team:
        outputs = team.empty((len(images), channels, rows, columns), weights.dtype)

        def run(number, worker):
            y, _ = runner.output(parts[number], worker)
            outputs[parts[number]] = y.transpose(3, 1, 0, 2)

        team.set_work(run)
        team.run(len(parts))
    return outputs
