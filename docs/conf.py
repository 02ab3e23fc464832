"""How Sphinx builds these pages: `make docs`."""

import sys
from pathlib import Path

import farann

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]
import figures

from bench import report

project = "farann"
author = "The farann developers"
copyright = "The farann developers, Apache-2.0"
version = release = farann.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc", "myst_parser",
              "sphinx_copybutton", "sphinx_gallery.gen_gallery"]
myst_enable_extensions = ["dollarmath"]
copybutton_exclude = ".linenos, .gp, .go"  # neither prompts nor output
# The reference of the adapters is built without the libraries that they are for.
autodoc_mock_imports = ["tensorflow", "tf_keras", "tensorflow_recommenders", "keras", "keras_rs",
                        "ray", "fsspec"]
exclude_patterns = ["_build", "gallery"]

html_theme = "furo"
html_title = f"farann {release}"
html_copy_source = False
html_show_sphinx = False

# The docstrings tell the types better than signatures would.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

myst_heading_anchors = 3

html_static_path = ["_static"]
html_theme_options = {"light_logo": "logo-light.svg", "dark_logo": "logo-dark.svg",
                      "sidebar_hide_name": True}

# Drawn anew by each build, from what farann answers, and from what the benchmark measured.
figures.draw(DOCS / "figures")
report.write(DOCS / "results.jsonl", DOCS / "_extra" / "benchmark-plots.html")
html_extra_path = ["_extra"]

# Each script of the gallery runs; one that fails ends the build.
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "capture_repr": (),
    "show_signature": False,
    "within_subsection_order": "FileNameSortKey",
    "reset_modules": (),
}
suppress_warnings = ["config.cache"]  # of the above, which can't be pickled
