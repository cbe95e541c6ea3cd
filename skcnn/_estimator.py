"""What the networks that learn share: their parameters and the walk of `fit`."""

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight

from skcnn._data import images
from skcnn._data.augment import check_augment
from skcnn._data.samples import Samples, check_validation_images
from skcnn._model.fitted import FittedNetwork
from skcnn._model.model import Model
from skcnn._model.network import build_network
from skcnn._training.callbacks import CallbackSupportMixin, Observer
from skcnn._training.loop import train
from skcnn._training.reports import make_report
from skcnn._training.session import Progress, Session
from skcnn._training.settings import (
    SCHEDULES,
    SOLVERS,
    batch_size,
    check_settings,
    make_limits,
    make_optimizer,
    make_schedule,
)
from skcnn._training.steps import Task
from skcnn._training.validation import Validation
from skcnn.architectures import sklearn_default
from skcnn.layers import Layer
from skcnn.layers._params import LayerParamsMixin

_AT_LEAST_ZERO = Interval(Real, 0, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_SHARE = Interval(Real, 0, 1, closed="left")
_AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")


@dataclass(eq=False, repr=False)
class BaseCNN(CallbackSupportMixin, FittedNetwork, LayerParamsMixin, BaseEstimator):
    """Base of `CNNClassifier` and `CNNRegressor`, which document the parameters."""

    layers: Sequence[Layer] = sklearn_default()
    _: KW_ONLY
    image_shape: Sequence[int] | None = None
    standardize: bool = True
    solver: str = "adam"
    alpha: float = 1e-4
    batch_size: int | str = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 1e-3
    power_t: float = 0.5
    warmup: float | None = None
    max_iter: int = 100
    max_seconds: float | None = None
    shuffle: bool = True
    random_state: int | np.random.RandomState | None = None
    tol: float = 1e-4
    verbose: bool | int = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    scoring: str | Callable | None = None
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float | None = None
    augment: dict[str, Any] | Callable | None = None
    n_test_augment: int = 0
    n_iter_no_change: float = 10
    n_jobs: int | None = None

    _parameter_constraints: ClassVar[dict] = {
        "layers": [tuple, list],
        "image_shape": [None, tuple, list],
        "standardize": ["boolean"],
        "solver": [StrOptions(SOLVERS)],
        "alpha": [_AT_LEAST_ZERO],
        "batch_size": [StrOptions({"auto"}), _AT_LEAST_ONE],
        "learning_rate": [StrOptions(SCHEDULES)],
        "learning_rate_init": [_POSITIVE],
        "power_t": [_AT_LEAST_ZERO],
        "warmup": [None, _SHARE],
        "max_iter": [_AT_LEAST_ONE],
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
        "beta_1": [_SHARE],
        "beta_2": [_SHARE],
        "epsilon": [_POSITIVE],
        "weight_decay": [_AT_LEAST_ZERO],
        "clip_norm": [None, _POSITIVE],
        "augment": [dict, callable, None],
        "n_test_augment": [Interval(Integral, 0, None, closed="left")],
        "n_iter_no_change": [_AT_LEAST_ONE, Options(Real, {np.inf})],
        "n_jobs": [None, Integral],
    }

    @abstractmethod
    def _encode_targets(self, y, n_samples, known):
        """Return the `Targets` that y holds; `known` are attributes that earlier data has set."""

    def _first_outputs(self, targets, weights):
        """Return what the outputs are before training."""
        return 0

    def _weigh(self, targets, weights, in_pieces):
        """Return the weights of the samples in the loss."""
        return weights

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
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
        resumes = self.warm_start and self.__sklearn_is_fitted__()
        known = vars(self) if resumes else {}
        data = X, y, sample_weight
        return self._train(data, known, self.max_iter, (X_val, y_val), splits=self.early_stopping)

    def _train(
        self, data, known, n_epochs, validation=(None, None), *, splits=False, in_pieces=False
    ):
        """Check, train on copies, and keep the result only once all has gone well.

        Parameters
        ----------
        data : (X, y, sample_weight)
            As the user gave them.
        known : dict
            Attributes that earlier data has set, among them ``_progress`` if training goes on.
        n_epochs : int
            Most epochs of this call.
        validation : (X_val, y_val)
        splits : bool
            Whether some of the samples are held out, unless `validation` is given.
        in_pieces : bool
            Whether more data may follow.
        """
        check_settings(self)
        resumes = "_progress" in known
        progress = self._progress.resumed() if resumes else Progress.begin(self.random_state)
        samples = self._check_samples(*data, known, in_pieces)
        samples = self._hold_out(samples, *validation, splits and progress.seed)
        model = self._resumed_model() if resumes else self._new_model(samples, progress)
        session = self._open_session(data, samples, model, progress, n_epochs)
        warning = train(session, self.n_jobs)
        session.observer.end()
        if not resumes:
            images.check_features(self, data[0], samples.X, reset=True)
        vars(self).update(session.observer.attributes)
        self._model = model.with_weights(progress.chosen_weights)
        if warning is not None:
            warnings.warn(warning, stacklevel=4)
        return self

    def _check_samples(self, X, y, sample_weight, known, in_pieces):
        """Return X, y and the weights as checked `Samples`."""
        if "_progress" in known:
            X, image_shape = images.check_images_as_fitted(X, self), self.image_shape_
        else:
            X, own_shape = images.check_images(X, self)
            image_shape = images.infer_image_shape(X.shape[1], own_shape, self.image_shape)
        targets = self._encode_targets(y, len(X), known)
        dtype = images.float_type(X.dtype)
        weights = _check_sample_weight(sample_weight, X, dtype=dtype, ensure_non_negative=True)
        weights = self._weigh(targets, weights, in_pieces)
        if not weights.any():
            raise ValueError("sample_weight must have a positive sum. Got only zeros instead.")
        return Samples(X, image_shape, y, targets, weights, np.arange(len(X)))

    def _hold_out(self, samples, X_val, y_val, seed):
        """Return the samples with those held out that are to be validated on.

        `seed` is that of a random split, False for none.
        """
        if X_val is None and y_val is None:
            return samples if seed is False else samples.split(self.validation_fraction, seed)
        if X_val is None or y_val is None:
            given, missing = ("X_val", "y_val") if y_val is None else ("y_val", "X_val")
            raise ValueError(f"{missing} must be passed together with {given}. Got None instead.")
        X_val = check_validation_images(X_val, samples.image_shape, self)
        targets = self._encode_targets(y_val, len(X_val), samples.targets.attributes)
        return samples.with_validation(X_val, y_val, targets)

    def _new_model(self, samples, progress):
        """Return the network at its beginning; `progress` gets weights, optimizer and schedule."""
        network = build_network(self.layers, samples.image_shape, samples.targets.n_outputs)
        random_state = check_random_state(self.random_state)
        progress.weights = network.initial_weights(random_state, samples.weights.dtype)
        progress.random_state = copy.deepcopy(random_state)  # the user's own must not go on
        outputs = self._first_outputs(samples.targets, samples.train_weights())
        network.public_weights(progress.weights)[1][-1][...] = outputs
        progress.optimizer = make_optimizer(self, progress.weights, network.n_coefs)
        n_batches = -(-len(samples.train_index) // batch_size(self, samples))
        progress.schedule = make_schedule(self, n_batches * self.max_iter)
        if self.standardize:
            center, scale = samples.channel_statistics()
        else:
            channels = samples.image_shape[2]
            center, scale = np.zeros(channels), np.ones(channels)
        return Model(network, progress.weights, center, scale)

    def _resumed_model(self):
        """Return the fitted network; an error if `layers` no longer describe it."""
        network = self._model.network
        shapes = network.image_shape, network.output_shape[2]
        if build_network(self.layers, *shapes).places != network.places:
            raise ValueError(
                "layers must have weights of the same shapes as in the previous fit when training "
                "goes on (warm_start or partial_fit)."
            )
        return self._model

    def _open_session(self, data, samples, model, progress, n_epochs):
        """Return what `train` needs: the task, how far it has come, when it ends, who hears of it."""
        progress.schedule.rate_init = float(self.learning_rate_init)
        targets, held_out = samples.targets, samples.held_out
        attributes = targets.attributes | {"image_shape_": samples.image_shape}
        attributes |= {"_model": model, "_progress": progress}
        dtype = progress.weights.dtype
        task = Task(
            network=model.network,
            loss=targets.loss,
            images=model.images(samples.X, dtype),
            train_index=samples.train_index,
            targets=targets.values,
            sample_weight=samples.weights,
            alpha=self.alpha,
            batch_size=batch_size(self, samples),
            shuffle=self.shuffle,
            clip_norm=self.clip_norm,
            augment=check_augment(self.augment, samples.image_shape),
            seed=progress.seed,
        )
        validation = None
        if held_out is not None:
            validation = Validation(held_out, self, attributes)
            task.held_out = model.images(held_out.X, dtype)
            task.held_out_index = held_out.index
        observer = Observer(self, data, samples.X, attributes, n_epochs)
        report = make_report(self.verbose, n_epochs)
        return Session(task, progress, make_limits(self, n_epochs), validation, report, observer)
