"""Images moved, resampled, relit and blanked, each of a batch in its own way.

Maps have shape (rows, channels, columns, images); nothing here writes to its input. To move pixels,
maps are copied into a frame of zeros, where `np.take` fetches what each pixel of the output shows.
All images are treated at once, so that runs are as long as the batch. To warp an image of 28x28,
one of 64, took 5 us on one core; turned to have the images first, and one by one, 22 us; with
`scipy.ndimage.affine_transform` 29 us. Neighbours in one complex number, so that two fetches do
instead of four, were no faster (Zen 5, 2026-11).
"""

import numpy as np

from skcnn._engine.blocks import even_slices

# Bytes of the pixels placed at once, of all images together. Measured from 8 to 256 KB with 64 and 16
# images of 28x28x1 and 64 of 32x32x3: within 15% of the best from 64 to 128 KB; 32 KB 23 to 38% slower,
# 256 KB twice as slow with 64 images, their memory being new at each call (Zen 5, 1 MB of L2, 2026-11).
PIXEL_BLOCK = 64 * 1024

# Pixels of a frame that float32 can count without a gap.
FLOAT32_COUNT = 2**24


def inverse_affine(image_shape, *, shift=(0, 0), flip=(1, 1), angle=0.0, zoom=1.0, shear=0.0):
    """Return ``(matrix, offset)`` that lead from places in the output to places in the input.

    An image is flipped, sheared, rotated and zoomed about its centre, in this order, then shifted.

    Parameters
    ----------
    image_shape : tuple
        Rows, columns, and whatever follows.
    shift : (rows, columns)
        Pixels, down and to the right. Each parameter is a number or an array, one for each image.
    flip : (rows, columns)
        -1 to reverse an axis, 1 to leave it.
    angle : float
        Degrees, counter-clockwise.
    zoom : float
        Factor; more than 1 enlarges.
    shear : float
        Degrees that columns are tilted by.

    Returns
    -------
    matrix : ndarray of shape (2, 2, ...)
    offset : ndarray of shape (2, ...)
        ``matrix @ (row, column) + offset``, as in `scipy.ndimage.affine_transform`.
    """
    angle, slope = np.deg2rad(angle), np.tan(np.deg2rad(shear))
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    to_row = flip[0] * cos, flip[0] * sin
    to_column = flip[1] * (slope * cos - sin), flip[1] * (slope * sin + cos)
    center = (image_shape[0] - 1) / 2, (image_shape[1] - 1) / 2
    row, column = center[0] + shift[0], center[1] + shift[1]
    row_offset = center[0] - (to_row[0] * row + to_row[1] * column)
    column_offset = center[1] - (to_column[0] * row + to_column[1] * column)
    numbers = np.array(np.broadcast_arrays(*to_row, row_offset, *to_column, column_offset))
    numbers = numbers.reshape(2, 3, *numbers.shape[1:])
    return numbers[:, :2], numbers[:, 2]


def warp(maps, matrix, offset):
    """Return maps resampled by an affine map of each image: bilinear, with zeros around the image.

    The same as `scipy.ndimage.affine_transform` with ``order=1, mode="grid-constant"``: next to
    the border, values fade into the zeros. An image that stays where it is comes out as it was.

    Parameters
    ----------
    maps : ndarray of shape (rows, channels, columns, images)
    matrix : ndarray of shape (2, 2, images)
    offset : ndarray of shape (2, images)
        From the output to the input, see `inverse_affine`.

    Returns
    -------
    out : ndarray, of the same shape and dtype
    """
    rows, channels, columns, n = maps.shape
    flat, pitch = _frame(maps)
    dtype = maps.dtype if len(flat) // n <= FLOAT32_COUNT else np.dtype(np.float64)
    matrix, offset = matrix.astype(dtype), offset.astype(dtype)
    column = np.arange(columns, dtype=dtype)[:, None]
    in_row = [matrix[axis, 1] * column + offset[axis] for axis in (0, 1)]
    origin = np.arange(n) + (pitch + 1) * n
    n_rows = _rows_at_once(maps)
    floats = np.empty((4, n_rows, columns, n), dtype)
    corners = np.empty((4, n_rows, columns, n), maps.dtype)
    places = np.empty((n_rows, columns, n), np.intp)
    out = np.empty_like(maps)
    for part in even_slices(rows, n_rows):
        size = part.stop - part.start
        row = np.arange(part.start, part.stop, dtype=dtype)[:, None, None]
        y, x, y0, x0 = floats[:, :size]
        np.add(matrix[0, 0] * row, in_row[0], out=y)
        np.add(matrix[1, 0] * row, in_row[1], out=x)
        _split(y, rows, y0)
        _split(x, columns, x0)
        y0 *= pitch
        y0 += x0
        place = places[:size]
        place[...] = y0
        place *= n
        place += origin
        for channel in range(channels):
            start = channel * (columns + 2) * n
            for corner, step in zip(corners, (0, 1, pitch, pitch + 1), strict=True):
                np.take(flat[start + step * n :], place, out=corner[:size], mode="clip")
            _blend(corners[:, :size], y, x, out[part, channel])
    return out


def _rows_at_once(maps):
    """Return how many rows of all images go into one block."""
    rows, _, columns, n = maps.shape
    return min(max(PIXEL_BLOCK // (maps.itemsize * columns * n), 1), rows)


def _split(place, size, whole):
    """Write the whole part of places on an axis to `whole`, and leave the fraction in `place`."""
    np.clip(place, -1, size, out=place)
    np.floor(place, out=whole)
    place -= whole


def _blend(corners, y, x, out):
    """Write the bilinear mean of four corners to `out`; the corners are overwritten."""
    a, b, c, d = corners
    b -= a
    b *= x
    a += b
    d -= c
    d *= x
    c += d
    c -= a
    c *= y
    np.add(a, c, out=out)


def move(maps, shift, flip):
    """Return maps flipped, then shifted by whole pixels, with zeros where nothing came from.

    Parameters
    ----------
    maps : ndarray of shape (rows, channels, columns, images)
    shift : ndarray of int of shape (2, images)
        Pixels down and to the right.
    flip : ndarray of shape (2, images)
        -1 to reverse rows or columns, 1 to leave them.

    Returns
    -------
    out : ndarray, of the same shape and dtype
    """
    rows, channels, columns, n = maps.shape
    flat, pitch = _frame(maps)
    row = _sources(rows, shift[0], flip[0]) * (pitch * n)
    column = _sources(columns, shift[1], flip[1]) * n + np.arange(n)
    out = np.empty_like(maps)
    for part in even_slices(rows, _rows_at_once(maps)):
        place = row[part, None] + column
        for channel in range(channels):
            start = channel * (columns + 2) * n
            out[part, channel] = np.take(flat[start:], place, mode="clip")
    return out


def _sources(size, shift, flip):
    """Return where in the frame each position of an axis comes from, shape (size, images)."""
    source = np.clip(np.arange(size)[:, None] - shift, -1, size)
    return np.where(flip < 0, size - 1 - source, source) + 1


def relight(maps, gain, bias):
    """Return maps multiplied about the mean of each image, plus a number for each image.

    Parameters
    ----------
    maps : ndarray of shape (rows, channels, columns, images)
    gain, bias : ndarray of shape (images,)

    Returns
    -------
    out : ndarray, of the same shape and dtype
    """
    gain, bias = gain.astype(maps.dtype), bias.astype(maps.dtype)
    out = maps * gain
    out += (1 - gain) * _means(maps) + bias
    return out


def _means(maps):
    """Return the mean of each image, the same to the last bit whatever images are with it.

    `np.mean` would add the pixels of one image in another order than those of several.
    """
    sums = maps.reshape(-1, maps.shape[3])
    n_pixels = len(sums)
    while len(sums) > 1:
        half = len(sums) // 2
        middle = sums[half:-half]
        sums = sums[:half] + sums[-half:]
        sums[: len(middle)] += middle
    return sums[0] / n_pixels


def blank(maps, first, size):
    """Return maps with a rectangle of each image set to zero.

    Parameters
    ----------
    maps : ndarray of shape (rows, channels, columns, images)
    first : ndarray of int of shape (2, images)
        First row and column of the rectangle; may be outside the image.
    size : (int, int)

    Returns
    -------
    out : ndarray, of the same shape and dtype
    """
    kept = []
    for n, start, extent in zip(maps.shape[::2], first, size, strict=True):
        place = np.arange(n)[:, None] - start
        kept.append(((place < 0) | (place >= extent)).astype(maps.dtype))
    return maps * np.maximum(kept[0][:, None, None], kept[1])


def _frame(maps):
    """Return maps within zeros, flat, and the number of pixels from one of its rows to the next.

    There is a row of zeros above, two below, and a column on each side: a place that is clipped
    to -1 or to the size of the axis, and the next one, are zeros, and what is past the end of a
    row is the start of the next.
    """
    rows, channels, columns, n = maps.shape
    frame = np.zeros((rows + 3, channels, columns + 2, n), maps.dtype)
    frame[1 : rows + 1, :, 1 : columns + 1] = maps
    return frame.reshape(-1), channels * (columns + 2)
