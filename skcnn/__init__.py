"""Convolutional networks for people who live in scikit-learn."""

from skcnn._workers.processes import stop_workers
from skcnn.classifier import CNNClassifier
from skcnn.extractor import ConvFeatureExtractor
from skcnn.persistence import trusted_types
from skcnn.regressor import CNNRegressor
from skcnn.versions import VersionWarning, __version__, show_versions

__all__ = [
    "CNNClassifier",
    "CNNRegressor",
    "ConvFeatureExtractor",
    "VersionWarning",
    "__version__",
    "show_versions",
    "stop_workers",
    "trusted_types",
]
