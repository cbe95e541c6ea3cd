"""scikit-learn's own checks, those that it runs and those that it does not."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.layers import (
    Activation,
    AvgPool,
    Conv,
    Dense,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
)

AS_THEY_COME = [CNNClassifier(), CNNRegressor(), ConvFeatureExtractor()]
# Small nets, with steps large enough to learn the checks' blobs in few epochs.
STACKS = [
    (),
    (Dense(8),),
    (Dense(8, activation="tanh"), Dense(4, activation="leaky_relu")),
    (Conv(8), Dense(8)),
    (Conv(8, (1, 2), stride=2, padding=(0, 1), activation="tanh"), Dense(8)),
    (Dense(8, activation="logistic"),),
    (Conv(4, dilation=2), Conv(4, groups=2, activation="identity")),
    (Activation("tanh"), Dense(8)),
    (MaxPool(2, stride=1, padding="same"), Dense(8)),
    (AvgPool(2, stride=1, padding=1), Dense(8)),
    (Conv(8, activation="tanh"), GlobalMaxPool(), Dense(8)),
    (Conv(8, activation="tanh"), GlobalAvgPool()),
    (Conv(8), MaxPool(), Conv(4), AvgPool(), Dense(4)),
]
QUICK = {"learning_rate_init": 0.03, "max_iter": 60, "tol": 1e-3}
SOLVERS = [
    {"solver": "adam"},
    {"solver": "sgd"},
    {"solver": "sgd", "nesterovs_momentum": False},
    {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.2},
    {"solver": "adam", "standardize": False},
]
VARIANTS = [CNNClassifier(layers, **QUICK) for layers in STACKS]
VARIANTS += [CNNClassifier((Conv(8), Dense(8)), **{**QUICK, **solver}) for solver in SOLVERS]
VARIANTS += [
    CNNRegressor((Dense(8),), loss="absolute_error", solver="adamw", **QUICK),
    CNNRegressor((Dense(8),), loss="huber", learning_rate="adaptive", clip_norm=5, **QUICK),
    CNNClassifier((Dense(8),), solver="rmsprop", label_smoothing=0.1, **QUICK),
]
VARIANTS += [
    ConvFeatureExtractor("sobel", padding="same", pooling="avg", pool_size=3, pool_stride=2),
    ConvFeatureExtractor("gabor", n_filters=3, kernel_size=(1, 3), activation="tanh"),
    ConvFeatureExtractor([[[1, 0, -1]]], pooling=None, stride=2, n_jobs=2),
    ConvFeatureExtractor("random", n_filters=8, n_patches=200, activation="crelu"),
    ConvFeatureExtractor("patches", n_patches=200, activation="soft_threshold"),
    ConvFeatureExtractor(
        "patches", n_patches=200, activation="soft_threshold", threshold_quantile=0.5
    ),
    ConvFeatureExtractor("kmeans", n_patches=200, activation="triangle", pool_grid=(1, 3)),
    ConvFeatureExtractor("kmeans", n_patches=200, activation="crelu", padding="valid"),
    ConvFeatureExtractor("pca", kernel_size=(1, 2), n_patches=200, pool_grid=2, pooling="avg"),
    ConvFeatureExtractor("pca", n_patches=200, activation="triangle", whiten=True),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Hold `MiniBatchKMeans` to one thread: beside other jobs its threads wait for each other."""
    with threadpool_limits(1):
        yield


@parametrize_with_checks(AS_THEY_COME)
def test_as_they_come(estimator, check):
    check(estimator)


@parametrize_with_checks(VARIANTS)
def test_every_layer_and_solver(estimator, check):
    check(estimator)


NOT_RUN = [
    "check_dataframe_column_names_consistency",
    "check_param_validation",
    "check_inplace_ensure_writeable",
]
NOT_RUN_OF_TRANSFORMERS = [
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
]


@pytest.mark.parametrize("name", NOT_RUN)
@pytest.mark.parametrize("estimator", AS_THEY_COME)
def test_checks_that_are_not_run(estimator, name):
    if name == "check_dataframe_column_names_consistency":
        pytest.importorskip("pandas")
    getattr(estimator_checks, name)(type(estimator).__name__, estimator)


@pytest.mark.parametrize("name", NOT_RUN_OF_TRANSFORMERS)
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"filters": "gabor", "kernel_size": 3, "stride": 2},
        {"filters": "kmeans", "n_patches": 200, "activation": "crelu"},
    ],
)
def test_checks_of_transformers_that_are_not_run(params, name):
    for library in ("pandas", "polars"):
        if library in name:
            pytest.importorskip(library)
    getattr(estimator_checks, name)("ConvFeatureExtractor", ConvFeatureExtractor(**params))
