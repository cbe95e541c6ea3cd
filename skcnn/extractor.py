"""The convolutional feature extractor: filters, activation and pooling as a transformer."""

import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from skcnn._data import images
from skcnn._data.readings import read_integers, read_layout
from skcnn._engine.activations import ACTIVATIONS
from skcnn._estimator import BaseCNN
from skcnn._features.features import BOTH_SIGNS, POOLINGS
from skcnn._features.fitted import FeaturesMixin
from skcnn._features.learning import learn, learn_from_network, learn_more
from skcnn._workers.blas import check_n_jobs, one_thread
from skcnn.layers._params import StrictParamsMixin
from skcnn.layers.conv import check_pair
from skcnn.versions import VersionedState

_SIZE = [Interval(Integral, 1, None, closed="left"), tuple, list]


@dataclass(eq=False, repr=False)
class ConvFeatureExtractor(FeaturesMixin, StrictParamsMixin, VersionedState, BaseEstimator):
    """Convolve images with a bank of filters, encode the responses, pool and flatten.

    The filters are fixed, learned from patches of the images without labels, or those of a network.

    Parameters
    ----------
    filters : str, array-like or CNNClassifier, default="edges"
        - A fixed bank: "edges" (horizontal, vertical, both diagonals, box), "sobel" (eight
          directions), "laplacian", "sharpen", "gabor".
        - A bank learned from patches of the images: "random" (Gaussian), "patches" (some of the
          patches themselves), "kmeans" (`MiniBatchKMeans`), "pca" (`IncrementalPCA`).
        - An array of shape (n, rows, columns) or (n, rows, columns, channels), or a list of 2-D
          arrays. A filter without channels acts on the mean of the image's channels.
        - A network, whose layers before its first `Dense` become the transformer; the parameters
          below up to `pool_grid` are not used then. If it is not fitted, a clone is fitted on X
          and y. A fitted one is used as it is; `clone` and searches forget that it was fitted
          unless you wrap it in `sklearn.frozen.FrozenEstimator`.

    n_filters : int, default=None
        Number of filters of a learned bank or of "gabor". None means 64, or as many as the patches
        allow, and 8 for "gabor". The other banks have a fixed number.

    kernel_size : int or (int, int), default=None
        Rows and columns of the filters of a learned bank or of "gabor". None means 5, or as many as
        the image has, and 7 for "gabor". The other banks are 3x3.

    n_patches : int, default=100_000
        Number of patches, from random positions, that filters, whitening and quantiles are learned
        from.

    normalize : {"auto", "contrast", "mean"} or None, default="auto"
        How each patch is normalised. "mean" subtracts its mean; "contrast" also divides it by the
        root of its variance plus `contrast_epsilon`. "auto" means "contrast" for "random",
        "patches" and "kmeans", "mean" for "pca", and None for other filters.

    contrast_epsilon : float, default=0.1
        Number added to the variance of a patch, in units of the variance of all pixels.

    whiten : "auto" or bool, default="auto"
        Whether patches are whitened (ZCA); the whitening is folded into the filters. "auto" means
        True for "random", "patches" and "kmeans".

    whiten_epsilon : float, default=0.3
        Number added to the variance of each principal component, in units of their mean variance.

    stride : int or (int, int), default=1
        Step of the filters, in pixels.

    padding : {"valid", "same"}, int or (int, int), default="same"
        Zeros around the image: none, as many as keep its size, or a number on each side of rows
        and columns. Where patches are normalised or whitened, zero is the mean of all pixels.

    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh", "elu", "silu", "gelu", \
            "crelu", "soft_threshold", "triangle"}, default="relu"
        How a response z is encoded. "crelu" gives two codes, ``max(z, 0)`` and ``max(-z, 0)``, and
        so does "soft_threshold", ``max(z - t, 0)`` and ``max(-z - t, 0)``. "triangle" takes the
        filters as centres and measures how much nearer than on average each one is to the patch,
        ``max(0, mean distance - distance)``. Learned filters have length 1, except for "triangle".

    threshold : float, default=0.25
        Threshold t of "soft_threshold"; the responses of whitened patches have a variance of about 1.

    threshold_quantile : float, default=None
        If given, the threshold of each filter is this quantile of its absolute responses.

    pooling : {"max", "avg", "sum", "global_max", "global_avg", "global_sum"} or None, \
            default="max"
        How codes are pooled: over windows, over the whole map, or not at all.

    pool_size : int or (int, int), default=2
        Rows and columns of the pooling window; clipped to the map.

    pool_stride : int or (int, int), default=None
        Step of the pooling window; None means `pool_size`.

    pool_grid : int or (int, int), default=None
        Number of windows along rows and columns, in place of size and stride: images of any size
        give the same number of features. Window i of g covers positions ``floor(i * n / g)`` up to
        ``ceil((i + 1) * n / g)`` of n.

    flatten : bool, default=True
        Whether to return features of shape (n_samples, n_features), filter by filter; else maps of
        shape (n_samples, rows, columns, filters), which a next extractor takes as images.

    image_shape : tuple of int, default=None
        As in `CNNClassifier`.

    random_state : int, RandomState instance or None, default=None
        Determines which patches are drawn, and what is learned from them.

    n_jobs : int, default=None
        Number of threads. None means 1 unless in a `joblib.parallel_config` context, -1 means all
        processors.

    Attributes
    ----------
    filters_ : ndarray of shape (n_filters, rows, columns, channels)
        The filters as they are applied, whitening included; those of the first convolution if
        `filters` is a network.

    filter_names_ : list of str
        A name for each filter.

    center_, scale_ : ndarray of shape (channels,)
        What is subtracted from each channel of the images before they are filtered, and what they
        are then divided by: 0 and 1 unless patches are normalised or whitened, or `filters` is a
        network.

    cnn_ : CNNClassifier or None
        The fitted network, if `filters` is one.

    image_shape_ : tuple of int
        Rows, columns and channels of the images.

    output_shape_ : tuple of int
        Rows, columns and channels of the maps. There are as many channels as filters, or twice as
        many if each filter has two codes.

    n_features_in_ : int
        ``rows * columns * channels``.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X is a DataFrame with string column names.

    See Also
    --------
    CNNClassifier : Filters learned together with the classifier.

    References
    ----------
    Coates, Ng and Lee, "An analysis of single-layer networks in unsupervised feature learning",
    AISTATS 2011 ("kmeans", "triangle"); Coates and Ng, "The importance of encoding versus training
    with sparse coding and vector quantization", ICML 2011 ("soft_threshold", "patches").

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skcnn import ConvFeatureExtractor
    >>> digits = load_digits()
    >>> X, y = digits.images, digits.target
    >>> features = ConvFeatureExtractor(
    ...     "kmeans", n_filters=50, kernel_size=3, activation="crelu", pooling="avg", pool_grid=3,
    ...     random_state=0,
    ... )
    >>> features.fit_transform(X).shape
    (1797, 900)
    >>> features.get_feature_names_out()[:3].tolist()
    ['kmeans0_r0_c0', 'kmeans0_r0_c1', 'kmeans0_r0_c2']
    >>> clf = make_pipeline(features, StandardScaler(), RidgeClassifier(alpha=100))
    >>> clf.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.97
    True
    """

    filters: str | ArrayLike | BaseCNN | FrozenEstimator = "edges"
    _: KW_ONLY
    n_filters: int | None = None
    kernel_size: int | Sequence[int] | None = None
    n_patches: int = 100_000
    normalize: str | None = "auto"
    contrast_epsilon: float = 0.1
    whiten: str | bool = "auto"
    whiten_epsilon: float = 0.3
    stride: int | Sequence[int] = 1
    padding: str | int | Sequence[int] = "same"
    activation: str = "relu"
    threshold: float = 0.25
    threshold_quantile: float | None = None
    pooling: str | None = "max"
    pool_size: int | Sequence[int] = 2
    pool_stride: int | Sequence[int] | None = None
    pool_grid: int | Sequence[int] | None = None
    flatten: bool = True
    image_shape: Sequence[int] | None = None
    random_state: int | np.random.RandomState | None = None
    n_jobs: int | None = None

    _parameter_constraints: ClassVar[dict] = {
        "filters": [str, "array-like", BaseCNN, FrozenEstimator],
        "n_filters": [None, Interval(Integral, 1, None, closed="left")],
        "kernel_size": [None, *_SIZE],
        "n_patches": [Interval(Integral, 1, None, closed="left")],
        "normalize": [StrOptions({"auto", "contrast", "mean"}), None],
        "contrast_epsilon": [Interval(Real, 0, None, closed="neither")],
        "whiten": [StrOptions({"auto"}), "boolean"],
        "whiten_epsilon": [Interval(Real, 0, None, closed="neither")],
        "stride": _SIZE,
        "padding": [
            StrOptions({"valid", "same"}),
            Interval(Integral, 0, None, closed="left"),
            tuple,
            list,
        ],
        "activation": [StrOptions({*ACTIVATIONS, *BOTH_SIGNS, "triangle"})],
        "threshold": [Interval(Real, 0, None, closed="left")],
        "threshold_quantile": [None, Interval(Real, 0, 1, closed="both")],
        "pooling": [StrOptions(set(POOLINGS)), None],
        "pool_size": _SIZE,
        "pool_stride": [None, *_SIZE],
        "pool_grid": [None, *_SIZE],
        "flatten": ["boolean"],
        "image_shape": [None, tuple, list],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    }

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the shape of the images, and the filters that are to be learned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, rows, columns) or \
                (n_samples, rows, columns, channels)
            Images, of any real dtype.

        y : array-like of shape (n_samples,), default=None
            Ignored, unless `filters` is a network that has yet to be trained.

        Returns
        -------
        self : ConvFeatureExtractor
            Unchanged if an error is raised.
        """
        return self._start(X, y, in_pieces=False)

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X: ArrayLike, y: None = None) -> Self:
        """Learn from a further piece of the data.

        Scale, whitening and the number of filters are learned from the first piece, which should
        therefore be a fair sample of at least some thousand patches. Later pieces refine the
        filters, unless these are fixed or "random". After `fit`, learning continues from its result.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        y : None
            Ignored.

        Returns
        -------
        self : ConvFeatureExtractor
            Unchanged if an error is raised.
        """
        if not self.__sklearn_is_fitted__():
            return self._start(X, y, in_pieces=True)
        X = images.check_images_as_fitted(X, self)
        with one_thread():
            learned = learn_more(self, vars(self)["_learned"], X, self.image_shape_)
        self._learned = learned
        return self

    def _start(self, X, y, *, in_pieces):
        """Check, learn from the beginning, and keep the result once all has gone well."""
        images.check_image_shape(self.image_shape)
        check_n_jobs(self.n_jobs)
        for name in ("kernel_size", "stride", "pool_size", "pool_stride", "pool_grid"):
            check_pair(name, getattr(self, name), 1)
        check_pair("padding", self.padding, 0)
        checked, own_shape = images.check_images(X, self)
        image_shape = images.infer_image_shape(checked.shape[1], own_shape, self.image_shape)
        readings = read_layout(own_shape, image_shape, self.image_shape)
        if isinstance(self.filters, BaseCNN | FrozenEstimator):
            cnn = _fitted_network(self.filters, checked, image_shape, y, in_pieces)
            learned = learn_from_network(cnn, cnn._model)
        else:
            with one_thread():
                learned = learn(self, checked, image_shape, in_pieces=in_pieces)
            is_raw = not learned.features.model.center.any()
            readings += read_integers(checked, is_raw, "normalize='mean'")
        for reading in readings:
            warnings.warn(reading, stacklevel=4)
        images.check_features(self, X, checked, reset=True)
        self.image_shape_ = image_shape
        self._learned = learned
        return self


def _fitted_network(filters, X, image_shape, y, in_pieces):
    """Return the fitted network that `filters` is, holds or, trained on X and y, becomes."""
    cnn = filters.estimator if isinstance(filters, FrozenEstimator) else filters
    if not isinstance(cnn, BaseCNN):
        raise TypeError(f"filters must hold a CNNClassifier. Got {filters!r} instead.")
    if not cnn.__sklearn_is_fitted__():
        if in_pieces:
            raise ValueError(
                "filters must be a fitted network for partial_fit. Got one that is not fitted "
                "instead: call fit."
            )
        if y is None:
            raise ValueError(
                "y must be passed to train the network that filters is. Got None instead."
            )
        cnn = clone(cnn).set_params(image_shape=image_shape).fit(X, y).drop_optimizer()
    if cnn.image_shape_ != image_shape:
        raise ValueError(
            f"filters must be fitted on images of the shape of X, {image_shape}. "
            f"Got {cnn.image_shape_} instead."
        )
    return cnn
