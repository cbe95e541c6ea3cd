"""What the networks that learn share: parameters, checks, the walk of `fit`."""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
)

from skcnn import _images
from skcnn._network import Network, check_layers
from skcnn._params import LayerParamsMixin
from skcnn._training import Progress, Task, predict_outputs, train
from skcnn.layers import Dense
from skcnn.optimizers import SGD, Adam


@dataclass
class Targets:
    """Targets as the loss takes them, and what follows from them."""

    values: np.ndarray
    loss: object
    n_outputs: int
    attributes: dict


class BaseCNN(LayerParamsMixin, BaseEstimator):
    """Base of `CNNClassifier`."""

    _parameter_constraints: dict = {
        "layers": [tuple, list],
        "image_shape": [None, tuple, list],
        "standardize": ["boolean"],
        "solver": [StrOptions({"adam", "sgd"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "n_jobs": [None, Integral],
    }

    @abstractmethod
    def _encode_targets(self, y, n_samples, classes):
        """Return the `Targets` that y holds."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, rows, columns) or \
                (n_samples, rows, columns, channels)
            Images, of any real dtype. Integers are not copied to float as a whole.

        y : array-like of shape (n_samples,)
            Targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, not negative; None means one each.

        Returns
        -------
        self : estimator instance
            Unchanged if an error is raised.
        """
        first = not (self.warm_start and hasattr(self, "_progress"))
        return self._train(X, y, sample_weight, first=first, max_iter=self.max_iter)

    def _train(self, X, y, sample_weight, *, first, max_iter, classes=None):
        """Check, train on copies, and keep the result only once all has gone well."""
        check_layers(self.layers)
        _images.check_image_shape(self.image_shape)
        if first:
            flat, told = _images.check_images(X, self)
        else:
            flat, told = _images.check_images_as_fitted(X, self), None
        targets = self._encode_targets(y, len(flat), classes if first else self.classes_)
        weights = self._check_weights(sample_weight, flat)
        if first:
            start = self._start(flat, told, targets, sample_weight is not None, weights)
        else:
            start = {name: copy.deepcopy(getattr(self, name)) for name in ("_network", "_progress")}
            start |= {name: getattr(self, name) for name in ("_center", "_scale", "image_shape_")}
            self._check_same_network(start["_network"])
        self._run(self._task(flat, targets, weights, start), start["_progress"], max_iter)
        if first:
            _images.check_features(self, X, flat, reset=True)
        for name, value in (targets.attributes | start).items():
            setattr(self, name, value)
        return self

    def _check_weights(self, sample_weight, flat):
        """Return the weights as an array of the computation's float type."""
        dtype = _images.float_type(flat.dtype)
        weights = _check_sample_weight(sample_weight, flat, dtype=dtype, ensure_non_negative=True)
        if not weights.any():
            raise ValueError("sample_weight must have a positive sum. Got only zeros instead.")
        return weights

    def _start(self, flat, told, targets, is_weighted, weights):
        """Return the attributes of a fit from the beginning, initial weights among them."""
        image_shape = _images.infer_image_shape(flat.shape[1], told, self.image_shape)
        network = self._build(image_shape, targets.n_outputs)
        random_state = check_random_state(self.random_state)
        vector = network.initial_weights(random_state, weights.dtype)
        if self.standardize:
            used = weights if is_weighted else None
            center, scale = _images.channel_statistics(flat, image_shape, used)
        else:
            center, scale = np.zeros(image_shape[2]), np.ones(image_shape[2])
        return {
            "image_shape_": image_shape,
            "_network": network,
            "_center": center,
            "_scale": scale,
            "_progress": Progress(vector, self._optimizer(vector), random_state),
        }

    def _build(self, image_shape, n_outputs):
        """Return the network of the layers and the output layer, which users never write."""
        output = Dense(n_outputs, activation="identity")
        return Network((*self.layers, output), image_shape)

    def _check_same_network(self, network):
        """Raise a `ValueError` if `layers` no longer describe the fitted network."""
        built = self._build(network.image_shape, network.output_shape[2])
        if built.places != network.places:
            raise ValueError(
                "layers must have weights of the same shapes as in the previous fit when training "
                "goes on (warm_start or partial_fit)."
            )

    def _optimizer(self, vector):
        """Return a new optimizer of the vector of weights."""
        if self.solver == "adam":
            return Adam(vector, self.beta_1, self.beta_2, self.epsilon)
        return SGD(vector, self.momentum, self.nesterovs_momentum)

    def _task(self, flat, targets, weights, start):
        """Return what training is about."""
        batch_size = 200 if self.batch_size == "auto" else self.batch_size
        dtype = start["_progress"].weights.dtype
        images = _images.Images(
            flat, start["image_shape_"], start["_center"], start["_scale"], dtype
        )
        return Task(
            network=start["_network"],
            loss=targets.loss,
            images=images,
            targets=targets.values,
            sample_weight=weights,
            alpha=self.alpha,
            learning_rate=self.learning_rate_init,
            batch_size=min(batch_size, len(flat)),
            shuffle=self.shuffle,
        )

    def _run(self, task, progress, max_iter):
        """Train."""
        train(
            task,
            progress,
            self.n_jobs,
            max_iter=max_iter,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            verbose=self.verbose,
        )

    def _outputs(self, X):
        """Return the network's raw outputs, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        flat = _images.check_images_as_fitted(X, self)
        progress = self._progress
        images = _images.Images(
            flat, self.image_shape_, self._center, self._scale, progress.weights.dtype
        )
        outputs = predict_outputs(self._network, progress.weights, images, self.n_jobs)
        return outputs.reshape(len(flat), -1)

    @property
    def coefs_(self):
        """Coefficients of the layers that have them, as views: changes to them take effect."""
        check_is_fitted(self)
        return self._network.public_weights(self._progress.weights)[0]

    @property
    def intercepts_(self):
        """Intercepts of the layers that have them, as views: changes to them take effect."""
        check_is_fitted(self)
        return self._network.public_weights(self._progress.weights)[1]

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
