"""Worker processes and threads: the same bits for any number of them, and BLAS as it was before."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import joblib
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.layers import AvgPool, Conv, Dense, GlobalMaxPool, Layer, MaxPool

STACKS = {
    "small": (Conv(4), MaxPool(), Dense(8)),
    "wide": (Conv(8, 3), Conv(8, 5, stride=2), AvgPool(), Dense(16)),
    "groups": (Conv(4, 3, padding="valid"), Conv(4, groups=4, dilation=2), GlobalMaxPool()),
}


pytestmark = pytest.mark.usefixtures("workers")


def data(n=150, dtype=np.float32):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, 12, 11, 2)) + y[:, None, None, None]).astype(dtype), y


@pytest.mark.parametrize("layers", STACKS.values(), ids=STACKS.keys())
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_any_n_jobs(layers, solver, dtype):
    X, y = data(dtype=dtype)
    fits = [
        CNNClassifier(
            layers, solver=solver, batch_size=130, max_iter=2, random_state=0, n_jobs=n_jobs
        ).fit(X, y)
        for n_jobs in (1, 2, 4)
    ]
    first = fits[0]
    for other in fits[1:]:
        for a, b in zip(
            first.coefs_ + first.intercepts_, other.coefs_ + other.intercepts_, strict=True
        ):
            np.testing.assert_array_equal(a, b)
        assert first.loss_curve_ == other.loss_curve_
        np.testing.assert_array_equal(first.predict_proba(X), other.predict_proba(X))


def test_what_an_optimizer_knows_outlasts_the_pool():
    X, y = data()
    first, twin = (
        CNNClassifier(STACKS["small"], max_iter=1, random_state=0, n_jobs=2).fit(X, y)
        for _ in range(2)
    )
    twin.partial_fit(X, y)
    CNNClassifier(STACKS["small"], max_iter=2, random_state=1, n_jobs=2).fit(-X, y)
    first.partial_fit(X, y)
    np.testing.assert_array_equal(first._progress.weights, twin._progress.weights)


@pytest.mark.parametrize("n_jobs", [2, 4, -1])
def test_the_extractor_too(n_jobs):
    X, _ = data(300)
    one = ConvFeatureExtractor("sobel").fit_transform(X)
    many = ConvFeatureExtractor("sobel", n_jobs=n_jobs).fit_transform(X)
    np.testing.assert_array_equal(one, many)


def test_n_jobs_none_follows_jobs_context():
    X, y = data()
    clf = CNNClassifier(STACKS["small"], max_iter=2, random_state=0)
    plain = clf.fit(X, y).coefs_[0].copy()
    with joblib.parallel_config("threading", n_jobs=2):
        np.testing.assert_array_equal(clf.fit(X, y).coefs_[0], plain)


def test_more_threads_than_images():
    X, y = data(3)
    clf = CNNClassifier(STACKS["small"], max_iter=1, random_state=0, n_jobs=4).fit(X, y)
    assert clf.predict(X).shape == (3,)


def blas_threads():
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


seen = []


class Watch(Layer):
    """Passes its input on and notes the number of BLAS threads; fails if told to."""

    def __init__(self, fail_on=None):
        self.fail_on = fail_on

    def forward(self, x, weights, work):
        seen.append(blas_threads())
        if self.fail_on == "forward":
            raise RuntimeError("in forward")
        return x

    def backward(self, dy, weights, grads, work):
        if self.fail_on == "backward":
            raise RuntimeError("in backward")
        return dy


@pytest.fixture
def two_blas_threads():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        if before != [2] * len(before) or not before:
            pytest.skip("this BLAS cannot run two threads")
        seen.clear()
        yield before


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_blas_has_one_thread_in_fit_and_what_it_had_after(two_blas_threads, n_jobs):
    X, y = data()
    layers = (Dense(3), Watch())
    clf = CNNClassifier(layers, max_iter=2, n_jobs=n_jobs).fit(X, y)
    assert blas_threads() == two_blas_threads
    clf.predict(X)
    assert blas_threads() == two_blas_threads
    assert seen
    assert all(counts == [1] * len(counts) for counts in seen)


@pytest.mark.parametrize("n_jobs", [1, 2, 4])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_blas_is_restored_after_an_error(two_blas_threads, n_jobs, where):
    X, y = data()
    clf = CNNClassifier((Dense(3), Watch(where)), n_jobs=n_jobs)
    with pytest.raises(RuntimeError, match=f"in {where}"):
        clf.fit(X, y)
    assert blas_threads() == two_blas_threads


class Meet(Layer):
    """Says that it is here, and goes on once another is there."""

    def __init__(self, here=None, there=None):
        self.here = here
        self.there = there

    def forward(self, x, weights, work):
        self.here.set()
        assert self.there.wait(30)
        return x

    def backward(self, dy, weights, grads, work):
        return dy


def test_blas_is_restored_after_fits_that_overlap(two_blas_threads):
    X, y = data(20)
    first_in, second_in, first_out = Event(), Event(), Event()

    def fit(here, there):
        return CNNClassifier((Dense(3), Meet(here, there)), max_iter=1).fit(X, y)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fit, first_in, second_in)
        assert first_in.wait(30)
        second = pool.submit(fit, second_in, first_out)
        first.result()
        first_out.set()
        second.result()
    assert blas_threads() == two_blas_threads


def test_fits_in_threads_of_one_estimators_layers():
    X, y = data()
    layers = STACKS["small"]

    def fit(seed):
        return CNNClassifier(layers, max_iter=2, random_state=seed).fit(X, y).coefs_[0].copy()

    serial = [fit(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(serial, pool.map(fit, range(4)), strict=True):
            np.testing.assert_array_equal(a, b)
