"""The convolutional classifier."""

from typing import ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import (
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from skcnn._cnn import BaseCNN, Targets
from skcnn.layers import Conv, MaxPool
from skcnn.losses import BinaryCrossEntropy, CategoricalCrossEntropy


class CNNClassifier(ClassifierMixin, BaseCNN):
    """Convolutional neural network classifier, trained by backpropagation.

    Minimises the mean weighted cross-entropy plus ``alpha / 2 * ||W||^2 / sum(weights)``.
    Parameters that `sklearn.neural_network.MLPClassifier` also has mean the same here.

    Parameters
    ----------
    layers : tuple of Layer, \
            default=(Conv(32), Conv(32), MaxPool(), Conv(64), MaxPool())
        The hidden layers. The output layer follows from y and is never written. Parameters of
        layers are set by ``layers__0__filters``, whole layers by ``layers__1``.

    image_shape : tuple of int, default=None
        ``(rows, columns)`` or ``(rows, columns, channels)`` of the images in a 2-D X. None means:
        n-D input tells its own shape; 2-D input whose width is a perfect square holds square
        images of one channel; any other holds signals, images of one row.

    standardize : bool, default=True
        Subtract the weighted mean of each channel and divide by its standard deviation, learned
        in `fit` (in the first `partial_fit`, kept afterwards).

    solver : {"adam", "sgd"}, default="adam"

    alpha : float, default=1e-4
        Strength of the L2 penalty on the coefficients.

    batch_size : int or "auto", default="auto"
        Images in a mini-batch. "auto" means ``min(200, n_samples)``.

    learning_rate_init : float, default=1e-3
        Step size.

    max_iter : int, default=100
        Largest number of epochs.

    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch.

    random_state : int, RandomState instance or None, default=None
        Of the initial weights and of shuffling. The same int gives the same weights, bit for bit,
        for every `n_jobs`.

    tol : float, default=1e-4
        Training stops when the loss has not improved by `tol` for more than `n_iter_no_change`
        epochs.

    verbose : bool, default=False
        Print the loss of each epoch.

    warm_start : bool, default=False
        Let `fit` go on from the previous fit: weights, optimizer and random state.

    momentum : float, default=0.9
        Momentum of the solver "sgd".

    nesterovs_momentum : bool, default=True
        Nesterov's momentum in the solver "sgd".

    beta_1, beta_2 : float, default=0.9 and 0.999
        Decay of the moments in the solver "adam".

    epsilon : float, default=1e-8
        Added to the denominator in the solver "adam".

    n_iter_no_change : int, default=10
        Epochs without improvement that `tol` allows.

    n_jobs : int, default=None
        Number of workers: forks of the process on Linux, threads elsewhere. None means 1 unless in
        a `joblib.parallel_config` context, -1 all processors.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.

    coefs_ : list of ndarray
        Of a convolution (filters, kernel rows, kernel columns, channels), of a dense layer
        (n_in, n_out). Layers without weights have no entry.

    intercepts_ : list of ndarray
        One for each of `coefs_`.

    image_shape_ : tuple of int
        Rows, columns and channels.

    loss_ , best_loss_ : float
        Loss of the last epoch, and the lowest.

    loss_curve_ : list of float
        Loss of each epoch.

    n_iter_ : int
        Number of epochs.

    t_ : int
        Number of training samples seen.

    n_layers_ : int
        Number of layers, input and output included.

    n_outputs_ : int
        Number of outputs.

    out_activation_ : {"softmax", "logistic"}
        Activation of the output layer.

    n_features_in_ : int
        ``rows * columns * channels``.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        If X is a DataFrame with string column names.

    See Also
    --------
    ConvFeatureExtractor : Fixed filters as a transformer.
    sklearn.neural_network.MLPClassifier : Network without convolutions.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner (1998). Gradient-based learning applied to document
    recognition. Kingma and Ba (2015). Adam: a method for stochastic optimization.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcnn import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = CNNClassifier(max_iter=15, tol=0, random_state=0).fit(X[:1000], y[:1000])
    >>> clf.score(X[1000:], y[1000:]) > 0.9
    True
    """

    _default_layers: ClassVar = (
        Conv(32),
        Conv(32),
        MaxPool(),
        Conv(64),
        MaxPool(),
    )

    def __init__(
        self,
        layers=_default_layers,
        *,
        image_shape=None,
        standardize=True,
        solver="adam",
        alpha=1e-4,
        batch_size="auto",
        learning_rate_init=1e-3,
        max_iter=100,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        n_jobs=None,
    ):
        self.layers = layers
        self.image_shape = image_shape
        self.standardize = standardize
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.n_jobs = n_jobs

    def _encode_targets(self, y, n_samples, classes):
        """Return y as codes; `classes` are those known already, or None."""
        if y is None:
            raise ValueError(
                "This CNNClassifier estimator requires y to be passed, but the target y is None."
            )
        y = column_or_1d(y, warn=True)
        check_consistent_length(np.empty(n_samples), y)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        found = np.unique(y)
        if classes is None:
            classes = found
        elif self.warm_start and hasattr(self, "classes_") and not np.isin(found, classes).all():
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {classes}, `y` has {found}"
            )
        elif not np.isin(found, classes).all():
            unknown = np.setdiff1d(found, classes)
            raise ValueError(f"y must hold labels among classes, {classes}. Got {unknown} instead.")
        if len(classes) < 2:
            raise ValueError(
                "y must hold at least two classes to tell apart. Got one class only instead: "
                f"{classes[0]!r}."
            )
        loss = BinaryCrossEntropy() if len(classes) == 2 else CategoricalCrossEntropy()
        return Targets(
            values=np.searchsorted(classes, y),
            loss=loss,
            n_outputs=1 if len(classes) == 2 else len(classes),
            attributes={"classes_": classes, "_loss": loss, "out_activation_": loss.output},
        )

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one epoch over the given data, in mini-batches.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, rows, columns) or \
                (n_samples, rows, columns, channels)
            Images.

        y : array-like of shape (n_samples,)
            Labels.

        classes : array-like of shape (n_classes,), default=None
            All labels there will be; needed in the first call.

        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : CNNClassifier
            Unchanged if an error is raised.
        """
        first = not hasattr(self, "_progress")
        if classes is not None:
            classes = unique_labels(classes)
            if not first and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"classes must be those of the first call to partial_fit, {self.classes_}. "
                    f"Got {classes} instead."
                )
        elif first:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._train(X, y, sample_weight, first=first, max_iter=1, classes=classes)

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        logits = self._outputs(X)
        return np.ascontiguousarray(self._loss.probabilities(logits.T.copy()).T)

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
        logits = self._outputs(X)
        return np.ascontiguousarray(self._loss.log_probabilities(logits.T).T)

    def predict(self, X):
        """Return the most probable label of each image.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        logits = self._outputs(X)
        codes = logits.argmax(axis=1) if len(self.classes_) > 2 else (logits[:, 0] > 0).astype(int)
        return self.classes_[codes]
