"""Banks of fixed filters: for each filter a name and an array of shape (rows, columns)."""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, validate_params

_POSITIVE = Interval(Integral, 1, None, closed="left")

# Line detectors and a box, as in the classic tutorials: 1 on the line, -1 elsewhere.
_EDGES = {
    "horizontal": [[-1, -1, -1], [1, 1, 1], [-1, -1, -1]],
    "vertical": [[-1, 1, -1], [-1, 1, -1], [-1, 1, -1]],
    "diagonal": [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]],
    "antidiagonal": [[-1, -1, 1], [-1, 1, -1], [1, -1, -1]],
    "box": [[1, 1, 1], [1, -1, 1], [1, 1, 1]],
}
_LAPLACIAN = {
    "laplacian4": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "laplacian8": [[1, 1, 1], [1, -8, 1], [1, 1, 1]],
}
_SHARPEN = {"sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]}

_COMPASS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
# The border of a 3x3 filter, clockwise from the top left corner.
_RING = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
_SOBEL_RING = (1, 2, 1, 0, -1, -2, -1, 0)  # positive if the north is brighter


def sobel() -> dict[str, np.ndarray]:
    """Return Sobel filters (Sobel and Feldman, 1968) in eight directions, 45 degrees apart."""
    bank = {}
    for turn, name in enumerate(_COMPASS):
        filter_ = np.zeros((3, 3))
        for place, value in zip(_RING, np.roll(_SOBEL_RING, turn), strict=True):
            filter_[place] = value
        bank[name] = filter_
    return bank


@validate_params(
    {"n_filters": [_POSITIVE], "kernel_size": [tuple, list]}, prefer_skip_nested_validation=True
)
def gabor(n_filters: int = 8, kernel_size: tuple[int, int] = (7, 7)) -> dict[str, np.ndarray]:
    """Return Gabor filters (Daugman, 1985) in `n_filters` directions, evenly over 180 degrees.

    The wavelength is half the longer side of the filter, and the standard deviation of the Gaussian
    envelope a quarter of that side. Each filter has mean 0, and its absolute values add up to 1.
    """
    if len(kernel_size) != 2 or not all(isinstance(n, Integral) and n > 0 for n in kernel_size):
        raise ValueError(
            f"kernel_size must be two positive ints, (rows, columns). Got {kernel_size!r} instead."
        )
    rows, columns = kernel_size
    y, x = np.meshgrid(
        np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2, indexing="ij"
    )
    side = max(kernel_size)
    bank = {}
    for k in range(n_filters):
        angle = np.pi * k / n_filters
        across = x * np.cos(angle) + y * np.sin(angle)
        filter_ = np.exp(-(x**2 + y**2) / (2 * (side / 4) ** 2))
        filter_ *= np.cos(2 * np.pi * across / (side / 2))
        filter_ -= filter_.mean()
        bank[f"gabor{k}"] = filter_ / max(np.abs(filter_).sum(), np.finfo(float).tiny)
    return bank


BANKS = ("edges", "gabor", "laplacian", "sharpen", "sobel")


def fixed_bank(
    name: str, n_filters: int | None = None, kernel_size: tuple[int, int] | None = None
) -> dict[str, np.ndarray]:
    """Return a bank by name, as a dict that maps the names of filters to 2-D arrays.

    Parameters
    ----------
    name : str
        One of `BANKS`.
    n_filters : int or None
        Number of directions of "gabor", or None for 8; the other banks have a fixed number.
    kernel_size : (int, int) or None
        Rows and columns of the "gabor" filters, or None for 7x7; all other filters are 3x3.

    Raises
    ------
    ValueError
        If the name is unknown, or the bank does not have filters of this number or size.

    Examples
    --------
    >>> from skcnn.filters import fixed_bank
    >>> list(fixed_bank("edges"))
    ['horizontal', 'vertical', 'diagonal', 'antidiagonal', 'box']
    """
    if name == "gabor":
        n_filters = 8 if n_filters is None else n_filters
        return gabor(n_filters, (7, 7) if kernel_size is None else kernel_size)
    if name not in BANKS:
        raise ValueError(f"filters must be an array or one of {list(BANKS)}. Got {name!r} instead.")
    banks: dict[str, dict] = {
        "edges": _EDGES,
        "laplacian": _LAPLACIAN,
        "sharpen": _SHARPEN,
        "sobel": sobel(),
    }
    bank = {key: np.asarray(value, dtype=float) for key, value in banks[name].items()}
    if n_filters not in (None, len(bank)):
        raise ValueError(
            f"n_filters must be None or {len(bank)} for filters={name!r}. Got {n_filters!r} instead."
        )
    if kernel_size not in (None, 3, (3, 3), [3, 3]):
        raise ValueError(
            f"kernel_size must be None or 3 for filters={name!r}. Got {kernel_size!r} instead."
        )
    return bank


def given_bank(filters: ArrayLike) -> tuple[np.ndarray, list[str]]:
    """Return ``(filters, names)`` from filters that a user gives as arrays.

    Parameters
    ----------
    filters : ndarray of shape (n, rows, columns) or (n, rows, columns, channels), or a list of \
            2-D arrays

    Returns
    -------
    filters : ndarray of shape (n, rows, columns, channels), or (n, rows, columns, 1)
    names : list of str
    """
    try:
        given = np.asarray(filters)
        # a copy, so that later changes of the argument have no effect
        bank = np.array(given.real if given.dtype.kind == "c" else given, dtype=float)
    except (ValueError, TypeError):
        raise ValueError(
            "filters must be an array of shape (n, rows, columns) or (n, rows, columns, channels), "
            "a list of 2-D arrays of one shape, or the name of a bank. "
            f"Got {_shapes(filters)} instead."
        ) from None
    if bank.ndim not in (3, 4) or bank.size == 0:
        raise ValueError(
            "filters must have shape (n, rows, columns) or (n, rows, columns, channels), none of "
            f"them 0. Got shape {bank.shape} instead."
        )
    if given.dtype.kind == "c":
        raise ValueError(f"filters must be real numbers. Got dtype {given.dtype} instead.")
    if not np.isfinite(bank).all():
        raise ValueError("filters must be finite. Got NaN or infinity instead.")
    return bank.reshape(*bank.shape[:3], -1), [f"filter{i}" for i in range(len(bank))]


def _shapes(filters: Any) -> str:
    """Return the shapes of the arrays in a ragged list, for an error message."""
    if not isinstance(filters, list | tuple):
        return repr(filters)
    return "shapes " + ", ".join(str(np.shape(filter_)) for filter_ in filters)
