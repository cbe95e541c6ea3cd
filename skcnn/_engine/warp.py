"""Changes of images: moving, resampling, brightness and blanking, different for each image.

Maps have shape (rows, channels, columns, images); no function writes to its input. To move pixels,
maps are copied into a frame of zeros, from which `np.take` fetches the source of each output pixel.
All images are processed at once, so that runs of memory are as long as the batch. In a batch of 64,
warping one 28x28 image took 5 us on one core; it took 22 us with the images as the first axis and
processed one by one, and 29 us with `scipy.ndimage.affine_transform`. Storing two neighbours in one
complex number, so that two fetches replace four, was no faster (Zen 5, 2026-11).
"""

import numpy as np

from skcnn._engine.blocks import even_slices

# Bytes of the pixels processed at once, over all images. Measured from 8 to 256 KB with 16 and 64
# images of 28x28x1 and with 64 of 32x32x3: 64 to 128 KB were within 15% of the best, 32 KB was 23
# to 38% slower, and 256 KB was twice as slow with 64 images, because each call then used new memory
# (Zen 5, 1 MB of L2, 2026-11).
PIXEL_BLOCK = 64 * 1024

# Largest number of pixels in a frame whose indices float32 represents exactly.
FLOAT32_COUNT = 2**24


def inverse_affine(image_shape, *, shift=(0, 0), flip=(1, 1), angle=0.0, zoom=1.0, shear=0.0):
    """Return ``(matrix, offset)``, the map from coordinates in the output to those in the input.

    An image is flipped, sheared, rotated and zoomed about its centre, in this order, then shifted.
    Each number below may be an array with one number for each image.

    Parameters
    ----------
    image_shape : tuple
        Rows and columns; further entries are ignored.
    shift : (rows, columns)
        Pixels down and to the right.
    flip : (rows, columns)
        -1 to reverse an axis, 1 to keep it.
    angle : float
        Degrees, counter-clockwise.
    zoom : float
        Factor; more than 1 enlarges.
    shear : float
        Angle in degrees by which columns are tilted.

    Returns
    -------
    matrix : ndarray of shape (2, 2, ...)
    offset : ndarray of shape (2, ...)
        The coordinates in the input are ``matrix @ (row, column) + offset``, as in
        `scipy.ndimage.affine_transform`.
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
    """Return maps resampled by an affine map for each image: bilinear, with zeros around the image.

    The result is that of `scipy.ndimage.affine_transform` with ``order=1, mode="grid-constant"``:
    next to the border, values fade into the zeros. The identity returns an image unchanged.

    Parameters
    ----------
    maps : ndarray of shape (rows, channels, columns, images)
    matrix : ndarray of shape (2, 2, images)
    offset : ndarray of shape (2, images)
        The map from output to input coordinates, see `inverse_affine`.

    Returns
    -------
    out : ndarray, with the shape and dtype of `maps`
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
    """Return the number of rows, of all images, in one block."""
    rows, _, columns, n = maps.shape
    return min(max(PIXEL_BLOCK // (maps.itemsize * columns * n), 1), rows)


def _split(place, size, whole):
    """Write the integer part of coordinates to `whole`, and leave their fraction in `place`."""
    np.clip(place, -1, size, out=place)
    np.floor(place, out=whole)
    place -= whole


def _blend(corners, y, x, out):
    """Write the bilinear interpolation of four corners to `out`; the corners are overwritten."""
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
    """Return maps flipped, then shifted by whole pixels; pixels left free become zeros.

    Parameters
    ----------
    maps : ndarray of shape (rows, channels, columns, images)
    shift : ndarray of int of shape (2, images)
        Pixels down and to the right.
    flip : ndarray of shape (2, images)
        -1 to reverse rows or columns, 1 to keep them.

    Returns
    -------
    out : ndarray, with the shape and dtype of `maps`
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
    """Return the index in the frame that each position of an axis comes from, (size, images)."""
    source = np.clip(np.arange(size)[:, None] - shift, -1, size)
    return np.where(flip < 0, size - 1 - source, source) + 1


def relight(maps, gain, bias):
    """Return maps with the contrast and the brightness of each image changed.

    Parameters
    ----------
    maps : ndarray of shape (rows, channels, columns, images)
    gain : ndarray of shape (images,)
        Factor of the difference from the image's mean.
    bias : ndarray of shape (images,)
        Number added to all values of the image.

    Returns
    -------
    out : ndarray, with the shape and dtype of `maps`
    """
    gain, bias = gain.astype(maps.dtype), bias.astype(maps.dtype)
    out = maps * gain
    out += (1 - gain) * _means(maps) + bias
    return out


def _means(maps):
    """Return the mean of each image, which is bitwise independent of the other images.

    `np.mean` would add the pixels of a single image in another order than those of several.
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
    """Return maps with a rectangle of each image set to 0.

    Parameters
    ----------
    maps : ndarray of shape (rows, channels, columns, images)
    first : ndarray of int of shape (2, images)
        First row and column of the rectangle, which may be outside the image.
    size : (int, int)
        Rows and columns of the rectangle.

    Returns
    -------
    out : ndarray, with the shape and dtype of `maps`
    """
    kept = []
    for n, start, extent in zip(maps.shape[::2], first, size, strict=True):
        place = np.arange(n)[:, None] - start
        kept.append(((place < 0) | (place >= extent)).astype(maps.dtype))
    return maps * np.maximum(kept[0][:, None, None], kept[1])


def _frame(maps):
    """Return maps in a frame of zeros, flattened, and the pixels from one of its rows to the next.

    The frame has one row of zeros above the maps, two below, and one column on each side. A
    coordinate that is clipped to -1 or to the size of the axis, and its successor, therefore read
    zeros: past the end of a row lies the first column of the next, which is zero as well.
    """
    rows, channels, columns, n = maps.shape
    frame = np.zeros((rows + 3, channels, columns + 2, n), maps.dtype)
    frame[1 : rows + 1, :, 1 : columns + 1] = maps
    return frame.reshape(-1), channels * (columns + 2)
