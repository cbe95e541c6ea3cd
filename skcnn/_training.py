"""The loop of training: ``train -> run_epoch -> train_step``, each at its own level."""

import copy
import warnings
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skcnn._augment import epoch_key
from skcnn._engine.blocks import (
    SHARED_BYTE_FLOPS,
    even_slices,
    images_to_predict,
    shard_slices,
)
from skcnn._engine.team import Team
from skcnn._images import AugmentedImages
from skcnn.layers import Dropout
from skcnn.optimizers import clip_norm


@dataclass
class Progress:
    """All that a fit learns and that a later fit may go on from."""

    weights: np.ndarray
    optimizer: object
    random_state: np.random.RandomState
    schedule: object = None
    seed: int = 0
    loss_curve: list = field(default_factory=list)
    best_loss: float = np.inf
    n_no_change: int = 0
    n_samples_seen: int = 0
    n_steps: int = 0
    validation_losses: list = field(default_factory=list)
    validation_scores: list = field(default_factory=list)
    best_score: float = -np.inf
    best_weights: np.ndarray | None = None


@dataclass
class Task:
    """What training is about; does not change while it runs.

    Attributes
    ----------
    rows : ndarray of int
        Numbers of the images to train on.
    score : callable or None
        ``score(outputs) -> (score, loss)`` of the network's outputs for `held_out`, shape
        (images, outputs); None: nothing is held out.
    held_out : Images or None
    held_out_rows : ndarray of int
        The images of `held_out` that are scored.
    """

    network: object
    loss: object
    images: object
    rows: np.ndarray
    targets: np.ndarray
    sample_weight: np.ndarray
    alpha: float
    batch_size: int
    shuffle: bool
    clip_norm: float | None = None
    augment: object = None
    seed: int = 0
    score: object = None
    held_out: object = None
    held_out_rows: np.ndarray | None = None


@dataclass
class Limits:
    """When training ends."""

    max_iter: int
    tol: float
    n_iter_no_change: int
    max_seconds: float | None = None
    early_stopping: bool = False


class Runner:
    """Runs shards of images through a network, with buffers for each worker."""

    def __init__(self, network, weights, learning):
        self.network = network
        self.learning = learning
        self.weights = network.views(weights)
        self.dtype = weights.dtype
        self._works = {}

    def output(self, images, index, worker, sample_weight=None, seed=None):
        """Return the network's output for some images, and the buffers that it was made in.

        While learning, layers are told the samples' weights and draw numbers by `seed`.
        """
        maps = images.maps(index)
        key = worker, maps.shape[3]
        if key not in self._works:
            self._works[key] = self.network.works(maps.shape[3], self.dtype, self.learning)
        works = self._works[key]
        if self.learning:
            shard = works[0].shard
            shard.weights = sample_weight
            shard.random = np.random.Generator(np.random.SFC64(seed)) if seed else None
        return self.network.forward(maps, self.weights, works), works


class Trainer:
    """Computes gradients of batches, shard by shard, and outputs for the images held out.

    Each shard writes gradients of its own, which are then added in the order of the shards: sums
    come out the same for any number of workers. `weights` is what they all see.
    """

    def __init__(self, task, weights, team):
        self.task = task
        self.team = team
        network = task.network
        self.weights = team.empty(weights.shape, weights.dtype)
        self.weights[...] = weights
        self.order = team.empty(len(task.rows), np.intp)
        # start and stop, equal while the images held out are predicted, and number of the step
        self._batch = team.empty(3, np.intp)
        self._draws = any(isinstance(step, Dropout) for step in network.steps)
        n_shards = len(self._shards(task.batch_size))
        self._grads = team.empty((n_shards, network.n_weights), weights.dtype)
        self._views = [network.views(vector) for vector in self._grads]
        self._runner = Runner(network, self.weights, learning=True)
        if task.score is not None:
            self._parts = _parts(network, len(task.held_out_rows))
            self._outputs = team.empty(
                (len(task.held_out_rows), network.output_shape[2]), weights.dtype
            )
            self._predictor = Runner(network, self.weights, learning=False)
        team.set_work(self._work)

    def _shards(self, n_images):
        return shard_slices(n_images, self.task.network.map_size)

    def _work(self, number, worker):
        """Do one item of what is asked of all workers."""
        start, stop, step = (int(n) for n in self._batch)
        if start == stop:
            return self._predict_part(number, worker)
        return self._run_shard(number, worker, start, stop, step)

    def _run_shard(self, number, worker, start, stop, step):
        """Write the gradients of one shard of the batch, and return its sum of losses."""
        task = self.task
        shard = self._shards(stop - start)[number]
        index = self.order[start:stop][shard]
        weights = task.sample_weight[index]
        seed = (task.seed, step, number) if self._draws else None
        images = task.images
        if task.augment is not None:
            images = AugmentedImages(images, task.augment, epoch_key(task.seed, step))
        y, works = self._runner.output(images, index, worker, weights, seed)
        logits = y.reshape(-1, len(index))
        loss = task.loss.gradient(logits, task.targets[index], weights)
        task.network.backward(y, self._runner.weights, self._views[number], works)
        return loss

    def _predict_part(self, number, worker):
        """Write the outputs for a part of the images held out."""
        part = self._parts[number]
        y, _ = self._predictor.output(self.task.held_out, self.task.held_out_rows[part], worker)
        self._outputs[part] = y.reshape(-1, y.shape[3]).T

    def gradient(self, batch, step):
        """Return ``(sum of losses, gradient of the sum)`` for the slice `batch` of the order."""
        self._batch[...] = batch.start, batch.stop, step
        n_shards = len(self._shards(batch.stop - batch.start))
        losses = self.team.run(n_shards)
        total = self._grads[0]
        for vector in self._grads[1:n_shards]:
            total += vector
        return sum(losses), total

    def score(self):
        """Return ``(score, loss)`` of the images held out."""
        self._batch[...] = 0
        self.team.run(len(self._parts))
        return self.task.score(self._outputs.copy())


def train(task, progress, n_jobs, limits, verbose, observer):
    """Run up to ``limits.max_iter`` epochs, updating `progress`, and tell `observer` of them."""
    started = perf_counter()
    if not limits.early_stopping:
        progress.best_score, progress.best_weights = -np.inf, None
    flops = 3 * task.network.flops * len(task.rows) * limits.max_iter
    with Team(n_jobs, flops) as team:
        trainer = Trainer(task, progress.weights, team)
        for epoch in range(limits.max_iter):
            complete = copy.deepcopy(progress)
            try:
                observer.begin_epoch()
                loss = run_epoch(task, progress, trainer)
                score = _note_epoch(task, progress, trainer, loss, epoch)
            except KeyboardInterrupt:
                if epoch == 0:
                    raise
                vars(progress).update(vars(complete))
                warnings.warn("Training interrupted by user.", stacklevel=6)
                return
            if verbose:
                _report(progress, score)
            stops = observer.end_epoch()
            if _has_converged(progress, limits):
                if verbose:
                    _report_end(task, limits)
                break
            late = limits.max_seconds is not None and perf_counter() - started > limits.max_seconds
            if stops or late:
                break
        else:
            if limits.max_iter > 1 and not progress.schedule.runs_its_length:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({limits.max_iter}) reached and the "
                    "optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=6,
                )


def _note_epoch(task, progress, trainer, loss, epoch):
    """Note what an epoch has come to, and return the score of the images held out, or None."""
    if not np.isfinite(loss):
        raise ValueError(
            f"The loss became non-finite in epoch {epoch + 1}. Lower learning_rate_init or set "
            "clip_norm, or scale the data (standardize=True)."
        )
    progress.loss_curve.append(loss)
    score = None
    if task.score is not None:
        score, validation_loss = trainer.score()
        progress.validation_scores.append(score)
        progress.validation_losses.append(validation_loss)
    progress.weights = trainer.weights.copy()
    return score


def _report(progress, score):
    """Print a line for the last epoch."""
    print(f"Iteration {len(progress.loss_curve)}, loss = {progress.loss_curve[-1]:.8f}")
    if score is not None:
        print(f"Validation score: {score:f}")


def _report_end(task, limits):
    """Print why training ends."""
    what = "Training loss" if task.score is None else "Validation score"
    print(
        f"{what} did not improve more than tol={limits.tol:f} for {limits.n_iter_no_change} "
        "consecutive epochs. Stopping."
    )


def _has_converged(progress, limits):
    """Note whether the last epoch has improved things, and return whether to stop."""
    if limits.early_stopping and progress.validation_scores:
        score = progress.validation_scores[-1]
        stalled = not score >= progress.best_score + limits.tol  # nor is NaN better
        if score > progress.best_score:
            progress.best_score, progress.best_weights = score, progress.weights
    else:
        stalled = progress.loss_curve[-1] > progress.best_loss - limits.tol
    progress.best_loss = min(progress.loss_curve[-1], progress.best_loss)
    progress.n_no_change = progress.n_no_change + 1 if stalled else 0
    is_long = progress.n_no_change > limits.n_iter_no_change
    stops = progress.schedule.end_epoch(is_long)
    if is_long and not stops:
        progress.n_no_change = 0
    return stops


def run_epoch(task, progress, trainer):
    """Train on each batch once, and return the mean loss."""
    order = task.rows.copy()
    if task.shuffle:
        progress.random_state.shuffle(order)
    trainer.order[...] = order
    total = 0.0
    for batch in even_slices(len(order), task.batch_size):
        total += train_step(task, progress, trainer, batch)
    progress.n_samples_seen += len(order)
    return total / task.sample_weight[task.rows].sum(dtype=np.float64)


def train_step(task, progress, trainer, batch):
    """Update the weights once, and return the batch's sum of losses, penalty included."""
    rate = progress.schedule.rate(progress.n_steps, progress.n_samples_seen)
    progress.n_steps += 1
    total_weight = float(task.sample_weight[trainer.order[batch]].sum(dtype=np.float64))
    if total_weight == 0:
        return 0.0
    loss, grads = trainer.gradient(batch, progress.n_steps)
    coefs = trainer.weights[: task.network.n_coefs]
    if task.alpha:
        loss += 0.5 * task.alpha * float(np.dot(coefs, coefs))
        grads[: len(coefs)] += task.alpha * coefs
    grads /= total_weight
    if task.network.n_learned < len(grads):
        follow_statistics(task.network, trainer.weights, grads)
    if task.clip_norm is not None:
        clip_norm(grads, task.clip_norm)
    progress.optimizer.step(trainer.weights, grads, rate)
    return loss


def follow_statistics(network, weights, grads):
    """Move the running statistics towards the batch's, which stand in their place in `grads`."""
    for step, own, found in zip(
        network.steps, network.views(weights), network.views(grads), strict=True
    ):
        for name in own.keys() & {"mean", "variance"}:
            found[name] -= own[name]
            own[name] += step.momentum * found[name]
            found[name][...] = 0


def _parts(network, n_images):
    """Return slices of images that are predicted together."""
    return even_slices(n_images, images_to_predict(network.map_size))


def predict_outputs(network, weights, images, n_jobs):
    """Return the network's outputs, shape (n_images, ...) in the order of flattened maps."""
    rows, columns, channels = network.output_shape
    parts = _parts(network, len(images))
    runner = Runner(network, weights, learning=False)
    n_bytes = len(images) * rows * columns * channels * weights.itemsize
    flops = network.flops * len(images) - SHARED_BYTE_FLOPS * n_bytes
    with Team(n_jobs, flops) as team:
        outputs = team.empty((len(images), channels, rows, columns), weights.dtype)

        def run(number, worker):
            y, _ = runner.output(images, parts[number], worker)
            outputs[parts[number]] = y.transpose(3, 1, 0, 2)

        team.set_work(run)
        team.run(len(parts))
    return outputs
