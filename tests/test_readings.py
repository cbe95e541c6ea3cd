"""Warnings of how data were read, and errors that lead on from names of other frameworks."""

import inspect
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import skcnn.layers
from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.layers import Activation, BatchNorm, Conv, Dense, Dropout, MaxPool

RNG = np.random.default_rng(0)
Y = np.arange(24) % 3
FLAT = RNG.normal(size=(24, 36))


LAYERS = (Conv(2),)


def network(layers=LAYERS, kind=CNNClassifier, **params):
    return kind(layers, max_iter=1, random_state=0, **params)


def texts(call):
    """Return the warnings of a call, which must come from the line that it is in."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    assert all(w.filename == __file__ for w in found)
    return [str(w.message) for w in found]


@pytest.mark.parametrize("estimator", [network(), ConvFeatureExtractor("sobel")], ids=["cnn", "x"])
def test_a_guessed_layout_is_told(estimator):
    (text,) = texts(lambda: clone(estimator).fit(FLAT, Y))
    assert "an image of 6 x 6 pixels. Pass image_shape=(6, 6)" in text
    (text,) = texts(lambda: clone(estimator).fit(FLAT[:, :35], Y))
    assert "a signal of 35 points. Pass image_shape=(1, 35)" in text
    for X, shape in ((FLAT, (6, 6)), (FLAT.reshape(24, 6, 6), None), (FLAT[:, :1], None)):
        assert (
            texts(lambda X=X, s=shape: clone(estimator).set_params(image_shape=s).fit(X, Y)) == []
        )


def test_a_layout_is_told_once():
    clf = network(warm_start=True)
    assert len(texts(lambda: clf.fit(FLAT, Y))) == 1
    assert texts(lambda: clf.fit(FLAT, Y)) == []
    assert texts(lambda: clf.partial_fit(FLAT, Y)) == []


@pytest.mark.parametrize(
    ("shape", "warns"),
    [
        ((3, 24, 24), True), ((1, 28, 28), True), ((3, 32, 48), True), ((4, 16, 16), True),
        ((24, 24, 3), False), ((1, 100, 16), False), ((8, 8, 8), False), ((3, 5, 4), False),
    ],
)  # fmt: skip
def test_channels_first_are_told(shape, warns):
    X = RNG.normal(size=(6, *shape))
    found = texts(lambda: network().fit(X, Y[:6]))
    assert bool(found) == warns
    assert not found or "np.moveaxis(X, 1, 3)" in found[0]
    assert texts(lambda: network(image_shape=shape).fit(X, Y[:6])) == []


def test_one_hot_labels_are_told():
    X = FLAT.reshape(24, 6, 6)
    (text,) = texts(lambda: network().fit(X, np.eye(3)[Y]))
    assert "pass y.argmax(axis=1)" in text
    many = np.c_[Y > 0, Y > 1, Y < 2].astype(int)
    assert texts(lambda: network().fit(X, many)) == []


@pytest.mark.parametrize(
    ("layers", "y", "warns"),
    [
        ((Dense(3),), Y, True), ((Dense(1),), Y > 0, True), ((Dense(2),), Y > 0, True),
        ((Dense(4),), Y, False), ((Dense(3), Dropout()), Y, False), ((), Y, False),
    ],
)  # fmt: skip
def test_a_written_output_layer_is_told(layers, y, warns):
    found = texts(lambda: network(layers).fit(FLAT.reshape(24, 6, 6), y))
    assert bool(found) == warns
    assert not found or "leave this one out" in found[0]


def test_a_written_output_layer_of_a_regressor_is_told():
    X = FLAT.reshape(24, 6, 6)
    for y in (FLAT[:, 0], FLAT[:, :2]):
        units = 1 if y.ndim == 1 else 2
        (text,) = texts(lambda y=y, n=units: network((Dense(n),), CNNRegressor).fit(X, y))
        assert f"Dense({units})" in text


def test_a_network_that_has_learned_nothing_is_told():
    X = FLAT.reshape(24, 6, 6)
    layers = (Dense(4, activation="identity"), BatchNorm(), Dense(4, activation="relu"))
    clf = CNNClassifier(layers, solver="sgd", learning_rate_init=1e-9, random_state=0, tol=1)
    clf.partial_fit(X, Y, classes=[0, 1, 2])
    clf.coefs_[-1][...] = 0
    clf.set_params(warm_start=True)
    with pytest.warns(ConvergenceWarning, match="has learned nothing"):
        clf.fit(X, Y)
    clf = CNNClassifier(layers, random_state=0, max_iter=60, tol=1e-3, learning_rate_init=0.01)
    assert not any("nothing" in text for text in texts(lambda: clf.fit(X, Y)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_scores_that_are_no_numbers_are_told():
    X = FLAT.reshape(24, 6, 6)
    reg = network(kind=CNNRegressor, early_stopping=True)
    with pytest.warns(UserWarning, match="not a number in 1 of 1 epochs"):
        reg.fit(X, FLAT[:, 0], X_val=X[:1], y_val=FLAT[:1, 0])
    with pytest.raises(ValueError, match="validation_fraction must hold out at least two samples"):
        network(kind=CNNRegressor, early_stopping=True).fit(X[:10], FLAT[:10, 0])


def test_too_few_samples_to_hold_out():
    X, y = FLAT.reshape(24, 6, 6), np.arange(24) % 8
    for fraction in (0.1, 0.9):
        clf = network(early_stopping=True, validation_fraction=fraction)
        with pytest.raises(ValueError, match=r"validation_fraction must hold out .* 8 classes"):
            clf.fit(X, y)


def test_integers_too_large_for_float32_are_told():
    X = RNG.integers(0, 9, size=(24, 6, 6)) + 10**9
    assert "standardize=True" in texts(lambda: network(standardize=False).fit(X, Y))[0]
    assert "normalize='mean'" in texts(lambda: ConvFeatureExtractor("sobel").fit(X))[0]
    assert texts(lambda: network().fit(X, Y)) == []
    assert texts(lambda: network(standardize=False).fit(X.astype(float), Y)) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("softmax", "never written"),
        ("sigmoid", "'logistic'"),
        ("swish", "'silu'"),
        ("linear", "id"),
    ],
)
@pytest.mark.parametrize(
    "make", [lambda a: Conv(2, activation=a), lambda a: Dense(2, activation=a)]
)
def test_activations_of_other_frameworks(name, hint, make):
    X = FLAT.reshape(24, 6, 6)
    estimators = [network((make(name),)), network((Activation(name),))]
    for estimator in (*estimators, ConvFeatureExtractor(activation=name)):
        with pytest.raises(ValueError, match=f"Got {name!r} instead. {name!r}: .*{hint}"):
            estimator.fit(X, Y)


@pytest.mark.parametrize("weight", [np.nan, np.inf, [np.nan] * 24, np.full(24, 1e39)])
def test_weights_that_are_not_finite_are_named(weight):
    with pytest.raises(ValueError, match="sample_weight"):
        network().fit(FLAT.reshape(24, 6, 6).astype(np.float32), Y, sample_weight=weight)


def test_layers_of_other_frameworks():
    with pytest.raises(ImportError, match="has no Flatten"):
        from skcnn.layers import Flatten  # noqa: F401
    with pytest.raises(ImportError, match="has no Conv2D"):
        skcnn.layers.Conv2D  # noqa: B018
    assert not hasattr(skcnn.layers, "NoLayer")


def test_parameters_of_other_frameworks():
    X = FLAT.reshape(24, 6, 6)
    with pytest.raises(TypeError, match=r"CNNClassifier\(\) got .* 'epochs'. See max_iter"):
        CNNClassifier(epochs=3)
    with pytest.raises(TypeError, match=r"CNNClassifier.fit\(\) got .* 'epochs'. See max_iter"):
        CNNClassifier().fit(X, Y, epochs=3)
    with pytest.raises(TypeError, match=r"Conv\(\) got .* 'strides'. See stride"):
        Conv(3, strides=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        CNNClassifier(nonsense=3)
    with pytest.raises(ValueError, match="Pass validation data by name, as X_val and y_val"):
        CNNClassifier().fit(X, Y, X)
    assert "X_val" in inspect.signature(CNNClassifier.fit).parameters
    assert MaxPool(2).get_params() == {"pool_size": 2, "stride": None, "padding": "valid"}


def test_class_weights_must_be_numbers():
    with pytest.raises(ValueError, match="class_weight must have numbers"):
        network(class_weight={0: "2"}).fit(FLAT.reshape(24, 6, 6), Y)


def test_errors_of_validation_data_name_them():
    X = FLAT.reshape(24, 6, 6)
    with pytest.raises(ValueError, match="y_val must be as y is"):
        network().fit(X, Y, X_val=X, y_val=Y + 5)
    with pytest.raises(ValueError, match="X_val contains NaN"):
        network().fit(X, Y, X_val=np.full_like(X, np.nan), y_val=Y)


@pytest.mark.parametrize("where", ["own", "everywhere"])
def test_maps_make_no_tables(where):
    from sklearn import config_context

    extractor = ConvFeatureExtractor("sobel", flatten=False).fit(FLAT.reshape(24, 6, 6))
    with config_context(transform_output="pandas" if where == "everywhere" else "default"):
        if where == "own":
            extractor.set_output(transform="pandas")
        with pytest.raises(ValueError, match="flatten must be True for an output of kind 'pandas'"):
            extractor.transform(FLAT.reshape(24, 6, 6))
        extractor.set_output(transform="default")
        assert extractor.transform(FLAT.reshape(24, 6, 6)).ndim == 4


@pytest.mark.parametrize("scoring", ["roc_auc_ovr", "neg_log_loss"])
def test_held_out_samples_without_a_class(scoring):
    X = FLAT.reshape(24, 6, 6)
    with pytest.raises(ValueError, match=f"each class for scoring='{scoring}'. Got none of .2."):
        network(scoring=scoring).fit(X, Y, X_val=X[Y < 2], y_val=Y[Y < 2])
