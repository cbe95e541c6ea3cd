"""A stack of layers over one vector of weights."""

import copy
import math

import numpy as np

from skcnn._engine.buffers import Buffers, Mask, Scratch
from skcnn._model.conv_pool import ConvPool
from skcnn.layers import Conv, Dense, Layer
from skcnn.layers.base import Shard, Workspace

# Arrays of weights, in the order in which they lie in the vector: learned ones, then statistics.
WEIGHTS = ("coef", "intercept", "mean", "variance")
STATISTICS = {"mean", "variance"}
PROTOCOL = ("output_shape", "weight_shapes", "buffer_shapes", "steps", "forward", "backward")


class Network:
    """Layers, their shapes on images of one shape, and where each one's weights lie.

    Holds no array: weights, gradients and buffers are handed in. The vector of weights holds all
    coefficients first, so that a penalty on them is one slice, then all intercepts, then running
    statistics.

    Parameters
    ----------
    layers : sequence of Layer
    image_shape : (int, int, int)
        Rows, columns and channels.
    """

    def __init__(self, layers, image_shape):
        self.layers = layers = tuple(map(own_copy, layers))
        self.image_shape = image_shape
        self.shapes = [image_shape]
        for index, layer in enumerate(layers):
            self.shapes.append(_fit_layer(layer, self.shapes[-1], index))
        self.steps = _fuse(flat_steps(layers), image_shape)
        self.names = _step_names(layers, self.steps)
        self.input_shapes = [image_shape]
        for layer in self.steps:
            self.input_shapes.append(layer.output_shape(self.input_shapes[-1]))
        each = list(zip(self.steps, self.input_shapes, strict=False))
        sizes = [layer.map_size(shape) for layer, shape in each]
        self.map_size = max([int(np.prod(image_shape)), *sizes])
        self.flops = sum(layer.flops(shape) for layer, shape in each)
        self._place_weights()
        sizes = [self._n_kept(n_images) for n_images in (16, 32)]  # blocks of one size do not count
        self._numbers_per_image = max((sizes[1] - sizes[0]) / 16, 1)

    @property
    def output_shape(self):
        return self.shapes[-1]

    def _n_kept(self, n_images):
        """Return the numbers in all buffers for so many images that no other layer writes to."""
        total = 0
        for i, (step, shape) in enumerate(zip(self.steps, self.input_shapes, strict=False)):
            for name, size in step.buffer_shapes(shape, n_images).items():
                is_used = i > self.first_learned or name not in ("dx", "dz")
                if is_used and not isinstance(size, Scratch):
                    total += math.prod(size) / (4 if isinstance(size, Mask) else 1)
        return total

    def bytes_per_image(self, dtype):
        """Return the bytes that buffers take for each image of a shard, roughly."""
        return int(self._numbers_per_image * np.dtype(dtype).itemsize)

    def size_of_image(self, dtype):
        """Return ``(map_size, bytes)`` of an image, by which `shards` cuts batches."""
        return self.map_size, self.bytes_per_image(dtype)

    def _place_weights(self):
        """Give each array of weights its slice of the vector."""
        shapes = [
            layer.weight_shapes(s) for layer, s in zip(self.steps, self.input_shapes, strict=False)
        ]
        self.places = [{} for _ in self.steps]
        stop = 0
        for name in WEIGHTS:
            for place, shape in zip(self.places, shapes, strict=True):
                if name in shape:
                    start, stop = stop, stop + int(np.prod(shape[name]))
                    place[name] = slice(start, stop), shape[name]
            if name == "coef":
                self.n_coefs = stop
            elif name == "intercept":
                self.n_learned = stop
        self.n_weights = stop
        self.first_learned = next((i for i, place in enumerate(self.places) if place), 0)

    def views(self, vector):
        """Return for each step a dict of views into `vector`."""
        return [
            {name: vector[where].reshape(shape) for name, (where, shape) in place.items()}
            for place in self.places
        ]

    def initial_weights(self, random_state, dtype):
        """Return a new vector of weights."""
        vector = np.zeros(self.n_weights, dtype=dtype)
        for layer, shape, views in zip(
            self.steps, self.input_shapes, self.views(vector), strict=False
        ):
            for name, values in layer.initial_weights(shape, random_state).items():
                views[name][...] = values
        return vector

    def public_weights(self, vector):
        """Return ``(coefs, intercepts)``: lists of views, in the order users see."""
        learned = list(zip(self.steps, self.views(vector), strict=True))
        return (
            [step.public_coef(views["coef"]) for step, views in learned if "coef" in views],
            [views["intercept"] for _, views in learned if "intercept" in views],
        )

    def running_statistics(self, vector):
        """Return ``(means, variances)``: lists of views, one for each step that follows some."""
        each = self.views(vector)
        return tuple([v[name] for v in each if name in v] for name in ("mean", "variance"))

    def workspaces(self, n_images, dtype, learning=True, weights_stay=False):
        """Return the buffers of each step for shards of `n_images`."""
        shard, buffers = Shard(weights_stay), Buffers()
        return [
            Workspace(
                layer, shape, n_images, dtype, i > self.first_learned, learning, shard, buffers
            )
            for i, (layer, shape) in enumerate(zip(self.steps, self.input_shapes, strict=False))
        ]

    def forward(self, x, weights, works):
        """Return the output for maps `x`; `weights` are `views` of a vector."""
        for i, layer in enumerate(self.steps):
            x = layer.forward(x, weights[i], works[i])
            self._check_map(x, i, self.input_shapes[i + 1], works[i], "forward")
        return x

    def backward(self, dy, weights, grads, works):
        """Write the gradients of all weights to the views `grads`, from the output's gradient."""
        for i in range(len(self.steps) - 1, self.first_learned - 1, -1):
            dy = self.steps[i].backward(dy, weights[i], grads[i], works[i])
            if i > self.first_learned:
                self._check_map(dy, i, self.input_shapes[i], works[i], "backward")

    def _check_map(self, x, step, shape, work, method):
        """Raise a `ValueError` unless a layer has returned a map of the shape that it has promised."""
        rows, columns, channels = shape
        expected = (rows, channels, columns, work.n_images)
        if getattr(x, "shape", None) != expected:
            raise ValueError(
                f"{self.names[step]}: {method} must return an array of shape {expected}, that is "
                f"(rows, channels, columns, images), as output_shape says. "
                f"Got {getattr(x, 'shape', x)!r} instead."
            )


def build_network(layers, image_shape, n_outputs):
    """Return the network of some layers and an output layer, which users never write."""
    return Network((*layers, Dense(n_outputs, activation="identity")), image_shape)


def check_layers(layers):
    """Raise an error that names the first of `layers` that is no layer or has a bad parameter."""
    for index, layer in enumerate(layers):
        if isinstance(layer, type) or not all(hasattr(layer, name) for name in PROTOCOL):
            raise TypeError(
                f"layers[{index}] must be a layer, such as skcnn.layers.Conv(16). "
                f"Got {layer!r} instead."
            )
        try:
            layer.validate()
        except ValueError as error:
            raise ValueError(f"layers[{index}] {type(layer).__name__}: {error}") from None


def _fit_layer(layer, input_shape, index):
    """Return the layer's output shape; an error names the layer."""
    try:
        shapes = layer.weight_shapes(input_shape)
        unknown = set(shapes) - set(WEIGHTS)
        if unknown:
            raise ValueError(
                f"weight_shapes must name weights among {WEIGHTS}. Got {unknown} instead."
            )
        statistics = {name: shape for name, shape in shapes.items() if name in STATISTICS}
        if len(statistics) == 1 or len(set(statistics.values())) > 1:
            raise ValueError(
                "weight_shapes must name both 'mean' and 'variance', of one shape, or none of them. "
                f"Got {statistics} instead."
            )
        return layer.output_shape(input_shape)
    except ValueError as error:
        raise ValueError(f"layers[{index}] {type(layer).__name__}: {error}") from None


def own_copy(layer):
    """Return a copy of a layer, so that changes to the user's object do not change a fitted network.

    Layers within layers are copied as well; NumPy's integers, which overflow, become Python's.
    """
    copied = copy.copy(layer)
    for name, value in vars(layer).items():
        vars(copied)[name] = _own_value(value)
    return copied


def _own_value(value):
    if isinstance(value, np.integer):
        return int(value)
    if type(value) in (tuple, list):
        return type(value)(map(_own_value, value))
    return own_copy(value) if isinstance(value, Layer) else value


def _step_names(layers, steps):
    """Return what errors call the steps: the layers of the user's that they belong to."""
    names = {}
    for index, layer in enumerate(layers):
        names |= {
            id(step): f"layers[{index}] {type(layer).__name__}" for step in flat_steps([layer])
        }
    return [names.get(id(getattr(step, "conv", step)), type(step).__name__) for step in steps]


def flat_steps(layers):
    """Return the layers with those that are made of others in their place."""
    steps = []
    for layer in layers:
        inner = list(layer.steps())
        steps += inner if inner == [layer] else flat_steps(inner)
    return steps


def _fuse(layers, input_shape):
    """Return the layers with each convolution and the pooling behind it made one, where they fit."""
    steps, shape = list(layers), input_shape
    for i, layer in enumerate(layers[:-1]):
        if type(layer) is Conv and ConvPool.replaces(layer, layers[i + 1], shape):
            steps[i : i + 2] = ConvPool(layer), None
        shape = layer.output_shape(shape)
    return [step for step in steps if step is not None]
