"""The layers of a network: values that hold hyper-parameters and compute."""

from skcnn._engine.buffers import Mask, Scratch, Zeros
from skcnn.layers import _names
from skcnn.layers.activation import Activation
from skcnn.layers.base import Layer
from skcnn.layers.conv import Conv
from skcnn.layers.dense import Dense
from skcnn.layers.dropout import Dropout
from skcnn.layers.norm import BatchNorm
from skcnn.layers.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from skcnn.layers.residual import Residual

__all__ = [
    "Activation",
    "AvgPool",
    "BatchNorm",
    "Conv",
    "Dense",
    "Dropout",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Layer",
    "Mask",
    "MaxPool",
    "Residual",
    "Scratch",
    "Zeros",
]


def __getattr__(name: str) -> None:
    if name in _names.LAYERS:
        raise ImportError(f"skcnn.layers has no {name}. {_names.LAYERS[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
