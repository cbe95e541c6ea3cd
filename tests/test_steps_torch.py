"""One training step, and a few, by skcnn and by torch from the same weights."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from properties import given, settings, st
from torch_nets import (
    F,
    Twin,
    classifier,
    moments,
    regressor,
    start,
    step_equals_torch,
    torch,
    train,
)

from skcnn import layers as L
from skcnn._engine.activations import ACTIVATIONS
from skcnn._model.shards import shard_slices
from skcnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    Residual,
)

N = 7
SHAPE = (7, 9, 4)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, *SHAPE))
Y = np.array([0, 2, 1, 1, 0, 2, 2])
LABELS = RNG.integers(0, 2, (N, 3))
COUNTS = RNG.poisson(2.0, (N, 3)).astype(float)
WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0, 3.0, 0.25, 1.5])
weighted = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])


GEOMETRIES = [
    Conv(3),
    Conv(3, padding="valid"),
    Conv(3, padding=2),
    Conv(3, (5, 2), padding=(3, 0)),
    Conv(3, 4),
    Conv(3, (2, 4), dilation=(1, 2)),
    Conv(3, stride=2),
    Conv(3, 2, stride=(3, 2), padding="valid"),
    Conv(3, 4, stride=(1, 2)),
    Conv(3, 5, stride=2, padding=2),
    Conv(3, dilation=2),
    Conv(3, dilation=(3, 2), padding="valid"),
    Conv(3, dilation=2, stride=2, padding=1),
    Conv(6, groups=2),
    Conv(6, 5, groups=2, stride=2, padding=1, dilation=(1, 2)),
    Conv(4, groups=4),
    Conv(8, (3, 2), groups=4, padding="valid"),
    Conv(4, 3, groups=4, stride=2, dilation=2, padding=2),
    Conv(5, 1),
    Conv(5, 1, stride=2),
    Conv(5, (7, 9), padding="valid"),
    Conv(3, init=np.ones((3, 3, 3, 4))),
    MaxPool(),
    MaxPool(3),
    MaxPool(3, stride=2, padding=1),
    MaxPool((2, 3), stride=(1, 2), padding="same"),
    MaxPool(3, padding=2),
    MaxPool(2, stride=3),
    MaxPool(20),
    AvgPool(),
    AvgPool(3),
    AvgPool(3, stride=2, padding=1),
    AvgPool((2, 3), stride=(1, 2), padding="same"),
    AvgPool(3, padding=2),
    AvgPool(2, stride=3),
    AvgPool(20),
    GlobalMaxPool(),
    GlobalAvgPool(),
    Dense(5),
    BatchNorm(),
    BatchNorm(momentum=0.5, epsilon=0.1),
    Dropout(0.4),
    Dropout(0),
    Activation("tanh"),
    Residual((Conv(4, activation="identity"),)),
    Residual((Conv(6), BatchNorm(), Conv(4, 1)), activation="tanh"),
    Residual((Residual((Conv(4),)), Dropout(0.3), Conv(4, 5)), activation="identity"),
    Residual(()),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("layer", GEOMETRIES, ids=repr)
@pytest.mark.parametrize("place", ["first", "second", "before others"])
@weighted
def test_layers(layer, place, weights):
    stacks = {
        "first": (layer,),
        "second": (Conv(4, activation="tanh"), layer),
        "before others": (Conv(4, (1, 3), activation="tanh"), layer, Conv(2, activation="elu")),
    }
    step_equals_torch(classifier(stacks[place]), X, Y, weights)


def test_all_layers_are_there():
    kinds = {type(layer).__name__ for layer in GEOMETRIES} | {"Layer"}
    assert kinds == set(L.__all__) - {"Mask", "Scratch", "Zeros"}  # the shapes of buffers


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("stack", range(6))
def test_activations(name, stack):
    stacks = [
        (Conv(4, activation=name), Conv(3, groups=1, stride=2, activation=name)),
        (Conv(4, activation=name), MaxPool(), Conv(3, activation=name), MaxPool(3, stride=1)),
        (Conv(16, activation=name), Conv(16, activation=name), MaxPool()),
        (Conv(4, groups=4, activation=name), AvgPool(), Dense(6, activation=name), Dense(5)),
        (Activation(name), Conv(3, activation="identity"), BatchNorm(), Activation(name)),
        (Conv(4, 1), Residual((Conv(4, activation=name), Conv(4)), activation=name)),
    ]
    step_equals_torch(classifier(stacks[stack]), X, Y, WEIGHTS)


@pytest.mark.parametrize("pool", [(), (MaxPool(),)], ids=["plain", "pooled"])
@pytest.mark.parametrize("padding", ["same", "valid", 2])
@pytest.mark.parametrize(
    ("before", "filters", "groups", "kernel"),
    [
        (32, 32, 1, "TileKernel"),
        (2, 4, 1, "RowKernel"),
        (4, 4, 2, "RowKernel"),
        (4, 8, 4, "DepthwiseKernel"),
    ],
)
def test_kernels(before, filters, groups, kernel, padding, pool):
    """Tiles by Winograd, rows, groups of rows, and channel by channel."""
    layer = Conv(filters, padding=padding, groups=groups)
    assert type(layer.kernel((12, 12, before))).__name__ == kernel
    step_equals_torch(classifier((Conv(before, 1), layer, *pool)), *images((12, 12, 2)))


def images(shape, n_images=N, n_classes=3):
    """Return images and labels."""
    rng = np.random.default_rng(2)
    return rng.normal(size=(n_images, *shape)), np.arange(n_images) % n_classes


def test_ties_of_maxima_go_where_torchs_go():
    """In whole numbers, the windows of different pixels have equal maxima."""
    rng = np.random.default_rng(3)
    for pool in (MaxPool(), MaxPool(3, stride=1), MaxPool(3, stride=2, padding=1), GlobalMaxPool()):
        clf = classifier((Conv(3, activation="identity"), pool))
        small = rng.integers(0, 3, (N, 8, 8, 1)).astype(float)
        start(clf, small, Y)
        clf.coefs_[0][...] = rng.integers(-1, 2, clf.coefs_[0].shape)
        clf.intercepts_[0][...] = 0
        twin = Twin(clf)
        train(clf, small, Y, None)
        twin.epoch(small, Y, np.ones(N))
        assert_allclose(clf.coefs_[0], twin.coefs[0].detach().numpy(), rtol=1e-10, atol=1e-12)


SIZES = st.tuples(st.integers(1, 4), st.integers(1, 4))
PADDINGS = st.sampled_from(["same", "valid"]) | st.tuples(st.integers(0, 3), st.integers(0, 3))


@st.composite
def random_layers(draw):
    """Return one to three layers of any geometry, and the images that they fit."""
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    layers, inner = [], shape
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from([Conv, Conv, MaxPool, AvgPool]))
        if kind is Conv:
            groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if inner[2] % g == 0]))
            params = {"filters": groups * draw(st.integers(1, 3)), "groups": groups}
            params |= {"kernel_size": draw(SIZES), "padding": draw(PADDINGS)}
            params |= {"stride": draw(SIZES), "dilation": draw(SIZES)}
            params |= {"activation": draw(st.sampled_from(["tanh", "elu", "gelu"]))}
        else:
            params = {"pool_size": draw(SIZES), "stride": draw(st.none() | SIZES)}
            params |= {"padding": draw(st.sampled_from(["same", "valid"]))}
        layer = kind(**params)
        try:
            inner = layer.output_shape(inner)
        except ValueError:  # does not fit
            continue
        layers.append(layer)
    return tuple(layers), shape


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@given(random_layers())
@settings(max_examples=60)
def test_any_geometry(layers_and_shape):
    layers, shape = layers_and_shape
    step_equals_torch(classifier((Conv(shape[2], 1, activation="tanh"), *layers)), *images(shape))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("y", [Y > 1, Y, LABELS], ids=["binary", "classes", "many labels"])
@weighted
def test_losses_of_classifiers(y, smoothing, weights):
    clf = classifier((Conv(3), MaxPool(), Dense(4)), label_smoothing=smoothing)
    step_equals_torch(clf, X, y, weights)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "poisson"])
@pytest.mark.parametrize("y", [COUNTS[:, 0], COUNTS], ids=["one", "three"])
@weighted
def test_losses_of_regressors(y, loss, weights):
    params = {"loss": loss, "delta": 0.7, "learning_rate_init": 0.1}
    step_equals_torch(regressor((Conv(3), MaxPool(), Dense(4)), **params), X, y, weights)


NET = (Conv(4, activation="tanh"), MaxPool(), BatchNorm(), Conv(3), Dense(4, activation="elu"))
CLASS_WEIGHT = {0: 2.0, 1: 0.25, 2: 3.0}


@pytest.mark.parametrize("by_fit", [False, True], ids=["partial_fit", "fit"])
@weighted
def test_class_weights_in_a_dict(weights, by_fit):
    shares = np.array([2.0, 0.25, 3.0])
    clf = classifier(NET, class_weight=CLASS_WEIGHT)
    step_equals_torch(clf, X, Y, weights, class_shares=shares[Y], by_fit=by_fit)
    names = np.array(["a", "b", "c"])[Y]
    clf = classifier(NET, class_weight={"b": 0.25})  # the others weigh 1
    shares = np.where(Y == 1, 0.25, 1)
    step_equals_torch(clf, X, names, weights, codes=Y, class_shares=shares, by_fit=by_fit)


@pytest.mark.parametrize("y", [Y, Y > 1], ids=["three", "two"])
@weighted
def test_balanced_class_weights(y, weights):
    codes = y.astype(int)
    shares = N / (len(set(codes)) * np.bincount(codes))[codes]
    clf = classifier(NET, class_weight="balanced")
    step_equals_torch(clf, X, y, weights, codes=codes, class_shares=shares, by_fit=True)


def test_class_weights_are_those_of_torchs_loss():
    clf = classifier((Conv(3), MaxPool()), class_weight=CLASS_WEIGHT)
    start(clf, X, Y)
    logits = Twin(clf)._logits(torch.tensor(X).permute(0, 3, 1, 2), torch.ones(N))
    expected = F.cross_entropy(logits, torch.tensor(Y), torch.tensor([2.0, 0.25, 3.0]).double())
    train(clf, X, Y, None)
    assert clf.loss_ == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize(
    "params",
    [
        {"alpha": 0.7},
        {"clip_norm": 0.05},
        {"clip_norm": 0.05, "alpha": 5.0},
        {"clip_norm": 1e3},
        {"standardize": True},
        {"batch_size": 3, "alpha": 0.1, "learning_rate_init": 0.1},
        {"batch_size": 1, "learning_rate_init": 0.1},  # the image of weight 0 takes no step
    ],
    ids=repr,
)
@weighted
def test_options(params, weights):
    layers = (Conv(4), MaxPool(), Dropout(0.2), Conv(3), BatchNorm(), Dense(4, activation="tanh"))
    step_equals_torch(classifier(layers, **params), 3 * X + 1, Y, weights)


def test_standardization_is_by_the_weighted_mean_and_deviation():
    clf = classifier((Conv(3), MaxPool()), standardize=True)
    step_equals_torch(clf, 3 * X + 1, Y, WEIGHTS)
    mean = np.average(3 * X + 1, axis=0, weights=WEIGHTS).mean(axis=(0, 1))
    square = np.average((3 * X + 1 - mean) ** 2, axis=0, weights=WEIGHTS).mean(axis=(0, 1))
    assert_allclose([clf._model.center, clf._model.scale], [mean, np.sqrt(square)], rtol=1e-12)


SOLVERS = [
    {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": False},
    {"solver": "sgd", "momentum": 0.8, "nesterovs_momentum": True},
    {"solver": "adam"},
    {"solver": "adam", "beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.01},
    {"solver": "adamw", "weight_decay": 0.5},
    {"solver": "adamw", "beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.01},
    {"solver": "rmsprop"},
]


@pytest.mark.parametrize("params", SOLVERS, ids=repr)
@weighted
def test_solvers(params, weights):
    params = {"learning_rate_init": 0.02, "alpha": 0.1, "batch_size": 3, **params}
    layers = (Conv(4), MaxPool(), Conv(3, activation="silu"), Dense(4, activation="tanh"))
    step_equals_torch(classifier(layers, **params), X, Y, weights, n_epochs=4)


def test_a_schedule():
    params = {"learning_rate": "cosine", "learning_rate_init": 0.1, "max_iter": 6}
    clf = classifier(NET, **params)
    start(clf, X, Y)
    twin = Twin(clf)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(twin.optimizer, 6)
    twin.optimizer.step()  # no gradients yet: stands for the step that made the weights
    for _ in range(4):
        schedule.step()
        train(clf, X, Y, None)
        assert clf.loss_ == pytest.approx(twin.epoch(X, Y, np.ones(N)), rel=1e-10)


def test_shards_of_a_large_batch():
    """Each shard has its own statistics and random numbers; the gradients are added."""
    large, y = images((16, 16, 1), 150)
    layers = (Conv(8), BatchNorm(), MaxPool(), Dropout(0.3), Conv(4), Dense(5, activation="tanh"))
    clf = classifier(layers, learning_rate_init=0.1)
    weights = np.linspace(0.5, 3, 150)
    step_equals_torch(clf, large, y, weights, n_epochs=2)
    assert len(shard_slices(150, clf._model.network.map_size)) > 2


def test_running_statistics_of_weighted_shards():
    large, y = images((16, 16, 8), 150)
    weights = np.linspace(0.5, 3, 150)
    clf = classifier((BatchNorm(), MaxPool()), learning_rate_init=1e-9)
    train(clf, large, y, weights)
    x, shares = torch.tensor(large).permute(0, 3, 1, 2), torch.tensor(weights)
    assert len(shard_slices(150, clf._model.network.map_size)) > 2
    own = clf._model.network.views(clf._model.weights)[0]
    assert_allclose([own["mean"], own["variance"]], torch.stack(moments(x, shares)), rtol=1e-10)
