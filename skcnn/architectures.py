"""Well-known architectures: functions that return a tuple for the parameter `layers`.

The output layer is not included, because it follows from y.
"""

from sklearn.utils._param_validation import StrOptions, validate_params

from skcnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Residual,
)


def sklearn_default() -> tuple[Layer, ...]:
    """Return the default layers of the estimators, for images of any size.

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


@validate_params({"padding": [StrOptions({"valid", "same"})]}, prefer_skip_nested_validation=True)
def lenet5(padding: str = "valid") -> tuple[Layer, ...]:
    """Return LeNet-5 with tanh and average pooling (LeCun, Bottou, Bengio and Haffner, 1998).

    With ten classes it has 61,706 weights on images of 32x32x1.

    Parameters
    ----------
    padding : {"valid", "same"}, default="valid"
        Padding of the first convolution: "valid" for images of at least 32x32, "same" for images
        of at least 28x28.

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


def lenet5_modern() -> tuple[Layer, ...]:
    """Return a modern LeNet-5 with rectifiers, maximum pooling, more filters and dropout.

    The images may have any size.

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


def _normalised(filters: int, activation: str | None = "relu") -> tuple[Layer, ...]:
    """Return a 3x3 convolution, batch normalisation and, unless it is None, an activation."""
    conv = Conv(filters, activation="identity")
    return (
        (conv, BatchNorm()) if activation is None else (conv, BatchNorm(), Activation(activation))
    )


def vgg_small() -> tuple[Layer, ...]:
    """Return a small network of pairs of 3x3 convolutions (after Simonyan and Zisserman, 2015).

    The network uses batch normalisation and dropout. The images may have any size; it is meant for
    32x32.

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


def resnet_small() -> tuple[Layer, ...]:
    """Return a small residual network (after He, Zhang, Ren and Sun, 2016).

    The images may have any size; the network is meant for 32x32.

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
