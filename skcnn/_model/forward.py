"""Images through a network, with buffers for each worker."""

import numpy as np

from skcnn._engine.blocks import TURNED_PLACES, even_slices, images_to_predict
from skcnn._workers.team import Team


class Runner:
    """Runs shards of images through a network, with buffers for each worker.

    `learning` and `weights_stay` are as for `Work` and `Shard`.
    """

    def __init__(self, network, weights, learning, team, weights_stay=False):
        self.network = network
        self.team = team
        self.learning = learning
        self.weights_stay = weights_stay
        self.weights = network.views(weights)
        self.dtype = weights.dtype
        self._works = {}

    def output(self, images, index, worker, sample_weight=None, seed=None):
        """Return the network's output for some images, and the buffers that it was made in.

        While learning, layers are told the samples' weights and draw numbers by `seed`.
        """
        maps = images.maps(index)
        works = self.works(worker, maps.shape[3])
        if self.learning:
            shard = works[0].shard
            shard.weights = sample_weight
            shard.random = np.random.Generator(np.random.SFC64(seed)) if seed else None
        return self.network.forward(maps, self.weights, works), works

    def works(self, worker, n_images):
        """Return a worker's buffers for so many images."""
        key = worker, n_images
        if key not in self._works:
            works = self._works[key] = self.network.works(
                n_images,
                self.dtype,
                self.learning,
                self.team.arena(worker),
                self.weights_stay,
            )
            if self.learning:
                works[0].shard.loop_maker = self.team.loop_maker(worker)
        return self._works[key]

    def join(self, place, loop, arrays, worker):
        """Do blocks of a loop that another worker is in."""
        index, n_images = place
        work = self.works(worker, n_images)[index]
        self.network.steps[index].join(loop, arrays, work)


def _write_images(maps, out):
    """Write maps of shape (rows, channels, columns, images) to (images, channels, rows, columns).

    A few hundred places at a time: the lines of the cache that one image's numbers are read from
    also hold those of the next.
    """
    n_images = maps.shape[3]
    by_channel = np.ascontiguousarray(maps.transpose(1, 0, 2, 3)).reshape(-1, n_images)
    flat = out.reshape(n_images, -1)
    for places in even_slices(len(by_channel), TURNED_PLACES):
        flat[:, places] = by_channel[places].T


def predicted_parts(network, n_images):
    """Return slices of images that are predicted together."""
    return even_slices(n_images, images_to_predict(network.map_size))


def predict_outputs(network, weights, images, n_jobs):
    """Return the network's outputs, shape (n_images, ...) in the order of flattened maps."""
    rows, columns, channels = network.output_shape
    parts = predicted_parts(network, len(images))
    n_bytes = len(images) * rows * columns * channels * weights.itemsize
    with Team(n_jobs, network.flops * len(images), n_bytes, long=True) as team:
        runner = Runner(network, weights, False, team, weights_stay=len(parts) > 1)
        outputs = team.empty((len(images), channels, rows, columns), weights.dtype)

        def run(number, worker):
            y, _ = runner.output(images, parts[number], worker)
            _write_images(y, outputs[parts[number]])

        team.set_work(run)
        team.run(len(parts))
    return outputs
