"""Layers addressed from the estimator: ``layers__0__filters``, ``layers__1``."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skcnn import CNNClassifier
from skcnn.layers import AvgPool, Conv, Dense, GlobalMaxPool, MaxPool

LAYERS = (Conv(16), MaxPool(), Conv(32), MaxPool(3), Dense(64))


@pytest.mark.parametrize(
    ("name", "value"),
    {
        "layers__0__filters": 16,
        "layers__0__kernel_size": 3,
        "layers__0__padding": "same",
        "layers__2__filters": 32,
        "layers__3__pool_size": 3,
        "layers__3__stride": None,
        "layers__4__units": 64,
        "layers__4__activation": "relu",
    }.items(),
)
def test_get_params_reaches_into_the_layers(name, value):
    assert CNNClassifier(LAYERS).get_params()[name] == value
    assert name not in CNNClassifier(LAYERS).get_params(deep=False)


def test_get_params_gives_the_layers_themselves():
    layers = (Conv(3), GlobalMaxPool())
    params = CNNClassifier(layers).get_params()
    assert params["layers"] is layers
    assert params["layers__0"] is layers[0]
    assert params["layers__1"] is layers[1]


def test_set_params_never_touches_shared_objects():
    layers = [Conv(3), MaxPool(), Dense(4)]
    conv, whole = layers[0], list(layers)
    clf = CNNClassifier(layers).set_params(layers__0__filters=8, layers__1=AvgPool(3))
    assert conv.filters == 3
    assert layers == whole
    assert clf.layers[0].filters == 8
    assert isinstance(clf.layers[1], AvgPool)
    assert clf.layers[2] is layers[2]
    assert type(clf.layers) is list


def test_defaults_of_other_instances_stay():
    before = CNNClassifier()
    params = before.get_params()
    changed = CNNClassifier().set_params(layers__0__filters=5, layers__1=AvgPool(7))
    assert changed.get_params()["layers__1__pool_size"] == 7
    for clf in (before, CNNClassifier()):
        assert clf.get_params() == params
        assert clf.layers[0].filters != 5


def test_a_clone_has_layers_of_its_own():
    clf = CNNClassifier((Conv(3), Dense(4)))
    copy = clone(clf)
    assert copy.layers[0] is not clf.layers[0]
    copy.set_params(layers__0__filters=7)
    assert (clf.layers[0].filters, copy.layers[0].filters) == (3, 7)


def test_whole_sequences_layers_and_their_parameters_in_one_call():
    clf = CNNClassifier(LAYERS).set_params(
        layers__1__units=9, layers__1=Dense(2), layers__0__filters=4, layers=(Conv(1), Conv(1))
    )
    assert type(clf.layers) is tuple
    assert [type(layer) for layer in clf.layers] == [Conv, Dense]
    assert (clf.layers[0].filters, clf.layers[1].units) == (4, 9)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"layers__9__x": 1}, r"'layers__9__x'.*layers__0 to layers__4"),
        ({"layers__5": Dense(2)}, r"'layers__5'.*layers__0 to layers__4"),
        ({"layers__first": 1}, r"'layers__first'.*layers__0 to layers__4"),
        ({"layers__-1__filters": 1}, r"'layers__-1__filters'.*layers__0 to layers__4"),
        ({"layers": (), "layers__0": Dense(2)}, r"'layers__0'.*layers is empty"),
        ({"layers": (Dense(2),), "layers__1": Dense(2)}, r"'layers__1'.*layers__0 to layers__0"),
        ({"layers__0__units": 1}, r"Invalid parameter 'units' for estimator Conv"),
        (
            {"layer__0__filters": 1},
            r"Invalid parameter 'layer(__0__filters)?' for estimator CNNClassifier",
        ),
        ({"alfa": 1, "layers__0__filters": 1}, r"Invalid parameter 'alfa'"),
    ],
)
def test_a_bad_name_sets_nothing(params, message):
    clf = CNNClassifier(LAYERS)
    before = clf.get_params()
    with pytest.raises(ValueError, match=message):
        clf.set_params(alpha=0.5, **params)
    assert clf.get_params() == before


def data():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    return rng.normal(size=(60, 4, 4)) + y[:, None, None], y


def test_grid_search():
    X, y = data()
    clf = CNNClassifier((Conv(2), MaxPool(), Dense(3)), max_iter=2, random_state=0)
    grid = {
        "layers__0__filters": [2, 5],
        "layers__1": [MaxPool(2), AvgPool(2)],
        "alpha": [0, 1e-4],
    }
    search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 8
    chosen = search.best_params_
    assert len(search.best_estimator_.coefs_[0]) == chosen["layers__0__filters"]
    assert type(search.best_estimator_.layers[1]) is type(chosen["layers__1"])
    assert clf.layers[0].filters == 2
    assert [layer.pool_size for layer in grid["layers__1"]] == [2, 2]
    pipe = make_pipeline(MinMaxScaler(), clf)
    grid = {"cnnclassifier__layers__0__filters": [2, 4], "cnnclassifier__layers__2": [Dense(5)]}
    flat = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(X.reshape(60, 16), y)
    assert flat.best_estimator_[-1].coefs_[1].shape[1] == 5


def test_values_that_make_no_sense_are_kept_until_fit():
    X, y = data()
    clf = CNNClassifier((Conv(2),)).set_params(layers__0__filters=-1)
    assert clf.get_params()["layers__0__filters"] == -1
    with pytest.raises(ValueError, match=r"layers\[0\] Conv: .*'filters'.*Got -1"):
        clf.fit(X, y)
    clf.set_params(layers=None)
    assert clf.get_params()["layers"] is None
    with pytest.raises(ValueError, match="'layers' parameter of CNNClassifier must be"):
        clf.fit(X, y)
