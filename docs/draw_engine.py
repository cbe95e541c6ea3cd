"""Draw the figures of docs/engine.md; all numbers in them are computed by the package.

python docs/draw_engine.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from skcnn._engine.rows import RowKernel
from skcnn._engine.winograd import _INPUT, TileKernel
from skcnn._model.shards import shard_slices
from skcnn.layers import Conv
from skcnn.layers.base import Workspace

HERE = Path(__file__).resolve().parent / "images"

INK, GREY, PALE = "#22303c", "#7b8794", "#eef1f4"
BLUE, ORANGE, GREEN, PURPLE = "#3a7ca5", "#d98032", "#4f9d69", "#7d5ba6"
TINTS = {
    BLUE: "#d6e6f0",
    ORANGE: "#f8e3cf",
    GREEN: "#d8ecdf",
    PURPLE: "#e6ddf1",
    GREY: PALE,
}

# The image and the filter of the worked example.
IMAGE = np.array([[1, 2, 0, 1], [0, 1, 3, 1], [2, 0, 1, 0], [1, 1, 0, 2]], np.float32)
FILTER = np.array([[0, 1, 0], [1, 2, -1], [0, 0, 1]], np.float32)

plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10, "text.color": INK})


def canvas(width, height):
    """Return a figure and its axes, in units of a tenth of an inch from the upper left corner."""
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width * 10), ylim=(height * 10, 0))
    axes.axis("off")
    return figure, axes


def save(figure, name):
    """Write the figure to docs/images."""
    figure.savefig(HERE / f"{name}.png", dpi=110, facecolor="white")
    plt.close(figure)


def text(axes, x, y, words, **style):
    """Write words, centred unless `style` sets another alignment."""
    axes.text(x, y, words, **({"ha": "center", "va": "center"} | style))


def grid(axes, x, y, values, size=3.0, *, fill="white", edge=GREY, fontsize=9, form="{:g}"):
    """Draw a matrix as cells with numbers, the upper left corner at ``(x, y)``.

    `fill` is one colour, or a function of row and column.
    """
    for r, line in enumerate(values):
        for c, value in enumerate(line):
            face = fill(r, c) if callable(fill) else fill
            axes.add_patch(
                Rectangle((x + c * size, y + r * size), size, size, fc=face, ec=edge, lw=0.7)
            )
            label = value if isinstance(value, str) else form.format(value)
            text(axes, x + (c + 0.5) * size, y + (r + 0.52) * size, label, fontsize=fontsize)


def arrow(axes, start, stop, color=INK, width=1.4):
    """Draw an arrow."""
    style = {"arrowstyle": "-|>", "mutation_scale": 12, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, stop, color=color, lw=width, zorder=3, **style))


def bracket(axes, x, top, bottom, color, width=1.0):
    """Draw a square bracket that opens to the left."""
    axes.plot(
        [x, x + width, x + width, x], [top, top, bottom, bottom], color=color, lw=2, clip_on=False
    )


def draw_layout():
    """Draw two images of two channels, and how they lie in memory."""
    figure, axes = canvas(11, 5.5)
    text(axes, 3, 3.2, "Two images, each of two channels", ha="left", weight="bold")
    colors, n_rows, n_columns, n_channels = (BLUE, ORANGE), 3, 4, 2
    size = 3.6
    for n, (name, color) in enumerate(zip("ab", colors, strict=True)):
        top = 9.5 + n * 21
        text(axes, 3, top - 2.4, f"image {name}", ha="left", color=color, weight="bold")
        for channel in range(n_channels):
            shift = 3 + channel * 19
            labels = [[f"{name}{r}{c}" for c in range(n_columns)] for r in range(n_rows)]
            fill = TINTS[color] if channel == 0 else "white"
            grid(axes, shift, top, labels, size, fill=fill, edge=color, fontsize=8.5)
            text(axes, shift + 2 * size, top + 3 * size + 2, f"channel {channel}", color=GREY)
    text(axes, 3, 52, "a12: image a, row 1, column 2", ha="left", color=GREY)

    left, size, width = 53, 3.6, 8
    text(
        axes,
        left,
        3.2,
        "In memory, from left to right, then line by line",
        ha="left",
        weight="bold",
    )
    for r in range(n_rows):
        for channel in range(n_channels):
            top = 9.5 + r * 12.8 + channel * 5.2
            for k in range(width):
                c, n = divmod(k, 2)
                color = colors[n]
                axes.add_patch(
                    Rectangle(
                        (left + k * size, top),
                        size,
                        size,
                        fc=TINTS[color] if channel == 0 else "white",
                        ec=color,
                        lw=0.9,
                    )
                )
                text(
                    axes,
                    left + (k + 0.5) * size,
                    top + 0.52 * size,
                    f"{'ab'[n]}{r}{c}",
                    fontsize=8.5,
                )
            words = f"channel {channel}"
            text(axes, left + width * size + 1, top + size / 2, words, ha="left", color=GREY)
            text(
                axes,
                left - 1,
                top + size / 2,
                f"{(r * n_channels + channel) * width}",
                ha="right",
                color=GREY,
                fontsize=8.5,
            )
        bracket(axes, left + width * size + 10, 9.5 + r * 12.8, 9.5 + r * 12.8 + 8.8, INK)
        text(axes, left + width * size + 12, 13.9 + r * 12.8, f"row {r}", ha="left")
    bottom = 9.5 + 2 * 12.8 + 5.2 + size
    axes.plot(
        [left, left, left + width * size, left + width * size],
        [bottom + 0.8, bottom + 1.8, bottom + 1.8, bottom + 0.8],
        color=INK,
        lw=1.4,
    )
    words = "one run: all columns of all images, without a gap"
    text(axes, left + width * size / 2, bottom + 4, words)
    text(
        axes,
        left - 1,
        7.6,
        "place",
        ha="right",
        color=GREY,
        fontsize=8.5,
    )
    text(
        axes,
        left,
        52,
        "shape (rows, channels, columns, images) = (3, 2, 4, 2)",
        ha="left",
        color=GREY,
    )
    save(figure, "engine_layout")


class ByRows(Conv):
    """A convolution by rows, whatever it costs."""

    def kernel(self, input_shape):
        """Return the kernel."""
        return RowKernel(self.plan(input_shape))


class ByTiles(Conv):
    """A convolution by Winograd's tiles, whatever it costs."""

    def kernel(self, input_shape):
        """Return the kernel."""
        return TileKernel(self.plan(input_shape))


def example(layer_type):
    """Return ``(work, y)`` of the worked example: buffers and output of a bare convolution."""
    layer = layer_type(1, activation="identity")
    work = Workspace(layer, (*IMAGE.shape, 1), 1, np.float32)
    weights = {"coef": FILTER[None, :, None, :], "intercept": np.zeros(1, np.float32)}
    return work, layer.forward(IMAGE[:, None, :, None], weights, work)


def draw_windows():
    """Draw the widened buffer of the worked example and its overlapping windows."""
    work, y = example(ByRows)
    lines = work["wide"].reshape(6, 3, 4)
    figure, axes = canvas(11.6, 6.7)
    size, top = 2.8, 11.0

    text(axes, 3, 3.2, "1. The image", ha="left", weight="bold")
    grid(axes, 3, top + 18, IMAGE, 3.2, fill=TINTS[BLUE], edge=BLUE, fontsize=10)

    left = 31
    text(axes, left, 3.2, "2. Its rows, widened along the columns", ha="left", weight="bold")
    text(axes, left, 6.8, "three lines a row, one for each kernel column", ha="left", color=GREY)
    gap = 0.5
    places = []
    for r in range(6):
        start = top + r * (3 * size + gap)
        places.append(start)
        padding = r in (0, 5)
        color = GREY if padding else BLUE

        def fill(k, c, padding=padding):
            beyond = padding or (k == 0 and c == 0) or (k == 2 and c == 3)
            return PALE if beyond else TINTS[BLUE]

        grid(axes, left, start, lines[r], size, fill=fill, edge=color, fontsize=8.5)
        words = "zeros" if padding else f"row {r - 1}"
        text(axes, left - 1, start + 1.5 * size, words, ha="right", color=color)
    arrow(axes, (17, top + 24.4), (23.3, top + 24.4))

    ends = [p + 3 * size for p in places]
    for row, color in enumerate((ORANGE, GREEN, PURPLE, INK)):
        x = left + 4 * size + 1.2 + row * 3.4
        bracket(axes, x, places[row] + 0.3, ends[row + 2] - 0.3, color)
        text(axes, x + 2.3, (places[row] + ends[row + 2]) / 2, str(row), color=color, weight="bold")
    x = left + 4 * size + 1.2
    words = "windows of the output\nrows 0 to 3: they overlap"
    text(axes, x + 3, top + 3, words, ha="left", color=GREY, fontsize=8.5)

    right = 70
    text(axes, right, 3.2, "3. One product for each output row", ha="left", weight="bold")
    text(axes, right, 6.8, "here row 1", ha="left", color=GREEN, weight="bold")
    taps = FILTER.reshape(1, 9)
    grid(axes, right, top + 17.6, taps, size, fill=TINTS[ORANGE], edge=ORANGE, fontsize=8.5)
    text(axes, right + 4.5 * size, top + 22.6, "the filter: 1 x 9", color=GREY)
    text(axes, right + 9 * size + 1.7, top + 19, "@", fontsize=12)
    window = right + 9 * size + 3.5
    window_lines = lines[1:4].reshape(9, 4)
    grid(axes, window, top + 6.4, window_lines, size, fill=TINTS[GREEN], edge=GREEN, fontsize=8.5)
    text(axes, window + 2 * size, top + 4.4, "window: 9 x 4", color=GREY)
    arrow(axes, (window + 2 * size, top + 32.4), (window + 2 * size, top + 36.4), GREEN)

    def fill_output(r, c):
        return TINTS[GREEN] if r == 1 else "white"

    out = window + 2 * size - 6.4
    grid(axes, out, top + 37.4, y[:, 0, :, 0], 3.2, fill=fill_output, edge=GREEN, fontsize=10)
    text(axes, out - 1.2, top + 43.8, "output: 4 x 4", ha="right", color=GREY)
    save(figure, "engine_windows")


def draw_winograd():
    """Draw the tile of the worked example through Winograd's algorithm."""
    work, y = example(ByTiles)
    filters = work["filters"].reshape(6, 6).T
    inputs = _INPUT @ np.pad(IMAGE, 1) @ _INPUT.T + 0.0

    figure, axes = canvas(11.4, 7.0)
    size = 4.1
    tile, second = 6 * size, 42
    text(axes, 3, 3.2, "A tile: 6 x 6 inputs", ha="left", weight="bold", color=BLUE)
    padded = np.pad(IMAGE, 1)

    def fill(r, c):
        return TINTS[BLUE] if 1 <= r <= 4 and 1 <= c <= 4 else PALE

    grid(axes, 3, 6, padded, size, fill=fill, edge=BLUE)
    text(axes, second, 3.2, "36 numbers of the tile", ha="left", weight="bold", color=BLUE)
    grid(axes, second, 6, inputs, size, fill=TINTS[BLUE], edge=BLUE, fontsize=8.5)
    arrow(axes, (4 + tile, 6 + tile / 2), (second - 1, 6 + tile / 2))
    text(
        axes,
        (3 + tile + second) / 2,
        6 + tile / 2 - 4,
        "a product\nwith a 36 x 36\nmatrix",
        va="bottom",
        fontsize=8.5,
        color=GREY,
    )

    top = 41.5
    text(axes, 3, top - 2.8, "A filter: 3 x 3", ha="left", weight="bold", color=ORANGE)
    grid(axes, 3, top, FILTER, size, fill=TINTS[ORANGE], edge=ORANGE)
    text(
        axes, second, top - 2.8, "36 numbers of the filter", ha="left", weight="bold", color=ORANGE
    )
    near = filters.round(2) + 0.0
    grid(
        axes, second, top, near, size, fill=TINTS[ORANGE], edge=ORANGE, fontsize=7.5, form="{:.3g}"
    )
    middle = top + 1.5 * size
    arrow(axes, (4 + 3 * size, middle), (second - 1, middle))
    text(
        axes,
        (3 + 3 * size + second) / 2,
        middle - 1.2,
        "once a shard",
        va="bottom",
        fontsize=8.5,
        color=GREY,
    )

    third = 86
    text(axes, third, 3.2, "Their 36 products", ha="left", weight="bold", color=GREEN)
    products = (inputs * filters).round(2) + 0.0
    grid(axes, third, 6, products, size, fill=TINTS[GREEN], edge=GREEN, fontsize=7.5, form="{:.3g}")
    join = (third - 9.5, 6 + tile / 2)
    axes.plot([second + tile + 1, join[0]], [join[1]] * 2, color=INK, lw=1.4)
    axes.plot(
        [second + tile + 1, join[0], join[0]],
        [top + tile / 2, top + tile / 2, join[1]],
        color=INK,
        lw=1.4,
    )
    arrow(axes, join, (third - 1, join[1]))
    axes.add_patch(plt.Circle(join, 1.6, fc="white", ec=INK, lw=1.4, zorder=4))
    text(axes, join[0], join[1], "\u00d7", fontsize=12, zorder=5)
    text(
        axes,
        join[0] + 1.2,
        top - 4.2,
        "number by number;\nwith channels: 36\nmatrix products",
        fontsize=8.5,
        color=GREY,
        ha="left",
        va="top",
    )

    out = third + tile / 2 - 2 * size
    arrow(axes, (third + tile / 2, 7 + tile), (third + tile / 2, top + 4.2))
    grid(
        axes,
        out,
        top + 5.2,
        y[:, 0, :, 0].round(3) + 0.0,
        size,
        fill=TINTS[PURPLE],
        edge=PURPLE,
        fontsize=10,
    )
    text(
        axes,
        third + tile / 2,
        top + 5.2 + 4 * size + 2.4,
        "4 x 4 outputs",
        weight="bold",
        color=PURPLE,
    )
    save(figure, "engine_winograd")


def box(axes, x, y, width, height, words, color, **style):
    """Draw a rounded box with words in it."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.8",
            fc=TINTS[color],
            ec=color,
            lw=1.2,
        )
    )
    text(axes, x + width / 2, y + height / 2, words, **style)


def draw_workers():
    """Draw a fit with two workers: which of them computes which shard, and what they share."""
    shards = shard_slices(200, 28 * 28 * 8)
    colors = (BLUE, ORANGE, GREEN, PURPLE)
    figure, axes = canvas(12, 7.4)
    left, early, late, end = 20, 8, 67, 112
    caller, worker, height = 12, 23, 5.5

    def note(x, y, words, **style):
        text(axes, x, y, words, **({"fontsize": 8.5, "color": GREY, "ha": "left"} | style))

    def dashed(x, y, width, words):
        axes.add_patch(
            Rectangle((x, y), width, height, fc=PALE, ec=GREY, lw=1, ls=(0, (4, 3)), zorder=1)
        )
        text(axes, x + width / 2, y + height / 2, words, color=GREY, fontsize=8.5)

    text(axes, 3, caller + height / 2, "your program", ha="left", weight="bold")
    text(axes, 3, worker + height / 2, "worker process", ha="left", weight="bold")

    note(left, 4, "the first steps", color=INK, weight="bold", fontsize=10)
    note(left, 7.6, "Your program computes all shards until the process has started.")
    for k, color in enumerate(colors):
        box(axes, left + k * early, caller, early - 0.6, height, f"shard {k}", color, fontsize=8.5)
    box(axes, left + 4 * early, caller, early - 0.6, height, "update", GREY, fontsize=8.5)
    dashed(left, worker, 5 * early - 0.6, "a new interpreter starts: about a second")
    for lane in (caller, worker):
        text(axes, (left + 5 * early + late) / 2, lane + height / 2, ". . .", fontsize=13)

    note(late, 4, "a later step", color=INK, weight="bold", fontsize=10)
    note(late, 7.6, "A worker that is free takes the next shard.")
    for place, k in enumerate((0, 2, 3)):
        x = late + place * 9
        box(axes, x, caller, 8.4, height, f"shard {k}", colors[k], fontsize=8.5)
    box(axes, late, worker, 24, height, "shard 1, on a busy core", colors[1], fontsize=8.5)
    barrier = late + 28.4
    axes.plot([barrier] * 2, [caller - 1.5, worker + height + 1.5], color=INK, lw=2)
    text(axes, barrier, worker + height + 3.2, "barrier", fontsize=8.5)
    box(axes, barrier + 1.6, caller, 12, height, "update", GREY, fontsize=8.5)
    arrow(axes, (left, 34.8), (end, 34.8), GREY, 1)
    note(end + 0.8, 34.8, "time")

    x = left + 5 * early - 4.2
    arrow(axes, (x, caller + height + 0.5), (x, worker - 0.5), GREY, 1)
    note(
        x - 1,
        (caller + height + worker) / 2,
        "a pipe: the job once, then a message a step",
        ha="right",
    )

    top, bottom = 41, 71
    axes.add_patch(
        FancyBboxPatch(
            (left - 2, top),
            end - left + 4,
            bottom - top,
            boxstyle="round,pad=0,rounding_size=1",
            fc="white",
            ec=INK,
            lw=1.2,
        )
    )
    text(axes, 3, (top + bottom) / 2 - 2, "shared memory", ha="left", weight="bold")
    note(3, (top + bottom) / 2 + 3, "memory maps of\ntemporary files")
    for x in (left + 12, late + 12):
        style = {"arrowstyle": "<|-|>", "mutation_scale": 12, "shrinkA": 0, "shrinkB": 0}
        axes.add_patch(FancyArrowPatch((x, 36), (x, top - 0.4), color=INK, lw=1.2, **style))
    note(late + 13.6, 38.5, "all workers read and write")

    row = top + 7
    note(left, row - 2.6, "Your program writes these:")
    for x, width, words in (
        (left, 24, "images and targets,\ncopied once"),
        (left + 26, 18, "order of the epoch"),
        (left + 46, 15, "weights"),
    ):
        box(axes, x, row, width, 6, words, GREY, fontsize=8.5)
    box(axes, late + 20, row, 25, 6, "index of the next shard,\nbehind a lock", GREY, fontsize=8.5)
    note(late + 20, row - 2.6, "All workers write this:")

    row = top + 20
    note(
        left,
        row - 2.6,
        "One worker writes the gradients of a shard. Your program adds them from the left:",
    )
    for k, (shard, color) in enumerate(zip(shards, colors, strict=True)):
        words = f"gradients of shard {k}\nimages {shard.start} to {shard.stop - 1}"
        box(axes, left + k * 23.5, row, 21, 6.5, words, color, fontsize=8.5)
        if k < 3:
            text(axes, left + k * 23.5 + 22.2, row + 3.25, "+", fontsize=14)
    save(figure, "engine_workers")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    draw_layout()
    draw_windows()
    draw_winograd()
    draw_workers()
