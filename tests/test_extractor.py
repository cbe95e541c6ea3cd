"""ConvFeatureExtractor: filters, maps, names, containers."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal

from skcnn import ConvFeatureExtractor
from skcnn.filters import fixed_bank

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(5, 7, 6))
COLOUR = RNG.normal(size=(5, 7, 6, 3))
BANK = RNG.normal(size=(4, 3, 2))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"padding": "valid"},
        {"padding": (2, 1), "stride": 2},
        {"stride": (1, 3)},
        {"activation": "tanh", "pooling": None},
        {"activation": "leaky_relu", "pool_size": 3, "pool_stride": 2},
        {"activation": "logistic", "pool_size": (1, 2)},
        {"activation": "identity", "pooling": "avg"},
        {"pooling": "avg", "pool_size": (3, 1), "pool_stride": (1, 2)},
        {"pool_size": 50},
        {"pool_size": 2, "pool_stride": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("images", [IMAGES[..., None], COLOUR], ids=["grey", "colour"])
def test_against_scipy(params, images):
    channels = images.shape[3]
    bank = RNG.normal(size=(4, 3, 2, channels))
    full = ConvFeatureExtractor(bank).get_params() | params
    convolution = {key: full[key] for key in ("stride", "padding", "activation")}
    expected = reference.conv(images, bank, **convolution)
    if full["pooling"]:
        reduce = np.max if full["pooling"] == "max" else np.mean
        expected = reference.pool(expected, full["pool_size"], full["pool_stride"], reduce=reduce)
    extractor = ConvFeatureExtractor(bank, flatten=False, **params)
    maps = extractor.fit_transform(images)
    assert_allclose(maps, expected, rtol=1e-10, atol=1e-12)
    assert extractor.output_shape_ == expected.shape[1:]
    flat = extractor.set_params(flatten=True).fit_transform(images)
    assert_allclose(flat, reference.flatten(expected), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["edges", "sobel", "laplacian", "sharpen", "gabor"])
def test_banks_by_name(name):
    extractor = ConvFeatureExtractor(name, flatten=False, pooling=None).fit(IMAGES)
    bank = fixed_bank(name)
    assert extractor.filter_names_ == list(bank)
    assert_array_equal(extractor.filters_[..., 0], list(bank.values()))
    expected = reference.conv(IMAGES[..., None], np.array(list(bank.values()))[..., None])
    assert_allclose(extractor.transform(IMAGES), expected, rtol=1e-10, atol=1e-12)


def test_gabor_takes_a_number_and_a_size():
    extractor = ConvFeatureExtractor("gabor", n_filters=3, kernel_size=(3, 5)).fit(IMAGES)
    assert extractor.filters_.shape == (3, 3, 5, 1)


def test_a_filter_without_channels_acts_on_their_mean():
    for filters in ("sobel", BANK, BANK.tolist(), list(BANK)):
        a = ConvFeatureExtractor(filters, activation="identity").fit_transform(COLOUR)
        b = ConvFeatureExtractor(filters, activation="identity").fit_transform(COLOUR.mean(axis=3))
        assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_filters_as_array_list_or_tuple():
    expected = ConvFeatureExtractor(BANK).fit_transform(IMAGES)
    for filters in (BANK.tolist(), list(BANK), tuple(BANK), BANK[..., None]):
        assert_array_equal(ConvFeatureExtractor(filters).fit_transform(IMAGES), expected)


def test_filters_given_are_not_kept_nor_changed():
    bank = BANK.copy()
    extractor = ConvFeatureExtractor(bank).fit(IMAGES)
    expected = extractor.transform(IMAGES)
    bank[...] = 0
    assert_array_equal(extractor.transform(IMAGES), expected)


def test_feature_names():
    extractor = ConvFeatureExtractor("edges", padding="valid").fit(np.ones((1, 6, 9)))
    names = extractor.get_feature_names_out()
    assert extractor.output_shape_ == (2, 3, 5)
    assert names.dtype == object
    assert len(set(names)) == len(names) == 30
    assert list(names[:7]) == [
        "horizontal_r0_c0", "horizontal_r0_c1", "horizontal_r0_c2",
        "horizontal_r1_c0", "horizontal_r1_c1", "horizontal_r1_c2", "vertical_r0_c0",
    ]  # fmt: skip
    assert names[-1] == "box_r1_c2"
    assert ConvFeatureExtractor(BANK).fit(IMAGES).get_feature_names_out()[0] == "filter0_r0_c0"


def test_a_name_tells_where_its_feature_comes_from():
    image = np.zeros((1, 6, 8))
    image[0, 4, 5] = 1
    extractor = ConvFeatureExtractor([[[1]], [[-1]]], pooling=None, activation="identity")
    features = extractor.fit_transform(image)[0]
    named = dict(zip(extractor.get_feature_names_out(), features, strict=True))
    assert {name: v for name, v in named.items() if v} == {"filter0_r4_c5": 1, "filter1_r4_c5": -1}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(library):
    pytest.importorskip(library)
    extractor = ConvFeatureExtractor("edges").set_output(transform=library)
    frame = extractor.fit_transform(IMAGES)
    assert list(frame.columns) == list(extractor.get_feature_names_out())
    plain = ConvFeatureExtractor("edges").fit_transform(IMAGES)
    assert_array_equal(frame.to_numpy(), plain)


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 200])
def test_any_number_of_images(n):
    images = RNG.normal(size=(n, 7, 6))
    maps = ConvFeatureExtractor(BANK, flatten=False).fit(IMAGES).transform(images)
    expected = reference.pool(reference.conv(images[..., None], BANK[..., None]))
    assert_allclose(maps, expected, rtol=1e-10, atol=1e-12)


def test_fit_learns_the_shape_and_nothing_else():
    a = ConvFeatureExtractor().fit(IMAGES)
    b = ConvFeatureExtractor().fit(100 * IMAGES[:1] + 3)
    assert_array_equal(a.transform(IMAGES), b.transform(IMAGES))


def test_stages():
    first = ConvFeatureExtractor("sobel", flatten=False)
    bank = RNG.normal(size=(2, 3, 3, 8))
    second = ConvFeatureExtractor(bank)
    features = second.fit_transform(first.fit_transform(IMAGES))
    maps = reference.pool(reference.conv(IMAGES[..., None], first.filters_))
    expected = reference.flatten(reference.pool(reference.conv(maps, bank)))
    assert_allclose(features, expected, rtol=1e-10, atol=1e-10)
    assert second.image_shape_ == (3, 3, 8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (2, 2), (1, 1, 5)])
def test_small_and_narrow_images(shape):
    X = RNG.normal(size=(3, *shape))
    extractor = ConvFeatureExtractor().fit(X)
    features = extractor.transform(X)
    assert features.shape == (3, len(extractor.get_feature_names_out()))
    assert np.isfinite(features).all()
