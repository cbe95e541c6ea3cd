"""What a fitted extractor does with its features: compute them, name them, map them back."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skcnn._data.images import check_images_as_fitted, float_type
from skcnn._model.trace import Trace, trace_features
from skcnn.layers._params import naming


class FeaturesMixin(TransformerMixin):
    """The half of `ConvFeatureExtractor` that comes after `fit`, which leaves it ``_learned``."""

    @property
    def filters_(self) -> np.ndarray:
        """The filters as they are applied."""
        check_is_fitted(self)
        return self._learned.features.filters

    @property
    def filter_names_(self) -> list[str]:
        """A name for each filter."""
        check_is_fitted(self)
        return self._learned.features.filter_names

    @property
    def center_(self) -> np.ndarray:
        """What is subtracted from each channel of the images."""
        check_is_fitted(self)
        return self._learned.features.model.center

    @property
    def scale_(self) -> np.ndarray:
        """What each channel of the images is then divided by."""
        check_is_fitted(self)
        return self._learned.features.model.scale

    @property
    def output_shape_(self) -> tuple[int, ...]:
        """Rows, columns and channels of the maps."""
        check_is_fitted(self)
        return self._learned.features.model.network.output_shape

    @property
    def cnn_(self):
        """The fitted network, None if `filters` is none."""
        check_is_fitted(self)
        return self._learned.cnn

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Return the features of images.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        features : ndarray of shape (n_samples, n_channels * rows * columns), or \
                (n_samples, rows, columns, n_channels) if not `flatten`
            In X's float type, float32 if X is not float.

        Raises
        ------
        ValueError
            If tables are asked for by `set_output` or `set_config`, but not `flatten`.
        """
        images = self._enter(X)
        self._check_output()
        maps = self._learned.features.model.outputs(images, self.n_jobs)
        return maps.reshape(len(maps), -1) if self.flatten else np.moveaxis(maps, 1, 3)

    def trace(self, X: ArrayLike) -> Trace:
        """Return every array on the way from images to features.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        trace : Trace
            A dict in the order of the computation, which prints itself as a table: "input",
            standardised; "0 Conv", the responses of the filters, and "0 Conv relu", their codes (of
            "triangle" the codes only); "1 MaxPool"; "output", the features as `transform` returns
            them. Maps have shape (n_images, rows, columns, channels). The arrays are copies.

        Examples
        --------
        >>> import numpy as np
        >>> from skcnn import ConvFeatureExtractor
        >>> X = np.random.default_rng(0).normal(size=(5, 8, 8))
        >>> trace = ConvFeatureExtractor("sobel", pool_grid=2).fit(X).trace(X)
        >>> list(trace)
        ['input', '0 Conv', '0 Conv relu', '1 MaxPool', 'output']
        >>> trace["0 Conv"].shape
        (5, 8, 8, 8)
        """
        images = self._enter(X)
        trace = trace_features(self._learned.features.model, images, self.activation)
        maps = list(trace.values())[-1]
        channels_first = np.moveaxis(maps, 3, 1)
        trace["output"] = channels_first.reshape(len(maps), -1) if self.flatten else maps.copy()
        return trace

    def _check_output(self):
        """Raise a `ValueError` if maps would have to be the columns of a table."""
        everywhere = {"transform": get_config()["transform_output"]}
        kind = (everywhere | getattr(self, "_sklearn_output_config", {}))["transform"]
        if not (self.flatten or kind == "default"):
            raise ValueError(
                f"flatten must be True for an output of kind {kind!r}, a table. Got False instead: call "
                "set_output(transform='default') of this extractor to have maps."
            )

    def _enter(self, X):
        """Return X as checked `Images`, ready to enter the network."""
        check_is_fitted(self)
        X = check_images_as_fitted(X, self, finite=False)
        model = self._learned.features.model
        return model.images(X, float_type(X.dtype), checked_for=type(self).__name__)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """Return a name for each feature: filter, row and column, as ``vertical_r0_c3``.

        Of an activation with two codes the one below zero is marked, as ``vertical_neg_r0_c3``.

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
        return np.asarray(self._learned.features.names(), dtype=object)

    def inverse_importance(self, values: ArrayLike, *, per_channel: bool = False) -> np.ndarray:
        """Return a heat map of the image, from what a model says of the features.

        The value of a feature is shared evenly by the positions that were pooled into it, and at
        each position by the pixels under the filter, in proportion to its absolute weights. Values
        keep their signs, and their sum.

        Parameters
        ----------
        values : array-like of shape (n_features,), (n_sets, n_features), \
                (rows, columns, n_channels) or (n_sets, rows, columns, n_channels)
            A model's ``feature_importances_`` or ``coef_``, the means of permutation importances.
            One or many sets, of a class each for example. With three or four dimensions, values of
            maps as `transform` returns them if not `flatten`.
        per_channel : bool, default=False
            Keep the channels apart: in a stack of extractors the result for the second is what the
            first takes as `values`.

        Returns
        -------
        heat_map : ndarray of shape (rows, columns) or (n_sets, rows, columns), with `per_channel` \
                (..., rows, columns, channels)
        """
        check_is_fitted(self)
        with naming("values", "an array of real numbers"):
            values = check_array(values, ensure_2d=False, allow_nd=True, input_name="values")
        return self._learned.features.heat_map(values, per_channel)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_learned")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
