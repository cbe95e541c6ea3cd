"""`check_gradients`: right layers pass, each wrong derivative shows."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.inspection import check_gradients
from skcnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalMaxPool,
    Layer,
    MaxPool,
    Residual,
)

RNG = np.random.RandomState(0)
X = RNG.normal(size=(10, 9, 9, 2))
y = np.arange(10) % 3
LAYERS = (
    Conv(4, 3, padding="valid", activation="tanh"),
    BatchNorm(),
    MaxPool(),
    Residual((Conv(4), Conv(4, activation="identity"))),
    Dropout(0.3),
    Conv(6, stride=2),
    AvgPool(3, stride=1, padding=1),
    Dense(5, activation="logistic"),
)


def worst(errors):
    return max(errors, key=errors.get)


@pytest.mark.parametrize("layers", [LAYERS, (), (GlobalMaxPool(),), (Conv(3), MaxPool())])
def test_the_layers_of_the_package_pass(layers):
    errors = check_gradients(CNNClassifier(layers), X, y)
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "poisson"])
def test_losses_of_a_regressor(loss):
    targets = RNG.uniform(0, 3, (10, 2))
    errors = check_gradients(CNNRegressor((Conv(3),), loss=loss), X, targets)
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("targets", [y, y > 0, np.eye(3, dtype=int)[y]])
def test_losses_of_a_classifier(targets):
    clf = CNNClassifier((Conv(3),), label_smoothing=0.1)
    assert max(check_gradients(clf, X, targets).values()) < 1e-5


def test_a_fitted_network_is_checked_as_it_is_and_not_changed():
    clf = CNNClassifier(LAYERS, max_iter=3, random_state=0).fit(X, y)
    before = [array.copy() for array in clf.coefs_]
    assert max(check_gradients(clf, X, y).values()) < 1e-5
    for old, new in zip(before, clf.coefs_, strict=True):
        assert_array_equal(old, new)
    bare = CNNClassifier(LAYERS)
    check_gradients(bare, X, y)
    assert vars(bare) == vars(CNNClassifier(LAYERS))


def test_names_and_table():
    errors = check_gradients(CNNClassifier(LAYERS), X, y, n_weights=2)
    assert list(errors)[:5] == [
        "input",
        "0 Conv coef",
        "0 Conv intercept",
        "1 BatchNorm coef",
        "1 BatchNorm intercept",
    ]
    assert "3.1 Conv coef" in errors
    assert "8 Dense intercept" in errors
    lines = repr(errors).splitlines()
    assert lines[0].split() == ["array", "relative", "error"]
    assert len(lines) == 2 + len(errors)


class WrongInput(Dense):
    def backward(self, dy, weights, grads, work):
        return 1.01 * super().backward(dy, weights, grads, work)


class WrongCoef(Conv):
    def backward(self, dy, weights, grads, work):
        dx = super().backward(dy, weights, grads, work)
        grads["coef"][0, 0] = 0
        return dx


class WrongIntercept(Conv):
    def backward(self, dy, weights, grads, work):
        dx = super().backward(dy, weights, grads, work)
        grads["intercept"] *= -1
        return dx


class LeavesDisorder(Activation):
    """Its forward takes for zeros what its backward has written."""

    def forward(self, x, weights, work):
        return x + work["y"]

    def backward(self, dy, weights, grads, work):
        work["y"][...] = 100 * dy
        return dy


@pytest.mark.parametrize(
    ("layers", "wrong"),
    [
        ((Conv(3), WrongInput(4, activation="tanh")), {"input", "0 Conv coef", "0 Conv intercept"}),
        ((WrongCoef(3), Dense(4)), {"0 WrongCoef coef"}),
        ((Conv(2), WrongIntercept(3)), {"1 WrongIntercept intercept"}),
    ],
)
def test_a_wrong_derivative_shows_where_it_is(layers, wrong):
    errors = check_gradients(CNNClassifier(layers), X, y)
    assert {name for name, error in errors.items() if error > 1e-3} == wrong


def test_a_buffer_left_in_disorder_shows():
    errors = check_gradients(CNNClassifier((Conv(3), LeavesDisorder())), X, y)
    assert max(errors.values()) > 1e-3


def test_the_input_of_a_first_layer_without_weights():
    class Cube(Layer):
        def forward(self, x, weights, work):
            work["x"] = x
            return x**3

        def backward(self, dy, weights, grads, work):
            return 3 * work["x"] ** 2 * dy

    assert check_gradients(CNNClassifier((Cube(),)), X, y)["input"] < 1e-5


def test_the_random_state_chooses_the_entries():
    clf = CNNClassifier((Conv(3),))
    once, again = (check_gradients(clf, X, y, random_state=3) for _ in range(2))
    assert once == again
    assert once != check_gradients(clf, X, y, random_state=4)


def test_bad_parameters():
    with pytest.raises(TypeError, match="estimator must be a CNNClassifier or a CNNRegressor"):
        check_gradients(ConvFeatureExtractor(), X, y)
    with pytest.raises(ValueError, match=r"layers\[0\] Conv"):
        check_gradients(CNNClassifier((Conv(0),)), X, y)
