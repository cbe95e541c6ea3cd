"""Inside scikit-learn: searches, ensembles, pipelines, copies on disk."""

import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import estimator_html_repr

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.layers import AvgPool, Conv, Dense, MaxPool

X, Y = (part[:600] for part in load_digits(return_X_y=True))
KEEP = Y < 3
X, Y = X[KEEP], Y[KEEP]
IMAGES, NAMES = X.reshape(-1, 8, 8), np.array(["zero", "one", "two"])[Y]


def network(**params):
    params = {
        "layers": (Conv(4), MaxPool(), Dense(8)), "max_iter": 25, "learning_rate_init": 0.01,
        "batch_size": 32, "random_state": 0, **params,
    }  # fmt: skip
    return CNNClassifier(**params)


@pytest.mark.parametrize("data", [X, IMAGES, X.astype(np.uint8)], ids=["2-D", "3-D", "uint8"])
def test_cross_validation(data):
    labels = cross_val_predict(network(), data, NAMES, cv=3)
    assert (labels == NAMES).mean() > 0.9
    proba = cross_val_predict(network(), data, NAMES, cv=3, method="predict_proba")
    assert proba.shape == (len(Y), 3)
    assert cross_val_score(network(), data, NAMES, cv=3, n_jobs=2).mean() > 0.9


def test_grid_search_of_images():
    grid = {"layers__0__filters": [2, 4], "layers__1": [MaxPool(2), AvgPool(2)]}
    search = GridSearchCV(network(), grid, cv=2, error_score="raise").fit(IMAGES, NAMES)
    assert search.best_score_ > 0.8
    assert search.score(IMAGES, NAMES) > 0.9


def test_randomized_search_in_threads():
    grid = {"layers__2__units": [4, 8, 16], "alpha": [1e-4, 1e-2], "solver": ["adam", "sgd"]}
    search = RandomizedSearchCV(
        network(), grid, n_iter=4, cv=2, random_state=0, error_score="raise", n_jobs=2
    )
    with joblib.parallel_config("threading"):
        search.fit(X, NAMES)
    assert search.best_score_ > 0.8


@pytest.mark.parametrize(
    "meta",
    [
        CalibratedClassifierCV(network(), cv=2),
        VotingClassifier([("a", network()), ("b", LogisticRegression())], voting="soft"),
        VotingClassifier([("a", network()), ("b", network(random_state=1))]),
        StackingClassifier([("a", network())], LogisticRegression(), cv=2),
        OneVsRestClassifier(network()),
        BaggingClassifier(network(), n_estimators=2, random_state=0),
        make_pipeline(MinMaxScaler(), network()),
        make_pipeline(ConvFeatureExtractor("sobel"), StandardScaler(), LogisticRegression()),
        make_pipeline(
            FeatureUnion([("a", ConvFeatureExtractor()), ("b", ConvFeatureExtractor("gabor"))]),
            RidgeClassifier(),
        ),
        make_pipeline(
            ConvFeatureExtractor(flatten=False), ConvFeatureExtractor("sobel"), RidgeClassifier()
        ),
        make_pipeline(ConvFeatureExtractor(flatten=False), network()),
    ],
    ids=lambda meta: type(meta).__name__,
)
def test_meta_estimators(meta):
    meta.fit(X[::2], NAMES[::2])
    assert meta.score(X[1::2], NAMES[1::2]) > 0.9


@pytest.mark.parametrize(
    "meta",
    [
        CalibratedClassifierCV(network(), cv=2),
        VotingClassifier([("a", network()), ("b", network(random_state=1))], voting="soft"),
        OneVsRestClassifier(network()),
    ],
    ids=lambda meta: type(meta).__name__,
)
def test_meta_estimators_that_let_images_through(meta):
    try:
        meta.fit(IMAGES[::2], NAMES[::2])
    except ValueError as error:
        pytest.skip(f"{type(meta).__name__} wants 2-D: {error}")
    assert meta.score(IMAGES[1::2], NAMES[1::2]) > 0.9


def test_sample_weight_reaches_through():
    weights = np.where(Y == 0, 1.0, 3.0)
    bagged = BaggingClassifier(network(max_iter=3), n_estimators=2, random_state=0)
    bagged.fit(X, NAMES, sample_weight=weights)
    pipe = make_pipeline(MinMaxScaler(), network(max_iter=3))
    pipe.fit(X, NAMES, cnnclassifier__sample_weight=weights)
    assert len(pipe.predict(X)) == len(bagged.predict(X)) == len(X)


def dumped(estimator, path):
    joblib.dump(estimator, path / "estimator.joblib")
    return joblib.load(path / "estimator.joblib")


@pytest.mark.parametrize("how", ["pickle", "joblib", "joblib, memory-mapped"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_round_trips(how, solver, tmp_path):
    clf = network(solver=solver, warm_start=True, max_iter=3).fit(X, NAMES)
    extractor = ConvFeatureExtractor("sobel").fit(X)
    if how == "pickle":
        copies = [pickle.loads(pickle.dumps(e)) for e in (clf, extractor)]
    elif how == "joblib":
        copies = [dumped(e, tmp_path) for e in (clf, extractor)]
    else:
        copies = []
        for k, e in enumerate((clf, extractor)):
            joblib.dump(e, tmp_path / f"{k}.joblib")
            copies.append(joblib.load(tmp_path / f"{k}.joblib", mmap_mode="r"))
    np.testing.assert_array_equal(copies[0].predict_proba(X), clf.predict_proba(X))
    np.testing.assert_array_equal(copies[1].transform(X), extractor.transform(X))
    assert copies[0].loss_curve_ == clf.loss_curve_
    # training goes on from the copy just as from the original
    expected = clf.fit(X, NAMES).predict_proba(X)
    np.testing.assert_array_equal(copies[0].fit(X, NAMES).predict_proba(X), expected)


def test_a_copy_is_apart_from_its_original():
    clf = network(max_iter=2).fit(X, NAMES)
    before = clf.predict_proba(X)
    pickle.loads(pickle.dumps(clf)).partial_fit(X, NAMES)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize("estimator", [network(), ConvFeatureExtractor([[[1.0, -1.0]]])])
def test_clone_and_repr(estimator):
    copy = clone(estimator.fit(X, NAMES))
    assert type(copy) is type(estimator)
    assert not hasattr(copy, "n_features_in_")
    assert repr(copy) == repr(estimator)
    html = estimator_html_repr(estimator)
    assert type(estimator).__name__ in html
    assert len(html) > 500
    assert "Conv" in estimator_html_repr(make_pipeline(StandardScaler(), estimator))
