"""Residual blocks: what they compute, their gradients, their parameters."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import conv, numeric_gradient, to_images, to_maps
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn._model.network import Network
from skcnn.layers import Activation, BatchNorm, Conv, Dense, MaxPool, Residual

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 5, 6, 3))
BLOCK = Residual((Conv(2), Conv(3, activation="identity")))
NESTED = Residual((Conv(3), Residual((Conv(3, 1),), activation="tanh")), activation="identity")
LABELS = np.arange(30) % 2
MANY = RNG.normal(size=(30, 6, 6)) + LABELS[:, None, None] * np.eye(6)


def made(*layers):
    network = Network(layers, IMAGES.shape[1:])
    vector = network.initial_weights(np.random.RandomState(0), np.float64)
    vector += RNG.normal(0, 0.1, vector.size)
    return network, vector


def outputs(network, vector, images=IMAGES):
    works = network.workspaces(len(images), np.float64)
    works[0].shard.begin(np.ones(len(images)), seed=0)
    return network.forward(to_maps(images), network.views(vector), works), works


def test_the_sum_of_both_ways():
    network, vector = made(BLOCK)
    (first, second), intercepts = network.public_weights(vector)
    inner = conv(IMAGES, first, intercepts[0])
    inner = conv(inner, second, intercepts[1], activation="identity")
    y, _ = outputs(network, vector)
    assert_allclose(to_images(y), np.maximum(inner + IMAGES, 0), rtol=1e-10, atol=1e-12)
    assert network.output_shape == (5, 6, 3)


@pytest.mark.parametrize(
    "layers",
    [
        (BLOCK,),
        (Conv(3, activation="tanh"), BLOCK, Dense(2, activation="identity")),
        (Conv(4), Residual((Conv(4), BatchNorm(), Activation("tanh"))), MaxPool(), Dense(3)),
        (NESTED, NESTED, Dense(2)),
        (Conv(3), MaxPool(), Residual((Conv(2), Conv(3))), MaxPool()),
        (Conv(3), Residual((Conv(2, activation="gelu"), Conv(3)), activation="silu"), MaxPool()),
    ],
    ids=str,
)
def test_gradients(layers):
    network, vector = made(*layers)
    y, works = outputs(network, vector)
    dy = RNG.normal(size=y.shape)
    grads = np.zeros_like(vector)
    network.backward(dy.copy(), network.views(vector), network.views(grads), works)
    expected = numeric_gradient(lambda v: float((outputs(network, v)[0] * dy).sum()), vector.copy())
    learned = slice(0, network.n_learned)
    assert_allclose(grads[learned], expected[learned], rtol=1e-5, atol=1e-6)


def test_parameters_are_reached():
    clf = CNNClassifier((Conv(4), BLOCK, Dense(4)))
    params = clf.get_params()
    assert params["layers__1__layers__0__filters"] == 2
    changed = clone(clf).set_params(layers__1__layers__0__filters=7, layers__1__activation="tanh")
    assert changed.layers[1].layers[0].filters == 7
    assert changed.layers[1].activation == "tanh"
    assert BLOCK.layers[0].filters == 2
    with pytest.raises(ValueError, match="Invalid parameter"):
        clf.set_params(layers__1__layers__5__filters=1)


def test_in_a_search_and_pickled():
    clf = CNNClassifier((Conv(4), Residual((Conv(4), Conv(4)))), max_iter=30, random_state=0)
    grid = {"layers__1__layers__0__filters": [2, 8], "layers__1__activation": ["relu", "identity"]}
    search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(MANY, LABELS)
    copied = pickle.loads(pickle.dumps(search))
    assert_array_equal(copied.predict_proba(MANY), search.predict_proba(MANY))
    assert search.score(MANY, LABELS) > 0.8


def test_as_a_transformer():
    clf = CNNClassifier((Conv(4), Residual((Conv(4),)), MaxPool()), max_iter=2).fit(MANY, LABELS)
    extractor = ConvFeatureExtractor(clf).fit(MANY)
    assert extractor.transform(MANY).shape == (30, 36)
    with pytest.raises(ValueError, match=r"inverse_importance takes networks of .* Got Residual"):
        extractor.inverse_importance(np.ones(36))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Residual((Conv(5),)),), r"layers\[0\] Residual: layers must keep .* \(6, 6, 1\). Got"),
        ((Conv(2), Residual((MaxPool(),))), r"layers\[1\] Residual: layers must keep the shape"),
        ((Residual((Conv(0),)),), r"layers\[0\] Residual: The 'filters' parameter of Conv"),
        ((Residual((3,)),), r"layers\[0\] Residual: layers\[0\] must be a layer. Got 3"),
        ((Residual(5),), r"layers\[0\] Residual: The 'layers' parameter of Residual"),
    ],
)
def test_bad_blocks(layers, message):
    with pytest.raises(ValueError, match=message):
        CNNClassifier(layers).fit(MANY, LABELS)
