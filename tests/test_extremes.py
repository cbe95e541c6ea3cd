"""Extreme numbers: finite results or an error that names the remedy, and no RuntimeWarning."""

import warnings

import numpy as np
import pytest

from skcnn import CNNClassifier, CNNRegressor
from skcnn.layers import Activation, BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, MaxPool

RNG = np.random.default_rng(0)
N = 40
Y = np.arange(N) % 3
BASE = RNG.normal(size=(N, 6, 6))
SCALES = {"1e30": 1e30, "1e-30": 1e-30, "denormal": 1e-42, "1e150": 1e150, "1e-300": 1e-300,
          "1e300": 1e300}  # fmt: skip
IMAGES = {name: BASE * scale for name, scale in SCALES.items()} | {
    "constant": np.ones((N, 6, 6)),
    "zeros": np.zeros((N, 6, 6)),
    "one pixel": BASE[:, :1, :1],
    "far from zero": BASE + 1e8,
    "outliers": np.where(RNG.random(BASE.shape) < 0.02, 1e30, BASE),
    "one outlier": np.where(np.arange(N)[:, None, None] == 3, 1e20, BASE),
}
LAYERS = [
    (Conv(4), MaxPool(), Dense(8)),
    (Conv(4, activation="identity"), BatchNorm(), Activation("elu"), Dropout()),
    (Conv(4, activation="silu"), Conv(4, activation="gelu"), GlobalAvgPool()),
    (),
]
SETTINGS = [
    {},
    {"learning_rate_init": 1e3},
    {"solver": "sgd", "learning_rate_init": 10.0},
    {"standardize": False},
    {"standardize": False, "solver": "sgd", "learning_rate_init": 1.0},
    {"early_stopping": True},
]


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("params", SETTINGS, ids=str)
def test_results_are_finite_or_an_error_says_what_to_do(name, dtype, params):
    with np.errstate(all="ignore"):
        X = IMAGES[name].astype(dtype)
    if not np.isfinite(X).all():
        pytest.skip("no numbers of this float type")
    for layers in LAYERS:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            warnings.simplefilter("ignore", UserWarning)
            try:
                clf = CNNClassifier(layers, max_iter=3, random_state=0, **params).fit(X, Y)
                reg = CNNRegressor(layers, max_iter=3, random_state=0, **params).fit(
                    X, BASE[:, 0, 0]
                )
            except ValueError as error:
                assert "Lower learning_rate_init" in str(error)  # noqa: PT017
                continue
            probabilities = clf.predict_proba(X)
            np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
            assert np.isfinite(clf.predict_log_proba(X)).all()
            assert np.isfinite(reg.predict(X)).all()


def test_large_numbers_are_standardised_like_small_ones():
    small = CNNClassifier(LAYERS[0], max_iter=3, random_state=0).fit(BASE, Y)
    large = CNNClassifier(LAYERS[0], max_iter=3, random_state=0).fit(BASE * 2.0**900, Y)
    np.testing.assert_allclose(large.predict_proba(BASE * 2.0**900), small.predict_proba(BASE))


def test_a_thousand_classes():
    y = np.arange(2000) % 1000
    clf = CNNClassifier((Conv(2),), max_iter=2, random_state=0)
    probabilities = clf.fit(RNG.normal(size=(2000, 4, 4)), y).predict_proba(BASE[:, :4, :4])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_classes_of_one_in_ten_thousand():
    y = np.zeros(10_000, int)
    y[-1] = 1
    X = RNG.normal(size=(10_000, 3, 3)).astype(np.float32)
    for weight in (None, "balanced"):
        clf = CNNClassifier((Conv(2),), max_iter=2, class_weight=weight, random_state=0).fit(X, y)
        assert np.isfinite(clf.predict_log_proba(X)).all()


def test_one_sample_or_two():
    clf = CNNClassifier((Conv(2), BatchNorm()), max_iter=2).fit(BASE[:2], [0, 1])
    assert np.isfinite(clf.predict_proba(BASE)).all()
    reg = CNNRegressor((Conv(2), BatchNorm()), max_iter=2).fit(BASE[:1], [3.0])
    assert np.isfinite(reg.predict(BASE)).all()


def test_outputs_that_overflow_are_an_error():
    clf = CNNClassifier((Dense(2, activation="identity"),), max_iter=2, standardize=False)
    clf.fit(BASE, Y)
    clf.coefs_[0][...] = 1e200
    with pytest.raises(ValueError, match="about the same scale as those in fit"):
        clf.predict_proba(BASE * 1e200)
