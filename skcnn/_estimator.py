"""What the networks that learn share: their parameters and the walk of `fit`."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval, Options, StrOptions

from skcnn._data.samples import check_samples
from skcnn._model.fitted import FittedNetwork
from skcnn._training.callbacks import CallbackSupportMixin
from skcnn._training.loop import train
from skcnn._training.session import Progress
from skcnn._training.settings import SCHEDULES, SOLVERS, check_settings, read_layers
from skcnn._training.start import begin_model, open_session, resume_model
from skcnn.architectures import sklearn_default
from skcnn.layers import Layer
from skcnn.layers._names import ForeignNamesMixin, leads_on
from skcnn.layers._params import LayerParamsMixin, StrictParamsMixin
from skcnn.versions import VersionedState

_AT_LEAST_ZERO = Interval(Real, 0, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_SHARE = Interval(Real, 0, 1, closed="left")
_AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")
_CALLER = 5  # frames from `_train` to the line that calls `fit` or `partial_fit`


@dataclass(eq=False, repr=False)
class BaseCNN(
    ForeignNamesMixin,
    CallbackSupportMixin,
    FittedNetwork,
    LayerParamsMixin,
    StrictParamsMixin,
    VersionedState,
    BaseEstimator,
):
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

    def _weigh(self, targets, weights, in_pieces):
        """Return the weights of the samples in the loss."""
        return weights

    @leads_on
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
        samples = check_samples(self, data, known, in_pieces)
        if any(part is not None for part in validation):
            samples.validate_with(*validation, self)
        elif splits:
            samples.split(self.validation_fraction, progress.seed)
        if not resumes:
            for reading in samples.readings + read_layers(self.layers, samples.targets):
                warnings.warn(reading, stacklevel=_CALLER)
        model = resume_model(self) if resumes else begin_model(self, samples, progress)
        session = open_session(self, samples, model, progress, n_epochs, in_pieces=in_pieces)
        found = train(session, self.n_jobs)
        if not resumes:
            vars(self).pop("feature_names_in_", None)
        vars(self).update(session.fitted_attributes())
        for warning in found:
            warnings.warn(warning, stacklevel=_CALLER)
        return self
