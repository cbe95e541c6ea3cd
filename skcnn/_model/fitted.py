"""What a fitted network can be asked for: outputs, weights, curves, tables."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import estimator_html_repr
from sklearn.utils.validation import check_is_fitted

from skcnn._data.augment import check_augment, epoch_key
from skcnn._data.images import AugmentedImages, check_image_shape, check_images_as_fitted
from skcnn._model.network import build_network, check_layers
from skcnn._model.summary import summarize
from skcnn._model.trace import PlainNetwork, Trace, trace_network
from skcnn.layers._params import check_params
from skcnn.layers.base import POSITIVE


class FittedNetwork:
    """What comes after `fit`, which leaves the estimator a `Model` and a `Progress`."""

    def _outputs(self, X):
        """Return the network's raw outputs, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        return next(self._each_outputs(X))

    def _each_outputs(self, X):
        """Yield the raw outputs for the images, then for each augmented copy of them."""
        known_X, outputs = vars(self).get("_known_outputs", (None, None))
        if known_X is not None and X is known_X:  # while training, those of the held-out images
            yield outputs
            return
        X = check_images_as_fitted(X, self, finite=False)
        images = self._model.images(X, checked_for=type(self).__name__)
        yield self._finite_outputs(images)
        plan = check_augment(self.augment, self.image_shape_) if self.n_test_augment else None
        for number in range(1, 1 + self.n_test_augment * (plan is not None)):
            changed = AugmentedImages(images, plan, epoch_key(self._progress.seed, -number))
            yield self._finite_outputs(changed)

    def _finite_outputs(self, images):
        """Return the outputs for `Images`; raise a `ValueError` if some overflow."""
        outputs = self._model.outputs(images, self.n_jobs).reshape(len(images), -1)
        if not np.isfinite(outputs).all():
            raise ValueError(
                "X must hold images of about the same scale as those in fit. Got some whose outputs "
                "became non-finite instead."
            )
        return outputs

    def _mean_outputs(self, X, transform):
        """Return the mean of ``transform(outputs)`` over the images and their augmented copies."""
        check_is_fitted(self)
        each = [transform(outputs) for outputs in self._each_outputs(X)]
        return each[0] if len(each) == 1 else np.mean(each, axis=0)

    def summary(
        self,
        image_shape: Sequence[int] | None = None,
        *,
        n_outputs: int | None = None,
        as_frame: bool = False,
    ) -> Any:
        """Return a table of the layers: output shapes, weights, multiply-adds, memory.

        Parameters
        ----------
        image_shape : tuple of int, default=None
            ``(rows, columns)`` or ``(rows, columns, channels)``; needed before `fit`, unless the
            estimator's own parameter says it.
        n_outputs : int, default=None
            Units of the output layer before `fit`; None means 1.
        as_frame : bool, default=False
            Return a pandas DataFrame.

        Returns
        -------
        summary : Summary or DataFrame
            Prints itself. Multiply-adds are those of one image on its way forward, megabytes those
            of a layer's output for a batch.

        Examples
        --------
        >>> from skcnn import CNNClassifier
        >>> from skcnn.layers import Conv, MaxPool
        >>> CNNClassifier((Conv(8), MaxPool())).summary((28, 28), n_outputs=10)
        layer      output shape  weights  multiply-adds  MB of a batch
        --------------------------------------------------------------
        0 Conv      28 x 28 x 8       80         56,448           4.79
        1 MaxPool   14 x 14 x 8        0              0           1.20
        2 Dense      1 x 1 x 10   15,690         15,680           0.01
        --------------------------------------------------------------
        all          1 x 1 x 10   15,770         72,128           5.99
        """
        params = {"batch_size": self.batch_size, "as_frame": as_frame}
        constraints = {**self._parameter_constraints, "as_frame": ["boolean"]}
        check_params(params, constraints, "summary")
        network = self._network(image_shape, n_outputs)
        dtype = self._model.weights.dtype if self.__sklearn_is_fitted__() else np.float32
        batch_size = 200 if self.batch_size == "auto" else self.batch_size
        table = summarize(network, dtype, batch_size)
        return table.frame() if as_frame else table

    def _network(self, image_shape, n_outputs):
        """Return the network; before `fit` as the parameters and these two numbers describe it."""
        check_params({"n_outputs": n_outputs}, {"n_outputs": [POSITIVE, None]}, "summary")
        if self.__sklearn_is_fitted__() and image_shape is None:
            return self._model.network
        check_params({"layers": self.layers}, self._parameter_constraints, type(self).__name__)
        shape = self.image_shape if image_shape is None else image_shape
        if shape is None:
            raise ValueError("image_shape must be given before fit. Got None instead.")
        check_image_shape(shape)
        check_layers(self.layers)
        return build_network(self.layers, (*shape, 1)[:3], n_outputs or 1)

    def trace(self, X: ArrayLike) -> Trace:
        """Return every array on the way of images through the network.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        trace : Trace
            A dict in the order of the computation, which prints itself as a table. "input" is what
            enters the first layer, standardised. "0 Conv" is the output of that layer before its
            activation and "0 Conv relu" behind it, of shape (n_images, rows, columns, channels);
            of a dense layer it is (n_images, units). "output" holds the logits or the numbers of a
            regressor, "output softmax" the probabilities. The arrays are copies, in the float type
            of the weights.

        Examples
        --------
        >>> import numpy as np
        >>> from skcnn import CNNClassifier
        >>> from skcnn.layers import Conv, MaxPool
        >>> X, y = np.random.default_rng(0).normal(size=(20, 6, 6)), np.arange(20) % 3
        >>> clf = CNNClassifier((Conv(4), MaxPool()), max_iter=1).fit(X, y)
        >>> trace = clf.trace(X[:2])
        >>> for name, array in trace.items():
        ...     print(name, array.shape)
        input (2, 6, 6, 1)
        0 Conv (2, 6, 6, 4)
        0 Conv relu (2, 6, 6, 4)
        1 MaxPool (2, 3, 3, 4)
        output (2, 3)
        output softmax (2, 3)
        """
        check_is_fitted(self)
        X = check_images_as_fitted(X, self)
        model = self._model
        plain = PlainNetwork(model.network, model.weights, output="output")
        return trace_network(plain, model.images(X), vars(self)["_loss"])

    def drop_optimizer(self) -> Self:
        """Forget what only further training needs: the moments of the optimizer.

        With Adam they are twice as large as the weights, so that a pickle shrinks to a third. With
        `early_stopping` the last weights are forgotten too; those with the best score stay.
        Predictions do not change. `partial_fit`, and `fit` with `warm_start`, go on from these
        weights with new moments and the parameters that the solver has then; the learning rate goes
        on as if nothing had happened.

        Returns
        -------
        self : estimator instance

        Examples
        --------
        >>> import pickle
        >>> from sklearn.datasets import load_digits
        >>> from skcnn import CNNClassifier
        >>> digits = load_digits()
        >>> X, y = digits.images, digits.target
        >>> clf = CNNClassifier(max_iter=2, random_state=0).fit(X[:200], y[:200])
        >>> before = len(pickle.dumps(clf))
        >>> len(pickle.dumps(clf.drop_optimizer())) < 0.4 * before
        True
        """
        check_is_fitted(self)
        vars(self)["_progress"] = self._progress.without_optimizer()
        return self

    def _html_repr(self):
        """Return scikit-learn's HTML; of a fitted estimator with the table of its layers below."""
        html = estimator_html_repr(self)
        return html + self.summary()._repr_html_() if self.__sklearn_is_fitted__() else html

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Coefficients of the layers that have them, as views: changes to them take effect."""
        check_is_fitted(self)
        return self._model.public_weights()[0]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Intercepts of the layers that have them, as views: changes to them take effect."""
        check_is_fitted(self)
        return self._model.public_weights()[1]

    @property
    def running_means_(self) -> list[np.ndarray]:
        """Means that each `BatchNorm` predicts with, as views: changes to them take effect."""
        check_is_fitted(self)
        return self._model.running_statistics()[0]

    @property
    def running_variances_(self) -> list[np.ndarray]:
        """Variances that each `BatchNorm` predicts with, as views: changes to them take effect."""
        check_is_fitted(self)
        return self._model.running_statistics()[1]

    @property
    def center_(self) -> np.ndarray:
        """What is subtracted from each channel of the images; 0 if not `standardize`."""
        check_is_fitted(self)
        return self._model.center

    @property
    def scale_(self) -> np.ndarray:
        """What each channel of the images is then divided by; 1 if not `standardize`."""
        check_is_fitted(self)
        return self._model.scale

    @property
    def loss_curve_(self) -> list[float]:
        """Mean loss of each epoch."""
        check_is_fitted(self)
        return self._progress.loss_curve

    @property
    def loss_(self) -> float:
        """Mean loss of the last epoch."""
        return self.loss_curve_[-1]

    @property
    def best_loss_(self) -> float:
        """Lowest mean loss of an epoch."""
        check_is_fitted(self)
        return self._progress.best_loss

    @property
    def validation_scores_(self) -> list[float]:
        """Score of the samples held out after each epoch, empty if there are none."""
        check_is_fitted(self)
        return self._progress.validation_scores

    @property
    def validation_loss_curve_(self) -> list[float]:
        """Mean loss of the samples held out after each epoch, empty if there are none."""
        check_is_fitted(self)
        return self._progress.validation_losses

    @property
    def best_validation_score_(self) -> float | None:
        """Highest of `validation_scores_`; None if there are none."""
        return max(self.validation_scores_, default=None)

    @property
    def n_iter_(self) -> int:
        """Number of epochs."""
        return len(self.loss_curve_)

    @property
    def t_(self) -> int:
        """Number of training samples seen, an image counting once an epoch."""
        check_is_fitted(self)
        return self._progress.n_samples_seen

    @property
    def n_layers_(self) -> int:
        """Number of layers, input and output included."""
        check_is_fitted(self)
        return len(self._model.network.shapes)

    @property
    def n_outputs_(self) -> int:
        """Number of outputs."""
        check_is_fitted(self)
        return self._model.network.output_shape[2]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_progress")
