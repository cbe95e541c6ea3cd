"""The convolutional classifier."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skcnn._data.targets import check_classes, encode_labels, weigh_classes
from skcnn._engine.losses import MultilabelCrossEntropy
from skcnn._estimator import BaseCNN
from skcnn._training.settings import has_partial_fit
from skcnn.layers._names import leads_on


@dataclass(eq=False, repr=False, kw_only=True)
class CNNClassifier(ClassifierMixin, BaseCNN):
    """Convolutional neural network classifier, trained by backpropagation.

    The network minimises the mean weighted cross-entropy plus
    ``alpha / 2 * ||W||^2 / sum(weights)``; weights with a mean below 1 are scaled up to 1 first, so
    that small ones do not make the penalty large. Parameters that `sklearn.neural_network.MLPClassifier`
    also has mean the same here.

    Parameters
    ----------
    layers : tuple of Layer, \
            default=(Conv(32), Conv(32), MaxPool(), Conv(64), MaxPool())
        The hidden layers. The output layer follows from y, so you never write it. You can set
        parameters of a layer by names such as ``layers__0__filters``, and whole layers by names
        such as ``layers__1``.

    image_shape : tuple of int, default=None
        ``(rows, columns)`` or ``(rows, columns, channels)`` of the images in a 2-D X. With None, an
        X of three or four dimensions has the shape of its images; a 2-D X whose width is a perfect
        square holds square images of one channel; any other 2-D X holds signals, that is images of
        one row.

    standardize : bool, default=True
        Whether to subtract the weighted mean of each channel and to divide by its standard
        deviation. Both are learned in `fit`, or in the first `partial_fit` and kept afterwards.

    solver : {"adam", "adamw", "sgd", "rmsprop", "lbfgs"}, default="adam"
        The optimizer. "adamw" is Adam with `weight_decay` apart from the gradient. "lbfgs" is
        SciPy's, for small data sets: it minimises the loss of all images at once, an epoch is one
        of its iterations, and it has no learning rate, no dropout, no augmentation and no
        `partial_fit`.

    alpha : float, default=1e-4
        Strength of the L2 penalty on the coefficients.

    batch_size : int or "auto", default="auto"
        Number of images in a mini-batch. "auto" means ``min(200, n_samples)``.

    learning_rate : {"constant", "invscaling", "adaptive", "cosine", "onecycle"}, \
            default="constant"
        Schedule of the learning rate. "invscaling" divides it by ``t_ ** power_t`` after each
        epoch. "adaptive" divides it by 5 whenever the loss (or the validation score) has not
        improved for more than `n_iter_no_change` epochs, until it is below 1e-6. "cosine" and
        "onecycle" let it rise over the share `warmup` of all steps and then fall to 0 along a
        cosine within `max_iter` epochs; `tol` alone does not stop them.

    learning_rate_init : float, default=1e-3
        The learning rate; for "cosine" and "onecycle" the largest one.

    power_t : float, default=0.5
        Exponent of the schedule "invscaling".

    warmup : float, default=None
        Share of all steps over which the learning rate rises in the schedules "cosine" and
        "onecycle". None means 0 for "cosine" and 0.3 for "onecycle".

    max_iter : int, default=100
        Largest number of epochs.

    max_seconds : float, default=None
        Training stops after the first epoch that ends later than this many seconds after the start.

    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the samples, dropout, augmentation and which
        samples are held out. The same int gives the same weights, bit for bit, for every `n_jobs`.

    tol : float, default=1e-4
        Training stops when the loss, or with `early_stopping` the validation score, has not improved
        by `tol` (a score of `scoring` by this share) for more than `n_iter_no_change` epochs.

    verbose : bool or int, default=False
        With 1, the loss of each epoch is printed. With 2, a progress bar is shown if rich is
        installed.

    warm_start : bool, default=False
        Whether `fit` continues from the previous fit: weights, optimizer, schedule and random state.

    momentum : float, default=0.9
        Momentum of the solver "sgd".

    nesterovs_momentum : bool, default=True
        Whether the solver "sgd" uses Nesterov's momentum.

    early_stopping : bool, default=False
        Whether to stop by the score of samples that the network does not train on, and to keep the
        weights with the best score. These samples are `X_val` and `y_val` if you pass them to
        `fit`, else a share of X in which each class keeps its proportion.

    validation_fraction : float, default=0.1
        The share of X that `early_stopping` holds out.

    scoring : str, callable or None, default=None
        Score of the held-out samples, as `cross_val_score` takes it. None means the method `score`.

    beta_1, beta_2 : float, default=0.9 and 0.999
        Decay of the moments in the solvers "adam" and "adamw".

    epsilon : float, default=1e-8
        Number added to the denominator in the solvers "adam", "adamw" and "rmsprop".

    weight_decay : float, default=0.01
        Weight decay of the solver "adamw", which acts on the coefficients.

    clip_norm : float, default=None
        Largest Euclidean norm of a gradient; longer ones are scaled down to it.

    augment : dict, callable or None, default=None
        Random changes of the images each time the network trains on them. A dict holds names and
        strengths, such as ``{"shift": 2, "rotate": 10, "zoom": 0.1, "flip": True}``: "shift" and
        "crop" in pixels, "flip" and "flip_vertical" True or a probability, "rotate" and "shear" in
        degrees, "zoom" and "contrast" as shares, "brightness" in standard deviations, "cutout" the
        side of a square in pixels. A callable ``f(images, rng)`` takes standardised images of shape
        (n_images, rows, columns, channels) and a `numpy.random.Generator`.

    n_test_augment : int, default=0
        Number of augmented copies over which, together with the images, predictions are averaged.

    n_iter_no_change : int, default=10
        Number of epochs without an improvement by `tol` that training goes on for.

    n_jobs : int, default=None
        Number of workers. None means 1 unless in a `joblib.parallel_config` context, -1 means all
        processors. Long fits use worker processes, which are kept for later fits; short work uses
        threads.

    class_weight : dict, "balanced" or None, default=None
        Weight of each label in the loss, by which the samples' own weights are multiplied.
        "balanced" means ``n_samples / (n_classes * np.bincount(y))``. Labels that a dict leaves out
        have weight 1.

    label_smoothing : float, default=0
        Share of each target that is spread evenly over all classes.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels; for multilabel y the indices of its columns.

    coefs_ : list of ndarray
        Coefficients of the layers that have weights: shape (filters, kernel rows, kernel columns,
        channels) for a convolution, (n_in, n_out) for a dense layer.

    intercepts_ : list of ndarray
        Intercepts that belong to `coefs_`.

    running_means_, running_variances_ : list of ndarray
        Statistics that the `BatchNorm` layers predict with, one array of shape (channels,) each.

    center_, scale_ : ndarray of shape (channels,)
        What `standardize` subtracts from each channel, and then divides by; 0 and 1 without it.

    image_shape_ : tuple of int
        Rows, columns and channels of an image.

    loss_curve_, loss_ , best_loss_ : list of float, float and float
        Loss of each epoch, of the last one, and the lowest.

    validation_scores_, validation_loss_curve_ : list of float
        Score and loss of the held-out samples after each epoch.

    best_validation_score_ : float or None
        Highest of `validation_scores_`.

    n_iter_, t_ : int
        Number of epochs, and of training samples seen; an image counts once in each epoch.

    n_layers_, n_outputs_ : int
        Number of layers, input and output included, and of units of the output layer.

    out_activation_ : {"softmax", "logistic"}
        Activation of the output layer.

    n_features_in_ : int
        ``rows * columns * channels``.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X is a DataFrame with string column names.

    See Also
    --------
    CNNRegressor : The same for numbers.
    ConvFeatureExtractor : Fixed or learned filters as a transformer.
    sklearn.neural_network.MLPClassifier : Network without convolutions.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner (1998). Gradient-based learning applied to document
    recognition. Kingma and Ba (2015). Adam: a method for stochastic optimization.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcnn import CNNClassifier
    >>> digits = load_digits()
    >>> X, y = digits.images, digits.target
    >>> clf = CNNClassifier(max_iter=15, tol=0, random_state=0).fit(X[:1000], y[:1000])
    >>> clf.score(X[1000:], y[1000:]) > 0.9
    True
    """

    class_weight: dict | str | None = None
    label_smoothing: float = 0.0

    _parameter_constraints: ClassVar[dict] = {
        **BaseCNN._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    def _encode_targets(self, y, n_samples, known):
        warm = self.warm_start and "_progress" in known
        return encode_labels(y, n_samples, known, self.label_smoothing, warm=warm)

    def _weigh(self, targets, weights, in_pieces):
        return weigh_classes(self.class_weight, targets, weights, in_pieces=in_pieces)

    @available_if(has_partial_fit)
    @leads_on
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch over the given data, in mini-batches.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, rows, columns) or \
                (n_samples, rows, columns, channels)
            Images.

        y : array-like of shape (n_samples,)
            Labels.

        classes : array-like of shape (n_classes,), default=None
            All labels that any call will have; needed in the first call.

        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : CNNClassifier
            Unchanged if an error is raised.
        """
        known = vars(self) if self.__sklearn_is_fitted__() else {}
        if classes is not None:
            classes = check_classes(classes)
            if known and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"classes must be those of the first call to partial_fit, {self.classes_}. "
                    f"Got {classes} instead."
                )
        elif not known:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        known = known or {"classes_": classes}
        return self._train((X, y, sample_weight), known, 1, in_pieces=True)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`; for multilabel y those of each label by itself.
        """
        return np.ascontiguousarray(
            self._mean_outputs(X, lambda logits: self._loss.probabilities(logits.T.copy()).T)
        )

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the logarithm of `predict_proba`, finite where a probability rounds to 0.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        each = [self._loss.log_probabilities(logits.T).T for logits in self._each_outputs(X)]
        mean = logsumexp(each, axis=0) - np.log(len(each)) if len(each) > 1 else each[0]
        return np.ascontiguousarray(mean)

    def predict(self, X: ArrayLike) -> np.ndarray:
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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
