"""What another format needs beside the coefficients: what standardises images, running statistics."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.layers import BatchNorm, Conv, Dense, MaxPool, Residual

X = np.random.default_rng(0).normal(3, 2, size=(60, 6, 6, 2)) * [1, 10]
Y = np.arange(60) % 3
NAMES = ("center_", "scale_", "running_means_", "running_variances_")


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_what_standardises_the_images(kind):
    model = kind((Conv(2),), max_iter=1).fit(X, Y)
    assert_allclose(model.center_, X.mean(axis=(0, 1, 2)))
    assert_allclose(model.scale_, X.std(axis=(0, 1, 2)))
    assert_allclose(model.trace(X)["input"], (X - model.center_) / model.scale_)
    assert model.running_means_ == model.running_variances_ == []
    plain = kind((Conv(2),), max_iter=1, standardize=False).fit(X, Y)
    assert_array_equal(plain.center_, [0, 0])
    assert_array_equal(plain.scale_, [1, 1])


def test_weights_count_in_what_standardises_the_images():
    model = CNNClassifier((), max_iter=1).fit(X, Y, sample_weight=np.arange(60) < 30)
    assert_allclose(model.center_, X[:30].mean(axis=(0, 1, 2)))


def test_running_statistics():
    layers = (BatchNorm(), Conv(3), MaxPool(), Residual((Conv(3), BatchNorm(epsilon=1e-3))))
    model = CNNClassifier(layers, max_iter=3, random_state=0).fit(X, Y)
    assert [m.shape for m in model.running_means_] == [(2,), (3,)]
    assert [v.shape for v in model.running_variances_] == [(2,), (3,)]
    trace = model.trace(X)
    # (number of the BatchNorm, its place among all layers with weights, ...)
    for norm, place, before, behind, epsilon in [
        (0, 0, "input", "0 BatchNorm", 1e-5),
        (1, 3, "3.0 Conv relu", "3.1 BatchNorm", 1e-3),
    ]:
        deviation = np.sqrt(model.running_variances_[norm] + epsilon)
        expected = (trace[before] - model.running_means_[norm]) / deviation
        expected = expected * model.coefs_[place] + model.intercepts_[place]
        assert_allclose(trace[behind], expected, atol=1e-12)


def test_changes_to_running_statistics_take_effect():
    model = CNNClassifier((BatchNorm(), Dense(4)), max_iter=1, random_state=0).fit(X, Y)
    model.running_means_[0][...] = 1
    model.running_variances_[0][...] = 4 - 1e-5
    model.coefs_[0][...] = 1
    model.intercepts_[0][...] = 0
    trace = model.trace(X)
    assert_allclose(trace["0 BatchNorm"], (trace["input"] - 1) / 2)
    assert_allclose(trace["output"], model._outputs(X), atol=1e-12)


def test_of_extractors():
    plain = ConvFeatureExtractor("sobel").fit(X)
    assert_array_equal([*plain.center_, *plain.scale_], [0, 0, 1, 1])
    model = CNNClassifier((Conv(2),), max_iter=1).fit(X, Y)
    of_network = ConvFeatureExtractor(model).fit(X)
    assert_array_equal(of_network.center_, model.center_)
    learned = ConvFeatureExtractor("kmeans", n_filters=4, random_state=0).fit(X)
    expected = (X - learned.center_) / learned.scale_
    assert_allclose(learned.trace(X)["input"], expected)


def test_not_before_fit():
    for name in NAMES:
        assert not hasattr(CNNClassifier(), name)
        with pytest.raises(NotFittedError):
            getattr(CNNClassifier(), name)
    assert not hasattr(ConvFeatureExtractor(), "center_")
