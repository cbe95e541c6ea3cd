"""Steps of training and outputs of images held out, shared out among workers."""

from dataclasses import dataclass

import numpy as np

from skcnn._data.augment import epoch_key
from skcnn._data.images import AugmentedImages
from skcnn._engine.blocks import SHARED_UPDATE, VECTOR_BLOCK, even_slices, shard_slices
from skcnn._model.forward import Runner, predicted_parts
from skcnn._training.optimizers import clip_norm
from skcnn.layers import Dropout

_SHARD, _PREDICT = range(2)  # what workers are asked for


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
    """Takes steps of training, and computes outputs for the images held out.

    Each shard of a batch writes gradients of its own, which are then added in the order of the
    shards: sums come out the same for any number of workers. `weights` and the arrays of
    `optimizer` are what they all see.

    Parameters
    ----------
    task : Task
    weights : ndarray of shape (n_weights,)
    optimizer : Optimizer or None
        Where training goes on from, like the weights; both are copied.
    team : Team
    """

    def __init__(self, task, weights, optimizer, team):
        self.task = task
        self.team = team
        network = task.network
        self.weights = self._shared(weights)
        self.optimizer = optimizer and optimizer.copied(self._shared)
        self.order = team.lasting((len(task.rows),), np.intp)
        # what is asked for, start and stop in the order, number of the step
        self._request = team.lasting((4,), np.intp)
        # of an update: the batch's sum of sample weights, then the optimizer's numbers
        n_numbers = optimizer.n_numbers if optimizer else 0
        self._numbers = team.lasting((1 + n_numbers,), np.float64)
        self._draws = any(isinstance(step, Dropout) for step in network.steps)
        n_shards = len(self._shards(task.batch_size))
        self._losses = team.lasting((n_shards,), np.float64)
        self._grads = team.lasting((n_shards, network.n_weights), weights.dtype)
        self._views = [network.views(vector) for vector in self._grads]
        self._shares_update = task.clip_norm is None and network.n_learned > SHARED_UPDATE
        self._runner = Runner(network, self.weights, True, team)
        if task.score is not None:
            self._parts = predicted_parts(network, len(task.held_out_rows))
            self._outputs = team.lasting(
                (len(task.held_out_rows), network.output_shape[2]), weights.dtype
            )
            self._predictor = Runner(network, self.weights, False, team)
        team.set_work(self._work, self._update_part, self._runner.join)

    def _shared(self, array):
        """Return a copy that all workers see."""
        shared = self.team.lasting(array.shape, array.dtype)
        shared[...] = array
        return shared

    def _shards(self, n_images):
        return shard_slices(n_images, self.task.network.map_size)

    def _work(self, number, worker):
        """Do one item of what is asked of all workers."""
        request, start, stop, step = self._request.tolist()
        if request == _SHARD:
            self._run_shard(number, worker, start, stop, step)
        else:
            self._predict_part(number, worker)

    def _run_shard(self, number, worker, start, stop, step):
        """Write the gradients and the sum of losses of one shard of the batch."""
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
        self._losses[number] = task.loss.gradient(logits, task.targets[index], weights)
        task.network.backward(y, self._runner.weights, self._views[number], works)

    def _update_part(self, part, n_parts):
        """Update one part of the weights by the gradients of all shards."""
        _, start, stop, _ = self._request.tolist()
        total_weight, *numbers = self._numbers.tolist()
        n_shards, n_learned = len(self._shards(stop - start)), self.task.network.n_learned
        first, last = (n_learned * edge // n_parts for edge in (part, part + 1))
        for block in even_slices(last - first, VECTOR_BLOCK):
            block = slice(first + block.start, first + block.stop)
            grads = self._mean_gradient(block, n_shards, total_weight)
            self.optimizer.update(block, self.weights[block], grads, *numbers)

    def _mean_gradient(self, block, n_shards, total_weight):
        """Return the gradient of the mean loss, penalty included, for a slice of the weights."""
        grads = self._sum_gradients(block, n_shards)
        n_coefs = max(self.task.network.n_coefs - block.start, 0)
        if self.task.alpha:
            grads[:n_coefs] += self.task.alpha * self.weights[block][:n_coefs]
        grads /= total_weight
        return grads

    def _sum_gradients(self, block, n_shards):
        """Return the sum of the gradients of all shards, which takes the place of the first."""
        total = self._grads[0, block]
        for grads in self._grads[1:n_shards, block]:
            total += grads
        return total

    def _predict_part(self, number, worker):
        """Write the outputs for a part of the images held out."""
        part = self._parts[number]
        y, _ = self._predictor.output(self.task.held_out, self.task.held_out_rows[part], worker)
        self._outputs[part] = y.reshape(-1, y.shape[3]).T

    def gradient(self, batch, total_weight):
        """Return ``(sum of losses, gradient of the sum)`` for the slice `batch` of the order.

        `total_weight` is the sum of its sample weights.
        """
        loss, n_shards = self._run_shards(batch, 1, total_weight)
        return loss, self._sum_gradients(slice(0, self.task.network.n_learned), n_shards)

    def step(self, batch, number, rate, total_weight):
        """Update the weights by the slice `batch` of the order; return the loss, penalty included.

        The loss is a sum over images; `number` is the step's.
        """
        penalty, limit = self._penalty(), self.task.clip_norm
        if limit is None:
            self._numbers[...] = total_weight, *self.optimizer.begin_step(rate)
        loss, n_shards = self._run_shards(batch, number, total_weight, self._shares_update)
        if limit is not None:
            learned = slice(0, self.task.network.n_learned)
            grads = self._mean_gradient(learned, n_shards, total_weight)
            clip_norm(grads, limit)
            self.optimizer.step(self.weights[learned], grads, rate)
        elif not self._shares_update:
            self._update_part(0, 1)
        return loss + penalty

    def _penalty(self):
        """Return the penalty, in the scale of the sum of losses."""
        if not self.task.alpha:
            return 0.0
        coefs = self.weights[: self.task.network.n_coefs]
        return 0.5 * self.task.alpha * float(np.dot(coefs, coefs))

    def _run_shards(self, batch, step, total_weight, updates=False):
        """Have the gradients of all shards computed; return the sum of losses and their number.

        If it `updates`, the workers update the weights as well.
        """
        self._request[...] = _SHARD, batch.start, batch.stop, step
        n_shards = len(self._shards(batch.stop - batch.start))
        self.team.run(n_shards, updates)
        self._follow_statistics(n_shards, total_weight)
        return sum(self._losses[:n_shards].tolist()), n_shards

    def _follow_statistics(self, n_shards, total_weight):
        """Move the running statistics towards the batch's, which stand behind the gradients."""
        network = self.task.network
        if network.n_learned == network.n_weights:
            return
        statistics = self._sum_gradients(slice(network.n_learned, network.n_weights), n_shards)
        statistics /= total_weight
        for step, own, found in zip(
            network.steps, self._runner.weights, self._views[0], strict=True
        ):
            for name in own.keys() & {"mean", "variance"}:
                found[name] -= own[name]
                own[name] += step.momentum * found[name]

    def score(self):
        """Return ``(score, loss)`` of the images held out."""
        self._request[0] = _PREDICT
        self.team.run(len(self._parts))
        return self.task.score(self._outputs.copy())
