"""Settings of the documentation site; see README.md in this folder."""

import re
import sys
from pathlib import Path

import matplotlib

sys.path.insert(0, str(Path(__file__).parent))  # for gallery_order

import skcnn

matplotlib.use("Agg")  # before the first example, which may not ask for it

project = "skcnn"
author = "The skcnn developers"
project_copyright = "The skcnn developers"
version = release = skcnn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "README.md", "**/README.rst", "gallery/*.py.md5"]
templates_path = ["_templates"]
default_role = "literal"  # docstrings write `name` for code

# Markdown: links to headings as repositories show them, `page.md#heading`.
myst_heading_anchors = 3

# API pages: one for each public name, methods on the page of their class.
autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Gallery: every plot_*.py of examples/ is run, in the order of gallery_order.py.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "gallery_order.place",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skcnn",),
    "reference_url": {"skcnn": None},
    "image_scrapers": ("matplotlib",),
    "reset_argv": "gallery_order.arguments",
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 60,
    "thumbnail_size": (560, 392),
}

html_theme = "pydata_sphinx_theme"
html_title = "skcnn"
html_static_path = ["_static"]
html_css_files = ["skcnn.css"]
html_favicon = "_static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {
    "index": [],
    "install": [],
    "first_model": [],
    "changelog": [],
    "results": [],
    "gallery/**": ["sidebar-nav-bs"],
}
html_theme_options = {
    "logo": {"image_light": "_static/logo.svg", "image_dark": "_static/logo.svg", "text": "skcnn"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": {
        "[!g]*": ["page-toc"],
        "generated/*": ["page-toc"],
        "gallery/plot_*": ["page-toc", "sg_download_links"],
    },
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}

# The pages are read in the repository too, where these links lead to other folders.
_ELSEWHERE = (
    (re.compile(r"\(\.\./benchmarks/RESULTS\.md"), "(results.md"),
    (re.compile(r"\(\.\./examples/(plot_\w+)\.py\)"), r"(gallery/\1.rst)"),
    (re.compile(r"\(README\.md\)"), "(user_guide.rst)"),
)
_ROLE = re.compile(r":(?:\w+:)*\w+:`~?([^`<]+?)(?:\s*<[^`>]+>)?`")
_TYPE = re.compile(r"^\s*\w[\w, ]* : ")
_MARKUP = re.compile(r"\*(?=\w)|(?<=\w)_(?!\w)")


def _link_pages(app, docname, source):
    """Let links to files outside docs/ lead to their pages on the site."""
    for pattern, page in _ELSEWHERE:
        source[0] = pattern.sub(page, source[0])


def _plain_text(app, what, name, obj, options, lines):
    """Keep the words of docstrings that are no markup from being read as such."""
    for index, line in enumerate(lines):
        if _TYPE.match(line):  # "of shape (n_features_in_,)" is not a reference
            line = _MARKUP.sub(r"\\\g<0>", line)
        if not (getattr(obj, "__module__", None) or "").startswith("skcnn"):
            line = _ROLE.sub(r"\1", line)  # scikit-learn's, whose targets are not here
        lines[index] = line


def setup(app):
    """Connect what is above to Sphinx."""
    app.connect("source-read", _link_pages)
    app.connect("autodoc-process-docstring", _plain_text, priority=400)  # before numpydoc
