"""Drawing helpers that the displays share: axes, images, grids of cells and colour scales."""

from collections.abc import Sequence
from typing import Any

import numpy as np

FRAME = "0.7"  # grey of frames and zero lines
SIGNED = "RdBu_r"  # colour map of values of both signs
SIGNAL_WIDTH = 2.5  # width of a cell that holds a signal, in cell heights
GAP = 0.15  # gap between two cells, in cell heights
PAGE_WIDTH = 7.0  # width of a figure, in inches


def divided(
    ax: Any,
    n_rows: int,
    n_columns: int,
    height: float,
    width: float = PAGE_WIDTH,
    **ratios: Any,
) -> tuple[Any, np.ndarray]:
    """Return a figure and an array of its axes, (n_rows, n_columns).

    Parameters
    ----------
    ax : None, Axes or array of Axes
        None makes a new figure; one Axes is divided if necessary; an array is used as it is.
    n_rows, n_columns : int
        Shape of the grid of axes.
    height, width : float
        Size of a new figure, in inches.
    ratios : dict
        Ratios of the grid, passed to Matplotlib's `GridSpec`.
    """
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    if ax is None:
        figure = plt.figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(n_rows, n_columns, squeeze=False, gridspec_kw=ratios)
    if not isinstance(ax, Axes):
        axes = np.asarray(ax, dtype=object).reshape(-1)
        are_axes = all(isinstance(each, Axes) for each in axes)
        if len(axes) != n_rows * n_columns or not are_axes:
            raise ValueError(
                f"ax must be one Axes or {n_rows * n_columns} of them. "
                f"Got {len(axes) if are_axes else repr(ax)} instead."
            )
        return axes[0].figure, axes.reshape(n_rows, n_columns)
    if n_rows == n_columns == 1:
        return ax.figure, np.array([[ax]], dtype=object)
    ax.set_axis_off()
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            f"ax must be one of a grid of subplots to be divided into {n_rows * n_columns}. "
            f"Got {ax!r} instead."
        )
    grid = place.subgridspec(n_rows, n_columns, **ratios)
    return ax.figure, grid.subplots(squeeze=False)


def scale(values: np.ndarray, cmap: Any = None) -> tuple[Any, Any]:
    """Return a colour map and a norm: centred on 0 if a value is negative, else starting at 0."""
    from matplotlib.colors import CenteredNorm, Normalize

    largest = float(np.abs(values).max()) or 1.0
    if np.min(values) < 0:
        return cmap or SIGNED, CenteredNorm(halfrange=largest)
    return cmap or "cividis", Normalize(0, largest)


def add_colorbar(figure: Any, ax: Any, cmap: Any, norm: Any) -> None:
    """Draw a colour bar beside `ax`."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(
        ScalarMappable(norm, cmap), ax=ax, fraction=0.03, pad=0.02, aspect=12, shrink=0.9
    )
    bar.ax.yaxis.set_major_locator(MaxNLocator(3))
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_edgecolor(FRAME)


def as_picture(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return an image for `imshow`, grey or in colours: `low` becomes 0 and `high` becomes 1."""
    shades = (np.asarray(image, float) - low) / ((high - low) or 1)
    colours = shades if shades.shape[-1] == 3 else shades.mean(axis=-1)
    return np.clip(colours, 0, 1)


def limits(images: np.ndarray) -> tuple[float, float]:
    """Return the values drawn black and white: 0 and 255 for uint8, else the extremes."""
    if images.dtype == np.uint8:
        return 0, 255
    return float(images.min()), float(images.max())


def show_image(ax: Any, image: np.ndarray, low: float, high: float) -> None:
    """Draw one image of shape (rows, columns, channels), or lines if it has a single row."""
    if image.shape[0] == 1 and image.shape[1] > 1:
        ax.plot(image[0], linewidth=1, color="0.2" if image.shape[2] == 1 else None)
        ax.set(xlim=(-0.5, image.shape[1] - 0.5), yticks=[])
        ax.tick_params(labelsize=8)
    else:
        ax.imshow(as_picture(image, low, high), cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_edgecolor(FRAME)


def cell_width(shape: Sequence[int]) -> float:
    """Return the width of a cell of height 1: in proportion to the map, but fixed for signals."""
    rows, columns = shape[:2]
    return SIGNAL_WIDTH if rows == 1 and columns > 1 else columns / rows


def draw_cells(
    ax: Any,
    maps: Sequence[np.ndarray],
    n_columns: int,
    cmap: Any,
    norm: Any,
    names: Sequence[str] | None = None,
) -> None:
    """Draw maps as a grid of cells, `n_columns` to a row.

    A map has shape (rows, columns), or (rows, columns, 3) if it is drawn in colours. Maps of a
    single row are drawn as lines that share one scale. The `names` are written above the cells.
    """
    from matplotlib.patches import Rectangle

    width = cell_width(maps[0].shape)
    pitch = 1 + (0.45 if names is not None else GAP)
    for number, values in enumerate(maps):
        row, column = divmod(number, n_columns)
        left, top = column * (width + GAP), row * pitch
        if len(values) == 1 and values.shape[1] > 1:
            _draw_line(ax, values[0], left, top, norm)
        else:
            ax.imshow(values, cmap=cmap, norm=norm, extent=(left, left + width, top + 1, top))
        ax.add_patch(Rectangle((left, top), width, 1, fill=False, edgecolor=FRAME, linewidth=0.6))
        if names is not None:
            ax.text(left + width / 2, top - 0.06, names[number], ha="center", fontsize=8)
    n_rows = -(-len(maps) // n_columns)
    above = 0.4 if names is not None else 0.02
    ax.set(
        xlim=(-0.02, n_columns * (width + GAP) - GAP + 0.02),
        ylim=((n_rows - 1) * pitch + 1.02, -above),
        aspect="equal",
        anchor="W",
    )
    ax.set_axis_off()


def _draw_line(ax: Any, values: np.ndarray, left: float, top: float, norm: Any) -> None:
    """Draw a signal in the cell whose corner is (left, top), with a thin line at 0."""
    places = left + np.linspace(0.02, 0.98, len(values)) * SIGNAL_WIDTH
    heights = top + 0.95 - 0.9 * np.asarray(norm(values))
    zero = top + 0.95 - 0.9 * float(norm(0))
    ax.plot([left, left + SIGNAL_WIDTH], [zero, zero], color=FRAME, linewidth=0.6)
    ax.plot(places, heights, color="0.15", linewidth=1)


def cells_height(n_cells: int, n_columns: int, shape: Sequence[int], named: bool = False) -> float:
    """Return the height, in inches, of a grid of cells that is as wide as a page."""
    width = cell_width(shape)
    pitch = 1 + (0.45 if named else GAP)
    units = n_columns * (width + GAP)
    return -(-n_cells // n_columns) * pitch * 0.9 * PAGE_WIDTH / units
