"""Parameters that change between two fits of a training that goes on."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skcnn import CNNClassifier
from skcnn.layers import Conv, Dense, Dropout

N = 90
RNG = np.random.default_rng(0)
Y = RNG.permutation(np.repeat([0, 1, 2], [50, 30, 10]))
X = RNG.normal(size=(N, 4, 5)) + Y[:, None, None]


def network(**params):
    params = {"layers": (Conv(3), Dense(4)), "random_state": 0, "max_iter": 4, **params}
    return CNNClassifier(**params)


def weights_of(clf):
    return np.concatenate([w.ravel() for w in clf.coefs_ + clf.intercepts_])


def resumed(first, second, **params):
    """Return a classifier that is fitted for two epochs, changed, and fitted for two more."""
    clf = network(warm_start=True, max_iter=2, **{**params, **first}).fit(X, Y)
    return clf.set_params(**second).fit(X, Y)


def test_changed_layers_take_effect_when_training_goes_on():
    plain, with_dropout = (Conv(3), Dense(4)), (Conv(3), Dropout(0.5), Dense(4))
    other = (Conv(3, activation="tanh"), Dense(4))
    expected = weights_of(resumed({"layers": plain}, {}))
    for layers in (with_dropout, other):
        changed = resumed({"layers": plain}, {"layers": layers})
        assert np.abs(weights_of(changed) - expected).max() > 1e-4
    back = resumed({"layers": with_dropout}, {"layers": plain})
    assert np.abs(weights_of(back) - expected).max() > 1e-4
    assert len(back.coefs_) == 3
    with pytest.raises(ValueError, match="weights of the same shapes"):
        resumed({"layers": plain}, {"layers": (Conv(4), Dense(4))})


@pytest.mark.parametrize(
    "change",
    [{"solver": "sgd"}, {"solver": "rmsprop"}, {"beta_1": 0.5}, {"learning_rate_init": 0.02}],
    ids=repr,
)
@pytest.mark.parametrize("schedule", ["constant", "adaptive"])
def test_changed_parameters_take_effect_when_training_goes_on(change, schedule):
    params = {"solver": "adam", "learning_rate": schedule}
    plain = resumed({}, {}, **params)
    changed = resumed({}, change, **params)
    assert np.abs(weights_of(changed) - weights_of(plain)).max() > 1e-6


def test_a_changed_schedule_begins_where_training_goes_on():
    """It is that of a network of its own that begins with these weights."""
    params = {"solver": "sgd", "momentum": 0, "alpha": 0, "shuffle": False}
    clf = resumed({"learning_rate_init": 1e-300}, {}, **params)
    clf.set_params(learning_rate="cosine", learning_rate_init=0.1, max_iter=3).fit(X, Y)
    fresh = network(learning_rate="cosine", learning_rate_init=0.1, max_iter=3, **params).fit(X, Y)
    assert_allclose(weights_of(clf), weights_of(fresh), rtol=1e-12)
