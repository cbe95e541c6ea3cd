"""Every bank, activation and pooling against plain NumPy, which holds every patch of every image."""

import math

import numpy as np
import pytest
import reference
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose, assert_array_equal
from properties import assume, given, settings, st
from threadpoolctl import threadpool_limits

from skcnn import ConvFeatureExtractor
from skcnn._engine import blocks, encoding, plan

RNG = np.random.default_rng(0)
GREY = RNG.normal(size=(6, 9, 8, 1)) + 2
COLOUR = RNG.normal(size=(6, 9, 8, 2)).cumsum(axis=2)
LEARNED = ["random", "patches", "kmeans", "pca"]
FIXED = ["edges", "sobel", "laplacian", "sharpen", "gabor"]
ACTIVATIONS = [*reference.ACTIVATE, "crelu", "soft_threshold", "triangle"]
REDUCE = {"max": np.max, "avg": np.mean, "sum": np.sum}
images_of = pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Hold `MiniBatchKMeans` to one thread: beside other jobs its threads wait for each other."""
    with threadpool_limits(1):
        yield


def made(filters, **params):
    return ConvFeatureExtractor(filters, flatten=False, random_state=0, **params)


def is_learned(params):
    return isinstance(params["filters"], str) and params["filters"] in LEARNED


def preparation(params):
    """Return what `normalize` and `whiten` mean, by the table of the docstring."""
    auto = (None, False)
    if is_learned(params):
        auto = ("mean", False) if params["filters"] == "pca" else ("contrast", True)
    given = params["normalize"], params["whiten"]
    return [usual if g == "auto" else g for g, usual in zip(given, auto, strict=True)]


def all_patches(extractor, images):
    """Return the patches at all positions, whitened, shape (images, rows, columns, values)."""
    params, whitener = extractor.get_params(), extractor._learned.bank.whitener
    normalize, whiten = preparation(params)
    if normalize or whiten or is_learned(params):
        images = (images - whitener.center) / whitener.scale
    kernel = extractor.filters_.shape[1:3]
    border = reference.paddings(params["padding"], kernel)
    padded = np.pad(images, ((0, 0), *border, (0, 0)))
    down, right = reference.pair(params["stride"])
    windows = sliding_window_view(padded, kernel, axis=(1, 2))[:, ::down, ::right]
    patches = np.moveaxis(windows, 3, 5)
    patches = patches.reshape(*patches.shape[:3], -1).astype(float)
    deviation = np.sqrt(patches.var(axis=3) + params["contrast_epsilon"])[..., None]
    if normalize:
        patches = patches - patches.mean(axis=3)[..., None]
    if normalize == "contrast":
        patches = patches / deviation
    if not whiten:
        return patches
    patches = patches - whitener.mean
    return patches if whitener.whitening is None else patches @ whitener.whitening


def encoded(extractor, images):
    """Return the codes of all positions, shape (images, rows, columns, codes)."""
    params, patches = extractor.get_params(), all_patches(extractor, images)
    atoms, activation = extractor._learned.bank.atoms, params["activation"]
    if activation == "triangle":
        distances = np.linalg.norm(patches[..., None, :] - atoms, axis=4)
        return np.maximum(distances.mean(axis=3)[..., None] - distances, 0)
    if is_learned(params):
        length = np.linalg.norm(atoms, axis=1)[:, None]
        atoms = np.divide(atoms, length, where=length > 0, out=atoms.copy())
    z = patches @ atoms.T
    if activation in reference.ACTIVATE:
        return reference.ACTIVATE[activation](z)
    t = params["threshold"] if activation == "soft_threshold" else 0
    return np.concatenate([np.maximum(z - t, 0), np.maximum(-z - t, 0)], axis=3)


def expected_maps(extractor, images):
    """Return the pooled codes, by the extractor's parameters."""
    codes, params = encoded(extractor, images), extractor.get_params()
    pooling, grid = params["pooling"], params["pool_grid"]
    if pooling is None:
        return codes
    reduce = REDUCE[pooling.removeprefix("global_")]
    if pooling.startswith("global_"):
        return reduce(codes, axis=(1, 2))[:, None, None]
    if grid is None:
        return reference.pool(codes, params["pool_size"], params["pool_stride"], reduce=reduce)
    spans = [
        [slice(math.floor(i * n / g), math.ceil((i + 1) * n / g)) for i in range(g)]
        for n, g in zip(codes.shape[1:3], reference.pair(grid), strict=True)
    ]
    maps = [[reduce(codes[:, r, c], axis=(1, 2)) for c in spans[1]] for r in spans[0]]
    return np.array(maps).transpose(2, 0, 1, 3)


def check(extractor, images, seen=None):
    """Fit, and compare with the plain computation."""
    extractor.fit(images)
    seen = images if seen is None else seen
    expected = expected_maps(extractor, seen)
    assert extractor.output_shape_ == expected.shape[1:]
    atol = 1e-5 if extractor.activation == "triangle" else 1e-8  # it takes roots of numbers near 0
    assert_allclose(extractor.transform(seen), expected, rtol=1e-8, atol=atol)


@images_of
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("filters", [*LEARNED, *FIXED])
def test_every_bank_with_every_activation(filters, activation, images):
    check(made(filters, activation=activation), images)
    if filters in FIXED:
        check(made(filters, activation=activation, normalize="contrast", whiten=True), images)


WINDOWS = [
    {"pool_size": 3},
    {"pool_size": (2, 3), "pool_stride": (1, 2)},
    {"pool_size": 2, "pool_stride": 3},
    {"pool_size": 50},
    {"pool_size": (1, 1), "pool_stride": 2},
    {"pool_size": 1, "pool_stride": (2, 3)},
    {"pool_grid": 1},
    {"pool_grid": (2, 3)},
    {"pool_grid": 20},  # more windows than positions
]
POOLINGS = [{"pooling": reduce, **window} for reduce in REDUCE for window in WINDOWS]
POOLINGS += [{"pooling": p} for p in ("global_max", "global_avg", "global_sum", None)]


@images_of
@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
@pytest.mark.parametrize("filters", ["patches", "sobel"])
def test_every_pooling(filters, pooling, images):
    for activation in ("crelu", "triangle", "identity"):
        check(made(filters, activation=activation, **pooling), images)


@pytest.mark.parametrize("filters", [*LEARNED, "gabor", "array"])
@pytest.mark.parametrize("normalize", ["auto", "contrast", "mean", None])
@pytest.mark.parametrize("whiten", ["auto", True, False])
def test_every_preparation_of_patches(filters, normalize, whiten):
    params = {"normalize": normalize, "whiten": whiten, "kernel_size": (3, 2)}
    params |= {"contrast_epsilon": 0.3, "whiten_epsilon": 0.02}
    filters = RNG.normal(size=(4, 3, 2, 2)) if filters == "array" else filters
    check(made(filters, activation="crelu", padding=(1, 2), **params), COLOUR, 2 * COLOUR + 1)


def test_many_filters_of_many_channels():
    """Such layers go by tiles, here with the parts of whitening and with a fused pooling."""
    images = RNG.normal(size=(3, 16, 16, 32)) - 1
    check(made("random", n_filters=40, kernel_size=3, normalize="mean"), images)


@pytest.mark.parametrize("activation", ["crelu", "triangle", "relu"])
@pytest.mark.parametrize(("block", "part"), [(1, 1), (2000, 300), (10**6, 10**6)])
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_blocks_of_any_size(activation, block, part, pooling, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_SIZE", block)
    monkeypatch.setattr(encoding, "CODE_BLOCK", part)
    plan._blocks.cache_clear()
    try:
        check(made("kmeans", n_filters=7, activation=activation, pooling=pooling), COLOUR)
        check(made("patches", activation=activation, pooling=pooling, stride=2, pool_grid=2), GREY)
    finally:
        plan._blocks.cache_clear()


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    st.fixed_dictionaries(
        {
            "kernel_size": st.sampled_from([1, 2, 3, (3, 2), (1, 4), (5, 1)]),
            "stride": st.sampled_from([1, 2, (1, 3)]),
            "padding": st.sampled_from(["same", "valid", 1, (0, 2), (4, 1)]),
            "activation": st.sampled_from(ACTIVATIONS),
            "normalize": st.sampled_from(["auto", "auto", None, "mean", "contrast"]),
            "whiten": st.sampled_from(["auto", "auto", True, False]),
            "threshold": st.sampled_from([0.25, 0, 1.0]),
            "pooling": st.sampled_from(["max", "avg", "sum", "global_avg", "global_max", None]),
            "pool_size": st.sampled_from([2, (3, 2), (1, 2), 4]),
            "pool_stride": st.sampled_from([None, None, 1, (2, 3)]),
            "pool_grid": st.sampled_from([None, None, None, 1, 2, (3, 1)]),
        }
    ),
    st.sampled_from([*LEARNED, *LEARNED, "gabor", "array"]),
    st.integers(0, 2**31),
)
def test_anything(shape, params, filters, seed):
    kernel = reference.pair(params["kernel_size"])
    border = reference.paddings(params["padding"], kernel)
    spare = (n + sum(p) - k for n, p, k in zip(shape[1:3], border, kernel, strict=True))
    assume(min(spare) >= 0)
    rng = np.random.default_rng(seed)
    if filters == "array":
        filters = rng.normal(size=(3, *kernel, shape[3]))
    images = rng.normal(size=shape) * rng.uniform(0.1, 300) + rng.normal(scale=50)
    check(made(filters, **params), images)


@pytest.mark.parametrize(
    ("images", "filters"),
    [
        (RNG.normal(size=(1, 40, 40)), [(2, 3, 3), (3, 5, 5, 2), (1, 7, 7, 3)]),
        (RNG.normal(size=(5, 20, 20, 3)).cumsum(axis=1), ["kmeans", "pca"]),
        (RNG.normal(size=(5, 24, 20)).cumsum(axis=1), ["patches", "random", "kmeans"]),
    ],
    ids=["tutorial", "two stages", "three stages"],
)
def test_stacks(images, filters):
    """The stages of the tutorial this package started from (2, 3, 1 filters), and learned ones."""
    seen = images if images.ndim == 4 else images[..., None]
    for k, bank in enumerate(filters):
        params = {"n_filters": 4 + k, "kernel_size": 3, "activation": "crelu"}
        if isinstance(bank, tuple):
            bank, params = RNG.normal(size=bank), {"padding": "valid"}
        stage = made(bank, **params).fit(images)
        images, seen = stage.transform(images), expected_maps(stage, seen)
        assert_allclose(images, seen, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("filters", [*LEARNED, "sobel"])
def test_single_precision(filters, activation):
    """To 1e-4 of the largest; the roots of "triangle" lose more near 0."""
    extractor = made(filters, activation=activation, pooling="avg").fit(COLOUR)
    single = extractor.transform(COLOUR.astype(np.float32))
    assert single.dtype == np.float32
    expected = expected_maps(extractor, COLOUR)
    tolerance = 1e-3 if activation == "triangle" else 1e-4
    assert np.abs(single - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
@pytest.mark.parametrize("filters", [*LEARNED, "sobel"])
def test_integers_are_their_values(filters, dtype):
    images = RNG.integers(0, 256, (8, 9, 8, 2)).astype(dtype)
    exact = images.astype(np.float32)
    extractor = made(filters, activation="soft_threshold").fit(images)
    features = extractor.transform(images)
    assert features.dtype == np.float32
    assert_array_equal(features, made(filters, activation="soft_threshold").fit_transform(exact))
    expected = expected_maps(extractor, exact.astype(float))
    assert_allclose(features, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("activation", ["crelu", "triangle", "soft_threshold", "tanh"])
@pytest.mark.parametrize(
    "pooling", [{"pooling": None}, {"pool_grid": 2, "pooling": "avg"}], ids=str
)
def test_workers_give_the_same_bits(activation, pooling, workers):
    images = RNG.normal(size=(400, 12, 12, 2)).astype(np.float32)
    extractor = made("patches", n_filters=30, activation=activation, **pooling).fit(images[:20])
    one = extractor.transform(images)
    two = extractor.set_params(n_jobs=2).transform(images)
    assert_array_equal(one, two)
    assert_allclose(one[::50], expected_maps(extractor, images[::50].astype(float)), atol=0.01)


@pytest.mark.parametrize("filters", [*LEARNED, "sobel"])
@pytest.mark.parametrize("quantile", [0, 0.3, 0.9, 1])
def test_threshold_quantile(filters, quantile):
    """Of all responses of a filter that share is cut off, whatever `threshold` is."""
    params = {"activation": "soft_threshold", "padding": "valid", "pooling": None}
    params |= {} if filters == "sobel" else {"n_filters": 6}
    extractor = made(filters, threshold=99.0, threshold_quantile=quantile, **params)
    codes = extractor.fit_transform(COLOUR)
    n_filters = len(extractor.filters_)
    passed = (codes[..., :n_filters] > 1e-12) | (codes[..., n_filters:] > 1e-12)
    assert_allclose(passed.sum(axis=(0, 1, 2)), (1 - quantile) * passed[..., 0].size, atol=1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_names_and_order_of_features(activation):
    extractor = made("pca", n_filters=2, activation=activation, pool_grid=(1, 2)).fit(COLOUR)
    expected = ["pca0_r0_c0", "pca0_r0_c1", "pca1_r0_c0", "pca1_r0_c1"]
    if activation in ("crelu", "soft_threshold"):
        expected += ["pca0_neg_r0_c0", "pca0_neg_r0_c1", "pca1_neg_r0_c0", "pca1_neg_r0_c1"]
    assert extractor.get_feature_names_out().tolist() == expected
    assert extractor.filter_names_ == ["pca0", "pca1"]
    maps = expected_maps(extractor, COLOUR)
    flat = extractor.set_params(flatten=True).transform(COLOUR)
    assert_allclose(flat, reference.flatten(maps), atol=1e-5)


@pytest.mark.parametrize("pool", [{"pool_grid": (2, 3)}, {"pooling": "global_avg"}], ids=str)
@pytest.mark.parametrize("shape", [(9, 8), (4, 5), (1, 1), (1, 30), (33, 17)])
def test_images_of_any_size_give_as_many_features(shape, pool):
    images = RNG.normal(size=(2, *shape))
    features = ConvFeatureExtractor("random", n_filters=5, activation="crelu", **pool)
    n_windows = 6 if "pool_grid" in pool else 1
    assert features.fit_transform(images).shape == (2, 10 * n_windows)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("filters", [*LEARNED, "sobel"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_constant_images(filters, activation, dtype):
    """All patches are their own mean: nothing is left of them, and nothing divides by 0."""
    images = np.full((5, 6, 6), 7, dtype)
    params = {"normalize": "contrast", "whiten": True, "padding": "valid", "pooling": "avg"}
    size = None if filters == "sobel" else 3
    extractor = ConvFeatureExtractor(filters, kernel_size=size, activation=activation, **params)
    features = extractor.set_params(random_state=0).fit_transform(images)
    assert np.isfinite(features).all()
    if activation in ("identity", "relu", "tanh", "crelu", "soft_threshold"):
        assert_allclose(features, 0, atol=1e-5)
    other = RNG.integers(0, 200, images.shape).astype(dtype)
    assert np.isfinite(extractor.transform(other)).all()
    assert np.isfinite(extractor.fit(other).transform(images)).all()


@pytest.mark.parametrize("filters", LEARNED)
@pytest.mark.parametrize("activation", ["crelu", "triangle"])
@pytest.mark.parametrize("shape", [(9, 8), (1, 1), (1, 20), (2, 2)])
def test_one_image(filters, activation, shape):
    check(made(filters, activation=activation, pool_grid=2), RNG.normal(size=(1, *shape, 1)))


@pytest.mark.parametrize("filters", LEARNED)
@pytest.mark.parametrize("shape", [(2, 9), (9, 2), (2, 3)])
def test_images_smaller_than_the_kernel(filters, shape):
    images = RNG.normal(size=(20, *shape, 1))
    check(made(filters, n_filters=2, kernel_size=4, activation="crelu"), images)
    with pytest.raises(ValueError, match=r"kernel_size=\(4, 4\) exceeds its . *x. input"):
        made(filters, n_filters=2, kernel_size=4, padding="valid").fit(images)
