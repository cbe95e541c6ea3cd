"""What the networks that learn share: parameters, checks, the walk of `fit`."""

import copy
from abc import abstractmethod
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight

from skcnn._data import held_out as _validation
from skcnn._data import images as _images
from skcnn._data.augment import check_augment
from skcnn._model.fitted import FittedMixin
from skcnn._model.network import Network, check_layers
from skcnn._training.callbacks import CallbackSupportMixin, Observer
from skcnn._training.loop import Limits, Progress, train
from skcnn._training.reports import make_report
from skcnn._training.solvers import SOLVERS, check_solver, make_optimizer, make_schedule
from skcnn._training.steps import Task
from skcnn.architectures import sklearn_default
from skcnn.layers import Dense
from skcnn.layers._params import LayerParamsMixin

DEFAULT_LAYERS = sklearn_default()

_AT_LEAST_ZERO = Interval(Real, 0, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")


class BaseCNN(CallbackSupportMixin, FittedMixin, LayerParamsMixin, BaseEstimator):
    """Base of `CNNClassifier` and `CNNRegressor`."""

    _parameter_constraints: dict = {
        "layers": [tuple, list],
        "image_shape": [None, tuple, list],
        "standardize": ["boolean"],
        "solver": [StrOptions(SOLVERS)],
        "alpha": [_AT_LEAST_ZERO],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive", "cosine", "onecycle"})],
        "learning_rate_init": [_POSITIVE],
        "power_t": [_AT_LEAST_ZERO],
        "warmup": [None, Interval(Real, 0, 1, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "max_seconds": [None, _POSITIVE],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [_AT_LEAST_ZERO],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "scoring": [None, str, callable],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [_POSITIVE],
        "weight_decay": [_AT_LEAST_ZERO],
        "clip_norm": [None, _POSITIVE],
        "augment": [dict, callable, None],
        "n_test_augment": [Interval(Integral, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "n_jobs": [None, Integral],
    }

    @abstractmethod
    def __init__(
        self,
        layers,
        image_shape,
        standardize,
        solver,
        alpha,
        batch_size,
        learning_rate,
        learning_rate_init,
        power_t,
        warmup,
        max_iter,
        max_seconds,
        shuffle,
        random_state,
        tol,
        verbose,
        warm_start,
        momentum,
        nesterovs_momentum,
        early_stopping,
        validation_fraction,
        scoring,
        beta_1,
        beta_2,
        epsilon,
        weight_decay,
        clip_norm,
        augment,
        n_test_augment,
        n_iter_no_change,
        n_jobs,
    ):
        self.layers = layers
        self.image_shape = image_shape
        self.standardize = standardize
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.warmup = warmup
        self.max_iter = max_iter
        self.max_seconds = max_seconds
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.scoring = scoring
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.augment = augment
        self.n_test_augment = n_test_augment
        self.n_iter_no_change = n_iter_no_change
        self.n_jobs = n_jobs

    @abstractmethod
    def _encode_targets(self, y, n_samples, known):
        """Return the `Targets` that y holds; `known` are attributes that earlier data has set."""

    def _first_outputs(self, targets, weights):
        return 0  # what the outputs are before training

    def _weigh(self, targets, weights, in_pieces):
        return weights  # in the loss

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, X_val=None, y_val=None):
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, rows, columns) or \
                (n_samples, rows, columns, channels)
            Images, of any real dtype. Integers are not copied to float as a whole.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, not negative; None means one each.

        X_val : array-like, default=None
            Images to validate on after each epoch, in place of some of X.

        y_val : array-like, default=None
            Their targets.

        Returns
        -------
        self : estimator instance
            Unchanged if an error is raised.
        """
        first = not (self.warm_start and hasattr(self, "_progress"))
        return self._train(
            X, y, sample_weight, first=first, max_iter=self.max_iter, validation=(X_val, y_val)
        )

    def _train(
        self,
        X,
        y,
        sample_weight,
        *,
        first,
        max_iter,
        known=None,
        in_pieces=False,
        validation=(None, None),
    ):
        """Check, train on copies, and keep the result only once all has gone well."""
        check_layers(self.layers)
        check_solver(self)
        _images.check_image_shape(self.image_shape)
        if self.scoring is not None:
            _validation.check_scoring(self, self.scoring)
        if first:
            flat, told = _images.check_images(X, self)
        else:
            flat, told = _images.check_images_as_fitted(X, self), None
        targets = self._encode_targets(y, len(flat), known if first else vars(self))
        weights = self._weigh(targets, self._check_weights(sample_weight, flat), in_pieces)
        if not weights.any():
            raise ValueError("sample_weight must have a positive sum. Got only zeros instead.")
        if first:
            image_shape = _images.infer_image_shape(flat.shape[1], told, self.image_shape)
            start = self._start(image_shape, targets, weights.dtype)
        else:
            kept = ("_network", "_center", "_scale", "image_shape_")
            start = {name: getattr(self, name) for name in kept}
            start["_progress"] = self._progress.resumed()
            self._check_same_network(start["_network"])
        splits = self.early_stopping and not in_pieces
        rows, held_out = self._hold_out(flat, y, targets, weights, start, validation, splits)
        if first:
            own = np.zeros_like(weights)
            own[rows] = weights[rows]
            is_plain = np.ptp(weights) == 0 and len(rows) == len(flat)
            start |= self._statistics(flat, start["image_shape_"], None if is_plain else own)
            intercepts = start["_network"].public_weights(start["_progress"].weights)[1]
            intercepts[-1][...] = self._first_outputs(targets, own)
        task = self._task(flat, targets, weights, start, rows, held_out)
        progress = start["_progress"]
        if first:
            n_batches = -(-len(rows) // task.batch_size)
            progress.schedule = make_schedule(self, n_batches * self.max_iter)
        progress.schedule.rate_init = float(self.learning_rate_init)
        limits = Limits(
            max_iter, self.tol, self.n_iter_no_change, self.max_seconds, self.early_stopping
        )
        observer = Observer(self, X, flat, y, sample_weight, targets.attributes | start, max_iter)
        train(task, progress, self.n_jobs, limits, make_report(self.verbose, max_iter), observer)
        observer.end()
        if first:
            _images.check_features(self, X, flat, reset=True)
        for name, value in (targets.attributes | start).items():
            setattr(self, name, value)
        return self

    def _check_weights(self, sample_weight, flat):
        """Return the weights as an array of the computation's float type."""
        dtype = _images.float_type(flat.dtype)
        return _check_sample_weight(sample_weight, flat, dtype=dtype, ensure_non_negative=True)

    def _start(self, image_shape, targets, dtype):
        """Return the attributes of a fit from the beginning, initial weights among them."""
        network = self._build(image_shape, targets.n_outputs)
        random_state = check_random_state(self.random_state)
        seed = int(copy.deepcopy(random_state).randint(np.iinfo(np.int32).max))
        vector = network.initial_weights(random_state, dtype)
        optimizer = make_optimizer(self, vector, network.n_coefs)
        return {
            "image_shape_": image_shape,
            "_network": network,
            "_progress": Progress(vector, optimizer, random_state, seed=seed),
        }

    def _statistics(self, flat, image_shape, weights):
        """Return the attributes by which images are standardised."""
        if self.standardize:
            center, scale = _images.channel_statistics(flat, image_shape, weights)
        else:
            center, scale = np.zeros(image_shape[2]), np.ones(image_shape[2])
        return {"_center": center, "_scale": scale}

    def _hold_out(self, flat, y, targets, weights, start, validation, splits):
        """Return the numbers of the samples to train on, and a `HeldOut` or None."""
        X_val, y_val = validation
        everything = np.arange(len(flat))
        if X_val is None and y_val is None:
            if not splits:
                return everything, None
            how = self.validation_fraction, start["_progress"].seed
            rows, held = _validation.split(targets, weights, *how)
            return rows, _validation.HeldOut(flat, held, y, targets.values, weights)
        if X_val is None or y_val is None:
            given, missing = ("X_val", "y_val") if y_val is None else ("y_val", "X_val")
            raise ValueError(f"{missing} must be passed together with {given}. Got None instead.")
        other, told = _images.check_images(X_val, self)
        shape = start["image_shape_"]
        if told not in (None, shape) or other.shape[1] != np.prod(shape):
            raise ValueError(
                f"X_val must hold images of the shape of those in X, {shape}. "
                f"Got {told or other.shape[1:]} instead."
            )
        known = self._encode_targets(y_val, len(other), targets.attributes)
        ones = np.ones(len(other), weights.dtype)
        held = _validation.HeldOut(other, np.arange(len(other)), y_val, known.values, ones)
        return everything, held

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

    def _task(self, flat, targets, weights, start, rows, held_out):
        """Return what training is about."""
        batch_size = 200 if self.batch_size == "auto" else self.batch_size
        dtype = start["_progress"].weights.dtype
        how = start["image_shape_"], start["_center"], start["_scale"], dtype
        task = Task(
            network=start["_network"],
            loss=targets.loss,
            images=_images.Images(flat, *how),
            rows=rows,
            targets=targets.values,
            sample_weight=weights,
            alpha=self.alpha,
            batch_size=min(batch_size, len(rows)),
            shuffle=self.shuffle,
            clip_norm=self.clip_norm,
            augment=check_augment(self.augment, start["image_shape_"]),
            seed=start["_progress"].seed,
        )
        if held_out is not None:
            view = copy.copy(self)
            vars(view).update(targets.attributes | start)
            task.score = held_out.scorer(view, targets.loss, self.scoring)
            task.held_out = _images.Images(held_out.X, *how)
            task.held_out_rows = held_out.rows
        return task
