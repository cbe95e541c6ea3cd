"""Warnings of data that can be read in two ways, which say how they were read."""

FEW_CHANNELS = (1, 3, 4)  # of grey images, coloured ones, and those with an alpha channel
LARGEST_INTEGER = 2**24  # in float32, and all that are smaller
FEWEST_PIXELS = 8  # on both axes of what may be an image with its channels first


def read_layout(own_shape, image_shape, parameter):
    """Return warnings of how the shape of images was found.

    Parameters
    ----------
    own_shape : tuple or None
        The shape of an image if X is n-D.
    image_shape : (int, int, int)
        Rows, columns and channels, as found.
    parameter : tuple or None
        The estimator's `image_shape`.
    """
    if parameter is not None:
        return []
    rows, columns, channels = image_shape
    if own_shape is None:
        n = rows * columns
        if n == 1:
            return []
        what, other = f"an image of {rows} x {columns} pixels", f" and image_shape=(1, {n}) if not"
        if rows == 1:
            what, other = f"a signal of {n} points", ", or the shape of images if they are not"
        return [
            f"Each row of X, of {n} values, was read as {what}. Pass image_shape=({rows}, {columns}) "
            f"if they are that{other}."
        ]
    is_square = columns == channels
    large = min(columns, channels) >= FEWEST_PIXELS
    if rows in FEW_CHANNELS and large and (is_square or rows > 1):
        return [
            f"X was read as images of {rows} rows, {columns} columns and {channels} channels. If its "
            "channels come first, pass np.moveaxis(X, 1, 3); if they do not, pass "
            f"image_shape={image_shape}."
        ]
    return []


def read_integers(X, is_raw, remedy):
    """Return warnings of integers that have no place in float32, if they enter as they are."""
    if not is_raw or X.dtype.kind not in "iu" or X.dtype.itemsize <= 2:
        return []
    largest = max(abs(int(X.max())), abs(int(X.min())))
    if largest <= LARGEST_INTEGER:
        return []
    return [
        f"X holds integers as large as {largest}, whose last digits are lost in float32. Pass {remedy} "
        "or X.astype(float)."
    ]


def read_indicators(values):
    """Return warnings of indicators, shape (n_samples, n_labels), that may be classes."""
    if values.shape[1] < 2 or not (values.sum(axis=1) == 1).all():
        return []
    return [
        "y has a single 1 in each row and was read as indicators of labels, any number of which may "
        "belong to an image. If they are classes, of which an image has one, pass y.argmax(axis=1)."
    ]
