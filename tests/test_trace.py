"""`trace`: every array on the way, equal to what users get elsewhere or compute by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    MaxPool,
    Residual,
)

RNG = np.random.RandomState(0)
X = RNG.normal(size=(70, 8, 8, 2))
y = np.arange(70) % 3
ALL_KINDS = (
    Conv(4, activation="identity"),
    BatchNorm(),
    Activation("tanh"),
    Residual((Conv(4), BatchNorm(), Conv(4, activation="identity"))),
    MaxPool(),
    Dropout(),
    Conv(5, 2, padding="valid", activation="leaky_relu"),
    AvgPool(),
    Dense(6, activation="logistic"),
    Dropout(0.2),
)


def fitted(layers, targets=y, estimator=CNNClassifier, **params):
    return estimator(layers, max_iter=2, random_state=0, **params).fit(X, targets)


def test_names_and_shapes():
    trace = fitted((Conv(4), MaxPool(), Dense(5))).trace(X[:6])
    assert {name: array.shape for name, array in trace.items()} == {
        "input": (6, 8, 8, 2),
        "0 Conv": (6, 8, 8, 4),
        "0 Conv relu": (6, 8, 8, 4),
        "1 MaxPool": (6, 4, 4, 4),
        "2 Dense": (6, 5),
        "2 Dense relu": (6, 5),
        "output": (6, 3),
        "output softmax": (6, 3),
    }


def test_names_of_blocks():
    names = list(fitted(ALL_KINDS).trace(X[:1]))
    assert names == [
        "input",
        "0 Conv",
        "1 BatchNorm",
        "2 Activation",
        "3.0 Conv",
        "3.0 Conv relu",
        "3.1 BatchNorm",
        "3.2 Conv",
        "3 Residual",
        "3 Residual relu",
        "4 MaxPool",
        "5 Dropout",
        "6 Conv",
        "6 Conv leaky_relu",
        "7 AvgPool",
        "8 Dense",
        "8 Dense logistic",
        "9 Dropout",
        "output",
        "output softmax",
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_end_is_what_predict_gives(dtype):
    clf = CNNClassifier(ALL_KINDS, max_iter=2, random_state=0).fit(X.astype(dtype), y)
    trace = clf.trace(X.astype(dtype))
    assert {array.dtype for array in trace.values()} == {np.dtype(dtype)}
    rtol = 1e-4 if dtype is np.float32 else 1e-10
    assert_allclose(trace["output softmax"], clf.predict_proba(X.astype(dtype)), rtol=rtol)


def test_two_classes_many_labels_and_numbers():
    two = fitted((Conv(3),), y > 0)
    assert_allclose(two.trace(X)["output logistic"][:, 0], two.predict_proba(X)[:, 1])
    many = fitted((Conv(3),), np.eye(3, dtype=int)[y])
    assert_allclose(many.trace(X)["output logistic"], many.predict_proba(X))
    number = fitted((Conv(3),), y.astype(float), CNNRegressor)
    assert_allclose(number.trace(X)["output"][:, 0], number.predict(X))
    count = fitted((Conv(3),), y, CNNRegressor, loss="poisson")
    assert_allclose(count.trace(X)["output exponential"][:, 0], count.predict(X))


def test_arrays_by_hand():
    clf = fitted((Conv(3, padding="valid"), MaxPool(), Dense(4, activation="tanh")))
    trace = clf.trace(X[:5])
    flat = X.reshape(-1, 2)
    assert_allclose(trace["input"], (X[:5] - flat.mean(axis=0)) / flat.std(axis=0))
    windows = np.lib.stride_tricks.sliding_window_view(trace["input"], (3, 3), axis=(1, 2))
    responses = np.einsum("nrcdij,fijd->nrcf", windows, clf.coefs_[0]) + clf.intercepts_[0]
    assert_allclose(trace["0 Conv"], responses, atol=1e-12)
    assert_array_equal(trace["0 Conv relu"], np.maximum(trace["0 Conv"], 0))
    pooled = trace["0 Conv relu"].reshape(5, 3, 2, 3, 2, 3).max(axis=(2, 4))
    assert_array_equal(trace["1 MaxPool"], pooled)
    units = np.moveaxis(pooled, 3, 1).reshape(5, -1) @ clf.coefs_[1] + clf.intercepts_[1]
    assert_allclose(trace["2 Dense"], units)
    assert_allclose(trace["2 Dense tanh"], np.tanh(units))


def test_batch_norm_uses_its_running_statistics_and_dropout_does_nothing():
    clf = fitted((Conv(3, activation="identity"), BatchNorm(), Dropout(), GlobalAvgPool()))
    one, many = clf.trace(X[:1]), clf.trace(X)
    for name, array in one.items():
        assert_allclose(array, many[name][:1], atol=1e-12)
    assert_array_equal(many["1 BatchNorm"], many["2 Dropout"])


def test_residual_adds_its_input():
    trace = fitted(ALL_KINDS).trace(X[:4])
    assert_allclose(trace["3 Residual"], trace["2 Activation"] + trace["3.2 Conv"])


def test_a_layer_of_ones_own_runs_as_in_prediction():
    class Halve(Activation):
        def forward(self, x, weights, work):
            return super().forward(x * (1 if work.learning else 0.5), weights, work)

    clf = fitted((Conv(3), Halve("identity")))
    assert_allclose(clf.trace(X)["output softmax"], clf.predict_proba(X))


def test_arrays_are_copies():
    clf = fitted((Activation("identity"), Conv(3)), standardize=False)
    images = X.copy()
    before = clf.predict_proba(images)
    for array in clf.trace(images).values():
        array.fill(7)
    assert_array_equal(images, X)
    assert_array_equal(clf.predict_proba(images), before)


def test_prints_as_a_table():
    lines = repr(fitted((Conv(4), MaxPool())).trace(X[:2])).splitlines()
    assert lines[0].split() == ["name", "shape", "minimum", "mean", "maximum"]
    assert lines[4].startswith("0 Conv relu")
    assert "2 x 8 x 8 x 4" in lines[4]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("pooling", ["max", "avg", "sum", "global_avg", None])
@pytest.mark.parametrize("normalize", [None, "contrast"])
@pytest.mark.parametrize("activation", ["relu", "crelu", "soft_threshold", "triangle", "identity"])
def test_extractor_ends_in_its_features(activation, normalize, pooling):
    features = ConvFeatureExtractor(
        "kmeans",
        n_filters=5,
        kernel_size=3,
        activation=activation,
        pooling=pooling,
        normalize=normalize,
        random_state=0,
    ).fit(X)
    trace = features.trace(X)
    assert_allclose(trace["output"], features.transform(X), atol=1e-12)
    own = [] if activation == "triangle" else ["0 Conv"]
    own += [] if activation == "identity" else [f"0 Conv {activation}"]
    names = {"max": "Max", "avg": "Avg", "sum": "Sum", "global_avg": "Avg"}
    own += [f"1 {names[pooling]}Pool"] if pooling else []
    assert list(trace) == ["input", *own, "output"]


def test_codes_of_an_extractor_follow_from_its_responses():
    bank = ConvFeatureExtractor("kmeans", n_filters=5, kernel_size=3, random_state=0)
    trace = bank.set_params(activation="crelu").fit(X).trace(X)
    z = trace["0 Conv"]
    both = np.concatenate([np.maximum(z, 0), np.maximum(-z, 0)], axis=3)
    assert_allclose(trace["0 Conv crelu"], both, atol=1e-12)
    trace = bank.set_params(activation="soft_threshold", threshold=0.3).fit(X).trace(X)
    z = trace["0 Conv"]
    both = np.concatenate([np.maximum(z - 0.3, 0), np.maximum(-z - 0.3, 0)], axis=3)
    assert_allclose(trace["0 Conv soft_threshold"], both, atol=1e-12)


def test_extractor_without_flatten_and_of_a_network():
    bank = ConvFeatureExtractor("sobel", flatten=False, image_shape=(8, 16)).fit(X.reshape(70, -1))
    features = bank.transform(X.reshape(70, -1))
    assert features.ndim == 4
    assert_array_equal(bank.trace(X.reshape(70, -1))["output"], features)
    net = fitted((Conv(4), MaxPool(), Conv(3), Dense(5)))
    features = ConvFeatureExtractor(net).fit(X, y)
    trace = features.trace(X)
    assert list(trace)[1:5] == ["0 Conv", "0 Conv relu", "1 MaxPool", "2 Conv"]
    assert_allclose(trace["output"], features.transform(X), atol=1e-12)


def test_a_step_of_a_pipeline():
    model = make_pipeline(ConvFeatureExtractor("sobel"), StandardScaler()).fit(X[..., :1])
    assert "0 Conv" in model[0].trace(X[..., :1])


@pytest.mark.parametrize("estimator", [CNNClassifier(), CNNRegressor(), ConvFeatureExtractor()])
def test_not_fitted(estimator):
    with pytest.raises(NotFittedError):
        estimator.trace(X)


def test_images_of_another_shape():
    with pytest.raises(ValueError, match="X must hold images of shape"):
        fitted((Conv(2),)).trace(X[:, :7])
