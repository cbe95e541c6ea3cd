"""Saved and loaded: every estimator and layer by every format; what files name; versions."""

import copy
import io
import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import skcnn
from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor, VersionWarning, trusted_types
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

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 8, 8)).astype(np.float32)
LABELS = np.array(["one", "three", "two"])[np.arange(90) % 3]
MANY = np.stack([X[:, 0, 0] > 0, X[:, 1, 1] > 0], axis=1).astype(int)
NUMBERS = X[:, :4].mean(axis=(1, 2))

SMALL = (Conv(3), MaxPool(), Dense(6))
EVERY_LAYER = (
    Conv(4, (3, 2), activation="gelu"),
    BatchNorm(),
    Activation("leaky_relu"),
    MaxPool(),
    Residual((Conv(4, groups=2), BatchNorm(), Residual((Conv(4, 1),), activation="silu"))),
    AvgPool(2, stride=1),
    Dropout(0.2),
    Dense(8, activation="tanh"),
)


def network(layers=SMALL, **params):
    params = {"max_iter": 3, "batch_size": 30, "random_state": 0, "warm_start": True, **params}
    return CNNClassifier(layers, **params)


def regressor(**params):
    return CNNRegressor(SMALL, max_iter=3, random_state=0, warm_start=True, **params)


NETWORKS = {
    "every layer": (network(EVERY_LAYER), LABELS),
    "every layer, early stopping": (network(EVERY_LAYER, early_stopping=True), LABELS),
    "global max": (network((Conv(4), GlobalMaxPool())), LABELS),
    "global mean": (network((Conv(4), Dropout(), GlobalAvgPool()), solver="adamw"), LABELS),
    "no layers": (network(()), LABELS),
    "two classes": (network(), LABELS == "one"),
    "many labels": (network(solver="rmsprop", learning_rate="invscaling"), MANY),
    "augmented": (network(augment={"shift": 1, "flip": True}, n_test_augment=2), LABELS),
    "sgd": (network(solver="sgd", learning_rate="adaptive", class_weight={"one": 2}), LABELS),
    "lbfgs": (network(solver="lbfgs"), LABELS),
    "numbers": (regressor(learning_rate="cosine", early_stopping=True), NUMBERS),
    "several numbers": (regressor(loss="huber", learning_rate="onecycle"), X[:, 0, :2]),
    "absolute error": (regressor(loss="absolute_error"), NUMBERS),
    "counts": (regressor(loss="poisson"), np.arange(90) % 4),
    "RandomState": (network(random_state=np.random.RandomState(3)), LABELS),
}

FILTERS = {
    **{
        f"{name}": ConvFeatureExtractor(name) for name in ("edges", "sobel", "laplacian", "sharpen")
    },
    "gabor": ConvFeatureExtractor("gabor", n_filters=4, activation="crelu", pool_grid=2),
    "array": ConvFeatureExtractor(RNG.normal(size=(3, 2, 2)), padding=1, pooling="global_avg"),
    "random": ConvFeatureExtractor("random", n_filters=5, flatten=False),
    "patches": ConvFeatureExtractor("patches", n_filters=5, activation="soft_threshold"),
    "kmeans": ConvFeatureExtractor("kmeans", n_filters=5, activation="triangle"),
    "pca": ConvFeatureExtractor("pca", n_filters=5, activation="tanh", whiten=True),
    "network": ConvFeatureExtractor(network(EVERY_LAYER)),
    "frozen": ConvFeatureExtractor(FrozenEstimator(network().fit(X, LABELS))),
}
FILTERS = {name: each.set_params(random_state=0) for name, each in FILTERS.items()}
LAYERS = (*EVERY_LAYER, GlobalMaxPool(), GlobalAvgPool())


def by_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file, compress=1)
    file.seek(0)
    return joblib.load(file)


def by_cloudpickle(estimator):
    cloudpickle = pytest.importorskip("cloudpickle")
    return cloudpickle.loads(cloudpickle.dumps(estimator))


def by_skops(estimator):
    files = pytest.importorskip("skops.io")
    return files.loads(files.dumps(estimator), trusted=trusted_types())


def by_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


FORMATS = [by_pickle, by_joblib, by_cloudpickle, by_skops]
every_format = pytest.mark.parametrize("copied", FORMATS, ids=lambda f: f.__name__)


def fitted(name):
    """Return an estimator of one of the tables, fitted."""
    estimator, y = NETWORKS[name] if name in NETWORKS else (FILTERS[name], LABELS)
    return clone(estimator).fit(X, y)


def outputs(estimator):
    for method in ("predict_proba", "transform", "predict"):
        if hasattr(estimator, method):
            return getattr(estimator, method)(X)
    return None


@every_format
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, copied):
    original, y = fitted(name), NETWORKS[name][1]
    again = copied(original)
    assert_array_equal(outputs(again), outputs(original))
    assert again.loss_curve_ == original.loss_curve_
    # training goes on from the copy just as from the original
    for estimator in (original, again):
        estimator.fit(X, y)
        if hasattr(estimator, "partial_fit"):
            estimator.partial_fit(X, y)
    assert_array_equal(outputs(again), outputs(original))
    assert_array_equal(again._progress.weights, original._progress.weights)
    assert again.loss_curve_ == original.loss_curve_


@every_format
def test_a_network_fitted_in_part(copied):
    original = network(EVERY_LAYER).partial_fit(X[:40], LABELS[:40], classes=np.unique(LABELS))
    again = copied(original)
    for estimator in (original, again):
        estimator.partial_fit(X[40:], LABELS[40:])
    assert_array_equal(outputs(again), outputs(original))


@every_format
@pytest.mark.parametrize("name", FILTERS)
def test_extractors(name, copied):
    original = fitted(name)
    again = copied(original)
    assert_array_equal(outputs(again), outputs(original))
    assert_array_equal(again.filters_, original.filters_)
    assert list(again.get_feature_names_out()) == list(original.get_feature_names_out())
    for estimator in (original, again):
        estimator.partial_fit(X[::-1])
    assert_array_equal(outputs(again), outputs(original))


@every_format
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers(layer, copied):
    again = copied(layer)
    assert type(again) is type(layer)
    assert again is not layer
    assert repr(again) == repr(layer)
    again.validate()


@every_format
def test_estimators_that_are_not_fitted(copied):
    for estimator in (network(EVERY_LAYER), regressor(), *FILTERS.values()):
        assert repr(copied(estimator)) == repr(estimator)


@every_format
def test_in_a_pipeline(copied):
    pipe = make_pipeline(ConvFeatureExtractor("kmeans", n_filters=4), RidgeClassifier())
    flat = X.reshape(len(X), -1)
    pipe.fit(flat, LABELS)
    assert_array_equal(copied(pipe).predict(flat), pipe.predict(flat))


def test_another_process_loads_it(tmp_path):
    clf = fitted("every layer")
    joblib.dump(clf, tmp_path / "clf.joblib")
    np.save(tmp_path / "X.npy", X)
    code = (
        "import joblib, numpy, sys; clf = joblib.load(sys.argv[1]);"
        "numpy.save(sys.argv[3], clf.predict_proba(numpy.load(sys.argv[2])))"
    )
    paths = [tmp_path / name for name in ("clf.joblib", "X.npy", "out.npy")]
    subprocess.run([sys.executable, "-c", code, *paths], check=True)
    assert_array_equal(np.load(paths[2]), clf.predict_proba(X))


def test_the_types_to_trust():
    files = pytest.importorskip("skops.io")
    found = set()
    for each in [*map(fitted, NETWORKS), *map(fitted, FILTERS), *LAYERS]:
        found.update(files.get_untrusted_types(data=files.dumps(each)))
    assert trusted_types() == sorted(found)


def test_types_that_are_not_trusted_are_not_made():
    files = pytest.importorskip("skops.io")
    with pytest.raises(TypeError, match=r"skcnn\.classifier\.CNNClassifier"):
        files.loads(files.dumps(network()), trusted=[])


def saved_by(version, estimator, monkeypatch, dumps=pickle.dumps):
    with monkeypatch.context() as patch:
        patch.setattr("skcnn.versions.__version__", version)
        return dumps(estimator)


@pytest.mark.parametrize("name", ["no layers", "numbers", "edges"])
def test_a_file_of_another_version_warns(name, monkeypatch):
    original = fitted(name)
    kind = type(original).__name__
    data = saved_by("0.0.7", original, monkeypatch)
    with pytest.warns(VersionWarning, match=rf"{kind} .* by skcnn 0\.0\.7, .*{skcnn.__version__}"):
        again = pickle.loads(data)
    assert_array_equal(outputs(again), outputs(original))
    assert vars(again).keys() == vars(original).keys()
    with pytest.warns(VersionWarning, match="unknown version"):
        clone(original).__setstate__(dict(vars(original)))


def test_a_file_of_another_version_warns_within_others(monkeypatch):
    pipe = make_pipeline(ConvFeatureExtractor(), RidgeClassifier())
    with pytest.warns(VersionWarning, match="ConvFeatureExtractor"):
        pickle.loads(saved_by("0.0.7", pipe, monkeypatch))
    files = pytest.importorskip("skops.io")
    data = saved_by("0.0.7", network(), monkeypatch, files.dumps)
    with pytest.warns(VersionWarning, match="CNNClassifier"):
        files.loads(data, trusted=trusted_types())


def test_copies_do_not_warn():
    grid = {"alpha": [0, 1]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", VersionWarning)
        for original in (fitted("no layers"), fitted("edges")):
            for copied in (clone, copy.copy, copy.deepcopy, *FORMATS[:2]):
                assert vars(copied(original)).keys() <= vars(original).keys()
        GridSearchCV(network(), grid, cv=2, n_jobs=2).fit(X, LABELS)
