"""What saved estimators are made of, for loaders that create nothing else."""

from skcnn._engine.encoding import Activated, BothSigns, Triangle
from skcnn._engine.geometry import Axis
from skcnn._engine.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    HuberLoss,
    MultilabelCrossEntropy,
    PoissonLoss,
    SquaredError,
)
from skcnn._features.banks import Bank, LearnedBank
from skcnn._features.features import Features
from skcnn._features.importance import ConvBack, NoWayBack, PoolBack, SignsBack
from skcnn._features.learning import Learned
from skcnn._features.patches import Whitener
from skcnn._model.conv_pool import ConvPool
from skcnn._model.encoded_conv import EncodedConv, Pooling
from skcnn._model.model import Model
from skcnn._model.network import Network
from skcnn._training.optimizers import SGD, Adam, AdamW, RMSprop
from skcnn._training.schedules import Adaptive, Constant, Cosine, InvScaling, OneCycle
from skcnn._training.session import Progress
from skcnn.classifier import CNNClassifier
from skcnn.extractor import ConvFeatureExtractor
from skcnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    Residual,
)
from skcnn.layers.residual import Branch, Merge
from skcnn.regressor import CNNRegressor

_ESTIMATORS: list[type] = [CNNClassifier, CNNRegressor, ConvFeatureExtractor]
_LAYERS: list[type] = [Activation, AvgPool, BatchNorm, Conv, Dense, Dropout]
_LAYERS += [GlobalAvgPool, GlobalMaxPool, MaxPool, Residual]
_STEPS: list[type] = [Branch, ConvPool, EncodedConv, Merge]  # that networks put in their place
_NETWORK: list[type] = [Axis, Model, Network, Pooling]
_TRAINING: list[type] = [Adam, AdamW, Progress, RMSprop, SGD]
_TRAINING += [Adaptive, Constant, Cosine, InvScaling, OneCycle]
_LOSSES: list[type] = [AbsoluteError, BinaryCrossEntropy, CategoricalCrossEntropy, HuberLoss]
_LOSSES += [MultilabelCrossEntropy, PoissonLoss, SquaredError]
_FEATURES: list[type] = [Activated, Bank, BothSigns, ConvBack, Features, Learned, LearnedBank]
_FEATURES += [NoWayBack, PoolBack, SignsBack, Triangle, Whitener]


def trusted_types() -> list[str]:
    """Return the names of the types of skcnn that saved estimators and layers are made of.

    `skops.io.load` creates objects of the types that its parameter `trusted` names, besides those of
    scikit-learn and NumPy that it trusts by itself, and refuses all others. Layers, functions and
    scorers of your own are not among the names; add those that you trust.

    Returns
    -------
    names : list of str
        Such as ``"skcnn.layers.conv.Conv"``, in alphabetical order.

    Examples
    --------
    >>> import skops.io  # doctest: +SKIP
    >>> from skcnn import CNNClassifier, trusted_types
    >>> skops.io.dump(CNNClassifier(), "clf.skops")  # doctest: +SKIP
    >>> clf = skops.io.load("clf.skops", trusted=trusted_types())  # doctest: +SKIP
    >>> "skcnn.classifier.CNNClassifier" in trusted_types()
    True
    """
    types = _ESTIMATORS + _LAYERS + _STEPS + _NETWORK + _TRAINING + _LOSSES + _FEATURES
    return sorted(f"{each.__module__}.{each.__qualname__}" for each in types)
