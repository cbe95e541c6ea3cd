"""Well-known stacks of layers: functions that return a tuple for the parameter `layers`.

The output layer is not among them: it follows from y.
"""

from skcnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    MaxPool,
    Residual,
)


def sklearn_default():
    """Return the layers that the estimators have by default, for images of any size.

    Returns
    -------
    layers : tuple of Layer

    Examples
    --------
    >>> from skcnn.architectures import sklearn_default
    >>> sklearn_default()[0]
    Conv(filters=32)
    """
    return (Conv(32), Conv(32), MaxPool(), Conv(64), MaxPool())


def lenet5(padding="valid"):
    """Return LeNet-5 with tanh and average pooling (LeCun, Bottou, Bengio and Haffner, 1998).

    With ten classes it has 61,706 weights on images of 32x32x1.

    Parameters
    ----------
    padding : {"valid", "same"}, default="valid"
        Of the first convolution: "valid" for images of at least 32x32, "same" from 28x28 on.

    Returns
    -------
    layers : tuple of Layer

    Examples
    --------
    >>> from skcnn import CNNClassifier
    >>> from skcnn.architectures import lenet5
    >>> clf = CNNClassifier(lenet5(padding="same"), max_iter=10)
    """
    return (
        Conv(6, 5, padding=padding, activation="tanh"),
        AvgPool(),
        Conv(16, 5, padding="valid", activation="tanh"),
        AvgPool(),
        Conv(120, 5, padding="valid", activation="tanh"),
        Dense(84, activation="tanh"),
    )


def lenet5_modern():
    """Return LeNet-5's plan with rectifiers, maximum pooling, more filters and dropout.

    For images of any size.

    Returns
    -------
    layers : tuple of Layer

    Examples
    --------
    >>> from skcnn.architectures import lenet5_modern
    >>> len(lenet5_modern())
    6
    """
    return (Conv(32, 5), MaxPool(), Conv(64, 5), MaxPool(), Dense(128), Dropout(0.5))


def _normalised(filters, activation="relu"):
    """Return a 3x3 convolution with batch normalisation behind it."""
    conv = Conv(filters, activation="identity")
    return (
        (conv, BatchNorm()) if activation is None else (conv, BatchNorm(), Activation(activation))
    )


def vgg_small():
    """Return a small network of pairs of 3x3 convolutions (after Simonyan and Zisserman, 2015).

    With batch normalisation and dropout; for images of any size, 32x32 above all.

    Returns
    -------
    layers : tuple of Layer

    Examples
    --------
    >>> from skcnn.architectures import vgg_small
    >>> len(vgg_small())
    24
    """
    stages = [(*_normalised(n), *_normalised(n), MaxPool()) for n in (32, 64, 128)]
    return (*stages[0], *stages[1], *stages[2], Dropout(0.3), Dense(128), Dropout(0.5))


def resnet_small():
    """Return a small residual network (after He, Zhang, Ren and Sun, 2016).

    For images of any size, 32x32 above all.

    Returns
    -------
    layers : tuple of Layer

    Examples
    --------
    >>> from skcnn.architectures import resnet_small
    >>> len(resnet_small())
    15
    """
    stages = []
    for n in (32, 64, 128):
        stages += [*_normalised(n), Residual((*_normalised(n), *_normalised(n, None)))]
        stages += [MaxPool()] if n < 128 else [GlobalAvgPool()]
    return tuple(stages)
