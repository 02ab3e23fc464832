"""How Sphinx builds these pages: `make docs`."""

import farann

project = "farann"
author = "The farann developers"
copyright = "The farann developers, Apache-2.0"
version = release = farann.__version__

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
# The reference of the adapters is built without the libraries that they are for.
autodoc_mock_imports = ["tensorflow", "tf_keras", "tensorflow_recommenders", "keras", "keras_rs",
                        "ray", "fsspec"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"farann {release}"
html_copy_source = False
html_show_sphinx = False

# The docstrings tell the types better than signatures would.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

myst_heading_anchors = 3
