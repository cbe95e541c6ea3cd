"""Images in: their shape, float type, standardisation, and X left as it was."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn._data.images import channel_statistics
from skcnn.layers import Conv, Dense, MaxPool

RNG = np.random.default_rng(0)
Y = np.arange(12) % 2
LAYERS = (Conv(2), MaxPool(), Dense(3))


def network(**params):
    return CNNClassifier(**{"layers": LAYERS, "max_iter": 3, "random_state": 0, **params})


@pytest.mark.parametrize(
    ("shape", "image_shape", "expected"),
    [
        ((16,), None, (4, 4, 1)),
        ((1,), None, (1, 1, 1)),
        ((12,), None, (1, 12, 1)),
        ((48,), None, (1, 48, 1)),
        ((4, 4), None, (4, 4, 1)),
        ((3, 5), None, (3, 5, 1)),
        ((3, 5, 2), None, (3, 5, 2)),
        ((1, 4, 4), None, (1, 4, 4)),
        ((48,), (4, 4, 3), (4, 4, 3)),
        ((48,), (6, 8), (6, 8, 1)),
        ((16,), (2, 8), (2, 8, 1)),
        ((48,), [4, 4, 3], (4, 4, 3)),
        ((3, 5, 2), (3, 5, 2), (3, 5, 2)),
        ((3, 5), (3, 5), (3, 5, 1)),
    ],
)
@pytest.mark.parametrize("kind", [CNNClassifier, ConvFeatureExtractor])
def test_image_shape(shape, image_shape, expected, kind):
    X = RNG.normal(size=(12, *shape))
    params = {"layers": LAYERS, "max_iter": 1} if kind is CNNClassifier else {}
    estimator = kind(image_shape=image_shape, **params).fit(X, Y)
    assert estimator.image_shape_ == expected
    assert estimator.n_features_in_ == np.prod(expected)
    assert estimator.image_shape is image_shape


def test_flat_rows_and_images_are_the_same():
    images = RNG.normal(size=(12, 4, 5, 3))
    expected = network().fit(images, Y).predict_proba(images)
    flat = images.reshape(12, -1)
    clf = network(image_shape=(4, 5, 3)).fit(flat, Y)
    assert_array_equal(clf.predict_proba(flat), expected)
    assert_array_equal(clf.predict_proba(images), expected)
    assert_array_equal(network().fit(images.tolist(), Y).predict_proba(images), expected)
    assert_array_equal(network().fit(list(images), Y).predict_proba(flat), expected)


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda X: X[::-1][::-1],
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: np.moveaxis(np.ascontiguousarray(np.moveaxis(X, 3, 1)), 1, 3),
    ],
    ids=["Fortran", "reversed", "strided", "channels first"],
)
def test_memory_layout_does_not_matter(layout):
    X = RNG.normal(size=(12, 4, 5, 3))
    expected = network().fit(X, Y).predict_proba(X)
    assert_array_equal(network().fit(layout(X), Y).predict_proba(layout(X)), expected)


@pytest.mark.parametrize(
    ("dtype", "computed"),
    [
        (np.float64, np.float64),
        (np.float32, np.float32),
        (np.float16, np.float32),
        (np.uint8, np.float32),
        (np.int64, np.float32),
        (bool, np.float32),
        (">f8", np.float64),
        (">f4", np.float32),
    ],
)
@pytest.mark.parametrize("standardize", [True, False])
def test_float_type_of_the_computation(dtype, computed, standardize):
    X = RNG.integers(0, 2, (12, 4, 4)).astype(dtype)
    clf = network(standardize=standardize).fit(X, Y)
    assert {w.dtype for w in clf.coefs_ + clf.intercepts_} == {np.dtype(computed)}
    assert clf.predict_proba(X).dtype == computed
    assert ConvFeatureExtractor().fit_transform(X).dtype == computed
    exact = network(standardize=standardize).fit(X.astype(computed), Y)
    assert_array_equal(clf.predict_proba(X), exact.predict_proba(X))


def test_each_transform_keeps_its_own_float_type():
    extractor = ConvFeatureExtractor().fit(np.ones((1, 4, 4)))
    for dtype in (np.float32, np.float64):
        assert extractor.transform(np.ones((2, 4, 4), dtype)).dtype == dtype


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("shape", [(4, 4, 2), (1, 1, 1), (1, 5, 1), (5, 1, 1), (1, 1, 5)])
@pytest.mark.parametrize("n", [1, 2, 12])
@pytest.mark.parametrize("first", [Conv(2), Dense(2), MaxPool(1)])
def test_x_is_not_written_to(standardize, shape, n, first):
    X = RNG.normal(size=(12, *shape))
    before = X.copy()
    X.flags.writeable = False
    clf = network(layers=(first,), standardize=standardize, batch_size=n).fit(X, Y)
    clf.predict_proba(X[:n])
    ConvFeatureExtractor().fit_transform(X[:n])
    assert_array_equal(X, before)


def test_one_image_is_predicted_as_among_others():
    for shape in [(4, 4, 1), (1, 6, 1), (6, 1, 1), (4, 4, 2), (1, 1, 3)]:
        X = RNG.normal(size=(12, *shape))
        for layers in [(Conv(2, 1),), (Conv(2),), (Conv(2, (1, 3)), MaxPool()), (Dense(2),)]:
            for standardize in (True, False):
                clf = network(layers=layers, standardize=standardize).fit(X, Y)
                alone = np.vstack([clf.predict_proba(X[i : i + 1]) for i in range(12)])
                assert_allclose(alone, clf.predict_proba(X), rtol=1e-10)


def test_memory_mapped_images(tmp_path):
    X = RNG.integers(0, 256, (12, 6, 5, 3)).astype(np.uint8)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    clf = network().fit(mapped, Y)
    assert_array_equal(clf.predict_proba(mapped), network().fit(X, Y).predict_proba(X))
    extractor = ConvFeatureExtractor()
    assert_array_equal(extractor.fit_transform(mapped), extractor.fit_transform(X))


def test_dataframes():
    pd = pytest.importorskip("pandas")
    X = RNG.normal(size=(12, 9))
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(9)])
    clf = network().fit(frame, pd.Series(Y))
    assert list(clf.feature_names_in_) == list(frame.columns)
    assert clf.image_shape_ == (3, 3, 1)
    assert_array_equal(clf.predict_proba(frame), network().fit(X, Y).predict_proba(X))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        clf.predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(frame[frame.columns[::-1]])
    clf.fit(X, Y)
    assert not hasattr(clf, "feature_names_in_")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [1, 50])
@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_channel_statistics(weighted, n, dtype):
    X = RNG.integers(0, 256, (n, 5, 4, 3)).astype(dtype)
    weights = RNG.random(n) if weighted else None
    center, scale = channel_statistics(X.reshape(n, -1), (5, 4, 3), weights)
    for c in range(3):
        values = X[..., c].astype(float).reshape(n, -1).mean(axis=1)
        squares = (X[..., c].astype(float) ** 2).reshape(n, -1).mean(axis=1)
        mean = np.average(values, weights=weights)
        assert center[c] == pytest.approx(mean)
        assert scale[c] == pytest.approx(np.sqrt(np.average(squares, weights=weights) - mean**2))


def test_statistics_in_blocks_and_of_large_offsets():
    X = RNG.normal(size=(30_000, 48)) + 1e6
    center, scale = channel_statistics(X, (4, 4, 3), None)
    channels = X.reshape(-1, 3)
    assert_allclose(center, channels.mean(axis=0), rtol=1e-12)
    assert_allclose(scale, channels.std(axis=0), rtol=1e-6)


def test_a_channel_that_does_not_vary():
    X = RNG.normal(size=(12, 4, 4, 2))
    X[..., 1] = 0.1
    center, scale = channel_statistics(X.reshape(12, -1), (4, 4, 2), None)
    assert scale[1] == 1
    assert center[1] == pytest.approx(0.1)
    assert np.isfinite(network().fit(X, Y).predict_proba(X)).all()


@pytest.mark.parametrize(("factor", "offset"), [(255, 0), (1e-3, 5), (1e4, -1e4)])
def test_standardize_makes_the_unit_of_the_pixels_irrelevant(factor, offset):
    X = RNG.random((12, 4, 4, 3))
    expected = network().fit(X, Y).predict_proba(X)
    other = network().fit(factor * X + offset, Y).predict_proba(factor * X + offset)
    assert_allclose(other, expected, rtol=1e-6)


def test_without_standardize_the_unit_matters():
    X = RNG.random((12, 4, 4, 3))
    clf = network(layers=(Dense(3, activation="tanh"),), standardize=False)
    a, b = (clf.fit(k * X, Y).predict_proba(k * X) for k in (1, 50))
    assert np.abs(a - b).max() > 0.01


def test_statistics_are_those_of_the_first_partial_fit():
    X = RNG.random((12, 4, 4))
    clf = network(learning_rate_init=1e-12).partial_fit(X, Y, classes=[0, 1])
    before = clf.predict_proba(X)
    clf.partial_fit(100 * X, Y)
    assert_allclose(clf.predict_proba(X), before, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_values_that_are_not_finite_are_found_in_any_part(bad, n_jobs, workers):
    X = np.random.default_rng(0).random((300, 64), dtype=np.float32)
    clf = CNNClassifier((Conv(4), MaxPool()), max_iter=1, n_jobs=n_jobs).fit(X, np.arange(300) % 2)
    features = ConvFeatureExtractor("sobel", n_jobs=n_jobs).fit(X)
    big = np.concatenate([X] * 20)
    expected = clf.predict(big)
    for row in (0, 3000, 5999):
        wrong = big.copy()
        wrong[row, 5] = bad
        for method in (clf.predict, clf.predict_proba, features.transform):
            with pytest.raises(ValueError, match=f"contains {'NaN' if bad != bad else 'infinity'}"):
                method(wrong)
    assert_array_equal(clf.predict(big), expected)


def test_finite_values_whose_sum_overflows_are_taken():
    X = np.full((4, 64), 1e36, np.float32)
    features = ConvFeatureExtractor("sobel").fit(X)
    assert np.isfinite(features.transform(X[:, ::-1].copy())).all()
