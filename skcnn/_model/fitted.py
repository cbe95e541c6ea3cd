"""What a fitted network tells: outputs, weights, curves."""

import numpy as np
from sklearn.utils import estimator_html_repr
from sklearn.utils.validation import check_is_fitted

from skcnn._data import images as _images
from skcnn._data.augment import check_augment, epoch_key
from skcnn._engine.losses import MultilabelCrossEntropy
from skcnn._model.forward import predict_outputs
from skcnn._model.network import check_layers
from skcnn._model.summary import summarize
from skcnn._model.trace import PlainNetwork, trace_network


class FittedMixin:
    """The half of an estimator that comes after `fit`, which leaves it ``_progress``."""

    def _outputs(self, X):
        """Return the network's raw outputs, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        if hasattr(self, "_told_outputs"):  # a view of an estimator that is being trained
            return self._told_outputs
        return next(self._each_outputs(X))

    def _each_outputs(self, X):
        """Yield the raw outputs for the images, then for each augmented copy of them."""
        flat = _images.check_images_as_fitted(X, self, finite=False)
        weights = self._weights
        how = self.image_shape_, self._center, self._scale, weights.dtype
        images = _images.Images(flat, *how, self)
        plan = check_augment(self.augment, self.image_shape_) if self.n_test_augment else None
        for copy in range(1 + self.n_test_augment * (plan is not None)):
            if copy:
                key = epoch_key(self._progress.seed, -copy)
                images = _images.AugmentedImages(images if copy == 1 else images.images, plan, key)
            outputs = predict_outputs(self._network, weights, images, self.n_jobs)
            yield outputs.reshape(len(flat), -1)

    def _mean_outputs(self, X, transform):
        """Return the mean of ``transform(outputs)`` over the images and their augmented copies."""
        check_is_fitted(self)
        if hasattr(self, "_told_outputs"):
            return transform(self._told_outputs)
        each = [transform(outputs) for outputs in self._each_outputs(X)]
        return each[0] if len(each) == 1 else np.mean(each, axis=0)

    @property
    def _weights(self):
        """The vector of weights to predict with: after early stopping the best, else the last."""
        best = self._progress.best_weights
        return self._progress.weights if best is None else best

    def summary(self, image_shape=None, *, n_outputs=None, as_frame=False):
        """Return a table of the layers: output shapes, weights, multiply-adds, memory.

        Parameters
        ----------
        image_shape : tuple of int, default=None
            ``(rows, columns)`` or ``(rows, columns, channels)``; needed before `fit`, unless the
            estimator's own parameter tells it.
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
        dtype = np.float32
        if self.__sklearn_is_fitted__() and image_shape is None:
            network, dtype = self._network, self._weights.dtype
        else:
            shape = self.image_shape if image_shape is None else image_shape
            if shape is None:
                raise ValueError("image_shape must be given before fit. Got None instead.")
            _images.check_image_shape(shape)
            check_layers(self.layers)
            network = self._build((*shape, 1)[:3], n_outputs or 1)
        batch_size = 200 if self.batch_size == "auto" else self.batch_size
        table = summarize(network, dtype, batch_size)
        return table.frame() if as_frame else table

    def trace(self, X):
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
        flat = _images.check_images_as_fitted(X, self)
        weights = self._weights
        images = _images.Images(flat, self.image_shape_, self._center, self._scale, weights.dtype)
        plain = PlainNetwork(self._network, weights, output="output")
        return trace_network(plain, images, self.out_activation_)

    def _html_repr(self):
        """Return scikit-learn's HTML; of a fitted estimator with the table of its layers below."""
        html = estimator_html_repr(self)
        return html + self.summary()._repr_html_() if self.__sklearn_is_fitted__() else html

    @property
    def coefs_(self):
        """Coefficients of the layers that have them, as views: changes to them take effect."""
        check_is_fitted(self)
        return self._network.public_weights(self._weights)[0]

    @property
    def intercepts_(self):
        """Intercepts of the layers that have them, as views: changes to them take effect."""
        check_is_fitted(self)
        return self._network.public_weights(self._weights)[1]

    @property
    def loss_curve_(self):
        """Mean loss of each epoch."""
        check_is_fitted(self)
        return self._progress.loss_curve

    @property
    def loss_(self):
        """Mean loss of the last epoch."""
        return self.loss_curve_[-1]

    @property
    def best_loss_(self):
        """Lowest mean loss of an epoch."""
        check_is_fitted(self)
        return self._progress.best_loss

    @property
    def validation_scores_(self):
        """Score of the samples held out after each epoch, empty if there are none."""
        check_is_fitted(self)
        return self._progress.validation_scores

    @property
    def validation_loss_curve_(self):
        """Mean loss of the samples held out after each epoch, empty if there are none."""
        check_is_fitted(self)
        return self._progress.validation_losses

    @property
    def best_validation_score_(self):
        """Highest of `validation_scores_`; None if there are none."""
        return max(self.validation_scores_, default=None)

    @property
    def n_iter_(self):
        """Number of epochs."""
        return len(self.loss_curve_)

    @property
    def t_(self):
        """Number of training samples seen, an image counting once an epoch."""
        check_is_fitted(self)
        return self._progress.n_samples_seen

    @property
    def n_layers_(self):
        """Number of layers, input and output included."""
        check_is_fitted(self)
        return len(self._network.shapes)

    @property
    def n_outputs_(self):
        """Number of outputs."""
        check_is_fitted(self)
        return self._network.output_shape[2]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_progress")


class ClassProbabilities:
    """What a fitted classifier says of images."""

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`; of multilabel y each label's own.
        """
        return np.ascontiguousarray(
            self._mean_outputs(X, lambda logits: self._loss.probabilities(logits.T.copy()).T)
        )

    def predict_log_proba(self, X):
        """Return the logarithm of `predict_proba`, finite where a probability rounds to 0.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
        """
        if self.n_test_augment:
            return np.log(self.predict_proba(X))
        logits = self._outputs(X)
        return np.ascontiguousarray(self._loss.log_probabilities(logits.T).T)

    def predict(self, X):
        """Return the most probable label of each image, or which of many labels are probable.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, n_labels)
        """
        check_is_fitted(self)
        if self.n_test_augment and self.augment is not None:
            probabilities = self.predict_proba(X)
            if isinstance(self._loss, MultilabelCrossEntropy):
                return (probabilities > 0.5).astype(int)
            return self.classes_[probabilities.argmax(axis=1)]
        logits = self._outputs(X)
        if isinstance(self._loss, MultilabelCrossEntropy):
            return (logits > 0).astype(int)
        codes = logits.argmax(axis=1) if len(self.classes_) > 2 else (logits[:, 0] > 0).astype(int)
        return self.classes_[codes]
