"""Filters of a network: trained on the way, used as they are, frozen, searched over."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.layers import Activation, AvgPool, Conv, Dense, GlobalAvgPool, MaxPool

RNG = np.random.default_rng(0)
Y = np.arange(40) % 3
X = RNG.normal(size=(40, 9, 8, 2)) * (1, 5) + 3 * Y[:, None, None, None]


def network(*layers, **params):
    layers = layers or (Conv(5), MaxPool(), Conv(4, (3, 2), activation="tanh"), Dense(6))
    params = {"max_iter": 3, "random_state": 0, "learning_rate_init": 0.01, **params}
    return CNNClassifier(layers, **params)


def maps_by_hand(clf, images, seen=None):
    """Return what the convolutional layers of a network make of images, by SciPy and loops."""
    seen = X if seen is None else seen
    maps = (images - seen.mean(axis=(0, 1, 2))) / seen.std(axis=(0, 1, 2))
    weights = zip(clf.coefs_, clf.intercepts_, strict=True)
    for layer in clf.layers:
        if isinstance(layer, Dense):
            break
        if isinstance(layer, Conv):
            maps = reference.conv(maps, *next(weights), **geometry(layer))
        elif isinstance(layer, Activation):
            maps = reference.ACTIVATE[layer.activation](maps)
        elif isinstance(layer, GlobalAvgPool):
            maps = maps.mean(axis=(1, 2))[:, None, None]
        else:
            reduce = np.max if isinstance(layer, MaxPool) else np.mean
            maps = reference.pool(maps, layer.pool_size, layer.stride, layer.padding, reduce)
    return maps


def geometry(layer):
    names = ("stride", "padding", "dilation", "groups", "activation")
    return {name: getattr(layer, name) for name in names}


@pytest.mark.parametrize(
    "layers",
    [
        (Conv(5), MaxPool(), Conv(4, (3, 2), activation="tanh"), Dense(6)),
        (Conv(4, (2, 3), stride=2, padding=1, activation="logistic"), Dense(6), Dense(5)),
        (Conv(4, dilation=2, activation="identity"), Activation("relu"), MaxPool(3, stride=2)),
        (AvgPool(2, padding="same"), Conv(4, groups=2, padding="valid"), GlobalAvgPool()),
        (Conv(20), Conv(20), MaxPool(2), Dense(3)),
    ],
    ids=str,
)
@pytest.mark.parametrize("fitted", [True, False])
def test_features_are_the_maps_before_the_first_dense_layer(layers, fitted):
    clf = network(*layers)
    extractor = ConvFeatureExtractor(clf.fit(X, Y) if fitted else clf).fit(X, Y)
    own = extractor.cnn_
    expected = maps_by_hand(own, X)
    assert extractor.output_shape_ == expected.shape[1:]
    assert_allclose(extractor.transform(X), reference.flatten(expected), rtol=1e-9, atol=1e-10)
    maps = extractor.set_params(flatten=False).transform(X.astype(np.float32))
    assert maps.dtype == np.float32
    assert_allclose(maps, expected, atol=1e-4)
    assert_array_equal(extractor.filters_, own.coefs_[0])


def test_an_unfitted_network_is_trained_on_x_and_y():
    clf = network()
    extractor = ConvFeatureExtractor(clf).fit(X, Y)
    for trained, alone in zip(extractor.cnn_.coefs_, clone(clf).fit(X, Y).coefs_, strict=True):
        assert_array_equal(trained, alone)
    assert extractor.cnn_ is not clf
    assert not hasattr(clf, "classes_")
    assert extractor.filters is clf


@pytest.mark.parametrize(
    ("image_shape", "given"), [((9, 8, 2), None), ((9, 8, 2), (9, 8, 2)), ((18, 8), (9, 8, 2))]
)
def test_an_unfitted_network_is_trained_on_images_of_the_extractors_shape(image_shape, given):
    flat = X.reshape(len(X), -1)
    clf = network(image_shape=given)
    extractor = ConvFeatureExtractor(clf, image_shape=image_shape).fit(flat, Y)
    images = flat.reshape(-1, *image_shape, *(1,) * (3 - len(image_shape)))
    expected = maps_by_hand(extractor.cnn_, images, images)
    assert_allclose(extractor.transform(flat), reference.flatten(expected), atol=1e-9)


@pytest.mark.parametrize("wrap", [lambda clf: clf, FrozenEstimator], ids=["plain", "frozen"])
def test_a_fitted_network_is_used_as_it_is(wrap):
    clf = network().fit(X, Y)
    before = [coef.copy() for coef in clf.coefs_]
    extractor = ConvFeatureExtractor(wrap(clf)).fit(3 * X + 1, Y[::-1])
    assert extractor.cnn_ is clf
    for coef, kept in zip(clf.coefs_, before, strict=True):
        assert_array_equal(coef, kept)
    expected = reference.flatten(maps_by_hand(clf, 3 * X + 1))
    assert_allclose(extractor.transform(3 * X + 1), expected, atol=1e-9)
    clf.partial_fit(X, Y)  # training that goes on is not the extractor's
    assert_allclose(extractor.transform(3 * X + 1), expected, atol=1e-9)
    assert_allclose(extractor.partial_fit(X).transform(3 * X + 1), expected, atol=1e-9)


@pytest.mark.parametrize("change", [{"activation": "tanh"}, {"padding": "valid"}, {"filters": 9}])
def test_parameters_set_after_the_fit_do_not_count(change):
    clf = network().fit(X, Y)
    expected = reference.flatten(maps_by_hand(clf, X))
    clf.set_params(**{f"layers__0__{name}": value for name, value in change.items()})
    assert_allclose(ConvFeatureExtractor(clf).fit_transform(X), expected, atol=1e-9)


def test_clone_forgets_unless_frozen():
    clf = network().fit(X, Y)
    with pytest.raises(ValueError, match="y must be passed to train"):
        clone(ConvFeatureExtractor(clf)).fit(X)
    frozen = clone(ConvFeatureExtractor(FrozenEstimator(clf))).fit(X)
    assert_allclose(frozen.transform(X), reference.flatten(maps_by_hand(clf, X)), atol=1e-9)


def test_names():
    extractor = ConvFeatureExtractor(network(Conv(2), Conv(3), GlobalAvgPool())).fit(X, Y)
    assert extractor.get_feature_names_out().tolist() == ["cnn0_r0_c0", "cnn1_r0_c0", "cnn2_r0_c0"]
    assert extractor.filter_names_ == ["cnn0", "cnn1"]
    assert ConvFeatureExtractor().fit(X).cnn_ is None


def fitted():
    return network().fit(X, Y)


@pytest.mark.parametrize(
    ("filters", "call", "error", "message"),
    [
        (network(), lambda e: e.fit(X), ValueError, "y must be passed to train .*Got None"),
        (network(), lambda e: e.fit_transform(X), ValueError, "y must be passed to train"),
        (network(), lambda e: e.fit(X, Y[:-1]), ValueError, "inconsistent numbers of samples"),
        (network(), lambda e: e.partial_fit(X, Y), ValueError, "must be a fitted network for part"),
        (fitted(), lambda e: e.fit(X[:, :8]), ValueError, r"of X, \(8, 8, 2\). Got \(9, 8, 2\)"),
        (FrozenEstimator(fitted()), lambda e: e.fit(X[..., :1]), ValueError, r"Got \(9, 8, 2\)"),
        (network(Dense(3)), lambda e: e.fit(X, Y), ValueError, "a convolution before its first De"),
        (network(Dense(2), Conv(3)), lambda e: e.fit(X, Y), ValueError, "a convolution before"),
        (network(MaxPool()), lambda e: e.fit(X, Y), ValueError, "a convolution before"),
        (FrozenEstimator(LogisticRegression()), lambda e: e.fit(X, Y), TypeError, "CNNClassifier"),
        (LogisticRegression(), lambda e: e.fit(X, Y), ValueError, "'filters' parameter"),
        (network(Conv(2), Conv(0)), lambda e: e.fit(X, Y), ValueError, "'filters'.*Got 0"),
        (network(solver="newton"), lambda e: e.fit(X, Y), ValueError, "'solver' parameter of CNN"),
        (network(max_iter=0), lambda e: e.fit(X, Y), ValueError, "'max_iter' parameter of CNN"),
        (network(alpha=-1), lambda e: e.fit(X, Y), ValueError, "'alpha' parameter of CNN"),
    ],
)
def test_errors(filters, call, error, message):
    extractor = ConvFeatureExtractor(filters)
    with pytest.raises(error, match=message):
        call(extractor)
    assert not hasattr(extractor, "n_features_in_")
    assert not hasattr(extractor, "_learned")


def test_a_search_over_the_networks_parameters():
    digits, labels = (part[:400] for part in load_digits(return_X_y=True))
    clf = network(Conv(8), MaxPool(), Dense(16), batch_size=32)
    steps = ConvFeatureExtractor(clf), StandardScaler(), LogisticRegression(max_iter=200)
    grid = {
        "convfeatureextractor__filters__max_iter": [1, 4],
        "convfeatureextractor__filters__layers__0__filters": [2, 8],
    }
    search = GridSearchCV(make_pipeline(*steps), grid, cv=2, error_score="raise")
    search.fit(digits[:300], labels[:300])
    best = search.best_estimator_[0]
    chosen = search.best_params_
    assert best.cnn_.n_iter_ == chosen["convfeatureextractor__filters__max_iter"]
    assert len(best.filters_) == chosen["convfeatureextractor__filters__layers__0__filters"]
    assert search.score(digits[300:], labels[300:]) > 0.85
    assert not hasattr(clf, "classes_")
