"""Names of other frameworks, and what the errors say that they lead to."""

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import signature
from typing import Any

OUTPUT_LAYER = "the output layer, which follows from y and is never written, has it"
ACTIVATIONS = {
    "sigmoid": "its name here is 'logistic'",
    "linear": "its name here is 'identity'",
    "none": "its name here is 'identity'",
    "swish": "its name here is 'silu'",
    "softmax": OUTPUT_LAYER,
}
LAYERS = {
    "Flatten": "Leave it out: Dense flattens its input.",
    "Input": "Leave it out: the shape of images follows from X.",
    "InputLayer": "Leave it out: the shape of images follows from X.",
    "Softmax": f"Leave it out: {OUTPUT_LAYER}.",
    "Linear": "Use Dense.",
    "Rescaling": "Use standardize=True of the estimator.",
    "ReLU": "Use Activation('relu'), or activation='relu' of Conv and Dense.",
    "LeakyReLU": "Use Activation('leaky_relu'), or activation='leaky_relu' of Conv and Dense.",
    "Sigmoid": "Use Activation('logistic'), or activation='logistic' of Conv and Dense.",
    "Conv1D": "Use Conv; signals are images of one row: kernel_size=(1, 9).",
    "Conv1d": "Use Conv; signals are images of one row: kernel_size=(1, 9).",
    **dict.fromkeys(("Conv2D", "Conv2d"), "Use Conv."),
    **dict.fromkeys(("DepthwiseConv2D", "SeparableConv2D"), "Use Conv with groups."),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "MaxPool1d", "MaxPool2d"), "Use MaxPool."),
    **dict.fromkeys(("AveragePooling2D", "AvgPool2d"), "Use AvgPool."),
    **dict.fromkeys(("GlobalAveragePooling2D", "AdaptiveAvgPool2d"), "Use GlobalAvgPool."),
    **dict.fromkeys(("GlobalMaxPooling2D", "AdaptiveMaxPool2d"), "Use GlobalMaxPool."),
    **dict.fromkeys(("BatchNormalization", "BatchNorm1d", "BatchNorm2d"), "Use BatchNorm."),
}
PARAMETERS = {
    "epochs": "max_iter",
    "n_epochs": "max_iter",
    "max_epochs": "max_iter",
    "optimizer": "solver",
    "lr": "learning_rate_init",
    "patience": "n_iter_no_change",
    "validation_split": "validation_fraction",
    "validation_data": "X_val and y_val of fit",
    "input_shape": "image_shape",
    "metrics": "scoring",
    "callbacks": "set_callbacks",
    "seed": "random_state",
    "strides": "stride",
    "dilation_rate": "dilation",
    "out_channels": "filters",
    "eps": "epsilon",
    "p": "rate",
}


def refuse_foreign(names: Iterable[str], function: Callable[..., Any], owner: str) -> None:
    """Raise a `TypeError` that leads on for a keyword of another framework's."""
    for name in names:
        if name in PARAMETERS and name not in signature(function).parameters:
            raise TypeError(
                f"{owner} got an unexpected keyword argument {name!r}. See {PARAMETERS[name]}."
            )


def leads_on(method: Callable[..., Any]) -> Callable[..., Any]:
    """Have a method refuse keywords of other frameworks with an error that leads on."""

    @wraps(method)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_foreign(kwargs, method, f"{type(self).__name__}.{method.__name__}()")
        return method(self, *args, **kwargs)

    return checked


class ForeignNamesMixin:
    """Refuses keywords of other frameworks with an error that leads on."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        refuse_foreign(kwargs, cls.__init__, f"{cls.__name__}()")
        return super().__new__(cls)


def activation_hint(value: object) -> str:
    """Return a sentence for the name of an activation of another framework, or nothing."""
    hint = ACTIVATIONS.get(str(value).lower())
    return f" {value!r}: {hint}." if hint and isinstance(value, str) else ""
