"""Reports of the progress of training: none, printed lines or a progress bar."""

from contextlib import AbstractContextManager


def make_report(verbose, max_iter):
    """Return the report for `verbose`: none for 0, lines for 1, else a bar if rich is installed."""
    if not verbose:
        return Silence()
    if verbose >= 2:
        try:
            return Bar(max_iter)
        except ImportError:
            pass
    return Lines()


class Silence(AbstractContextManager):
    """Reports nothing, and is the protocol of all reports."""

    def __exit__(self, *error):
        pass

    def epoch(self, loss_curve, score):
        """Report the end of an epoch; `score` is the validation score, or None."""

    def converged(self, what, limits):
        """Report that training ends because `what` has stalled."""


class Lines(Silence):
    """Prints one or two lines per epoch, as MLPClassifier does."""

    def epoch(self, loss_curve, score):
        print(f"Iteration {len(loss_curve)}, loss = {loss_curve[-1]:.8f}")
        if score is not None:
            print(f"Validation score: {score:f}")

    def converged(self, what, limits):
        print(
            f"{what} did not improve more than tol={limits.tol:f} for {limits.n_iter_no_change} "
            "consecutive epochs. Stopping."
        )


class Bar(Silence):
    """Shows a progress bar, drawn by rich, with the latest loss and score.

    Parameters
    ----------
    max_iter : int
        Largest number of epochs.

    Raises
    ------
    ImportError
        If rich is not installed.
    """

    def __init__(self, max_iter):
        from rich.progress import (  # optional
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[result]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            auto_refresh=False,  # rich would start a thread
        )
        self._task = self._progress.add_task("epochs", total=max_iter, result="")

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *error):
        self._progress.stop()

    def epoch(self, loss_curve, score):
        result = f"loss {loss_curve[-1]:.4f}"
        if score is not None:
            result += f", validation score {score:.4f}"
        self._progress.update(self._task, advance=1, result=result, refresh=True)

    def converged(self, what, limits):
        done = self._progress.tasks[0].completed
        self._progress.update(self._task, total=done, refresh=True)
