"""The layers of a network: values that hold hyper-parameters and compute."""

from skcnn.layers.activation import Activation
from skcnn.layers.base import Layer
from skcnn.layers.conv import Conv
from skcnn.layers.dense import Dense
from skcnn.layers.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool

__all__ = [
    "Activation",
    "AvgPool",
    "Conv",
    "Dense",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Layer",
    "MaxPool",
]
