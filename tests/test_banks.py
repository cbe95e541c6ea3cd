"""Banks learned from patches: how many filters, which ones, and what further pieces do to them."""

from itertools import pairwise

import joblib
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose, assert_array_equal
from reference import conv
from scipy.linalg import inv, sqrtm
from scipy.stats import kstest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import IncrementalPCA
from threadpoolctl import threadpool_limits

from skcnn import ConvFeatureExtractor
from skcnn._features.banks import LearnedBank
from skcnn._features.patches import Whitener

METHODS = ["kmeans", "patches", "pca", "random"]
RNG = np.random.default_rng(0)
# Images of 6x7 pixels and two channels, neighbours alike; each has 20 patches of 18 values.
IMAGES = RNG.normal(size=(60, 7, 8, 2))
IMAGES = IMAGES[:, 1:, 1:] + IMAGES[:, :-1, 1:] + IMAGES[:, 1:, :-1] + 4
PIECES = [IMAGES[:30], IMAGES[30:50], IMAGES[50:]]
each = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Hold `MiniBatchKMeans` to one thread: beside other jobs its threads wait for each other."""
    with threadpool_limits(1):
        yield


def learner(method, **params):
    usual = {"kernel_size": 3, "contrast_epsilon": 0.01, "whiten_epsilon": 0.1, "random_state": 0}
    return ConvFeatureExtractor(method, **usual | params)


def atoms(extractor):
    return extractor._learned.bank.atoms


def cut(images):
    """Cut all 3x3 patches out of images, each flat in the order rows, columns, channels."""
    windows = sliding_window_view(images, (3, 3), axis=(1, 2))
    return np.moveaxis(windows, 3, 5).reshape(-1, 9 * images.shape[3])


def whitener(first, method):
    """Return a function that whitens all patches of images as those of `first` are."""
    center, scale = cut(first).mean(), cut(first).std()

    def normalised(images):
        patches = (cut(images) - center) / scale
        variance = patches.var(axis=1)[:, None]
        patches = patches - patches.mean(axis=1)[:, None]
        return patches if method == "pca" else patches / np.sqrt(variance + 0.01)

    if method == "pca":
        return normalised
    known = normalised(first)
    covariance = np.cov(known.T, bias=True)
    size = len(covariance)
    root = inv(sqrtm(covariance + 0.1 * np.trace(covariance) / size * np.eye(size)))
    return lambda images: (normalised(images) - known.mean(axis=0)) @ root


def inertia(white, centres):
    """Return the mean squared distance to the nearest centre."""
    return np.square(white[:, None] - centres).sum(axis=2).min(axis=1).mean()


@each
@pytest.mark.parametrize("n_filters", [1, 12])
def test_number_names_and_length(method, n_filters):
    extractor = learner(method, n_filters=n_filters, kernel_size=(2, 3)).fit(IMAGES)
    assert extractor.filters_.shape == (n_filters, 2, 3, 2)
    assert extractor.filter_names_ == [f"{method}{i}" for i in range(n_filters)]
    directions = extractor._learned.bank.directions()
    assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert_allclose(
        directions * np.linalg.norm(atoms(extractor), axis=1)[:, None], atoms(extractor)
    )


@pytest.mark.parametrize(
    ("method", "n_images", "kernel_size", "expected"),
    [
        ("kmeans", 60, 3, 64), ("kmeans", 2, 3, 40), ("kmeans", 1, (6, 7), 1),
        ("patches", 60, 3, 64), ("patches", 2, 3, 40), ("patches", 1, (6, 7), 1),
        ("random", 60, 3, 64), ("random", 2, 3, 64), ("random", 1, (6, 7), 64),
        ("pca", 60, 3, 18), ("pca", 2, (5, 6), 8), ("pca", 60, (5, 7), 64),
    ],
)  # fmt: skip
def test_default_number(method, n_images, kernel_size, expected):
    """64, unless there are fewer patches, or for "pca" fewer values in a patch."""
    extractor = learner(method, kernel_size=kernel_size).fit(IMAGES[:n_images])
    assert len(extractor.filters_) == expected


@each
@pytest.mark.parametrize(("shape", "size"), [((9, 8), (5, 5)), ((2, 9), (2, 5)), ((1, 3), (1, 3))])
def test_default_size(method, shape, size):
    """5x5, no more than the image has."""
    extractor = ConvFeatureExtractor(method).fit(RNG.normal(size=(9, *shape)))
    assert extractor.filters_.shape[1:] == (*size, 1)


@each
@pytest.mark.parametrize("whiten", [True, False])
def test_filters_are_as_they_meet_the_images(method, whiten):
    """The responses to two images differ by what the filters make of their difference."""
    params = {"normalize": "mean", "whiten": whiten, "activation": "identity", "pooling": None}
    extractor = learner(method, n_filters=5, flatten=False, **params).fit(IMAGES)
    one, other = IMAGES[:5], IMAGES[5:10]
    difference = (one - other) / cut(IMAGES).std()
    expected = conv(difference, extractor.filters_, activation="identity")
    assert_allclose(extractor.transform(one) - extractor.transform(other), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("method", "params", "most"),
    [
        ("kmeans", {"n_filters": 21}, "20 .*'kmeans', .*20 patches. Got 21"),
        ("kmeans", {"n_filters": 9, "n_patches": 8}, "8 .*'kmeans', .*8 patches. Got 9"),
        ("patches", {"n_filters": 21}, "20 .*'patches', .*20 patches. Got 21"),
        ("pca", {"n_filters": 19}, "18 .*'pca', .*20 patches of 18 values. Got 19"),
        ("pca", {"n_filters": 9, "n_patches": 8}, "8 .*'pca', .*8 patches of 18 values. Got 9"),
    ],
)
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_too_many_filters(method, params, most, call):
    with pytest.raises(ValueError, match=f"n_filters must be at most {most}"):
        getattr(learner(method, **params), call)(IMAGES[:1])


def test_random_filters_may_be_more_than_the_patches():
    extractor = learner("random", n_filters=500).fit(IMAGES[:1])
    gaussian = atoms(extractor).ravel()
    assert gaussian.size == 500 * 18
    assert kstest(gaussian, "norm").pvalue > 0.01


@each
def test_random_state(method):
    n_patches = 200 if method == "pca" else 10_000  # of all patches there is one analysis only
    fits = [
        learner(method, n_filters=5, n_patches=n_patches, random_state=seed).fit(IMAGES).filters_
        for seed in (0, 0, np.random.RandomState(0), 1)
    ]
    assert_array_equal(fits[0], fits[1])
    assert_array_equal(fits[0], fits[2])
    assert not np.allclose(fits[0], fits[3])


@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_without_a_random_state_each_fit_is_another(call):
    fits = [getattr(learner("random", random_state=None), call)(IMAGES) for _ in range(2)]
    assert not np.allclose(fits[0].filters_, fits[1].filters_)


def test_pca_atoms_are_principal_components():
    white = whitener(IMAGES, "pca")(IMAGES)
    expected = IncrementalPCA(7).fit(white).components_
    assert_allclose(atoms(learner("pca", n_filters=7).fit(IMAGES)), expected, atol=1e-8)


def test_patches_are_what_they_say():
    white = whitener(IMAGES, "patches")(IMAGES)
    found = atoms(learner("patches", n_filters=50).fit(IMAGES))
    distances = np.abs(found[:, None] - white).max(axis=2)
    assert_allclose(distances.min(axis=1), 0, atol=1e-8)
    assert len(set(distances.argmin(axis=1))) == 50  # none of them twice


def test_kmeans_atoms_are_the_centres_of_mini_batch_kmeans():
    extractor = learner("kmeans", n_filters=9).fit(IMAGES)
    white = whitener(IMAGES, "kmeans")(IMAGES)
    mini_batch = clone(extractor._learned.bank.learner).fit(white)
    assert mini_batch.n_clusters == 9
    assert_allclose(atoms(extractor), mini_batch.cluster_centers_, atol=1e-8)


def test_kmeans_atoms_cluster():
    digits = load_digits().images[:200, ..., None]
    white = whitener(digits, "kmeans")(digits)
    found, drawn = (inertia(white, atoms(learner(m).fit(digits))) for m in ("kmeans", "patches"))
    best = KMeans(64, n_init=1, random_state=0).fit(white).inertia_ / len(white)
    assert found < 1.15 * best
    assert found < 0.85 * drawn


@pytest.mark.parametrize("sizes", [(60, 60, 80), (20, 1, 179)], ids=str)
def test_reservoir_sampling_is_uniform(sizes):
    """Each of 200 patches is among the 20 kept in a tenth of 400 runs, within five deviations."""
    edges, counts = np.cumsum([0, *sizes]), np.zeros(200)
    patches = np.arange(1.0, 201)[:, None]
    for seed in range(400):
        random_state = np.random.RandomState(seed)
        pieces = [patches[a:b] for a, b in pairwise(edges)]
        bank = LearnedBank.fit(
            "patches", pieces[0], (1, 1, 1), 20, random_state, Whitener(0.0, 1.0), in_pieces=True
        )
        for piece in pieces[1:]:
            bank.partial_fit(piece, random_state)
        kept = bank.atoms.ravel().astype(int) - 1
        assert len(set(kept)) == 20
        counts[kept] += 1
    deviation = np.sqrt(400 * 0.1 * 0.9)
    assert np.abs(counts - 40).max() < 5 * deviation
    for a, b in pairwise(edges):
        assert abs(counts[a:b].sum() - 40 * (b - a)) < 5 * deviation * np.sqrt(b - a)


@pytest.mark.parametrize("method", ["kmeans", "pca"])
@pytest.mark.parametrize("begin", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("dtypes", "atol"), [("ddd", 1e-7), ("fff", 0.01), ("dfd", 0.01), ("fdB", 0.01), ("Bdd", 0.01)]
)
def test_pieces(method, begin, dtypes, atol):
    """The learner's own `partial_fit` on the pieces, whitened as the first of them is.

    Of pieces in other types than the first `MiniBatchKMeans` itself would take none.
    """
    pieces = [np.clip(piece * 20, 0, 255).round() for piece in PIECES]
    white = [whitener(pieces[0], method)(piece) for piece in pieces]
    extractor = learner(method, n_filters=9)
    getattr(extractor, begin)(pieces[0].astype(dtypes[0]))
    own = clone(extractor._learned.bank.learner)
    getattr(own, begin)(white[0])
    for piece, part, dtype in zip(pieces[1:], white[1:], dtypes[1:], strict=True):
        extractor.partial_fit(piece.astype(dtype))
        own.partial_fit(part)
    expected = own.cluster_centers_ if method == "kmeans" else own.components_
    assert_allclose(atoms(extractor), expected, atol=atol)


def test_pieces_of_patches_are_patches_of_the_pieces():
    extractor = learner("patches", n_filters=30)
    white = np.concatenate([whitener(PIECES[0], "patches")(piece) for piece in PIECES])
    for piece in PIECES:
        extractor.partial_fit(piece)
    distances = np.abs(atoms(extractor)[:, None] - white).max(axis=2)
    assert_allclose(distances.min(axis=1), 0, atol=1e-8)
    origins = distances.argmin(axis=1)
    assert len(set(origins)) == 30
    assert (origins >= len(cut(PIECES[0]))).any()


@pytest.mark.parametrize("filters", ["random", "sobel", "edges"])
def test_pieces_change_nothing_where_nothing_is_refined(filters):
    size = 3 if filters == "random" else None
    extractor = ConvFeatureExtractor(filters, kernel_size=size, whiten=True, random_state=0)
    expected = extractor.partial_fit(PIECES[0]).transform(IMAGES)
    assert_array_equal(extractor.partial_fit(PIECES[1] * 3 + 1).transform(IMAGES), expected)
    assert_array_equal(extractor.fit(PIECES[0]).transform(IMAGES), expected)


@each
def test_fit_forgets_the_pieces(method):
    expected = learner(method, n_filters=5).fit(PIECES[0]).filters_
    extractor = learner(method, n_filters=5).partial_fit(PIECES[1]).partial_fit(PIECES[2])
    assert_array_equal(extractor.fit(PIECES[0]).filters_, expected)


@each
def test_a_partial_fit_that_fails_changes_nothing(method):
    """Once for the images, and once behind the learning, for a filter that no longer fits."""
    extractor = learner(method, n_filters=5, kernel_size=(7, 3)).partial_fit(IMAGES[:20])
    expected = joblib.hash(vars(extractor))
    with pytest.raises(ValueError, match=r"images of shape \(6, 7, 2\), as in fit"):
        extractor.partial_fit(IMAGES[:, :5])
    assert joblib.hash(vars(extractor)) == expected
    extractor.set_params(padding="valid")
    with pytest.raises(ValueError, match=r"kernel_size=\(7, 3\) exceeds its 6x7 input"):
        extractor.partial_fit(IMAGES[20:])
    assert joblib.hash(vars(extractor.set_params(padding="same"))) == expected


@each
def test_a_first_partial_fit_that_fails_leaves_it_unfitted(method):
    extractor = learner(method, kernel_size=(7, 3), padding="valid")
    expected = joblib.hash(vars(extractor))
    with pytest.raises(ValueError, match="exceeds its 6x7 input"):
        extractor.partial_fit(IMAGES)
    assert joblib.hash(vars(extractor)) == expected
