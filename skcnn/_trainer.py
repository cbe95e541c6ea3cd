"""Gradients of batches and outputs of images held out, shared out among workers."""

from dataclasses import dataclass

import numpy as np

from skcnn._augment import epoch_key
from skcnn._engine.blocks import shard_slices
from skcnn._images import AugmentedImages
from skcnn._running import Runner, predicted_parts
from skcnn.layers import Dropout


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


class Trainer:
    """Computes gradients of batches, shard by shard, and outputs for the images held out.

    Each shard writes gradients of its own, which are then added in the order of the shards: sums
    come out the same for any number of workers. `weights` is what they all see.
    """

    def __init__(self, task, weights, team):
        self.task = task
        self.team = team
        network = task.network
        self.weights = team.lasting(weights.shape, weights.dtype)
        self.weights[...] = weights
        self.order = team.lasting((len(task.rows),), np.intp)
        # start and stop, equal while the images held out are predicted, and number of the step
        self._batch = team.lasting((3,), np.intp)
        self._draws = any(isinstance(step, Dropout) for step in network.steps)
        n_shards = len(self._shards(task.batch_size))
        self._grads = team.lasting((n_shards, network.n_weights), weights.dtype)
        self._views = [network.views(vector) for vector in self._grads]
        self._runner = Runner(network, self.weights, True, team)
        if task.score is not None:
            self._parts = predicted_parts(network, len(task.held_out_rows))
            self._outputs = team.lasting(
                (len(task.held_out_rows), network.output_shape[2]), weights.dtype
            )
            self._predictor = Runner(network, self.weights, False, team)
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
