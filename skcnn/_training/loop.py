"""The loop of training: ``train -> run_epoch -> train_step``, each at its own level."""

import copy
import warnings
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skcnn._engine.blocks import even_slices
from skcnn._training.steps import Trainer
from skcnn._workers.team import Team


@dataclass
class Progress:
    """All that a fit learns and that a later fit may go on from."""

    weights: np.ndarray
    optimizer: object
    random_state: np.random.RandomState
    schedule: object = None
    seed: int = 0
    loss_curve: list = field(default_factory=list)
    best_loss: float = np.inf
    n_no_change: int = 0
    n_samples_seen: int = 0
    n_steps: int = 0
    validation_losses: list = field(default_factory=list)
    validation_scores: list = field(default_factory=list)
    best_score: float = -np.inf
    best_weights: np.ndarray | None = None

    def resumed(self):
        """Return what a later fit goes on from, so that this one stays as it is.

        Epochs work on copies, so only what is set before the first of them is copied here.
        """
        resumed = copy.copy(self)
        resumed.schedule = copy.deepcopy(self.schedule)
        return resumed


@dataclass
class Limits:
    """When training ends."""

    max_iter: int
    tol: float
    n_iter_no_change: int
    max_seconds: float | None = None
    early_stopping: bool = False


class Epochs:
    """What stands between one epoch and the next: notes, reports, callbacks, the end.

    Parameters
    ----------
    task : Task
    progress : Progress
        Brought up to date at the end of each epoch.
    trainer : Trainer
    limits : Limits
    report : Silence, Lines or Bar
    observer : Observer
    """

    def __init__(self, task, progress, trainer, limits, report, observer):
        self.task = task
        self.progress = progress
        self.trainer = trainer
        self.limits = limits
        self.report = report
        self.observer = observer
        self.n_complete = 0
        self._started = perf_counter()
        # whoever handed over the random state goes on with it as it is; to copy it takes long
        progress.random_state = copy.deepcopy(progress.random_state)
        # what the progress held when the epoch that is under way began, and the random state's numbers
        self._before = self._numbers = None

    def begin(self):
        """Begin an epoch, unless one is under way."""
        if self._before is not None:
            return
        progress = self.progress
        self._before = copy.copy(vars(progress))
        self._numbers = progress.random_state.get_state(legacy=False)
        # the trainer's copies of the first three change, and take their place at the end of the epoch
        kept = progress.weights, progress.best_weights, progress.optimizer, progress.random_state
        vars(progress).update(copy.deepcopy(self._before, {id(x): x for x in kept}))
        self.observer.begin_epoch()

    def forget(self):
        """Undo what the epoch under way has done to the progress."""
        if self._before is not None:
            vars(self.progress).update(self._before)
            self.progress.random_state.set_state(self._numbers)

    def end(self, loss):
        """End an epoch of a mean `loss`, and return whether it is the last."""
        score = self._note(loss)
        self.report.epoch(self.progress.loss_curve, score)
        stops = self.observer.end_epoch()
        self.n_complete += 1
        self._before = None
        if _has_converged(self.progress, self.limits):
            what = "Training loss" if self.task.score is None else "Validation score"
            self.report.converged(what, self.limits)
            return True
        late = self.limits.max_seconds is not None and (
            perf_counter() - self._started > self.limits.max_seconds
        )
        return stops or late

    def _note(self, loss):
        """Note what an epoch has come to, and return the score of the images held out, or None."""
        progress = self.progress
        if not np.isfinite(loss):
            raise ValueError(
                f"The loss became non-finite in epoch {self.n_complete + 1}. Lower "
                "learning_rate_init or set clip_norm, or scale the data (standardize=True)."
            )
        progress.loss_curve.append(loss)
        score = None
        if self.task.score is not None:
            score, validation_loss = self.trainer.score()
            progress.validation_scores.append(score)
            progress.validation_losses.append(validation_loss)
        progress.weights = self.trainer.weights.copy()
        if progress.optimizer is not None:
            progress.optimizer = self.trainer.optimizer.copied()
        return score


def train(task, progress, n_jobs, limits, report, observer):
    """Run up to ``limits.max_iter`` epochs, updating `progress`; tell `report` and `observer`."""
    if not limits.early_stopping:
        progress.best_score, progress.best_weights = -np.inf, None
    flops = 3 * task.network.flops * len(task.rows) * limits.max_iter
    with Team(n_jobs, flops) as team, report:
        trainer = Trainer(task, progress.weights, progress.optimizer, team)
        epochs = Epochs(task, progress, trainer, limits, report, observer)
        run = descend if progress.optimizer is not None else minimise
        try:
            ends_early = run(task, progress, trainer, epochs)
        except KeyboardInterrupt:
            if epochs.n_complete == 0:
                raise
            epochs.forget()
            warnings.warn("Training interrupted by user.", stacklevel=6)
            return
    if not (ends_early or limits.max_iter == 1 or progress.schedule.runs_its_length):
        kind = "Stochastic Optimizer" if progress.optimizer is not None else "lbfgs"
        warnings.warn(
            f"{kind}: Maximum iterations ({limits.max_iter}) reached and the "
            "optimization hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=6,
        )


def descend(task, progress, trainer, epochs):
    """Go down the gradients of batches, and return whether training ended before its last epoch."""
    for _ in range(epochs.limits.max_iter):
        epochs.begin()
        if epochs.end(run_epoch(task, progress, trainer)):
            return True
    return False


def minimise(task, progress, trainer, epochs):
    """Minimise the loss of all images by L-BFGS; return whether it ended before its last iteration.

    An iteration counts as an epoch.
    """
    from scipy.optimize import minimize  # takes long to import

    n_learned = task.network.n_learned
    trainer.order[...] = task.rows

    def evaluate(vector):
        epochs.begin()
        trainer.weights[:n_learned] = vector
        return full_gradient(task, trainer)

    def end_iteration(intermediate_result):
        trainer.weights[:n_learned] = intermediate_result.x
        progress.n_samples_seen += len(task.rows)
        progress.n_steps += 1
        if epochs.end(float(intermediate_result.fun)):
            raise StopIteration

    result = minimize(
        evaluate,
        trainer.weights[:n_learned].astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        callback=end_iteration,
        options={"maxiter": epochs.limits.max_iter, "gtol": epochs.limits.tol},
    )
    if not epochs.n_complete:  # no step leads down
        epochs.end(float(result.fun))
    return result.success or epochs.n_complete < epochs.limits.max_iter


def full_gradient(task, trainer):
    """Return the mean loss of all images, penalty included, and its gradient, in float64."""
    network = task.network
    total_weight = task.sample_weight[task.rows].sum(dtype=np.float64)
    coefs = trainer.weights[: network.n_coefs].astype(np.float64)
    loss = 0.5 * task.alpha * float(np.dot(coefs, coefs))
    total = np.zeros(network.n_learned)
    total[: len(coefs)] = task.alpha * coefs
    for batch in even_slices(len(task.rows), task.batch_size):
        weight = float(task.sample_weight[trainer.order[batch]].sum(dtype=np.float64))
        if weight == 0:
            continue
        batch_loss, grads = trainer.gradient(batch, weight)
        loss += batch_loss
        total += grads
    return loss / total_weight, total / total_weight


def _has_converged(progress, limits):
    """Note whether the last epoch has improved things, and return whether to stop."""
    if limits.early_stopping and progress.validation_scores:
        score = progress.validation_scores[-1]
        stalled = not score >= progress.best_score + limits.tol  # nor is NaN better
        if score > progress.best_score:
            progress.best_score, progress.best_weights = score, progress.weights
    else:
        stalled = progress.loss_curve[-1] > progress.best_loss - limits.tol
    progress.best_loss = min(progress.loss_curve[-1], progress.best_loss)
    progress.n_no_change = progress.n_no_change + 1 if stalled else 0
    is_long = progress.n_no_change > limits.n_iter_no_change
    stops = progress.schedule.end_epoch(is_long)
    if is_long and not stops:
        progress.n_no_change = 0
    return stops


def run_epoch(task, progress, trainer):
    """Train on each batch once, and return the mean loss."""
    order = task.rows.copy()
    if task.shuffle:
        progress.random_state.shuffle(order)
    trainer.order[...] = order
    total = 0.0
    for batch in even_slices(len(order), task.batch_size):
        total += train_step(task, progress, trainer, batch)
    progress.n_samples_seen += len(order)
    return total / task.sample_weight[task.rows].sum(dtype=np.float64)


def train_step(task, progress, trainer, batch):
    """Update the weights once, and return the batch's sum of losses, penalty included."""
    rate = progress.schedule.rate(progress.n_steps, progress.n_samples_seen)
    progress.n_steps += 1
    total_weight = float(task.sample_weight[trainer.order[batch]].sum(dtype=np.float64))
    if total_weight == 0:
        return 0.0
    return trainer.step(batch, progress.n_steps, rate, total_weight)
