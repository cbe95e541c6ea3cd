"""Results and settings that must not depend on the calling thread, on user's objects or on extremes."""

import asyncio
import gc
import multiprocessing
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from threadpoolctl import threadpool_info, threadpool_limits

from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.inspection import FeatureMapDisplay, SaliencyDisplay
from skcnn.layers import BatchNorm, Conv, Dense, Dropout, Layer, MaxPool, Residual

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 8, 8)), np.arange(60) % 3
# a dense layer so wide that BLAS would share its products among threads
WIDE = (Conv(16), MaxPool(), Dense(256))


LAYERS = (Conv(4), MaxPool())


def network(layers=LAYERS, **params):
    return CNNClassifier(layers, max_iter=2, random_state=0).set_params(**params)


def blas_threads():
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


def fit_wide(_=None):
    images = np.random.default_rng(0).normal(size=(200, 16, 16)).astype(np.float32)
    clf = network(WIDE).fit(images, np.arange(200) % 3)
    return clf.coefs_[2].copy(), clf.predict_proba(images)


def check_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other)


def test_the_calling_thread_does_not_change_the_bits():
    """BLAS must be held to one thread from whichever thread of the program."""
    with threadpool_limits(2, user_api="blas"):
        before, expected = blas_threads(), fit_wide()
        with ThreadPoolExecutor(8) as pool:
            for found in pool.map(fit_wide, range(8)):
                check_same(found, expected)
        check_same(asyncio.run(asyncio.to_thread(fit_wide)), expected)
        assert blas_threads() == before
    for backend in ("loky", "threading"):
        for found in joblib.Parallel(2, backend=backend)(joblib.delayed(fit_wide)() for _ in "ab"):
            check_same(found, expected)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        check_same(pool.apply(fit_wide), expected)


def test_blas_is_restored_if_the_first_thread_ends_first():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(fit_wide).result()
        assert blas_threads() == before
        fit_wide()
        assert blas_threads() == before


def test_changes_to_the_users_layers_do_not_reach_a_fitted_network():
    inner = Conv(4, activation="identity")
    layers = [Conv(4), Residual([inner]), MaxPool()]
    clf = network(layers).fit(X, Y)
    expected = clf.predict_proba(X)
    layers[0].set_params(activation="tanh")
    inner.set_params(activation="gelu", kernel_size=5)
    layers[2].pool_size = 7
    assert_array_equal(clf.predict_proba(X), expected)


EXTREMES = {
    "step": (X, {"solver": "sgd", "learning_rate_init": 1e200, "max_iter": 1}),
    "variance": (
        X.astype(np.float32) * 1e19,
        {"layers": (Conv(4), BatchNorm()), "standardize": False, "max_iter": 1},
    ),
}


@pytest.mark.parametrize(("images", "params"), EXTREMES.values(), ids=EXTREMES.keys())
@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_a_network_that_would_predict_nan_is_an_error(images, params, in_pieces):
    clf = network(**params)
    with pytest.raises(ValueError, match="non-finite"):
        clf.partial_fit(images, Y, classes=[0, 1, 2]) if in_pieces else clf.fit(images, Y)
    assert not hasattr(clf, "classes_")


@pytest.mark.parametrize("filters", ["kmeans", "pca", "patches"])
def test_images_too_small_for_their_float_type_are_an_error(filters):
    extractor = ConvFeatureExtractor(filters, n_filters=5)
    with pytest.raises(ValueError, match="scale the images"):
        extractor.fit(X.astype(np.float32) * np.float32(1e-40))
    assert not hasattr(extractor, "filters_")


def test_values_too_large_for_the_networks_float_type_are_an_error():
    clf = network().fit(X.astype(np.float32), Y)
    with pytest.raises(ValueError, match="too large for dtype"):
        clf.predict(X * 1e39)


def test_small_numpy_integers_do_not_overflow():
    small = (
        Conv(np.uint8(200), np.uint8(3), stride=(np.uint8(2), np.int8(1))),
        MaxPool(np.uint8(3), stride=np.uint8(2)),
        Dense(np.uint8(200)),
    )
    plain = (Conv(200, 3, stride=(2, 1)), MaxPool(3, stride=2), Dense(200))
    assert_array_equal(
        network(small, max_iter=1).fit(X, Y).predict_proba(X),
        network(plain, max_iter=1).fit(X, Y).predict_proba(X),
    )


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (network((Conv(True),)), "filters"),
        (network((Conv(2, (3, True)),)), "kernel_size"),
        (network((Dense(True),)), "units"),
        (network((Residual((Conv(True),)),)), "filters"),
        (network(max_iter=True), "max_iter"),
        (network(alpha=False), "alpha"),
        (network(n_jobs=True), "n_jobs"),
        (ConvFeatureExtractor(n_filters=True), "n_filters"),
        (ConvFeatureExtractor(stride=(True, 1)), "stride"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_booleans_are_no_numbers(estimator, name):
    with pytest.raises(
        ValueError, match=f"{name} must be .* Got .*True|{name} must be .* Got False"
    ):
        estimator.fit(X, Y)


@pytest.mark.parametrize("estimator", [ConvFeatureExtractor(n_jobs=0), network(n_jobs=0)])
def test_no_workers_are_refused_by_fit(estimator):
    with pytest.raises(ValueError, match=r"n_jobs must be .* Got 0"):
        estimator.fit(X, Y)


class Noise(Layer):
    """A layer of a user's that is random, or returns less than it promises."""

    def __init__(self, cut=None):
        self.cut = cut

    def forward(self, x, weights, work):
        y = x + work.shard.random.normal(size=x.shape) if work.learning else x
        return y[:-1] if self.cut == "rows" else y[:, :-1] if self.cut == "channels" else y

    def backward(self, dy, weights, grads, work):
        return dy[..., :-1] if self.cut == "gradient" else dy


def test_a_users_random_layer_draws_the_same_for_any_n_jobs(workers):
    clf = network((Conv(2), Noise(), Dense(3)), batch_size=32)
    expected = clf.fit(X, Y).coefs_[0].copy()
    assert_array_equal(clf.set_params(n_jobs=2).fit(X, Y).coefs_[0], expected)


@pytest.mark.parametrize(
    ("cut", "method"), [("rows", "forward"), ("channels", "forward"), ("gradient", "backward")]
)
def test_a_users_layer_that_breaks_its_promise_is_named(cut, method):
    with pytest.raises(ValueError, match=rf"layers\[1\] Noise: {method} must return .* Got \("):
        network((Conv(3), Noise(cut), Dense(3))).fit(X, Y)


def test_a_stride_beyond_the_image_takes_no_memory():
    tracemalloc.start()
    try:
        network((Conv(2, stride=10**6),)).fit(X, Y)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_predictions_leave_no_cyclic_garbage():
    clf = network().fit(X, Y)
    clf.predict(X[:1])
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            clf.predict(X[:1])
        assert gc.collect() < 10
    finally:
        gc.enable()


def test_a_scorer_really_predicts_and_sees_a_fitted_estimator():
    seen = []

    def scoring(estimator, images, y):
        backwards = estimator.predict_proba(images[::-1])[::-1]
        assert_allclose(backwards, estimator.predict_proba(images), rtol=1e-9)
        assert len(np.unique(estimator.predict_proba(images[:5] * 0).round(6), axis=0)) == 1
        seen.append((estimator, len(estimator.coefs_), estimator.n_outputs_))
        return estimator.score(images, y)

    clf = network(early_stopping=True, scoring=scoring).fit(X, Y)
    assert [found[1:] for found in seen] == [(2, 3)] * clf.n_iter_
    assert not any("_known_outputs" in vars(estimator) for estimator, *_ in seen)


def test_displays_name_a_bad_index_and_a_bad_number_of_titles():
    plt = pytest.importorskip("matplotlib.pyplot")
    clf = network().fit(X, Y)
    for image in (99, -61, 1.0, True):
        with pytest.raises(ValueError, match="image must be an index of 60 images"):
            FeatureMapDisplay.from_estimator(clf, X, image=image)
    with pytest.raises(ValueError, match="titles must hold one title for each of 2 images"):
        SaliencyDisplay.from_estimator(clf, X[:2], titles=())
    plt.close("all")


@pytest.mark.parametrize("weight", ["abc", [[1.0] * 60], object(), 0, [1.0] * 59])
@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_messages_name_sample_weight(kind, weight):
    with pytest.raises((TypeError, ValueError), match="sample_weight"):
        kind((Conv(2),), max_iter=1).fit(X, Y, sample_weight=weight)


@pytest.mark.parametrize("init", [[["a"]], [[object()]], np.full((2, 3, 3, 1), np.nan), np.ones(3)])
def test_messages_name_init(init):
    with pytest.raises(ValueError, match="init"):
        network((Conv(2, init=init),)).fit(X, Y)


def test_indicators_are_zeros_and_ones():
    """scikit-learn calls any two integers indicators; the loss would have no minimum with others."""
    for low, high in ((-1, 1), (0, 2), (1, 2)):
        y = np.where(np.c_[Y > 0, Y > 1], high, low)
        with pytest.raises(ValueError, match="y must hold 0 and 1"):
            network().fit(X, y)


def test_partial_fit_after_early_stopping_changes_predictions():
    clf = network(early_stopping=True).fit(X, Y)
    before = clf.predict_proba(X)
    clf.partial_fit(X, Y)
    assert np.abs(clf.predict_proba(X) - before).max() > 1e-4
    assert_array_equal(clf._model.weights, clf._progress.weights)


def test_logarithms_of_averaged_probabilities_are_finite():
    clf = network(augment={"flip": True}, n_test_augment=2).fit(X, Y)
    assert_allclose(np.exp(clf.predict_log_proba(X)), clf.predict_proba(X), rtol=1e-9)
    clf.coefs_[-1][...] *= 1e5
    for augment in ({"flip": True}, None):
        assert np.isfinite(clf.set_params(augment=augment).predict_log_proba(X)).all()


def test_dropout_deep_inside_is_refused_by_lbfgs():
    nested = Residual((Residual((Conv(1), Dropout())),))
    with pytest.raises(ValueError, match="Dropout"):
        network((nested,), solver="lbfgs").fit(X, Y)
