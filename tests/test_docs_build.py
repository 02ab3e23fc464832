"""The documentation builds without warnings, and says what the library says."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import inside
import pytest

import farann

ROOT = Path(__file__).parent.parent
MISSING = [name for name in ("sphinx", "furo", "numpydoc", "myst_parser") if not find_spec(name)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the documentation was built in."""
    if MISSING:
        pytest.skip(f"needs {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("html")
    paths = [str(ROOT), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html",
         "-d", str(folder / "doctrees"), "docs", str(folder / "html")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


def test_every_page_is_built(pages: Path) -> None:
    built = {page.relative_to(pages).with_suffix("") for page in pages.rglob("*.html")}
    docs = ROOT / "docs"
    assert {page.relative_to(docs).with_suffix("") for page in docs.rglob("*.md")} <= built


def test_the_reference_has_all_public_names(pages: Path) -> None:
    reference = (pages / "api.html").read_text("utf-8")
    methods = [name for name in vars(farann.Index) if not name.startswith("_")]
    names = [name for name in farann.__all__ if name != "__version__"]
    for name in [*(f"Index.{method}" for method in methods), *names]:
        assert f'id="farann.{name}"' in reference, name


def test_links_of_the_readme_and_the_guides_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8"))
        missing = [link for link in links
                   if "://" not in link and not (ROOT / link).exists()]
        assert not missing, (page.name, missing)


def test_the_page_of_the_command_line_has_all_commands_and_options() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    parser = inside.parser()
    (commands,) = (action for action in parser._actions
                   if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        assert f"## farann {name}" in page
        section = page.partition(f"## farann {name}\n")[2].partition("\n## ")[0]
        options = [option for action in command._actions for option in action.option_strings]
        missing = [option for option in options
                   if option not in ("-h", "--help") and f"`{option}" not in section]
        assert not missing, (name, missing)
