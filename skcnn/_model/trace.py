"""Networks as sequences of single operations, so that every intermediate array can be seen.

`Network` fuses layers with the operations that follow them, and its first layer computes no
gradient of the images. A `PlainNetwork` computes the same predictions one operation at a time, and
its gradients reach the images.
"""

import copy
from typing import NamedTuple

import numpy as np

from skcnn._engine.blocks import even_slices
from skcnn._engine.encoding import Activated, BothSigns, Triangle
from skcnn._model.encoded_conv import EncodedConv, Pooling
from skcnn.layers import Activation, BatchNorm, Conv, Dense, Dropout, Layer, Residual
from skcnn.layers.base import Shard, Workspace
from skcnn.layers.residual import Branch, Merge

IMAGES_AT_ONCE = 64


class Trace(dict):
    """The arrays of a forward pass, keyed by name and in order; prints itself as a table.

    Maps have shape (n_images, rows, columns, channels), outputs of dense layers (n_images, units).
    """

    def __repr__(self):
        headers = "name", "shape", "minimum", "mean", "maximum"
        rows = [
            (name, " x ".join(map(str, a.shape)), *map(_short, (a.min(), a.mean(), a.max())))
            for name, a in self.items()
        ]
        return aligned(headers, rows)


def aligned(headers, rows):
    """Return a table as text, with the first column aligned left and the others right."""
    cells = [headers, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _short(value):
    return f"{value:.4g}"


class Step(NamedTuple):
    """One operation; its name is None if its output is its input."""

    name: str | None
    layer: Layer
    weights: dict
    input_shape: tuple


class FixedNorm(Layer):
    """A fitted `BatchNorm` that uses its running statistics, and has a gradient."""

    def __init__(self, norm):
        self.norm = norm

    def buffer_shapes(self, input_shape, n_images):
        rows, columns, channels = input_shape
        return {"y": (rows, channels, columns, n_images)}

    def _slope(self, weights):
        return weights["coef"] / np.sqrt(weights["variance"] + self.norm.epsilon)

    def forward(self, x, weights, work):
        slope = self._slope(weights)
        np.multiply(x, slope[:, None, None], out=work["y"])
        work["y"] += (weights["intercept"] - weights["mean"] * slope)[:, None, None]
        return work["y"]

    def backward(self, dy, weights, grads, work):
        dy *= self._slope(weights)[:, None, None]
        return dy


class PlainNetwork:
    """A network that predicts, one operation per step.

    Parameters
    ----------
    network : Network
    vector : ndarray of shape (n_weights,)
        Weights of the network.
    output : str, default=None
        Name of the last layer; None means its index and class, as for the other layers.
    learning : bool, default=False
        Whether `backward` will be called. Even then a `BatchNorm` uses its running statistics, and
        a `Dropout` does nothing.
    """

    def __init__(self, network, vector, output=None, learning=False):
        self.dtype = vector.dtype
        self.learning = learning
        self.steps = []
        weights = iter([views for views in network.views(vector) if views])
        shape = network.image_shape
        named = list(named_layers(network.layers))
        if output is not None:
            named[-1] = output, named[-1][1]
        for name, layer in named:
            own = next(weights) if layer.weight_shapes(shape) else {}
            for part_name, part in _taken_apart(name, layer):
                self.steps.append(Step(part_name, part, own, shape))
                shape, own = part.output_shape(shape), {}
        self._works = {}

    def forward(self, maps):
        """Yield the name and the output of each step, for at most `IMAGES_AT_ONCE` images.

        The arrays are work buffers of shape (rows, channels, columns, images).
        """
        works = self._works_for(maps.shape[3])
        for step, work in zip(self.steps, works, strict=True):
            maps = step.layer.forward(maps, step.weights, work)
            if step.name is not None:
                yield step.name, maps

    def backward(self, dy, last=None):
        """Return the gradient of the maps of the last `forward`, given the output's, `dy`.

        If `last` names a step, return the gradient of the output of that step instead.
        """
        works = self._works_for(dy.shape[3])
        for step, work in zip(reversed(self.steps), reversed(works), strict=True):
            if step.name is not None and step.name == last:
                return dy
            grads = {name: np.empty_like(array) for name, array in step.weights.items()}
            dy = step.layer.backward(dy, step.weights, grads, work)
        return dy

    def _works_for(self, n_images):
        if n_images not in self._works:
            shard = Shard()
            shard.begin(np.ones(n_images, self.dtype), seed=0)
            self._works[n_images] = [
                Workspace(
                    step.layer, step.input_shape, n_images, self.dtype, True, self.learning, shard
                )
                for step in self.steps
            ]
        return self._works[n_images]


class EncodedStages:
    """The stages of an extractor's only layer: responses, codes and pooled codes.

    Parameters
    ----------
    network : Network
    vector : ndarray of shape (n_weights,)
        Weights of the network.
    activation : str
        Name of the codes in the trace.
    """

    def __init__(self, network, vector, activation):
        layer, own = network.layers[0], network.views(vector)[0]
        everywhere = Pooling("sum")
        stages = []
        if not isinstance(layer.encoder, Triangle):
            n_filters = layer.encoder.n_responses
            encoder = Activated("identity", n_filters)
            intercept = own["intercept"]
            # intercepts of both signs are offset - threshold, followed by -offset - threshold
            if isinstance(layer.encoder, BothSigns):
                intercept = (intercept[:n_filters] - intercept[n_filters:]) / 2
            plain = EncodedConv(layer.conv, encoder, everywhere, layer.contrast)
            stages.append(("0 Conv", plain, own | {"intercept": intercept}))
        codes = EncodedConv(layer.conv, layer.encoder, everywhere, layer.contrast)
        if activation != "identity":
            stages.append((f"0 Conv {activation}", codes, own))
        if layer.pooling != everywhere:
            stages.append((f"1 {layer.pooling.reduce.capitalize()}Pool", layer, own))
        self.steps = [Step(*stage, network.image_shape) for stage in stages]
        self.dtype = vector.dtype

    def forward(self, maps):
        """Yield the name and the output of each stage."""
        for step in self.steps:
            work = Workspace(
                step.layer, step.input_shape, maps.shape[3], self.dtype, learning=False
            )
            yield step.name, step.layer.forward(maps, step.weights, work)


def named_layers(layers):
    """Yield the name of each layer and the layer itself, with residual blocks in parts.

    The parts of a `Residual` are named "2.0 Conv", "2.1 BatchNorm" and so on, and their sum is
    named "2 Residual".
    """
    for index, layer in enumerate(layers):
        yield from _named(str(index), layer)


def _named(number, layer):
    if not isinstance(layer, Residual):
        yield f"{number} {type(layer).__name__}", layer
        return
    count = 0
    for step in layer.steps():
        if type(step) is Branch:
            yield None, step
        elif type(step) is Merge:
            yield f"{number} {type(layer).__name__}", step
        else:
            yield from _named(f"{number}.{count}", step)
            count += 1


def _taken_apart(name, layer):
    """Yield the name and the layer of each operation that a layer performs in prediction."""
    if type(layer) in (Conv, Dense, Merge) and layer.activation != "identity":
        plain = copy.copy(layer)
        plain.activation = "identity"
        yield name, plain
        yield f"{name} {layer.activation}", Activation(layer.activation)
    elif type(layer) is BatchNorm:
        yield name, FixedNorm(layer)
    elif type(layer) is Dropout:
        yield name, Activation("identity")
    else:
        yield name, layer


def trace_network(plain, images, loss=None):
    """Return the `Trace` of `Images` through a `PlainNetwork` or `EncodedStages`.

    What a `loss` makes of the outputs comes last, or in the place of outputs that are numbers.
    """
    parts = []
    for part in even_slices(len(images), IMAGES_AT_ONCE):
        maps = images.maps(part)
        parts.append({"input": _channels_last(maps)})
        is_flat = False
        layers = {step.name: step.layer for step in plain.steps}
        for name, y in plain.forward(maps):
            is_flat |= isinstance(layers[name], Dense)
            parts[-1][name] = y[0, :, 0].T.copy() if is_flat else _channels_last(y)
        if loss is not None:
            last = name if loss.output == "identity" else f"{name} {loss.output}"
            parts[-1][last] = loss.activate(y.reshape(-1, y.shape[3]).copy()).T.copy()
    return Trace({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _channels_last(maps):
    """Return a copy of maps in the order of users' images, (n_images, rows, columns, channels)."""
    return np.array(maps.transpose(3, 0, 2, 1), order="C")


def trace_features(model, images, activation):
    """Return the `Trace` of `Images` through the `Model` of an extractor."""
    network, vector = model.network, model.weights.astype(images.dtype)
    if type(network.layers[0]) is EncodedConv:
        return trace_network(EncodedStages(network, vector, activation), images)
    return trace_network(PlainNetwork(network, vector), images)
