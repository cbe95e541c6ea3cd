"""The loop of training: ``train -> run_epoch -> train_step``, each at its own level."""

from time import perf_counter

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skcnn._engine.blocks import even_slices
from skcnn._training.steps import Trainer
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

    def end(self, loss):
        """End an epoch of a mean `loss`, and return whether it is the last."""
        session, limits = self.session, self.session.limits
        score = self._note(loss)
        session.report.epoch(session.progress.loss_curve, score)
        stops = session.observer.end_epoch()
        self.n_complete += 1
        self._before = None
        if session.progress.has_converged(limits):
            what = "Validation score" if limits.early_stopping else "Training loss"
            session.report.converged(what, limits)
            return True
        late = limits.max_seconds is not None and (
            perf_counter() - self._started > limits.max_seconds
        )
        return stops or late

    def _note(self, loss):
        """Note what an epoch has come to; return the score of the held-out images, or None."""
        session, progress = self.session, self.session.progress
        if not (np.isfinite(loss) and np.isfinite(self.trainer.weights).all()):
            raise ValueError(
                f"The loss or the weights became non-finite in epoch {self.n_complete + 1}. Lower "
                "learning_rate_init or set clip_norm, or scale the data (standardize=True)."
            )
        progress.loss_curve.append(loss)
        score = None
        if session.validation is not None:
            outputs, weights = self.trainer.outputs(), self.trainer.weights
            score, validation_loss = session.validation.evaluate(outputs, weights)
            progress.validation_scores.append(score)
            progress.validation_losses.append(validation_loss)
        progress.weights = self.trainer.weights.copy()
        if progress.optimizer is not None:
            progress.optimizer = self.trainer.optimizer.copied()
        return score


def train(session, n_jobs):
    """Run up to ``limits.max_iter`` epochs of a session; return a warning for its user, or None."""
    task, progress, limits = session.task, session.progress, session.limits
    if not limits.early_stopping:
        progress.best_score, progress.best_weights = -np.inf, None
    flops = 3 * task.network.flops * len(task.train_index) * limits.max_iter
    with open_pool(n_jobs, flops) as pool, session.report:
        trainer = Trainer(task, progress.weights, progress.optimizer, pool)
        epochs = Epochs(session, trainer)
        run = descend if progress.optimizer is not None else minimise
        warning = None
        try:
            if not run(session, trainer, epochs):
                warning = _not_converged(progress, limits)
        except KeyboardInterrupt:
            if epochs.n_complete == 0:
                raise
            epochs.forget()
            warning = UserWarning("Training interrupted by user.")
        trainer.check_outputs(progress.chosen_weights)
    session.observer.end()
    return warning


def _not_converged(progress, limits):
    """Return a warning that the last epoch has come too early, or None."""
    if limits.max_iter == 1 or progress.schedule.runs_its_length:
        return None
    kind = "Stochastic Optimizer" if progress.optimizer is not None else "lbfgs"
    return ConvergenceWarning(
        f"{kind}: Maximum iterations ({limits.max_iter}) reached and the "
        "optimization hasn't converged yet."
    )


def descend(session, trainer, epochs):
    """Follow the gradients of batches, and return whether training ended before its last epoch."""
    for _ in range(session.limits.max_iter):
        epochs.begin()
        if epochs.end(run_epoch(session.task, session.progress, trainer)):
            return True
    return False


def run_epoch(task, progress, trainer):
    """Train on each batch once, and return the mean loss."""
    order = task.train_index.copy()
    if task.shuffle:
        progress.random_state.shuffle(order)
    trainer.order[...] = order
    total = 0.0
    for batch in even_slices(len(order), task.batch_size):
        total += train_step(task, progress, trainer, batch)
    progress.n_samples_seen += len(order)
    return total / task.sample_weight[task.train_index].sum(dtype=np.float64)


def train_step(task, progress, trainer, batch):
    """Update the weights once, and return the batch's sum of losses, penalty included."""
    rate = progress.schedule.rate(progress.n_steps, progress.n_samples_seen)
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

    def evaluate(vector):
        epochs.begin()
        trainer.weights[:n_learned] = vector
        return full_gradient(task, trainer)

    def end_iteration(intermediate_result):
        trainer.weights[:n_learned] = intermediate_result.x
        progress.n_samples_seen += len(task.train_index)
        progress.n_steps += 1
        if epochs.end(float(intermediate_result.fun)):
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
        epochs.end(float(result.fun))
    return result.success or epochs.n_complete < limits.max_iter


def full_gradient(task, trainer):
    """Return the mean loss of all images, penalty included, and its gradient, in float64."""
    network = task.network
    total_weight = task.sample_weight[task.train_index].sum(dtype=np.float64)
    coefs = trainer.weights[: network.n_coefs].astype(np.float64)
    loss = 0.5 * task.alpha * float(np.dot(coefs, coefs))
    total = np.zeros(network.n_learned)
    total[: len(coefs)] = task.alpha * coefs
    for batch in even_slices(len(task.train_index), task.batch_size):
        weight = float(task.sample_weight[trainer.order[batch]].sum(dtype=np.float64))
        if weight == 0:
            continue
        batch_loss, grads = trainer.gradient(batch, weight)
        loss += batch_loss
        total += grads
    return loss / total_weight, total / total_weight
