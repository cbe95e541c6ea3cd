"""What a fit learns, what it goes on from, and when it ends."""

import copy
from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.utils import check_random_state


@dataclass
class Progress:
    """All that a fit learns and that a later fit may go on from."""

    random_state: np.random.RandomState
    seed: int
    weights: np.ndarray | None = None
    optimizer: object = None
    schedule: object = None
    loss_curve: list = field(default_factory=list)
    best_loss: float = np.inf
    best_objective: float = np.inf
    n_no_change: int = 0
    n_samples_seen: int = 0
    n_steps: int = 0
    validation_losses: list = field(default_factory=list)
    validation_scores: list = field(default_factory=list)
    best_score: float = -np.inf
    best_weights: np.ndarray | None = None

    @classmethod
    def begin(cls, random_state):
        """Return the progress of a fit that begins; `random_state` does not advance."""
        random_state = check_random_state(random_state)
        seed = int(copy.deepcopy(random_state).randint(np.iinfo(np.int32).max))
        return cls(random_state, seed)

    @property
    def chosen_weights(self):
        """The weights to predict with: the best ones after early stopping, else the last ones."""
        return self.weights if self.best_weights is None else self.best_weights

    def without_optimizer(self):
        """Return what predictions need, and what a later fit can go on from with a new optimizer."""
        return replace(self, weights=self.chosen_weights, optimizer=None)

    def resumed(self):
        """Return what a later fit goes on from, so that this progress stays as it is."""
        resumed = copy.copy(self)
        resumed.random_state = copy.deepcopy(self.random_state)
        vars(resumed).update(self._copied_values())
        return resumed

    def _copied_values(self):
        """Return copies of what an epoch changes in place; arrays are replaced, never written to."""
        curves = ("loss_curve", "validation_losses", "validation_scores")
        copies = {name: list(getattr(self, name)) for name in curves}
        return copies | {"schedule": copy.copy(self.schedule)}

    def snapshot(self):
        """Return what `restore` needs to undo all that happens from now on."""
        return vars(self) | self._copied_values(), self.random_state.get_state(legacy=False)

    def restore(self, snapshot):
        """Go back to a `snapshot`."""
        values, random_numbers = snapshot
        vars(self).update(values)
        self.random_state.set_state(random_numbers)

    def has_converged(self, limits, objective):
        """Note whether the last epoch has improved things, and return whether to stop.

        `objective` is its loss in the scale of the training, on which `tol` counts.
        """
        if limits.early_stopping and self.validation_scores:
            score = self.validation_scores[-1]
            least = limits.tol
            if limits.is_relative and np.isfinite(self.best_score):
                least *= abs(self.best_score)
            stalled = not score >= self.best_score + least  # NaN is no improvement
            if score > self.best_score:
                self.best_score, self.best_weights = score, self.weights
        else:
            stalled = objective > self.best_objective - limits.tol
        self.best_objective = min(objective, self.best_objective)
        self.best_loss = min(self.loss_curve[-1], self.best_loss)
        self.n_no_change = self.n_no_change + 1 if stalled else 0
        is_long = self.n_no_change > limits.n_iter_no_change
        stops = self.schedule.end_epoch(is_long)
        if is_long and not stops:
            self.n_no_change = 0
        return stops


@dataclass
class Limits:
    """When training ends."""

    max_iter: int
    tol: float
    n_iter_no_change: int
    max_seconds: float | None = None
    early_stopping: bool = False
    is_relative: bool = False  # whether tol is a share of the best score
    in_pieces: bool = False  # whether more data may follow


@dataclass
class Session:
    """One call of `fit`: its task, its progress, its limits, and the listeners that follow it.

    Attributes
    ----------
    task : Task
    progress : Progress
    limits : Limits
    validation : Validation or None
    report : Silence, Lines or Bar
    observer : Observer
    """

    task: object
    progress: Progress
    limits: Limits
    validation: object
    report: object
    observer: object

    @property
    def predicts_each_epoch(self):
        """Whether something predicts with the weights of each epoch: a validation, callbacks."""
        return self.validation is not None or self.observer.is_active

    def fitted_attributes(self):
        """Return the attributes that make the estimator predict as after the last epoch."""
        return self.observer.fitted_attributes()
