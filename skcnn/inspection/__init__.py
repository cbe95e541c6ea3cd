"""Look inside: filters, feature maps, what a network looked at, how it learned, where it errs.

Displays are made by ``from_estimator``, as scikit-learn's are, and draw with Matplotlib, which is
imported when they do.
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
