"""The loop of training: ``train -> run_epoch -> train_step``, each at its own level."""

from time import perf_counter

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skcnn._engine.blocks import even_slices
from skcnn._training.steps import STATISTICS_IMAGES, Trainer
from skcnn._workers.pool import open_pool


class Epochs:
    """What stands between one epoch and the next: curves, reports, callbacks, and the end.

    Parameters
    ----------
    session : Session
        Its progress is brought up to date at the end of each epoch.
    trainer : Trainer
    """

    def __init__(self, session, trainer):
        self.session = session
        self.trainer = trainer
        self.n_complete = 0
        self._started = perf_counter()
        self._before = None  # snapshot of the progress at the start of the epoch under way

    def begin(self):
        """Begin an epoch, unless one is under way."""
        if self._before is None:
            self._before = self.session.progress.snapshot()
            self.session.observer.begin_epoch()

    def forget(self):
        """Undo what the epoch under way has done to the progress."""
        if self._before is not None:
            self.session.progress.restore(self._before)

    def end(self, losses):
        """End an epoch of mean `losses`, in parts, and return whether it is the last."""
        session, limits = self.session, self.session.limits
        score = self._note(losses)
        session.report.epoch(session.progress.loss_curve, score)
        stops = session.observer.end_epoch()
        self.n_complete += 1
        self._before = None
        if session.progress.has_converged(limits, float(losses.sum())):
            what = "Validation score" if limits.early_stopping else "Training loss"
            session.report.converged(what, limits)
            return True
        late = limits.max_seconds is not None and (
            perf_counter() - self._started > limits.max_seconds
        )
        return stops or late

    def _note(self, losses):
        """Note what an epoch has come to; return the score of the held-out images, or None."""
        session, progress = self.session, self.session.progress
        if not (np.isfinite(losses).all() and np.isfinite(self.trainer.weights).all()):
            raise ValueError(
                f"The loss or the weights became non-finite in epoch {self.n_complete + 1}. Lower "
                "learning_rate_init or set clip_norm, or scale the data (standardize=True)."
            )
        progress.loss_curve.append(float(losses @ session.task.loss.units))
        score = None
        if session.predicts_each_epoch:
            self._measure_statistics()
        if session.validation is not None:
            outputs, weights = self.trainer.outputs(), self.trainer.weights
            score, validation_loss = session.validation.evaluate(outputs, weights)
            progress.validation_scores.append(score)
            progress.validation_losses.append(validation_loss)
        progress.weights = self.trainer.weights.copy()
        if progress.optimizer is not None:
            progress.optimizer = self.trainer.optimizer.copied()
        return score

    def _measure_statistics(self):
        """Bring the running statistics up to the weights; of a piece of the data, by its size."""
        share = 1.0
        if self.session.limits.in_pieces:
            n_seen = min(self.session.progress.n_samples_seen, STATISTICS_IMAGES)
            share = min(len(self.session.task.train_index) / n_seen, 1)
        self.trainer.measure_statistics(share)

    def complete(self):
        """Bring the statistics that belong to the last weights up to them, unless they are."""
        progress = self.session.progress
        if not self.session.predicts_each_epoch:
            self.trainer.weights[...] = progress.weights
            self._measure_statistics()
            progress.weights = self.trainer.weights.copy()


def train(session, n_jobs):
    """Run up to ``limits.max_iter`` epochs of a session; return the warnings for its user."""
    task, progress, limits = session.task, session.progress, session.limits
    if not limits.early_stopping:
        progress.best_score, progress.best_weights = -np.inf, None
    flops = 3 * task.network.flops * len(task.train_index) * limits.max_iter
    with open_pool(n_jobs, flops) as pool, session.report:
        trainer = Trainer(task, progress.weights, progress.optimizer, pool)
        epochs = Epochs(session, trainer)
        run = descend if progress.optimizer is not None else minimise
        try:
            is_at_rest = run(session, trainer, epochs) or progress.schedule.runs_its_length
            warnings = [] if is_at_rest or limits.max_iter == 1 else [_not_converged(session)]
        except KeyboardInterrupt:
            if epochs.n_complete == 0:
                raise
            epochs.forget()
            is_at_rest, warnings = False, [UserWarning("Training interrupted by user.")]
        epochs.complete()
        trainer.check_outputs(progress.chosen_weights)
        if is_at_rest and epochs.n_complete > limits.n_iter_no_change:
            warnings += _told_nothing(trainer, progress)
    session.observer.end()
    return warnings + _not_numbers(progress.validation_scores[-epochs.n_complete :])


def _not_converged(session):
    """Return a warning that the last epoch has come too early."""
    kind = "Stochastic Optimizer" if session.progress.optimizer is not None else "lbfgs"
    return ConvergenceWarning(
        f"{kind}: Maximum iterations ({session.limits.max_iter}) reached and the "
        "optimization hasn't converged yet."
    )


def _told_nothing(trainer, progress):
    """Return a warning if the network's outputs are the same for all images."""
    if trainer.tells_apart(progress.chosen_weights):
        return []
    return [
        ConvergenceWarning(
            "The network has learned nothing: its outputs are nearly the same for all images. Lower "
            "learning_rate_init or alpha, use activation='leaky_relu' or fewer layers, and see that "
            "y belongs to X."
        )
    ]


def _not_numbers(scores):
    """Return a warning if some validation scores are NaN."""
    n_bad = int(np.isnan(scores).sum())
    if not n_bad:
        return []
    return [
        UserWarning(
            f"The validation score was not a number in {n_bad} of {len(scores)} epochs, which count "
            "as epochs without improvement. Hold out more samples, of each class, or choose another "
            "scoring."
        )
    ]


def descend(session, trainer, epochs):
    """Follow the gradients of batches, and return whether training ended before its last epoch."""
    for _ in range(session.limits.max_iter):
        epochs.begin()
        if epochs.end(run_epoch(session.task, session.progress, trainer)):
            return True
    return False


def run_epoch(task, progress, trainer):
    """Train on each batch once, and return the mean losses, in parts."""
    order = task.train_index.copy()
    if task.shuffle:
        progress.random_state.shuffle(order)
    trainer.order[...] = order
    total = np.zeros(len(task.loss.units))
    for batch in even_slices(len(order), task.batch_size):
        total += train_step(task, progress, trainer, batch)
    progress.n_samples_seen += len(order)
    return total / task.sample_weight[task.train_index].sum(dtype=np.float64)


def train_step(task, progress, trainer, batch):
    """Update the weights once, and return the batch's sums of losses, penalty included."""
    schedule = progress.schedule
    rate = schedule.rate(progress.n_steps - schedule.first_step, progress.n_samples_seen)
    progress.n_steps += 1
    total_weight = float(task.sample_weight[trainer.order[batch]].sum(dtype=np.float64))
    if total_weight == 0:
        return 0.0
    return trainer.step(batch, progress.n_steps, rate, total_weight)


def minimise(session, trainer, epochs):
    """Minimise the loss of all images by L-BFGS; return whether it ended before its last iteration.

    An iteration counts as an epoch.
    """
    from scipy.optimize import minimize  # takes long to import

    task, progress, limits = session.task, session.progress, session.limits
    n_learned = task.network.n_learned
    trainer.order[...] = task.train_index
    losses = np.zeros(len(task.loss.units))  # of the last evaluation

    def evaluate(vector):
        epochs.begin()
        trainer.weights[:n_learned] = vector
        losses[...], gradient = full_gradient(task, trainer)
        return float(losses.sum()), gradient

    def end_iteration(intermediate_result):
        trainer.weights[:n_learned] = intermediate_result.x
        progress.n_samples_seen += len(task.train_index)
        progress.n_steps += 1
        if epochs.end(losses * (intermediate_result.fun / (losses.sum() or 1))):
            raise StopIteration

    result = minimize(
        evaluate,
        trainer.weights[:n_learned].astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        callback=end_iteration,
        options={"maxiter": limits.max_iter, "gtol": limits.tol},
    )
    if not epochs.n_complete:  # no step lowers the loss
        trainer.weights[:n_learned] = result.x
        progress.n_samples_seen += len(task.train_index)
        epochs.end(losses)
    return result.success or epochs.n_complete < limits.max_iter


def full_gradient(task, trainer):
    """Return the mean losses of all images, penalty included, and the gradient, in float64."""
    network = task.network
    total_weight = task.sample_weight[task.train_index].sum(dtype=np.float64)
    coefs = trainer.weights[: network.n_coefs].astype(np.float64)
    n_parts = len(task.loss.units)
    losses = np.full(n_parts, 0.5 * task.alpha * float(np.dot(coefs, coefs)) / n_parts)
    total = np.zeros(network.n_learned)
    total[: len(coefs)] = task.alpha * coefs
    for batch in even_slices(len(task.train_index), task.batch_size):
        batch_losses, grads = trainer.gradient(batch)
        losses += batch_losses
        total += grads
    return losses / total_weight, total / total_weight
