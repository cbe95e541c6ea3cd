"""Containers of images: columns of tables, arrays of objects, lists, tuples and other collections."""

from collections.abc import Collection, Mapping

import numpy as np


def stacked(X, name="X"):
    """Return X as an array if it is a collection of arrays, else as it is.

    Parameters
    ----------
    X : object
        As users gave it.
    name : str
        What errors call it.

    Raises
    ------
    ValueError
        If X holds images of several shapes, or masked values.
    """
    if isinstance(X, np.ndarray) and X.dtype != object:
        return refuse_masked(X, name)
    items = _items(X)
    if items is None:
        return X
    for item in items:
        refuse_masked(item, name)
    try:
        array = np.asarray(items)
    except ValueError:  # the items are no arrays of one shape
        array = None
    if array is not None and array.dtype != object:
        return array
    arrays = [_as_array(item) for item in items]
    if not arrays or arrays[0].ndim == 0 or arrays[0].dtype == object:
        return X
    for index, item in enumerate(arrays):
        if item.shape != arrays[0].shape:
            raise ValueError(
                f"{name} must be a sequence of images of one shape. Got {name}[0] of shape {arrays[0].shape} "
                f"and {name}[{index}] of shape {item.shape} instead: crop, pad or resize them."
            )
    return np.stack(arrays)


def refuse_masked(X, name):
    """Return X as a plain array if it is a masked one; raise a `ValueError` if values are masked."""
    if not isinstance(X, np.ma.MaskedArray):
        return X
    n_masked = int(np.ma.count_masked(X))
    if n_masked:
        raise ValueError(
            f"{name} must hold no masked values. Got {n_masked} of them instead: fill them, for "
            f"example by {name}.filled({name}.mean())."
        )
    return X.data


def _items(X):
    """Return the items of a collection or of a column of objects, or None if X is no such thing."""
    if hasattr(X, "to_numpy"):  # a table or a column of one
        X = X.to_numpy()
        if X.dtype != object and not (X.ndim > 2 and X.shape[1] == 1):
            return None
    if isinstance(X, np.ndarray):
        is_column = X.ndim > 1 and X.shape[1] == 1
        if not is_column and X.ndim > 1:
            return None
        return list(X[:, 0] if is_column else X)
    if hasattr(X, "shape") or isinstance(X, Mapping | str | bytes):
        return None
    return list(X) if isinstance(X, Collection) else None


def _as_array(item):
    """Return an item as an array, of objects if it is none."""
    try:
        array = np.asarray(item.to_list() if hasattr(item, "to_list") else item)
        is_nested = array.dtype == object and array.ndim == 1
        return np.array([_as_array(row) for row in array]) if is_nested else array
    except (TypeError, ValueError):
        return np.empty(1, object)
