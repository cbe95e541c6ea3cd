"""Images in columns, arrays of objects and other collections; masked values; single images."""

from collections import deque

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn._data.containers import stacked
from skcnn.layers import Conv

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(24, 5, 6))
Y = np.arange(24) % 3
BOXED = np.empty(24, dtype=object)
BOXED[:] = list(IMAGES)


class Listed:
    """A collection that is no sequence of Python's."""

    def __len__(self):
        return len(IMAGES)

    def __iter__(self):
        return iter(IMAGES)

    def __contains__(self, item):
        return False


CONTAINERS = {
    "list": list(IMAGES),
    "tuple": tuple(IMAGES),
    "lists": IMAGES.tolist(),
    "lists in a list": [image.tolist() for image in IMAGES],
    "objects": BOXED,
    "a column of objects": BOXED[:, None],
    "deque": deque(IMAGES),
    "values": dict(enumerate(IMAGES)).values(),
    "collection": Listed(),
    "masked, no value masked": np.ma.MaskedArray(IMAGES, mask=False),
}
FRAMES = {
    "series": lambda pd: pd.Series(list(IMAGES)),
    "frame": lambda pd: pd.DataFrame({"image": list(IMAGES)}),
    "series of lists": lambda pd: pd.Series([image.tolist() for image in IMAGES]),
}


@pytest.mark.parametrize("name", [*CONTAINERS, *FRAMES])
def test_collections_of_images_are_stacked(name):
    X = CONTAINERS[name] if name in CONTAINERS else FRAMES[name](pytest.importorskip("pandas"))
    result = stacked(X)
    assert type(result) is np.ndarray
    assert_array_equal(result, IMAGES)
    clf = CNNClassifier((Conv(2),), max_iter=1, random_state=0)
    expected = clf.fit(IMAGES, Y).predict_proba(IMAGES)
    assert_array_equal(clf.fit(X, Y).predict_proba(X), expected)
    extractor = ConvFeatureExtractor("sobel")
    assert_array_equal(extractor.fit(X).transform(X), extractor.fit_transform(IMAGES))


def test_columns_of_polars():
    polars = pytest.importorskip("polars")
    column = polars.Series("image", IMAGES.tolist())
    for X in (column, polars.DataFrame({"image": column}), column.to_frame()):
        assert_array_equal(stacked(X), IMAGES)


@pytest.mark.parametrize("kind", ["list", "deque", "series", "frame"])
def test_images_of_several_shapes_are_named(kind):
    if kind in FRAMES:
        pd = pytest.importorskip("pandas")
        wrap = pd.Series if kind == "series" else lambda items: pd.DataFrame({"i": items})
    else:
        wrap = list if kind == "list" else deque
    images = [*IMAGES[:3], RNG.normal(size=(5, 7)), RNG.normal(size=(4, 6))]
    with pytest.raises(ValueError, match=r"X\[0\] of shape \(5, 6\) and X\[3\] of shape \(5, 7\)"):
        CNNClassifier((Conv(2),)).fit(wrap(images), [0, 1, 0, 1, 0])


@pytest.mark.parametrize("X", [["a", "b"], [], "images", None, 3, [None, None], {"a": IMAGES}])
def test_other_objects_stay_as_they_are(X):
    assert stacked(X) is X or list(stacked(X)) == X
    with pytest.raises((ValueError, TypeError)):
        CNNClassifier((Conv(2),)).fit(X, [0, 1])


def with_hole(array):
    masked = np.ma.array(array, copy=True)
    masked[(0,) * masked.ndim] = np.ma.masked
    return masked


def test_masked_values_are_errors():
    clf = CNNClassifier((Conv(2),), max_iter=1).fit(IMAGES, Y)
    holes = with_hole(IMAGES)
    for X in (holes, holes.reshape(24, -1), list(holes)):
        for call in (lambda X=X: clf.fit(X, Y), lambda X=X: clf.predict(X)):
            with pytest.raises(ValueError, match="X must hold no masked values"):
                call()
    with pytest.raises(ValueError, match="X must hold no masked values"):
        ConvFeatureExtractor().fit(holes)
    with pytest.raises(ValueError, match="X_val must hold no masked values"):
        clf.fit(IMAGES, Y, X_val=holes, y_val=Y)
    with pytest.raises(ValueError, match="y must hold no masked values"):
        clf.fit(IMAGES, with_hole(Y))
    with pytest.raises(ValueError, match="sample_weight must hold no masked values"):
        clf.fit(IMAGES, Y, sample_weight=with_hole(np.ones(24)))


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (6, 6, 3)])
def test_one_image_is_named(shape):
    X = RNG.normal(size=(12, *shape))
    clf = CNNClassifier((Conv(2),), max_iter=1).fit(X, np.arange(12) % 3)
    extractor = ConvFeatureExtractor("sobel" if shape[-1] != 3 else "random").fit(X)
    for call in (clf.predict, clf.predict_proba, clf.trace, extractor.transform):
        with pytest.raises(ValueError, match=r"Got one image .*pass X\[None\]"):
            call(X[0])
    assert len(clf.predict(X[:1])) == 1


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("filters", [None, "kmeans", "pca", "patches"])
def test_integers_far_from_zero_keep_their_digits(dtype, filters):
    whole = RNG.integers(0, 50, size=(60, 5, 6))
    y = (whole[:, :3].mean(axis=(1, 2)) > 25).astype(int)
    results = []
    for X in (whole.astype(dtype), (whole + 10**9).astype(dtype)):
        if filters is None:
            clf = CNNClassifier((Conv(4),), max_iter=5, random_state=0).fit(X, y)
            results.append(clf.predict_proba(X))
        else:
            extractor = ConvFeatureExtractor(filters, n_filters=4, random_state=0)
            results.append(extractor.fit_transform(X))
    np.testing.assert_allclose(results[1], results[0], atol=2e-3)


def test_a_row_of_a_table_is_like_a_row_of_an_array():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(RNG.normal(size=(24, 30)), columns=[f"p{i}" for i in range(30)])
    clf = CNNClassifier((Conv(2),), image_shape=(5, 6), max_iter=1, random_state=0).fit(X, Y)
    assert_array_equal(clf.predict_proba(X), clf.predict_proba(X.to_numpy()))
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(X[X.columns[::-1]])
    mixed = X.astype({"p0": np.float32})
    np.testing.assert_allclose(clf.predict_proba(mixed), clf.predict_proba(X), atol=1e-6)
    with pytest.raises(ValueError, match="NaN"):
        clf.predict(X.mask(X > 2))
