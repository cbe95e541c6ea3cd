"""Whole networks through the estimator: outputs and gradients against a network in SciPy."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose
from scipy.special import log_expit, log_softmax

from skcnn import CNNClassifier
from skcnn._engine.blocks import PREPARED_PARTS
from skcnn._engine.winograd import TileKernel
from skcnn._model.network import Network
from skcnn._model.shards import images_to_predict
from skcnn.layers import Activation, AvgPool, Conv, Dense, GlobalAvgPool, GlobalMaxPool, MaxPool

N, ALPHA = 7, 0.3
STACKS = [
    (),
    (Dense(5, activation="tanh"),),
    (Conv(3, activation="tanh"),),
    (Conv(3), MaxPool()),
    (Conv(3, activation="tanh"), MaxPool(2), Conv(4), MaxPool(2), Dense(6)),
    (Conv(3, 5, padding="valid"), MaxPool(2, stride=1)),
    (Conv(4, (3, 2), stride=(2, 1)), MaxPool(3, stride=2, padding=1), Dense(3)),
    (Conv(3, activation="leaky_relu"), MaxPool((1, 2)), AvgPool(3)),
    (Conv(4, activation="logistic"), MaxPool(2, padding="same"), Conv(4, groups=2), MaxPool()),
    (Conv(3, activation="identity"), MaxPool(), Activation("tanh"), Conv(2, 1)),
    (Conv(3, dilation=2), AvgPool(), Conv(3), GlobalMaxPool()),
    (MaxPool(2, stride=1), Conv(3), Conv(3), GlobalAvgPool(), Dense(4)),
    (Activation("tanh"), AvgPool(2, stride=1), Dense(4), Dense(3, activation="logistic")),
    (Conv(3, 4, stride=2), GlobalMaxPool()),
    (Conv(2), MaxPool(9), Dense(3)),
    (Conv(2), Conv(2, 5), MaxPool(2), Conv(3, 3, padding=2), MaxPool(2)),
    (
        Conv(3, activation="gelu"),
        MaxPool(),
        Conv(4, activation="silu"),
        Dense(3, activation="gelu"),
    ),
    (Conv(3, activation="elu"), MaxPool(), Dense(4, activation="silu"), Dense(3, activation="elu")),
    (Activation("gelu"), Conv(3, 2, activation="silu"), Activation("silu"), AvgPool()),
]
SHAPES = [(8, 8, 1), (7, 9, 2), (9, 6, 3)]


def outputs(layers, coefs, intercepts, x):
    """Return the logits, shape (images, outputs), by SciPy."""
    coefs, intercepts = list(coefs), list(intercepts)
    for layer in (*layers, Dense(1, activation="identity")):
        if isinstance(layer, Conv):
            params = layer.get_params()
            del params["filters"], params["kernel_size"]
            x = reference.conv(x, coefs.pop(0), intercepts.pop(0), **params)
        elif isinstance(layer, Dense):
            z = reference.flatten(x) @ coefs.pop(0) + intercepts.pop(0)
            x = reference.ACTIVATE[layer.activation](z)[:, None, None]
        elif isinstance(layer, Activation):
            x = reference.ACTIVATE[layer.activation](x)
        else:
            is_max = isinstance(layer, MaxPool)
            geometry = layer.get_params() or {"pool_size": x.shape[1:3]}
            geometry["size"] = geometry.pop("pool_size")
            x = reference.pool(x, reduce=np.max if is_max else np.mean, **geometry)
    return x.reshape(len(x), -1)


def loss(layers, coefs, intercepts, x, codes, weights):
    """Return MLPClassifier's loss: mean weighted cross-entropy and penalty."""
    logits = outputs(layers, coefs, intercepts, x)
    if logits.shape[1] == 1:
        logs = log_expit(np.where(codes == 1, logits[:, 0], -logits[:, 0]))
    else:
        logs = log_softmax(logits, axis=1)[np.arange(len(codes)), codes]
    penalty = ALPHA / 2 * sum((coef**2).sum() for coef in coefs)
    return (penalty - weights @ logs) / weights.sum()


def example(layers, shape, n_classes, dtype=np.float64):
    """Return a network, its intercepts moved away from zero and so from the kinks, and data."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, *shape)).astype(dtype)
    y = np.arange(N) % n_classes
    clf = CNNClassifier(
        layers, solver="sgd", momentum=0, learning_rate_init=1.0, alpha=ALPHA, standardize=False,
        batch_size=N, shuffle=False, random_state=0,
    )  # fmt: skip
    clf.partial_fit(X, y, classes=range(n_classes))
    for intercept in clf.intercepts_:
        intercept[...] = rng.normal(size=intercept.shape)
    return clf, X, y


def copies(arrays):
    return [array.astype(float) for array in arrays]


stacks = pytest.mark.parametrize("layers", STACKS, ids=repr)


@stacks
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-11)])
def test_outputs(layers, shape, dtype, tolerance):
    clf, X, _ = example(layers, shape, 3, dtype)
    logits = outputs(layers, copies(clf.coefs_), copies(clf.intercepts_), X.astype(float))
    expected = np.exp(log_softmax(logits, axis=1))
    assert_allclose(clf.predict_proba(X), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_outputs_of_several_parts(n_jobs, workers):
    """What is made of the weights for the first part serves the others, of this prediction alone."""
    layers = (
        Conv(32, activation="tanh"),
        Conv(32, activation="tanh"),
        Dense(40, activation="tanh"),
    )
    clf, X, y = example(layers, (12, 12, 2), 3)
    assert isinstance(layers[1].kernel((12, 12, 32)), TileKernel)
    images = np.random.default_rng(1).normal(size=(250, 12, 12, 2))
    n_part = images_to_predict(clf._model.network.map_size)
    assert layers[2].units // PREPARED_PARTS < n_part < 125
    clf.set_params(n_jobs=n_jobs)
    for _ in range(2):
        logits = outputs(layers, copies(clf.coefs_), copies(clf.intercepts_), images)
        expected = np.exp(log_softmax(logits, axis=1))
        assert_allclose(clf.predict_proba(images), expected, rtol=1e-9, atol=1e-11)
        clf.partial_fit(X, y)


@stacks
@pytest.mark.parametrize(("shape", "n_classes"), list(zip(SHAPES, [3, 2, 4], strict=True)))
def test_gradients(layers, shape, n_classes):
    """A plain step of size one shows the gradient."""
    clf, X, y = example(layers, shape, n_classes)
    weights = np.linspace(0.5, 2, N)
    coefs, intercepts = copies(clf.coefs_), copies(clf.intercepts_)
    expected_loss = loss(layers, coefs, intercepts, X, y, weights)
    clf.partial_fit(X, y, sample_weight=weights)
    assert clf.loss_ == pytest.approx(expected_loss, rel=1e-11)
    before, after = coefs + intercepts, copies(clf.coefs_) + copies(clf.intercepts_)
    rng = np.random.default_rng(1)
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        direction = rng.normal(size=old.shape)

        def along(step, i=i, direction=direction):
            moved = list(before)
            moved[i] = moved[i] + step * direction
            return loss(layers, moved[: len(coefs)], moved[len(coefs) :], X, y, weights)

        expected = (along(1e-6) - along(-1e-6)) / 2e-6
        got = ((old - new) * direction).sum()
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-9), i


@pytest.mark.parametrize("activation", reference.ACTIVATE)
@pytest.mark.parametrize("pool", [MaxPool(2), MaxPool(3, stride=1), MaxPool(2, padding=1)])
def test_ties_after_an_activation_still_go_to_the_first(activation, pool):
    """On a constant image all windows tie; only each window's first place takes the gradient."""
    X = np.ones((2, 6, 6, 1))
    layers = (Conv(2, 1, activation=activation), pool)
    clf = CNNClassifier(
        layers, solver="sgd", momentum=0, learning_rate_init=1.0, alpha=0, standardize=False,
        random_state=1,
    )  # fmt: skip
    clf.partial_fit(X, [0, 1], classes=[0, 1])
    coefs, intercepts = copies(clf.coefs_), copies(clf.intercepts_)
    p = clf.predict_proba(X)[0, 1]
    clf.partial_fit(X, [0, 1])
    dlogit = (p - 0) / 2 + (p - 1) / 2
    z = coefs[0].ravel() + intercepts[0]
    step = 1e-6
    f = reference.ACTIVATE[activation]
    slope = (f(z + step) - f(z - step)) / (2 * step)
    dintercept = dlogit * coefs[1].reshape(2, -1).sum(axis=1) * slope
    assert_allclose(intercepts[0] - clf.intercepts_[0], dintercept, rtol=1e-6, atol=1e-12)


def test_shapes_and_order_of_weights():
    layers = (Conv(4, (3, 5), groups=2), MaxPool(), Conv(6), AvgPool(), Dense(7))
    clf, _, _ = example(layers, (8, 8, 2), 3)
    assert [c.shape for c in clf.coefs_] == [(4, 3, 5, 1), (6, 3, 3, 4), (24, 7), (7, 3)]
    assert [i.shape for i in clf.intercepts_] == [(4,), (6,), (7,), (3,)]
    assert clf.n_layers_ == len(layers) + 2
    assert clf.n_outputs_ == 3


def test_a_network_knows_its_shapes_and_holds_no_weights():
    network = Network((Conv(4), MaxPool(), Dense(3)), (6, 5, 2))
    assert network.shapes == [(6, 5, 2), (6, 5, 4), (3, 2, 4), (1, 1, 3)]
    assert network.output_shape == (1, 1, 3)
    assert network.n_weights == (4 * 3 * 3 * 2 + 4) + (24 * 3 + 3)
    vector = network.initial_weights(np.random.RandomState(0), np.float32)
    assert vector.shape == (network.n_weights,)
    assert vector.dtype == np.float32
    coefs, intercepts = network.public_weights(vector)
    assert all(np.shares_memory(view, vector) for view in coefs + intercepts)


def test_initial_weights_do_not_depend_on_the_float_type():
    network = Network((Conv(4), Dense(3)), (6, 5, 2))
    a, b = (network.initial_weights(np.random.RandomState(3), t) for t in (np.float32, np.float64))
    assert_allclose(a, b, rtol=1e-7)


def test_errors_name_the_layer():
    layers = (Conv(4), MaxPool(3), Conv(2, 3, padding="valid"))
    with pytest.raises(ValueError, match=r"layers\[2\] Conv: .*exceeds its 2x2 input"):
        Network(layers, (6, 6, 1))
