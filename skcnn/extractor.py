"""The convolutional feature extractor: filters, activation and pooling as a transformer."""

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skcnn import _images
from skcnn._engine.activations import ACTIVATIONS
from skcnn._engine.geometry import pair
from skcnn._network import Network, check_layers
from skcnn._training import predict_outputs
from skcnn.filters import fixed_bank, given_bank
from skcnn.layers import AvgPool, Conv, MaxPool
from skcnn.layers.conv import check_pair

POOLS = {"max": MaxPool, "avg": AvgPool}


class ConvFeatureExtractor(TransformerMixin, BaseEstimator):
    """Convolve images with a bank of filters, activate, pool and flatten.

    Parameters
    ----------
    filters : str or array-like, default="edges"
        A bank by name: "edges" (horizontal, vertical, both diagonals, box), "sobel" (eight
        directions), "laplacian", "sharpen", "gabor"; or an array of shape (n, rows, columns) or
        (n, rows, columns, channels), or a list of 2-D arrays. A filter without channels acts on
        the mean of the image's channels.

    n_filters : int, default=None
        Number of filters of the bank "gabor"; None means 8. The other banks have a fixed number.

    kernel_size : int or (int, int), default=None
        Rows and columns of the filters of "gabor"; None means 7. The other banks are 3x3.

    stride : int or (int, int), default=1
        Step of the filters, in pixels.

    padding : {"valid", "same"}, int or (int, int), default="same"
        Zeros around the image: none, as many as keep its size, or a number on each side of rows
        and columns.

    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh"}, default="relu"

    pooling : {"max", "avg"} or None, default="max"

    pool_size : int or (int, int), default=2
        Rows and columns of the pooling window; clipped to the map.

    pool_stride : int or (int, int), default=None
        Step of the pooling window; None means `pool_size`.

    flatten : bool, default=True
        Return features of shape (n_samples, n_features), filter by filter; else maps of shape
        (n_samples, rows, columns, filters), which a next extractor takes as images.

    image_shape : tuple of int, default=None
        ``(rows, columns)`` or ``(rows, columns, channels)`` of the images in a 2-D X. None means:
        n-D input tells its own shape; 2-D input whose width is a perfect square holds square
        images of one channel; any other holds signals, images of one row.

    n_jobs : int, default=None
        Number of workers: forks of the process on Linux, threads elsewhere. None means 1 unless in
        a `joblib.parallel_config` context, -1 all processors.

    Attributes
    ----------
    filters_ : ndarray of shape (n_filters, rows, columns, channels)
        The filters as they are applied.

    filter_names_ : list of str

    image_shape_ : tuple of int
        Rows, columns and channels of the images.

    output_shape_ : tuple of int
        Rows, columns and filters of the maps.

    n_features_in_ : int
        ``rows * columns * channels``.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        If X is a DataFrame with string column names.

    See Also
    --------
    CNNClassifier : Filters learned together with the classifier.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skcnn import ConvFeatureExtractor
    >>> X, y = load_digits(return_X_y=True)
    >>> features = ConvFeatureExtractor("sobel")
    >>> features.fit_transform(X).shape
    (1797, 128)
    >>> features.get_feature_names_out()[:3].tolist()
    ['north_r0_c0', 'north_r0_c1', 'north_r0_c2']
    >>> clf = make_pipeline(features, StandardScaler(), LogisticRegression(max_iter=1000))
    >>> clf.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.9
    True
    """

    _parameter_constraints: dict = {
        "filters": [str, "array-like"],
        "n_filters": [None, Interval(Integral, 1, None, closed="left")],
        "kernel_size": [None, Interval(Integral, 1, None, closed="left"), tuple, list],
        "stride": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "padding": [
            StrOptions({"valid", "same"}),
            Interval(Integral, 0, None, closed="left"),
            tuple,
            list,
        ],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "pooling": [StrOptions(set(POOLS)), None],
        "pool_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "pool_stride": [None, Interval(Integral, 1, None, closed="left"), tuple, list],
        "flatten": ["boolean"],
        "image_shape": [None, tuple, list],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self,
        filters="edges",
        *,
        n_filters=None,
        kernel_size=None,
        stride=1,
        padding="same",
        activation="relu",
        pooling="max",
        pool_size=2,
        pool_stride=None,
        flatten=True,
        image_shape=None,
        n_jobs=None,
    ):
        self.filters = filters
        self.n_filters = n_filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.activation = activation
        self.pooling = pooling
        self.pool_size = pool_size
        self.pool_stride = pool_stride
        self.flatten = flatten
        self.image_shape = image_shape
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the shape of the images and prepare the filters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, rows, columns) or \
                (n_samples, rows, columns, channels)
            Images, of any real dtype.

        y : None
            Ignored.

        Returns
        -------
        self : ConvFeatureExtractor
            Unchanged if an error is raised.
        """
        _images.check_image_shape(self.image_shape)
        check_pair("kernel_size", self.kernel_size, 1)
        flat, told = _images.check_images(X, self)
        image_shape = _images.infer_image_shape(flat.shape[1], told, self.image_shape)
        filters, names = self._bank(image_shape[2])
        network = self._build(filters, image_shape)
        _images.check_features(self, X, flat, reset=True)
        self.filters_ = filters
        self.filter_names_ = names
        self.image_shape_ = image_shape
        self.output_shape_ = network.output_shape
        self._network = network
        return self

    def _bank(self, channels):
        """Return the filters, shape (filters, rows, columns, channels), and their names."""
        if isinstance(self.filters, str):
            size = None if self.kernel_size is None else pair(self.kernel_size)
            bank = fixed_bank(self.filters, self.n_filters, size)
            filters, names = np.stack(list(bank.values()))[..., None], list(bank)
        else:
            filters, names = given_bank(self.filters)
        if filters.shape[3] == 1 < channels and np.ndim(self.filters) != 4:
            filters = np.repeat(filters, channels, axis=3) / channels
        if filters.shape[3] != channels:
            raise ValueError(
                f"filters must have as many channels as the images, {channels}. "
                f"Got {filters.shape[3]} instead."
            )
        return filters, names

    def _build(self, filters, image_shape):
        """Return the network that convolves and pools."""
        convolution = Conv(
            len(filters),
            filters.shape[1:3],
            stride=self.stride,
            padding=self.padding,
            activation=self.activation,
        )
        layers = [convolution]
        if self.pooling is not None:
            layers.append(POOLS[self.pooling](self.pool_size, stride=self.pool_stride))
        check_layers(layers)
        return Network(layers, image_shape)

    def transform(self, X):
        """Return the features of images.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        features : ndarray of shape (n_samples, n_filters * rows * columns), or \
                (n_samples, rows, columns, n_filters) if not `flatten`
            In X's float type, float32 if X is not float.
        """
        check_is_fitted(self)
        flat = _images.check_images_as_fitted(X, self)
        dtype = _images.float_type(flat.dtype)
        channels = self.image_shape_[2]
        images = _images.Images(
            flat, self.image_shape_, np.zeros(channels), np.ones(channels), dtype
        )
        weights = np.zeros(self._network.n_weights, dtype)
        self._network.public_weights(weights)[0][0][...] = self.filters_
        maps = predict_outputs(self._network, weights, images, self.n_jobs)
        return maps.reshape(len(maps), -1) if self.flatten else np.moveaxis(maps, 1, 3)

    def get_feature_names_out(self, input_features=None):
        """Return a name for each feature: filter, row and column, as ``vertical_r0_c3``.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Not used, but checked against `feature_names_in_` or `n_features_in_`.

        Returns
        -------
        names : ndarray of str objects
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        rows, columns, _ = self.output_shape_
        return np.asarray(
            [
                f"{name}_r{row}_c{column}"
                for name in self.filter_names_
                for row in range(rows)
                for column in range(columns)
            ],
            dtype=object,
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
