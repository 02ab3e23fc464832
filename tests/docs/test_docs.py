"""Examples in docstrings, the README and the docs run as printed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import inside
import numpy as np
import pytest

import farann

ROOT = Path(__file__).parents[2]
PAGES = [path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))) if path.exists()]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# Running it is all that this module is for.
NOT_IMPORTED = {"farann.native._all", "farann.__main__"}

# A python block, with the comment that leaves it out if there is one.
BLOCK = re.compile(
    r"^(?:<!-- skip: (?P<reason>[^\n]+?) -->\n+)?"
    r"^(?P<indent> *)```\{?(?:python|pycon)\}?[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


def modules() -> list[str]:
    """Names of all modules of the package, found without importing them."""
    found = pkgutil.walk_packages(farann.__path__, "farann.", onerror=lambda name: None)
    return ["farann", *sorted({module.name for module in found} - NOT_IMPORTED)]


def blocks(text: str) -> list[tuple[int, str]]:
    """First line and code of each python block that is not left out."""
    return [
        (text.count("\n", 0, match.start("code")), match["code"])
        for match in BLOCK.finditer(text)
        if match["reason"] is None
    ]


def run_examples(examples: str, names: dict[str, object], where: str, line: int) -> None:
    """Run text with `>>>` in it, and hold the output against what is printed."""
    test = doctest.DocTestParser().get_doctest(examples, names, where, where, line)
    test.globs = names  # the parser copies them, and later blocks go on from here
    report: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append, clear_globs=False)
    assert not report, "".join(report)


# Pages and modules about other libraries run where these are.
NEEDS: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("adapters-tfrs.md", "training.md"),
    ("tensorflow_recommenders", "tf_keras", "keras_rs"))
NEEDS["farann.adapters.training"] = ("tensorflow",)
NEEDS["picks.md"] = ("skactiveml",)
NEEDS["rag.md"] = ("langchain_core", "llama_index.core", "haystack")


def skip_without(name: str) -> None:
    """Skip a page or module where what it needs isn't installed."""
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module, reason=f"needs {module}")


@pytest.mark.parametrize("name", modules())
def test_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    skip_without(name)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "farann").partition(".")[0] == "farann":
            raise
        pytest.skip(f"needs {error.name}")
    usual = {"farann": farann, "np": np}
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name, extraglobs=usual):
        report: list[str] = []
        doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
        assert not report, "".join(report)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:(tensorflow|tf_keras|keras)")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after the other, in one namespace and an empty folder."""
    skip_without(page.name)
    if page.name == "README.md":
        try:
            inside.demo.load_glove()
        except ImportError:
            pytest.skip("needs the words of GloVe")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__page__"}
    for line, code in blocks(page.read_text("utf-8")):
        if ">>>" in code:
            run_examples(code, names, page.name, line)
        else:
            # Blank lines before it make the line numbers of a traceback those of the page.
            exec(compile("\n" * line + code, str(page), "exec"), names)


def test_blocks_are_found() -> None:
    text = """
```python
a = 1
```
<!-- skip: needs a network -->
```python
a = 2
```

```python
>>> a
1
```
```bash
a=3
```
"""
    assert blocks(text) == [(2, "a = 1\n"), (10, ">>> a\n1\n")]
    names: dict[str, object] = {"a": 1}
    run_examples(">>> a\n1\n>>> b = a\n", names, "page", 0)
    assert names["b"] == 1
    with pytest.raises(AssertionError, match="Expected"):
        run_examples(">>> a\n2\n", names, "page", 0)
