"""How Sphinx builds these pages: `make docs`."""

import contextlib
import functools
import io
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import farann

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]
import argument_table
import jinja2
import members
from numpydoc import docscrape_sphinx

from bench import report
from farann.demo import images

project = "farann"
author = "The farann developers"
copyright = "The farann developers, Apache-2.0"
version = release = farann.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "numpydoc", "myst_parser",
              "sphinx_copybutton", "sphinx_gallery.gen_gallery"]
myst_enable_extensions = ["dollarmath"]
copybutton_exclude = ".linenos, .gp, .go"  # neither prompts nor output
# The reference of the adapters is built without the libraries that they are for.
autodoc_mock_imports = ["tensorflow", "tf_keras", "tensorflow_recommenders", "keras", "keras_rs",
                        "ray", "fsspec", "langchain_core", "llama_index", "haystack",
                        "skactiveml", "imblearn"]
exclude_patterns = ["_build", "_templates", "gallery"]

html_theme = "furo"
html_title = f"farann {release}"
html_baseurl = "https://farann.github.io/farann/"
html_copy_source = False
html_show_sphinx = False
html_search_scorer = str(DOCS / "search_scores.js")

# A page a class, function and method, by _templates/autosummary: written anew by each build.
shutil.rmtree(DOCS / "api", ignore_errors=True)
templates_path = ["_templates"]
autosummary_context = {"members_of": members.members_of}
autosummary_filename_map = {"farann.metrics.Reliability": "farann.metrics.Reliability-class"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in (
    "Ids", "Progress", "Float32Array", "Float64Array", "Int32Array", "Int64Array", "BoolArray",
    "UInt8Array", "RowArray", "npt.ArrayLike")}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
numpydoc_show_class_members = False
# It would compile the same templates anew for each docstring.
docscrape_sphinx.SandboxedEnvironment = functools.partial(
    docscrape_sphinx.SandboxedEnvironment, bytecode_cache=jinja2.FileSystemBytecodeCache())

myst_heading_anchors = 3

html_static_path, html_css_files = ["_static"], ["tables.css"]
html_theme_options = {"light_logo": "logo-light.svg", "dark_logo": "logo-dark.svg",
                      "sidebar_hide_name": True}
if tags.has("few"):  # `sphinx -t few`, as tests build it: the same content sooner, and 1,800 pictures, not 60,000
    html_theme, html_theme_options = "basic", {}

# `sphinx -b linkcheck`: headings of pages on GitHub are made by scripts.
linkcheck_anchors_ignore_for_url = [r"https://github\.com/.*"]
linkcheck_timeout, linkcheck_workers = 15, 16

os.environ.update(COLUMNS="90", NO_COLOR="1")  # of the help of commands

# Made anew by each build: what the benchmark measured, and pictures to click.
report.write(DOCS / "results.jsonl", DOCS / "_extra" / "benchmark-plots.html")
if tags.has("few"):
    images.data.load_fashion = images.data.load_digits
with contextlib.redirect_stdout(io.StringIO()):
    images.run(DOCS / "_extra" / "pictures.html")
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


_sidebars: dict[str, str] = {}  # by page: what Sphinx took half of the build to make anew


def setup(app: Any) -> None:
    """Methods have pages, of which the sidebar would make each page three times as large."""
    app.connect("html-page-context", _shallow, priority=400)  # before furo asks for it
    app.connect("source-read", _with_table)
    app.connect("autodoc-process-signature", _readable)
    app.connect("build-finished", _llms)


def _shallow(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    whole = context["toctree"]
    owner = page.rpartition(".")[0]  # of a method's page that of its class, in the same folder

    def sidebar(**options: Any) -> str:
        if owner not in _sidebars:
            _sidebars[page] = whole(**{**options, "maxdepth": 2})
            return _sidebars[page]
        return _sidebars[owner].replace('class="current reference internal" href="#"',
            f'class="reference internal" href="{owner.rpartition("/")[2]}.html"')

    context["toctree"] = sidebar


def _with_table(app: Any, page: str, source: list[str]) -> None:
    mark = "<!-- The table of `docs/argument_table.py` -->"
    if mark in source[0]:
        source[0] = source[0].replace(mark, argument_table.table())
    source[0] = re.sub("<!-- The help of `farann (.*)` -->", lambda command:
                       f"```text\n{argument_table.help_of(command[1])}```", source[0])


def _llms(app: Any, exception: Exception | None) -> None:
    """Write llms.txt: the pages of the sidebar with what they begin with, for language models."""
    if exception or app.builder.format != "html":
        return
    lines = ["# farann", "", f"> {(farann.__doc__ or '').partition(chr(10))[0]}", ""]
    index = (DOCS / "index.md").read_text("utf-8")
    for caption, pages in re.findall(r":caption: (.*)\n\n((?:.+\n)+)```", index):
        titles = {page: app.env.titles[page].astext() for page in pages.split()}
        lines += [f"## {caption}", "", *(
            f"- [{title}]({html_baseurl}{page}.html)" for page, title in titles.items()), ""]
    (Path(app.outdir) / "llms.txt").write_text("\n".join(lines), "utf-8")


def _readable(app: Any, kind: str, name: str, found: Any, options: Any, signature: str | None,
              returned: str | None) -> tuple[str | None, str | None]:
    """Write aliases in unions as names."""
    if signature:
        signature = re.sub(r"TypeAliasForwardRef\('([^']*)'\)", r"\1", signature)
    return signature, returned
