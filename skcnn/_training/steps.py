"""Steps of training: the gradients of a batch's shards, computed by workers, and the update."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skcnn._data.augment import epoch_key
from skcnn._data.images import AugmentedImages
from skcnn._engine.blocks import even_slices
from skcnn._model.forward import Runner
from skcnn._model.network import STATISTICS
from skcnn._model.shards import predicted_parts, shard_slices
from skcnn._training.optimizers import clip_norm

# Bytes of the gradients of shards that are computed at once, but of so many shards at least.
GRADIENT_BYTES = 32 * 1024 * 1024
LEAST_GRADIENTS = 2

# Running statistics are measured with so many images, or with this share of many images. Twice as
# many changed no accuracy by more than chance (400 digits, vgg_small() and resnet_small(), 2026-11).
STATISTICS_IMAGES = 256
STATISTICS_SHARE = 1 / 50

# A network whose outputs vary by less than this between images tells nothing apart: outputs are
# logits, or numbers of deviation 1.
SMALLEST_SPREAD = 0.02

# If a weight is larger than the first number, as after steps far too long, outputs are computed for so
# many images at the end of a fit, to see whether they overflow.
LARGE_WEIGHT = 1e4
IMAGES_TO_CHECK = 8


@dataclass
class Task:
    """What a network is trained on and by which loss; does not change while it is trained.

    Attributes
    ----------
    network : Network
    loss : object
    images : Images
    train_index : ndarray of int
        The images to train on.
    targets, sample_weight : ndarray
        Of all images.
    alpha : float
    batch_size : int
    shuffle : bool
    clip_norm : float or None
    augment : Augmentation, CallableAugmentation or None
    seed : int
    held_out : Images or None
        Images to validate on after each epoch.
    held_out_index : ndarray of int or None
        Which of `held_out` they are.
    """

    network: object
    loss: object
    images: object
    train_index: np.ndarray
    targets: np.ndarray
    sample_weight: np.ndarray
    alpha: float
    batch_size: int
    shuffle: bool
    clip_norm: float | None = None
    augment: object = None
    seed: int = 0
    held_out: object = None
    held_out_index: np.ndarray | None = None

    @property
    def n_held_out(self):
        return 0 if self.held_out is None else len(self.held_out_index)


class TrainingJob:
    """What workers do: the gradients of one shard, or the outputs of one part of the held-out images.

    Parameters
    ----------
    task : Task
    weights : ndarray of shape (n_weights,)
    pool : Pool
        Where the results lie.
    """

    def __init__(self, task, weights, pool):
        network = task.network
        batches = even_slices(len(task.train_index), task.batch_size)
        sizes = {batch.stop - batch.start for batch in batches}
        size_of_image = network.size_of_image(weights.dtype)
        self._shards = {size: shard_slices(size, *size_of_image) for size in sizes}
        n_shards = max(map(len, self._shards.values()))
        n_rows = max(
            GRADIENT_BYTES // (network.n_weights * weights.dtype.itemsize), LEAST_GRADIENTS
        )
        self.task = task
        self.weights = weights
        self.order = pool.array((len(task.train_index),), np.intp)
        self.losses = pool.array((n_shards, len(task.loss.units)), np.float64)
        self.grads = pool.array((min(n_shards, n_rows), network.n_weights), weights.dtype)
        self.parts = predicted_parts(task.n_held_out, *size_of_image)
        self.outputs = pool.array((task.n_held_out, network.output_shape[2]), weights.dtype)

    def shards(self, start, stop):
        """Return slices that cut the batch from `start` to `stop` into shards."""
        return self._shards[stop - start]

    @cached_property
    def _runner(self):
        return Runner(self.task.network, self.weights, learning=True)

    @cached_property
    def _predictor(self):
        return Runner(self.task.network, self.weights, learning=False)

    @cached_property
    def grad_views(self):
        """For each shard, the gradients of each step's weights."""
        return [self.task.network.views(vector) for vector in self.grads]

    def __call__(self, item, worker, *numbers):
        """Do an item: train with four numbers, measure statistics with three, predict with none.

        Numbers that overflow or are none are found after the epoch, which says what to do.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            if len(numbers) == 4:
                self._train_shard(item, worker, *numbers)
            elif numbers:
                self._measure_shard(item, worker, *numbers)
            else:
                self._predict_part(item, worker)

    def _train_shard(self, item, worker, start, stop, first, step):
        """Write the gradients and the sum of losses of one shard of a batch; `first` is that of item 0."""
        task, number, row = self.task, first + item, item + (first > 0)
        index = self.order[start:stop][self.shards(start, stop)[number]]
        weights = task.sample_weight[index]
        images = task.images
        if task.augment is not None:
            images = AugmentedImages(images, task.augment, epoch_key(task.seed, step))
        seed = task.seed, step, number
        y, works = self._runner.output(images, index, worker, weights, seed)
        logits = y.reshape(-1, len(index))
        self.losses[number] = task.loss.gradient(logits, task.targets[index], weights)
        task.network.backward(y, self._runner.weights, self.grad_views[row], works)

    def _measure_shard(self, item, worker, start, stop, first):
        """Write the means and variances of one shard of images, in the place of gradients."""
        index = self.order[start:stop][self.shards(start, stop)[first + item]]
        weights = self.task.sample_weight[index]
        _, works = self._runner.output(self.task.images, index, worker, weights)
        for views, work in zip(self.grad_views[item], works, strict=True):
            for name in STATISTICS & views.keys():
                views[name][...] = work[name]

    def _predict_part(self, number, worker):
        """Write the outputs for a part of the held-out images."""
        part = self.parts[number]
        index = self.task.held_out_index[part]
        y, _ = self._predictor.output(self.task.held_out, index, worker)
        self.outputs[part] = y.reshape(-1, y.shape[3]).T

    def some_outputs(self, n_images):
        """Return the outputs for some of the images that are trained on, shape (n_images, n_outputs)."""
        index = evenly(self.task.train_index, n_images)
        parts = []
        with np.errstate(over="ignore", invalid="ignore"):
            size_of_image = self.task.network.size_of_image(self.weights.dtype)
            for part in predicted_parts(len(index), *size_of_image):
                y, _ = self._predictor.output(self.task.images, index[part], worker=0)
                parts.append(y.reshape(-1, y.shape[3]).T.copy())
        return np.concatenate(parts)


class Trainer:
    """Takes steps of training, and computes outputs for the held-out images.

    Each shard of a batch has gradients of its own, which are added in the order of the shards: sums
    come out the same for any number of workers.

    Parameters
    ----------
    task : Task
    weights : ndarray of shape (n_weights,)
    optimizer : Optimizer or None
        Where training goes on from, like the weights; both are copied.
    pool : Pool
    """

    def __init__(self, task, weights, optimizer, pool):
        self.task = task
        self.pool = pool
        self.weights = pool.array(weights.shape, weights.dtype)
        self.weights[...] = weights
        self.optimizer = optimizer and optimizer.copied()
        self._job = TrainingJob(task, self.weights, pool)
        self._learned = slice(0, task.network.n_learned)
        pool.start(self._job)

    @property
    def order(self):
        """The images in the order of the epoch, which a batch is a slice of."""
        return self._job.order

    def gradient(self, batch):
        """Return ``(sums of losses, gradient of their sum)`` for the slice `batch` of the order."""
        return self._run_shards(batch, 1)

    def step(self, batch, number, rate, total_weight):
        """Update the weights by the slice `batch` of the order; return the loss, penalty included.

        The loss is a sum over images, in parts; `number` is the step's.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return self._step(batch, number, rate, total_weight)

    def _step(self, batch, number, rate, total_weight):
        penalty = self._penalty()
        loss, grads = self._run_shards(batch, number)
        if self.task.alpha:
            coefs = slice(0, self.task.network.n_coefs)
            grads[coefs] += self.task.alpha * self.weights[coefs]
        grads /= total_weight
        if self.task.clip_norm is not None:
            clip_norm(grads, self.task.clip_norm)
        self.optimizer.step(self.weights[self._learned], grads, rate)
        return loss + penalty / len(loss)

    def _penalty(self):
        """Return the penalty, in the scale of the sum of losses."""
        if not self.task.alpha:
            return 0.0
        coefs = self.weights[: self.task.network.n_coefs]
        return 0.5 * self.task.alpha * float(np.dot(coefs, coefs))

    def _run_shards(self, batch, step):
        """Return the sums of losses and of gradients of a batch's shards.

        If the gradients of all shards would take much memory, only some are computed at once. They
        are added in the order of the shards to those of the first, which lie in the first row.
        """
        job, first, at_once = self._job, 0, len(self._job.grads)
        n_shards = len(job.shards(batch.start, batch.stop))
        total = job.grads[0, self._learned]
        while first < n_shards:
            rows = slice(first > 0, min(at_once, n_shards - first + (first > 0)))
            self.pool.run(rows.stop - rows.start, batch.start, batch.stop, first, step)
            for grads in job.grads[max(rows.start, 1) : rows.stop, self._learned]:
                total += grads
            first += rows.stop - rows.start
        losses = job.losses[0].copy()
        for more in job.losses[1:n_shards]:
            losses += more
        return losses, total

    def measure_statistics(self, share):
        """Bring the running statistics up to the weights, by some of the images trained on.

        Layers that have them see the means and variances of shards, as in training, but no dropout
        and no augmentation, as in prediction.

        Parameters
        ----------
        share : float
            Least share of the new statistics in the running ones.
        """
        network, index = self.task.network, self.task.train_index
        if network.n_learned == network.n_weights:
            return
        size = self.task.batch_size
        n_wanted = max(STATISTICS_IMAGES, int(STATISTICS_SHARE * len(index)))
        n_images = max(min(-(-n_wanted // size), len(index) // size), 1) * size
        weighted = index[self.task.sample_weight[index] > 0]
        chosen = evenly(weighted if len(weighted) >= n_images else index, n_images)
        before = self.order[:n_images].copy()
        self.order[:n_images] = chosen
        found = self._measure(even_slices(n_images, size))
        self.order[:n_images] = before
        if not np.isfinite(found).all():
            raise ValueError(
                "The running statistics became non-finite. Lower learning_rate_init or set "
                "clip_norm, or scale the data (standardize=True)."
            )
        for step, place in zip(network.steps, network.places, strict=True):
            for name in STATISTICS & place.keys():
                where = place[name][0]
                new = found[where.start - network.n_learned : where.stop - network.n_learned]
                here = max(share, getattr(step, "momentum", 0))
                self.weights[where] += here * (new - self.weights[where])

    def _measure(self, batches):
        """Return the means and variances over slices of the order, as they lie in the weights."""
        rows, totals = [], []
        for batch in batches:
            shards = self._job.shards(batch.start, batch.stop)
            for some in even_slices(len(shards), len(self._job.grads)):
                self.pool.run(some.stop - some.start, batch.start, batch.stop, some.start)
                found = self._job.grads[: some.stop - some.start, self._learned.stop :]
                rows += list(found.copy())
            weights = self.task.sample_weight[self.order[batch]]
            totals += [weights[shard].sum(dtype=np.float64) for shard in shards]
        shares = np.array(totals) / np.sum(totals)
        means, variances = np.split(np.array(rows, np.float64), 2, axis=1)
        mean = shares @ means
        return np.concatenate([mean, shares @ (variances + np.square(means - mean))])

    def outputs(self):
        """Return the network's outputs for the held-out images, shape (n_images, n_outputs)."""
        self.pool.run(len(self._job.parts))
        return self._job.outputs.copy()

    def check_outputs(self, weights):
        """Raise a `ValueError` if the network's outputs for some images overflow."""
        if np.abs(weights).max() < LARGE_WEIGHT:
            return
        self.weights[...] = weights
        if not np.isfinite(self._job.some_outputs(IMAGES_TO_CHECK)).all():
            raise ValueError(
                "The outputs of the network became non-finite after the last update. Lower "
                "learning_rate_init or set clip_norm, or scale the data (standardize=True)."
            )

    def tells_apart(self, weights):
        """Return whether the network's outputs differ between images, if the targets do."""
        targets = self.task.targets[self.task.train_index]
        if (targets == targets[0]).all():
            return True
        self.weights[...] = weights
        outputs = self._job.some_outputs(STATISTICS_IMAGES)
        return outputs.std(axis=0).max() > SMALLEST_SPREAD


def evenly(index, n):
    """Return `n` entries of `index`, or all if there are fewer, at even distances."""
    n = min(n, len(index))
    return index[np.arange(n) * len(index) // n]
