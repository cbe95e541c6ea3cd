"""The order of the gallery, from the first steps on, and how its pages are run."""

import tempfile
from pathlib import Path

ORDER = (
    "plot_digits.py",
    "plot_digit_nine.py",
    "plot_edges_photo.py",
    "plot_geometry.py",
    "plot_backpropagation.py",
    "plot_lenet5.py",
    "plot_features.py",
    "plot_classifiers.py",
    "plot_search.py",
    "plot_saliency.py",
    "plot_colour.py",
    "plot_signals.py",
)


def place(filename):
    """Return the sorting key of a page; pages that are not in the list come last."""
    return (ORDER.index(filename) if filename in ORDER else len(ORDER), filename)


def arguments(gallery_conf, script_vars):
    """Return the command line of a page: examples that save their figure save it here."""
    name = Path(script_vars["src_file"]).with_suffix(".png").name
    return [str(Path(tempfile.gettempdir()) / name)]
