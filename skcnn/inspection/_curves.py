"""A display of learning curves: the loss and the validation score of each epoch."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skcnn.inspection._draw import divided
from skcnn.inspection._score import check_cnn
from skcnn.layers._params import naming

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito (2008)


def _check_curve(name: str, values: Any) -> None:
    """Raise a `ValueError` unless a curve has a number for each epoch."""
    if values is None and name != "losses":
        return
    with naming(name, "an array of a number for each epoch"):
        array = check_array(values, ensure_2d=False, ensure_all_finite=False, input_name=name)
    if array.ndim != 1:
        raise ValueError(
            f"{name} must be an array of a number for each epoch. Got shape {array.shape} instead."
        )


class LossCurveDisplay:
    """Learning curves: the training loss and, if there are any, validation losses and scores.

    Parameters
    ----------
    losses : array-like of shape (n_epochs,)
        Training loss of each epoch.
    validation_losses, validation_scores : array-like of shape (n_epochs,), default=None
        Loss and score of each epoch on the validation images.
    name : str, default=None
        Name of the estimator in the legend.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The axes of the loss and, if there are scores, the axes of the score.
    ax_ : matplotlib Axes
        The axes of the loss.
    figure_ : matplotlib Figure
        The figure that holds the axes.
    lines_ : list of matplotlib Line2D
        The curves.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcnn import CNNClassifier
    >>> from skcnn.inspection import LossCurveDisplay
    >>> digits = load_digits()
    >>> X, y = digits.images, digits.target
    >>> clf = CNNClassifier(max_iter=5, early_stopping=True, random_state=0).fit(X, y)
    >>> len(LossCurveDisplay.from_estimator(clf).axes_)
    2
    """

    def __init__(
        self,
        losses: ArrayLike,
        *,
        validation_losses: ArrayLike | None = None,
        validation_scores: ArrayLike | None = None,
        name: str | None = None,
    ) -> None:
        self.losses: Any = losses
        self.validation_losses: Any = validation_losses
        self.validation_scores: Any = validation_scores
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        name: str | None = None,
        ax: Any = None,
        log_scale: bool = False,
    ) -> Self:
        """Draw the learning curves of a fitted network.

        Parameters
        ----------
        estimator : CNNClassifier or CNNRegressor
            A fitted network.
        name : str, default=None
            Name of the estimator in the legend.
        ax : matplotlib Axes or array of Axes, default=None
            The axes to draw on; None makes a new figure. The ``axes_`` of another display add the
            curves to it.
        log_scale : bool, default=False
            Whether the loss has a logarithmic scale.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.
        """
        check_cnn(estimator)
        display = cls(
            estimator.loss_curve_,
            validation_losses=estimator.validation_loss_curve_ or None,
            validation_scores=estimator.validation_scores_ or None,
            name=name,
        )
        return display.plot(ax=ax, log_scale=log_scale)

    def plot(self, ax: Any = None, *, log_scale: bool = False) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            The axes to draw on; None makes a new figure.
        log_scale : bool, default=False
            Whether the loss has a logarithmic scale.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        for curve in ("losses", "validation_losses", "validation_scores"):
            _check_curve(curve, getattr(self, curve))
        has_scores = self.validation_scores is not None
        self.figure_, axes = divided(ax, 1, 1 + has_scores, 3.0)
        self.axes_ = axes[0]
        self.ax_ = self.axes_[0]
        n_before = len({line.get_color() for line in self.ax_.get_lines()})
        colour = COLOURS[n_before % len(COLOURS)]
        prefix = "" if self.name is None else f"{self.name}, "
        self.lines_ = self._draw(self.ax_, self.losses, colour, "-", f"{prefix}training")
        if self.validation_losses is not None:
            label = f"{prefix}validation"
            self.lines_ += self._draw(self.ax_, self.validation_losses, colour, "--", label)
        self.ax_.set(xlabel="epoch", ylabel="loss", yscale="log" if log_scale else "linear")
        if has_scores:
            scores = self.axes_[1]
            label = "validation" if self.name is None else self.name
            self.lines_ += self._draw(scores, self.validation_scores, colour, "-", label)
            best = int(np.argmax(self.validation_scores))
            score = self.validation_scores[best]
            told = f"best: {score:.3g} in epoch {best + 1}"
            scores.plot(best + 1, score, "o", color=colour, label=told)
            scores.set(xlabel="epoch", ylabel="validation score")
        for axes in self.axes_:
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.3)
            if len(axes.get_legend_handles_labels()[1]) > 1 or self.name is not None:
                axes.legend(fontsize=9, frameon=False)
        return self

    @staticmethod
    def _draw(ax: Any, values: Any, colour: str, style: str, label: str) -> list[Any]:
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        marker = "." if len(values) < 30 else None
        epochs = np.arange(1, len(values) + 1)
        return ax.plot(epochs, values, style, color=colour, label=label, marker=marker)
