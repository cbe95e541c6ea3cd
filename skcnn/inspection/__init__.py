"""Inspection of fitted estimators: filters, feature maps, saliency, learning curves and errors.

As in scikit-learn, displays are made by ``from_estimator``. They draw with Matplotlib, which is
imported only when they are drawn.
"""

from skcnn.inspection._architecture import ArchitectureDisplay
from skcnn.inspection._curves import LossCurveDisplay
from skcnn.inspection._errors import ErrorDisplay
from skcnn.inspection._feature_maps import FeatureMapDisplay
from skcnn.inspection._filters import FilterDisplay
from skcnn.inspection._gradients import check_gradients
from skcnn.inspection._saliency import saliency
from skcnn.inspection._saliency_display import SaliencyDisplay

__all__ = [
    "ArchitectureDisplay",
    "ErrorDisplay",
    "FeatureMapDisplay",
    "FilterDisplay",
    "LossCurveDisplay",
    "SaliencyDisplay",
    "check_gradients",
    "saliency",
]
