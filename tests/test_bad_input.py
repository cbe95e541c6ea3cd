"""Bad input: a clear error, and an estimator that is as it was, fitted or not."""

import joblib
import numpy as np
import pytest
from scipy import sparse

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.layers import Conv, Dense, GlobalAvgPool, MaxPool

N = 12
IMAGES = np.random.default_rng(0).normal(size=(N, 4, 5, 2))
Y = np.arange(N) % 3


def state(estimator):
    return sorted(vars(estimator)), joblib.hash(vars(estimator))


def images(value=None, **changes):
    """Return the images with one bad value."""
    X = IMAGES.copy()
    X[1, 2, 3, 1] = value
    return X


def network(**params):
    params = {"layers": (Conv(2), MaxPool(), Dense(3)), "max_iter": 2, "random_state": 0, **params}
    return CNNClassifier(**params)


BAD_X = {
    "NaN": (images(np.nan), "Input X contains NaN"),
    "inf": (images(np.inf), "Input X contains infinity"),
    "NaN, flat": (images(np.nan).reshape(N, -1), "Input X contains NaN"),
    "float32 inf": (images(-np.inf).astype(np.float32), "Input X contains infinity"),
    "sparse": (sparse.csr_array(np.ones((N, 40))), "Sparse data was passed"),
    "1-D": (np.ones(N), "Expected 2D array, got 1D array"),
    "scalar": (np.float64(3), "Expected 2D array, got scalar array"),
    "5-D": (np.ones((N, 4, 5, 2, 1)), "X must have shape .*5 dimensions"),
    "no samples": (np.ones((0, 40)), "Found array with 0 sample"),
    "no images": (np.ones((0, 4, 5, 2)), "Found array with 0 sample"),
    "no features": (np.ones((N, 0)), "0 feature"),
    "no rows": (np.ones((N, 0, 5)), r"0 feature|images of shape .* Got \(0, 5, 1\)"),
    "empty list": ([], "Expected 2D array, got 1D array"),
    "complex": (IMAGES * 1j, "Complex data not supported"),
    "complex, flat": (np.ones((N, 40)) * 1j, "Complex data not supported"),
    "strings": (np.full((N, 40), "a"), "could not convert string to float|dtype='numeric'"),
    "object strings": (
        np.full((N, 40), "a", dtype=object),
        "could not convert string to float|must be an array of real numbers|dtype='numeric'",
    ),
    "object string images": (
        np.full((N, 4, 5, 2), "a", dtype=object),
        "could not convert string to float|must be an array of real numbers|dtype='numeric'",
    ),
    "dates": (np.full((N, 40), np.datetime64("2026-01-01")), "real numbers|numeric|DType"),
    "ragged": ([[1, 2], [3]] * (N // 2), "inhomogeneous|sequence"),
}
bad_x = pytest.mark.parametrize(("X", "message"), BAD_X.values(), ids=BAD_X.keys())
BOTH = pytest.mark.parametrize("kind", ["CNNClassifier", "ConvFeatureExtractor"])


def made(kind, **params):
    return network(**params) if kind == "CNNClassifier" else ConvFeatureExtractor(**params)


def check(estimator, message, call, error=(ValueError, TypeError)):
    before = state(estimator)
    with pytest.raises(error, match=message):
        call(estimator)
    assert state(estimator) == before


@BOTH
@bad_x
def test_x_in_fit(kind, X, message):
    check(made(kind), message, lambda e: e.fit(X, Y))


@BOTH
@bad_x
def test_x_when_fitted(kind, X, message):
    estimator = made(kind).fit(IMAGES, Y)
    use = estimator.transform if kind == "ConvFeatureExtractor" else estimator.predict
    check(estimator, message, lambda e: use(X))
    check(estimator, message, lambda e: e.fit(X, Y))


@bad_x
def test_x_in_training_that_goes_on(X, message):
    clf = network(warm_start=True).fit(IMAGES, Y)
    check(clf, message, lambda e: e.fit(X, Y))
    check(clf, message, lambda e: e.partial_fit(X, Y))
    check(network(), message, lambda e: e.partial_fit(X, Y, classes=[0, 1, 2]))


@BOTH
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 5, 3), r"images of shape \(4, 5, 2\), as in fit. Got \(4, 5, 3\) instead"),
        ((5, 4, 2), r"images of shape \(4, 5, 2\), as in fit. Got \(5, 4, 2\) instead"),
        ((4, 10), r"images of shape \(4, 5, 2\), as in fit. Got \(4, 10, 1\) instead"),
        ((39,), "X has 39 features, but .* is expecting 40 features"),
    ],
)
def test_another_image_shape_when_fitted(kind, shape, message):
    estimator = made(kind).fit(IMAGES, Y)
    X = np.ones((3, *shape))
    calls = [estimator.transform] if kind == "ConvFeatureExtractor" else [
        estimator.predict, estimator.predict_proba, estimator.predict_log_proba,
        lambda X: estimator.score(X, [0, 1, 2]), lambda X: estimator.partial_fit(X, [0, 1, 2]),
        lambda X: estimator.set_params(warm_start=True).fit(X, [0, 1, 2]),
    ]  # fmt: skip
    estimator.set_params(**({"warm_start": True} if kind == "CNNClassifier" else {}))
    for call in calls:
        check(estimator, message, lambda e, call=call: call(X))
    flat = made(kind, image_shape=(4, 5, 2)).fit(IMAGES.reshape(N, -1), Y)
    use = flat.transform if kind == "ConvFeatureExtractor" else flat.predict
    check(flat, message, lambda e: use(X))


@BOTH
@pytest.mark.parametrize(
    ("image_shape", "message"),
    [
        ((4, 4), r"image_shape must .* 40. Got \(4, 4\) instead, which multiplies to 16"),
        ((4, 5, 3), r"image_shape must .* 40. Got \(4, 5, 3\) instead, which multiplies to 60"),
        ((40,), r"image_shape must be \(rows, columns\).*Got \(40,\)"),
        ((4, 5, 2, 1), r"image_shape must be \(rows, columns\)"),
        ((8, -5), r"image_shape must be .*positive ints"),
        ((8.0, 5.0), r"image_shape must be .*positive ints"),
        (("8", "5"), r"image_shape must be .*positive ints"),
        (40, r"'image_shape' parameter of .* must be"),
    ],
)
def test_image_shape(kind, image_shape, message):
    flat = IMAGES.reshape(N, -1)
    check(made(kind, image_shape=image_shape), message, lambda e: e.fit(flat, Y))
    fitted = made(kind).fit(flat, Y).set_params(image_shape=image_shape)
    check(fitted, message, lambda e: e.fit(flat, Y))


@BOTH
def test_image_shape_against_images_that_tell_their_own(kind):
    message = r"image_shape must be the shape of the images in X, \(4, 5, 2\). Got \(5, 4, 2\)"
    check(made(kind, image_shape=(5, 4, 2)), message, lambda e: e.fit(IMAGES, Y))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Conv(2), Conv(2, 7, padding="valid")), r"layers\[1\] Conv: kernel_size=\(7, 7\) exceeds "
         r"its 4x5 input \(padding='valid'\)"),
        ((MaxPool(), Dense(2), Conv(2, (1, 4), padding=1)), r"layers\[2\] Conv: "
         r"kernel_size=\(1, 4\) exceeds its 1x1 input \(padding=1\)"),
        ((Conv(3, groups=2),), r"layers\[0\] Conv: groups=2 must divide the number of filters"),
        ((Conv(2), Conv(0)), r"layers\[1\] Conv: .*'filters'.*Got 0"),
        ((MaxPool(2, padding=2),), r"layers\[0\] MaxPool: padding must be smaller than pool_size"),
        ((Dense(3), Dense("3")), r"layers\[1\] Dense: .*'units'.*Got '3'"),
        ((Dense(3, activation="step"),), r"layers\[0\] Dense: .*'activation'.*Got 'step'"),
        ((Conv(2), 16), r"layers\[1\] must be a layer, such as .*Got 16 instead"),
        (("conv",), r"layers\[0\] must be a layer.*Got 'conv'"),
        ((Conv(2), None), r"layers\[1\] must be a layer.*Got None"),
        ((GlobalAvgPool,), r"layers\[0\] must be a layer.*GlobalAvgPool"),
        (Conv(2), "'layers' parameter of CNNClassifier must be"),
        ("conv", "'layers' parameter of CNNClassifier must be"),
    ],
)  # fmt: skip
def test_layers(layers, message):
    check(network(layers=layers), message, lambda e: e.fit(IMAGES, Y))
    check(network(layers=layers), message, lambda e: e.partial_fit(IMAGES, Y, classes=[0, 1, 2]))
    check(network().fit(IMAGES, Y).set_params(layers=layers), message, lambda e: e.fit(IMAGES, Y))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"filters": "edge"}, r"'edges', 'gabor', 'kmeans', 'laplacian', .*, 'sobel'\]. Got 'edge'"),
        ({"filters": np.ones(3)}, r"filters must have shape .*Got shape \(3,\)"),
        ({"filters": np.ones((3, 3))}, r"filters must have shape .*Got shape \(3, 3\)"),
        ({"filters": np.ones((1, 2, 3, 2, 1))}, r"filters must have shape .*\(1, 2, 3, 2, 1\)"),
        ({"filters": np.ones((0, 3, 3))}, r"filters must have shape .*\(0, 3, 3\)"),
        ({"filters": [np.ones((3, 3)), np.ones((2, 2))]}, r"shapes \(3, 3\), \(2, 2\)"),
        ({"filters": np.full((1, 2, 2), np.nan)}, "filters must be finite"),
        ({"filters": np.ones((1, 3, 3, 3))}, "as many channels as the images, 2. Got 3"),
        ({"filters": np.ones((1, 3, 3, 1))}, "as many channels as the images, 2. Got 1"),
        ({"filters": np.ones((1, 5, 6)), "padding": "valid"},
         r"Conv: kernel_size=\(5, 6\) exceeds its 4x5 input"),
        ({"n_filters": 4}, "n_filters must be None or 5 for filters='edges'. Got 4"),
        ({"filters": "sobel", "kernel_size": 5}, "kernel_size must be None or 3 .*'sobel'"),
        ({"pooling": "min"}, "'pooling' parameter of ConvFeatureExtractor must be"),
        ({"activation": "sign"}, "'activation' parameter of ConvFeatureExtractor must be"),
        ({"stride": 0}, "'stride' parameter of ConvFeatureExtractor must be"),
        ({"stride": (1, 0)}, "stride must be an int or a pair"),
        ({"pool_size": (2,)}, "pool_size must be an int or a pair"),
        ({"filters": "gabor", "kernel_size": (3, 0)}, "kernel_size must be"),
        ({"filters": "gabor", "kernel_size": (3,)}, "kernel_size must be"),
        ({"filters": "kmeans", "kernel_size": (3, 0)}, "kernel_size must be an int or a pair"),
        ({"filters": "pca", "kernel_size": (5, 6), "padding": "valid"},
         r"kernel_size=\(5, 6\) exceeds its 4x5 input"),
        ({"filters": "pca", "n_filters": 13}, "n_filters must be at most 12 .*Got 13"),
        ({"filters": "patches", "n_filters": 9, "n_patches": 8}, "n_filters must be at most 8 "),
        ({"filters": network()}, "y must be passed to train the network"),
        ({"normalize": "zscore"}, "'normalize' parameter of ConvFeatureExtractor must be"),
        ({"normalize": True}, "'normalize' parameter of ConvFeatureExtractor must be"),
        ({"contrast_epsilon": 0}, "'contrast_epsilon' parameter of ConvFeatureExtractor must be"),
        ({"whiten": "zca"}, "'whiten' parameter of ConvFeatureExtractor must be"),
        ({"whiten": None}, "'whiten' parameter of ConvFeatureExtractor must be"),
        ({"whiten_epsilon": 0}, "'whiten_epsilon' parameter of ConvFeatureExtractor must be"),
        ({"threshold": -0.1}, "'threshold' parameter of ConvFeatureExtractor must be"),
        ({"threshold": np.nan}, "'threshold' parameter of ConvFeatureExtractor must be"),
        ({"threshold_quantile": 1.1}, "'threshold_quantile' parameter of Conv.* must be"),
        ({"n_patches": 0}, "'n_patches' parameter of ConvFeatureExtractor must be"),
        ({"n_patches": 10.0}, "'n_patches' parameter of ConvFeatureExtractor must be"),
        ({"n_patches": None}, "'n_patches' parameter of ConvFeatureExtractor must be"),
        ({"pooling": "mean"}, "'pooling' parameter of ConvFeatureExtractor must be"),
        ({"pooling": "global"}, "'pooling' parameter of ConvFeatureExtractor must be"),
        ({"pool_grid": 0}, "'pool_grid' parameter of ConvFeatureExtractor must be"),
        ({"pool_grid": (2, 0)}, "pool_grid must be an int or a pair"),
        ({"pool_grid": (2, 2, 2)}, "pool_grid must be an int or a pair"),
        ({"pool_stride": (1, 0)}, "pool_stride must be an int or a pair"),
        ({"filters": "kmeans", "stride": (1, 0)}, "stride must be an int or a pair"),
        ({"filters": "patches", "stride": (1, 2, 3)}, "stride must be an int or a pair"),
        ({"filters": "random", "padding": (1, -1)}, "padding must be an int or a pair"),
        ({"pool_grid": 2, "padding": (1,)}, "padding must be an int or a pair"),
    ],
)  # fmt: skip
def test_extractor_parameters(params, message):
    check(ConvFeatureExtractor(**params), message, lambda e: e.fit(IMAGES))
    fitted = ConvFeatureExtractor().fit(IMAGES).set_params(**params)
    check(fitted, message, lambda e: e.fit(IMAGES))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(N), "one class"),
        (["a"] * N, "one class only instead: 'a'"),
        (Y[:-1], r"inconsistent numbers of samples: \[12, 11\]"),
        (None, "requires y to be passed, but the target y is None"),
        (np.where(Y == 1, np.nan, Y), "Input y contains NaN"),
        (np.linspace(0, 1, N), "Unknown label type: continuous|continuous"),
        (np.arange(2 * N).reshape(N, 2), "y should be a 1d array"),
    ],
    ids=["one class", "one string", "shorter", "None", "NaN", "continuous", "2-D"],
)
def test_y(y, message):
    check(network(), message, lambda e: e.fit(IMAGES, y))
    check(network().fit(IMAGES, Y), message, lambda e: e.fit(IMAGES, y))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.where(Y == 1, -1.0, 1.0), "[Nn]egative values in data passed to `sample_weight`"),
        (np.zeros(N), "sample_weight must have a positive sum|zero"),
        (np.where(Y == 1, np.nan, 1.0), "Input sample_weight contains NaN"),
        (np.ones(N - 1), r"sample_weight.shape == \(11,\)"),
        (np.ones((N, 2)), "[Ss]ample.weights? must be 1D"),
    ],
    ids=["negative", "zeros", "NaN", "shorter", "2-D"],
)
def test_sample_weight(weights, message):
    check(network(), message, lambda e: e.fit(IMAGES, Y, weights))
    clf = network().fit(IMAGES, Y)
    check(clf, message, lambda e: e.fit(IMAGES, Y, weights))
    check(clf, message, lambda e: e.partial_fit(IMAGES, Y, sample_weight=weights))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.partial_fit(IMAGES, Y, classes=[0, 1]), "classes must be those of the first"),
        (lambda e: e.partial_fit(IMAGES, Y + 1), r"y must hold labels among classes.*Got \[3\]"),
        (lambda e: e.fit(IMAGES, Y + 1), "same classes as in the previous call to fit"),
    ],
)
def test_classes_that_change(call, message):
    check(network(warm_start="fit" in message).fit(IMAGES, Y), message, call)


def test_first_partial_fit_needs_classes():
    check(network(), "classes must be passed on the first", lambda e: e.partial_fit(IMAGES, Y))
    message = r"y must hold labels among classes, \[0 1\]. Got \[2\]"
    check(network(), message, lambda e: e.partial_fit(IMAGES, Y, classes=[0, 1]))


def test_a_loss_that_explodes():
    message = "loss or the weights became non-finite in epoch .*Lower learning_rate_init"
    layers = (Dense(20, activation="identity"),) * 3
    params = {"layers": layers, "solver": "sgd", "learning_rate_init": 1e30, "max_iter": 50}
    with np.errstate(all="ignore"):
        check(network(**params), message, lambda e: e.fit(IMAGES, Y))
        clf = network(layers=layers).fit(IMAGES, Y).set_params(**params)
        check(clf, message, lambda e: e.fit(IMAGES, Y))
        clf = network(**params | {"learning_rate_init": 0.1, "max_iter": 1}).fit(IMAGES, Y)
        clf.set_params(learning_rate_init=1e30, max_iter=50, warm_start=True)
        check(clf, message, lambda e: e.fit(IMAGES, Y))


def test_layers_that_change_between_warm_starts():
    clf = network(warm_start=True).fit(IMAGES, Y).set_params(layers__0__filters=3)
    check(clf, "layers must have weights of the same shapes", lambda e: e.fit(IMAGES, Y))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", -1), ("batch_size", 0), ("batch_size", "all"),
        ("learning_rate_init", 0), ("max_iter", 0), ("max_iter", 1.5), ("shuffle", "yes"),
        ("random_state", "a"), ("tol", -1), ("momentum", 2), ("beta_1", 1), ("beta_2", -0.1),
        ("epsilon", 0), ("n_iter_no_change", 0), ("n_jobs", 1.5), ("standardize", 2),
    ],
)  # fmt: skip
def test_classifier_parameters(name, value):
    message = f"The '{name}' parameter of CNNClassifier must be .*Got {value!r}"
    check(network(**{name: value}), message, lambda e: e.fit(IMAGES, Y))


@pytest.mark.parametrize(
    "name",
    ["coefs_", "intercepts_", "loss_", "loss_curve_", "best_loss_", "n_iter_", "t_", "n_outputs_"],
)
def test_fitted_attributes_need_a_fit(name):
    with pytest.raises((AttributeError, ValueError), match="not fitted"):
        getattr(network(), name)
    assert not hasattr(network(), name)
