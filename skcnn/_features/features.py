"""Feature networks: what `ConvFeatureExtractor` has fitted, ready to run and to be read backwards."""

from dataclasses import dataclass

import numpy as np

from skcnn._engine.encoding import Activated, BothSigns, Triangle
from skcnn._features.importance import ConvBack, NoWayBack, PoolBack, SignsBack, layer_windows
from skcnn._model.encoded_conv import EncodedConv, Pooling
from skcnn._model.model import Model
from skcnn._model.network import Network, check_layers
from skcnn.layers import Activation, AvgPool, BatchNorm, Conv, Dense, Dropout, MaxPool

BOTH_SIGNS = ("crelu", "soft_threshold")
POOLINGS = ("max", "avg", "sum", "global_max", "global_avg", "global_sum")
NO_POOLING = Pooling("sum")  # over windows of one position
LAYERS = {"max": MaxPool, "avg": AvgPool}  # that pool as `Pooling` does


@dataclass
class Features:
    """A network with its weights, how images enter it, and what its outputs are called.

    Attributes
    ----------
    model : Model
        The network, its weights, and how images are standardised.
    filters : ndarray of shape (n_filters, rows, columns, channels)
    filter_names : list of str
    map_names : list of str
        One for each channel of the output; with two codes a filter they are twice as many.
    way_back : list of SignsBack, PoolBack and ConvBack
        From the output to the image.
    """

    model: Model
    filters: np.ndarray
    filter_names: list
    map_names: list
    way_back: list

    def names(self):
        """Return a name for each feature, in their order."""
        rows, columns, _ = self.model.network.output_shape
        places = [f"r{row}_c{column}" for row in range(rows) for column in range(columns)]
        return [f"{name}_{place}" for name in self.map_names for place in places]

    def heat_map(self, values, per_channel):
        """Return values of the image's pixels, from those of features or of maps."""
        maps = self.model.network.output_shape
        rows, columns, channels = maps
        flat = rows * columns * channels
        if values.ndim in (1, 2) and values.shape[-1] == flat:
            sets = np.moveaxis(values.reshape(-1, channels, rows, columns), 1, 3)
        elif values.ndim in (3, 4) and values.shape[-3:] == maps:
            sets = values.reshape(-1, *maps)
        else:
            raise ValueError(
                f"values must have one value for each of {flat} features, or be of shape {maps}; "
                f"a first axis may count sets of them. Got shape {values.shape} instead."
            )
        for step in self.way_back:
            sets = step.spread(sets)
        sets = sets if per_channel else sets.sum(axis=3)
        return sets if values.ndim in (2, 4) else sets[0]


def from_bank(bank, image_shape, *, stride, padding, activation, thresholds, pooling):
    """Return the `Features` of a bank of filters.

    Parameters
    ----------
    bank : Bank
    image_shape : (int, int, int)
    stride, padding, activation
        As in `ConvFeatureExtractor`.
    thresholds : float or ndarray of shape (n_filters,)
        Of "soft_threshold".
    pooling : Pooling
        With windows of one position for none.
    """
    coef, intercepts, encoder = _encoded(bank, activation, thresholds)
    conv = Conv(len(coef), bank.shape[:2], stride=stride, padding=padding, activation="identity")
    contrast = bank.whitener.contrast
    if contrast is None and isinstance(encoder, Activated) and _is_layer(pooling):
        layers = [conv.set_params(activation=activation)]
        if pooling.reduce in LAYERS:
            layers.append(LAYERS[pooling.reduce](pooling.size, stride=pooling.stride))
    else:
        layers = [EncodedConv(conv, encoder, pooling, contrast)]
    check_layers(layers)
    network = Network(layers, image_shape)
    weights = np.zeros(network.n_weights)
    coefs, all_intercepts = network.public_weights(weights)
    coefs[0][...] = coef.reshape(-1, *bank.shape)
    all_intercepts[0][...] = intercepts
    if not np.isfinite(weights).all():
        raise ValueError(
            "X must hold values that filters can be learned from in its float type. Got values so "
            "small or so large that the filters became non-finite instead: scale the images."
        )
    filters = bank.filters()
    map_shape = conv.output_shape(image_shape)[:2]
    plan = conv.plan(image_shape)
    way_back = [
        PoolBack(pooling.windows(map_shape), map_shape),
        ConvBack(filters, plan.rows, plan.columns),
    ]
    names = list(bank.names)
    both = activation in BOTH_SIGNS
    center, scale = (
        np.full(image_shape[2], n) for n in (bank.whitener.center, bank.whitener.scale)
    )
    return Features(
        Model(network, weights, center, scale),
        filters,
        names,
        names + [f"{name}_neg" for name in names] if both else names,
        [SignsBack(len(filters)), *way_back] if both else way_back,
    )


def _is_layer(pooling):
    """Whether a pooling layer, or none, does the same; those are faster on few filters."""
    return pooling == NO_POOLING or (pooling.grid is None and pooling.reduce in LAYERS)


def _encoded(bank, activation, thresholds):
    """Return ``(coefficients, intercepts, encoder)``: what the filters respond with, and what to do."""
    if activation == "triangle":
        filters, offsets = bank.whitener.fold(bank.atoms)
        components, own_offsets = bank.whitener.fold(np.eye(filters.shape[1]))
        squares = np.square(bank.atoms).sum(axis=1)
        coef = np.concatenate([-2 * filters, components])
        intercepts = np.concatenate([squares - 2 * offsets, own_offsets])
        return coef, intercepts, Triangle(len(filters), len(components))
    filters, offsets = bank.whitener.fold(bank.directions())
    if activation == "crelu":
        return filters, np.concatenate([offsets, -offsets]), BothSigns(len(filters))
    if activation == "soft_threshold":
        intercepts = np.concatenate([offsets - thresholds, -offsets - thresholds])
        return filters, intercepts, BothSigns(len(filters))
    return filters, offsets, Activated(activation, len(filters))


def from_model(trained):
    """Return the `Features` of a trained `Model`: its layers before the first dense one."""
    layers = list(trained.network.layers[:-1])
    dense = [i for i, layer in enumerate(layers) if isinstance(layer, Dense)]
    layers = layers[: dense[0]] if dense else layers
    if not any(isinstance(layer, Conv) for layer in layers):
        raise ValueError(
            "filters must be a CNNClassifier with a convolution before its first Dense layer. "
            f"Got layers={trained.network.layers[:-1]!r} instead."
        )
    network = Network(layers, trained.image_shape)
    weights = np.zeros(network.n_weights)
    source = trained.network.views(trained.weights)
    for views, values in zip(network.views(weights), source, strict=False):
        for name, view in views.items():
            view[...] = values[name]
    coefs, _ = network.public_weights(weights)
    filters = coefs[0]
    names = [f"cnn{i}" for i in range(network.output_shape[2])]
    return Features(
        Model(network, weights, trained.center, trained.scale),
        filters,
        [f"cnn{i}" for i in range(len(filters))],
        names,
        _way_back(layers, network.shapes, coefs),
    )


def _way_back(layers, shapes, coefs):
    """Return the steps from the output of layers to their input."""
    steps, coefs = [], list(coefs)
    for layer, shape in zip(layers, shapes, strict=False):
        if isinstance(layer, Conv):
            plan = layer.plan(shape)
            steps.append(ConvBack(coefs.pop(0), plan.rows, plan.columns, layer.groups))
        elif isinstance(layer, MaxPool | AvgPool):
            windows = [layer_windows(axis) for axis in layer.axes(shape)]
            steps.append(PoolBack(windows, shape[:2]))
        elif not isinstance(layer, Activation | BatchNorm | Dropout):
            steps.append(NoWayBack(layer))
        if isinstance(layer, BatchNorm):
            coefs.pop(0)
    return steps[::-1]


def chosen_pooling(pooling, pool_size, pool_stride, pool_grid):
    """Return the `Pooling` that the parameters of `ConvFeatureExtractor` mean."""
    if pooling is None:
        return NO_POOLING
    if pooling.startswith("global_"):
        return Pooling(pooling.removeprefix("global_"), grid=1)
    return Pooling(pooling, pool_size, pool_stride, pool_grid)
