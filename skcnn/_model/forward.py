"""Images through a network, forward: shards of them with buffers for each worker."""

from functools import cached_property

import numpy as np

from skcnn._engine.blocks import even_slices
from skcnn._model.shards import SHARD_BYTES, predicted_parts
from skcnn._workers.pool import open_pool

# Bytes of the buffers of several numbers of images above which a worker drops those of the fewest.
KEPT_BYTES = 3 * SHARD_BYTES // 2

# Positions of maps that are transposed into features at once: 1,568 of 157 images took 0.6 of the time
# of all at once, from 128 to 512 the same (Zen 5, 2026-11).
TRANSPOSED_AT_ONCE = 400


class Runner:
    """Runs shards of images through a network, with buffers for each worker.

    Parameters
    ----------
    network : Network
    weights : ndarray of shape (n_weights,)
    learning : bool
        Whether a backward pass will follow.
    weights_stay : bool, default=False
        Whether the weights stay as they are, so that what is made of them alone is made once.
    """

    def __init__(self, network, weights, learning, weights_stay=False):
        self.network = network
        self.learning = learning
        self.weights_stay = weights_stay
        self.weights = network.views(weights)
        self.dtype = weights.dtype
        self._workspaces = {}

    def output(self, images, index, worker, sample_weight=None, seed=None):
        """Return the network's output for some images, and the buffers that it was made in.

        While learning, layers see the samples' weights and draw random numbers by `seed`.
        """
        maps = images.maps(index)
        works = self._works(worker, maps.shape[3])
        works[0].shard.begin(sample_weight, seed)
        return self.network.forward(maps, self.weights, works), works

    def _works(self, worker, n_images):
        """Return a worker's buffers for so many images; of large ones it keeps few."""
        key = worker, n_images
        if key not in self._workspaces:
            own = [other for other in self._workspaces if other[0] == worker]
            n_kept = n_images + sum(n for _, n in own)
            if own and n_kept * self.network.bytes_per_image(self.dtype) > KEPT_BYTES:
                del self._workspaces[min(own, key=lambda other: other[1])]
            how = self.dtype, self.learning, self.weights_stay
            self._workspaces[key] = self.network.workspaces(n_images, *how)
        return self._workspaces[key]


class Prediction:
    """The job of computing a network's outputs, a part of the images an item."""

    def __init__(self, network, weights, images, outputs):
        self._network = network
        self._weights = weights
        self._images = images
        self._outputs = outputs
        self.parts = predicted_parts(len(images), *network.size_of_image(weights.dtype))

    @cached_property
    def _runner(self):
        return Runner(self._network, self._weights, False, weights_stay=len(self.parts) > 1)

    def __call__(self, item, worker):
        """Write the outputs of one part."""
        part = self.parts[item]
        with np.errstate(over="ignore", invalid="ignore"):
            y, _ = self._runner.output(self._images, part, worker)
        _write_images(y, self._outputs[part])


def predict_outputs(network, weights, images, n_jobs):
    """Return the network's outputs, shape (n_images, ...) in the order of flattened maps."""
    rows, columns, channels = network.output_shape
    with open_pool(n_jobs, network.flops * len(images), is_long=False) as pool:
        outputs = pool.array((len(images), channels, rows, columns), weights.dtype)
        job = Prediction(network, weights, images, outputs)
        pool.start(job)
        pool.run(len(job.parts))
    return outputs


def _write_images(maps, out):
    """Write maps of shape (rows, channels, columns, images) to (images, channels, rows, columns).

    A few hundred positions at a time: the cache lines that hold one image's numbers also hold those
    of the next.
    """
    n_images = maps.shape[3]
    by_channel = np.ascontiguousarray(maps.transpose(1, 0, 2, 3)).reshape(-1, n_images)
    flat = out.reshape(n_images, -1)
    for positions in even_slices(len(by_channel), TRANSPOSED_AT_ONCE):
        flat[:, positions] = by_channel[positions].T
