"""The convolutional regressor."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skcnn._data.targets import encode_numbers
from skcnn._engine.losses import AbsoluteError, HuberLoss, PoissonLoss, SquaredError
from skcnn._estimator import BaseCNN
from skcnn._training.settings import has_partial_fit
from skcnn.layers._names import leads_on


@dataclass(eq=False, repr=False, kw_only=True)
class CNNRegressor(RegressorMixin, BaseCNN):
    """Convolutional neural network regressor, trained by backpropagation.

    The network minimises the mean weighted loss plus ``alpha / 2 * ||W||^2 / sum(weights)``, of each
    output in units of its own: its deviation from the weighted mean of y, divided by the weighted
    standard deviation, or for "poisson" the logarithm of its ratio to the mean. Results therefore do
    not depend on the scale of y. Predictions, losses and scores are in the units of y. Apart from
    that, parameters that `sklearn.neural_network.MLPRegressor` also has mean the same here.

    Parameters
    ----------
    layers, image_shape, standardize, solver, alpha, batch_size, learning_rate, \
            learning_rate_init, power_t, warmup, max_iter, max_seconds, shuffle, random_state, \
            tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
            validation_fraction, scoring, beta_1, beta_2, epsilon, weight_decay, clip_norm, \
            augment, n_test_augment, n_iter_no_change, n_jobs
        As in `CNNClassifier`, which describes them. `standardize` concerns X. `tol` is relative: it
        counts for a loss in the outputs' own units.

    loss : {"squared_error", "absolute_error", "huber", "poisson"}, default="squared_error"
        Loss of an output; the losses of several outputs are added. "huber" is squared up to `delta`
        and linear beyond; "poisson" is for counts, and predicts by the exponential function.

    delta : float, default=1.0
        Where the loss "huber" becomes linear, in units of y.

    Attributes
    ----------
    coefs_, intercepts_, running_means_, running_variances_, center_, scale_, image_shape_, \
            loss_, best_loss_, loss_curve_, validation_scores_, validation_loss_curve_, \
            best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, n_features_in_, \
            feature_names_in_
        As in `CNNClassifier`.

    y_center_, y_scale_ : ndarray of shape (n_outputs,)
        What the outputs of the last layer, of which `coefs_` holds the weights, are multiplied by
        and what is then added to give predictions: the weighted standard deviations and means of y.
        For "poisson", predictions are `y_scale_`, the means, times the exponential of the outputs.
        Both are learned in `fit`, or in the first `partial_fit` and kept afterwards.

    out_activation_ : {"identity", "exponential"}
        Activation of the output layer.

    See Also
    --------
    CNNClassifier : The same for labels.

    Examples
    --------
    How bright is the upper half of a digit?

    >>> from sklearn.datasets import load_digits
    >>> from skcnn import CNNRegressor
    >>> X = load_digits().images
    >>> y = X[:, :4].mean(axis=(1, 2))
    >>> regressor = CNNRegressor(max_iter=40, tol=0, random_state=0).fit(X[:1000], y[:1000])
    >>> regressor.score(X[1000:], y[1000:]) > 0.9
    True
    """

    loss: str = "squared_error"
    delta: float = 1.0

    _parameter_constraints: ClassVar[dict] = {
        **BaseCNN._parameter_constraints,
        "loss": [StrOptions({"squared_error", "absolute_error", "huber", "poisson"})],
        "delta": [Interval(Real, 0, None, closed="neither")],
    }

    def _encode_targets(self, y, n_samples, known):
        return encode_numbers(y, n_samples, self._make_loss(), known)

    def _make_loss(self):
        if self.loss == "huber":
            return HuberLoss(self.delta)
        losses = {
            "squared_error": SquaredError,
            "absolute_error": AbsoluteError,
            "poisson": PoissonLoss,
        }
        return losses[self.loss]()

    @available_if(has_partial_fit)
    @leads_on
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch over the given data, in mini-batches.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, rows, columns) or \
                (n_samples, rows, columns, channels)
            Images.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers.

        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : CNNRegressor
            Unchanged if an error is raised.
        """
        known = vars(self) if self.__sklearn_is_fitted__() else {}
        return self._train((X, y, sample_weight), known, 1, in_pieces=True)

    @property
    def y_center_(self) -> np.ndarray:
        """What is added to the outputs: the weighted means of y, 0 for "poisson"."""
        check_is_fitted(self)
        return self._loss.center

    @property
    def y_scale_(self) -> np.ndarray:
        """What the outputs are multiplied by: deviations of y, its means for "poisson"."""
        check_is_fitted(self)
        return self._loss.scale

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return a number, or many, for each image.

        Parameters
        ----------
        X : array-like
            Images, as in `fit`.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        check_is_fitted(self)
        predicted = self._mean_outputs(X, lambda outputs: self._loss.predict(outputs.T).T)
        return predicted.reshape(-1, *self._y_shape)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
