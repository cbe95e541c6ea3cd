"""A network, drawn as textbooks do: maps as stacks of sheets, dense layers as bars."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from skcnn._engine.geometry import pair
from skcnn._estimator import BaseCNN
from skcnn._features.fitted import FeaturesMixin
from skcnn._model.encoded_conv import EncodedConv
from skcnn._model.network import Network
from skcnn._model.summary import summarize
from skcnn.inspection._draw import PAGE_WIDTH, divided
from skcnn.layers import AvgPool, Conv, Dense, GlobalAvgPool, GlobalMaxPool, Layer, MaxPool

PER_ROW = 8  # stages side by side, so that text fits at the width of a page
LARGEST = 0.56  # side of the largest map, in distances between stages
DEPTH = 0.24  # from the first to the last sheet of a stack of 256 maps
LINE = 9.5  # points from a line of text to the next
FACES = {"input": "#E0E0E0", "conv": "#A6CEE9", "pool": "#F6D08B", "dense": "#A3D9C6"}
OTHER_FACE = "#DCC6DE"
FIELD = "#C03A00"  # what a value is made of
Point = tuple[float, float]


class Stage(NamedTuple):
    """What a layer makes, and how it is to be drawn.

    Parameters
    ----------
    name : str
    shape : (int, int, int)
        Rows, columns and channels of the output.
    kind : {"input", "conv", "pool", "dense"} or another str
    kernel : (int, int) or None
        Rows and columns of the input that a value of the output is made of; None for all.
    n_weights : int
    also : tuple of str
        Layers behind it that keep the shape.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    kernel: tuple[int, ...] | None = None
    n_weights: int = 0
    also: tuple[str, ...] = ()


class ArchitectureDisplay:
    """The layers of a network from the image to the output: their maps, sizes and weights.

    A stack has a sheet for every doubling of the number of maps, and sides in proportion to the
    roots of theirs. Layers that keep the shape and hold no weights of filters, such as `Dropout`
    and `BatchNorm`, are written under the layer before them.

    Parameters
    ----------
    stages : list of Stage

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skcnn import CNNClassifier
    >>> from skcnn.architectures import lenet5
    >>> from skcnn.inspection import ArchitectureDisplay
    >>> lenet = CNNClassifier(lenet5())
    >>> display = ArchitectureDisplay.from_estimator(lenet, image_shape=(32, 32), n_outputs=10)
    >>> display.stages[1].shape, display.stages[1].n_weights
    ((28, 28, 6), 156)
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        image_shape: Sequence[int] | None = None,
        n_outputs: int | None = None,
        ax: Any = None,
        title: str | None = None,
    ) -> Self:
        """Draw the network of an estimator, fitted or not.

        Parameters
        ----------
        estimator : CNNClassifier, CNNRegressor or a fitted ConvFeatureExtractor
        image_shape : tuple of int, default=None
            ``(rows, columns)`` or ``(rows, columns, channels)``; needed before `fit`, unless the
            estimator's own parameter says it.
        n_outputs : int, default=None
            Units of the output layer before `fit`; None means 1.
        ax : matplotlib Axes, default=None
        title : str, default=None

        Returns
        -------
        display : ArchitectureDisplay
        """
        if isinstance(estimator, FeaturesMixin):
            check_is_fitted(estimator)
            stages = _stages(estimator._learned.features.model.network)
            n_features = int(np.prod(stages[-1].shape))
            if estimator.flatten:
                stages.append(Stage("features", (1, 1, n_features), "dense"))
            return cls(stages).plot(ax=ax, title=title)
        if not isinstance(estimator, BaseCNN):
            raise TypeError(
                "estimator must be a CNNClassifier, a CNNRegressor or a ConvFeatureExtractor. "
                f"Got {estimator!r} instead."
            )
        stages = _stages(estimator._network(image_shape, n_outputs))
        stages[-1] = stages[-1]._replace(name="output")
        return cls(stages).plot(ax=ax, title=title)

    def plot(self, ax: Any = None, *, title: str | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        title : str, default=None

        Returns
        -------
        display : ArchitectureDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        if not self.stages or not all(isinstance(stage, Stage) for stage in self.stages):
            raise ValueError(f"stages must be a list of Stage. Got {self.stages!r} instead.")
        n_rows = -(-len(self.stages) // PER_ROW)
        per_row = -(-len(self.stages) // n_rows)
        n_wide = max(per_row, 5)
        # two lines above; below the name, the layers that follow and two lines on weights
        n_lines = 5 + max(len(stage.also) for stage in self.stages)
        pitch = 1.1 + (n_lines + 1.5) * LINE / 72 / (PAGE_WIDTH / n_wide)
        height = n_rows * pitch * PAGE_WIDTH / n_wide + (0.3 if title else 0)
        self.figure_, axes = divided(ax, 1, 1, height)
        self.ax_ = axes[0, 0]
        painter = _Painter(self.ax_, max(max(stage.shape[:2]) for stage in self.stages))
        for number, stage in enumerate(self.stages):
            row, column = divmod(number, per_row)
            center = column + 0.5, -row * pitch
            painter.stage(stage, center)
            if column:
                painter.link(self.stages[number - 1], stage, center)
        middle = (n_wide - per_row) / 2
        top = 0.55 + 2.5 * LINE / 72 / (PAGE_WIDTH / n_wide)
        self.ax_.set(
            xlim=(-middle, n_wide - middle), ylim=(top - n_rows * pitch, top), aspect="equal"
        )
        self.ax_.set_axis_off()
        if title:
            self.ax_.set_title(title, fontsize=11)
        return self


class _Painter:
    """Draws stages around their centres.

    Parameters
    ----------
    ax : matplotlib Axes
    largest : int
        The longest side of a map.
    """

    def __init__(self, ax: Any, largest: int) -> None:
        self.ax = ax
        self.largest = largest

    def sides(self, stage: Stage) -> tuple[float, float]:
        """Return width and height of a sheet."""
        rows, columns, units = stage.shape
        if rows == columns == 1:
            return 0.1, min(0.25 + 0.08 * np.log2(units + 1), 0.96)
        width, height = (max(LARGEST * (n / self.largest) ** 0.5, 0.09) for n in (columns, rows))
        return width, height

    def sheets(self, stage: Stage, center: Point) -> list[Point]:
        """Return the lower left corners of the sheets, the hindmost first."""
        width, height = self.sides(stage)
        is_bar = stage.shape[:2] == (1, 1)
        n = 1 if is_bar else 1 + round(np.log2(stage.shape[2]))
        step = DEPTH / 8
        depth = (n - 1) * step
        left, low = center[0] - (width + depth) / 2, center[1] - (height + depth) / 2
        return [(left + i * step, low + i * step) for i in reversed(range(n))]

    def stage(self, stage: Stage, center: Point) -> None:
        """Draw the maps of a stage and write what it is."""
        from matplotlib.patches import Rectangle

        width, height = self.sides(stage)
        face = FACES.get(stage.kind, OTHER_FACE)
        for corner in self.sheets(stage, center):
            self.ax.add_patch(
                Rectangle(corner, width, height, facecolor=face, edgecolor="0.25", linewidth=0.7)
            )
        rows, columns, channels = stage.shape
        size = f"{channels:,}" if rows == columns == 1 else f"{rows} x {columns}\nx {channels}"
        self._write(center[0], center[1] + 0.5, 2, size, "bottom", "0.2")
        lines = [stage.name, *(f"+ {name}" for name in stage.also)]
        if stage.kernel is not None:
            lines[0] += " {}x{}".format(*stage.kernel)
        low = center[1] - 0.5
        self._write(center[0], low, -2, "\n".join(lines), "top", "black")
        if stage.n_weights:
            below = -4 - LINE * "\n".join(lines).count("\n") - LINE
            self._write(center[0], low, below, f"{stage.n_weights:,}\nweights", "top", "0.4")

    def _write(
        self, x: float, y: float, points: float, text: str, vertical: str, colour: str
    ) -> None:
        """Write around `x`, so many points above `y`."""
        self.ax.annotate(
            text,
            (x, y),
            (0, points),
            textcoords="offset points",
            ha="center",
            va=vertical,
            fontsize=8,
            color=colour,
            linespacing=1.0,
        )

    def link(self, before: Stage, stage: Stage, center: Point) -> None:
        """Draw what a value of `stage`, at `center`, is made of in the stage to the left."""
        from matplotlib.patches import Rectangle

        width, height = self.sides(before)
        left, low = self.sheets(before, (center[0] - 1, center[1]))[-1]
        own_width, own_height = self.sides(stage)
        own_left, own_low = self.sheets(stage, center)[-1]
        if stage.kernel is None or before.shape[:2] == (1, 1):
            right = left + width
            lines = [(low, own_low), (low + height, own_low + own_height)]
            for start, stop in lines:
                self._line((right, start), (own_left, stop), "0.6")
            return
        shares = [min(k / n, 1) for k, n in zip(stage.kernel, before.shape[:2], strict=True)]
        tall, wide = height * shares[0], width * shares[1]
        x, y = left + 0.62 * (width - wide), low + 0.62 * (height - tall)
        box = Rectangle((x, y), wide, tall, fill=False, edgecolor=FIELD, linewidth=0.9)
        box.set_zorder(3)
        self.ax.add_patch(box)
        point = own_left + 0.3 * own_width, own_low + 0.62 * own_height
        self._line((x + wide, y), point)
        self._line((x + wide, y + tall), point)

    def _line(self, start: Point, stop: Point, colour: str = FIELD) -> None:
        self.ax.plot(*zip(start, stop, strict=True), color=colour, linewidth=0.7, zorder=3)


def _stages(network: Network) -> list[Stage]:
    """Return the stages of a network, the image first."""
    stages = [Stage("image", network.image_shape, "input")]
    counts = [row[2] for row in summarize(network, np.float32, 1).rows]
    for layer, shape, n_weights in zip(network.layers, network.shapes[1:], counts, strict=False):
        if isinstance(layer, EncodedConv):
            stages += _encoded_stages(layer, network, n_weights)
            continue
        stage = _stage(layer, shape, n_weights)
        if stage.kind == "other" and shape == stages[-1].shape and stage.name != "Residual":
            before = stages[-1]
            n_weights += before.n_weights
            stages[-1] = before._replace(also=(*before.also, stage.name), n_weights=n_weights)
        else:
            stages.append(stage)
    return stages


def _stage(layer: Layer, shape: tuple[int, ...], n_weights: int) -> Stage:
    name = type(layer).__name__
    if isinstance(layer, Conv):
        return Stage(name, shape, "conv", pair(layer.kernel_size), n_weights)
    if isinstance(layer, GlobalMaxPool | GlobalAvgPool):
        return Stage(name.replace("Global", "Global\n"), shape, "pool")
    if isinstance(layer, MaxPool | AvgPool):
        return Stage(name, shape, "pool", pair(layer.pool_size))
    return Stage(name, shape, "dense" if isinstance(layer, Dense) else "other", None, n_weights)


def _encoded_stages(layer: EncodedConv, network: Network, n_weights: int) -> list[Stage]:
    """Return the stages of an extractor: codes, and what they are pooled into."""
    rows, columns, _ = layer.conv.output_shape(network.image_shape)
    codes = (rows, columns, layer.encoder.n_codes)
    stages = [Stage("Conv", codes, "conv", pair(layer.conv.kernel_size), n_weights)]
    if network.output_shape != codes:
        spans = layer.pooling.windows((rows, columns))
        kernel = tuple(max(stop - start for start, stop in axis) for axis in spans)
        name = f"{layer.pooling.reduce.capitalize()}Pool"
        stages.append(Stage(name, network.output_shape, "pool", kernel))
    return stages
