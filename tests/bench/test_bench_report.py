"""The benchmark suite's report: reading results, tables, and the page in a real browser."""

from __future__ import annotations

import html.parser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from bench_cases import Record, a_record, write_results

from bench import charts, readme, report, results, tables


def made_up() -> list[Record]:
    lines: list[Record] = []
    for mode, slow in (("batch", 1.0), ("single", 8.0), ("threads", 0.6)):
        more: dict[str, Any] = {"mode": mode, "threads": 2 if mode == "threads" else 1}
        lines += [a_record("farann", 1.0, 20 * slow, rows_scanned=1000.0, **more),
                  a_record("farann", 1.0, 33 * slow, variant={"FARANN_ISA": "avx2"}, **more),
                  a_record("flat", 1.0, 70 * slow, library="faiss", **more),
                  a_record("numpy", 1.0, 90 * slow, **more),
                  a_record("blind", 0.4, 0.5 * slow, baseline=True, search={"listed": 100}, **more)]
        lines += [
            a_record("ivf", recall, us * slow, library="faiss", search={"nprobe": probe}, **more)
            for probe, recall, us in [(4, 0.8, 10), (16, 0.96, 30), (64, 0.999, 80), (8, 0.7, 50)]
        ]
    return lines


def test_latest_result_of_the_last_machine_counts(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_results(path, a_record("numpy", 1.0, 1.0), machine_name="Other", run_id="0")
    old = [a_record("numpy", 1.0, 50.0), a_record("flat", 1.0, 40.0)]
    write_results(path, *old, run_id="1")
    failure = {**a_record("flat", 0.0, 0.0), "kind": "failure", "run": "1", "build": {"m": 1},
               "reason": "killed by SIGSEGV"}
    settled = {**failure, "build": {}, "run": "0"}
    left = {"kind": "skipped", "run": "2", "algorithm": "scann", "reason": "not installed"}
    came = {"kind": "skipped", "run": "2", "algorithm": "flat", "reason": "not installed"}
    newer = a_record("numpy", 1.0, 60.0, run="2")
    write_results(path, newer, failure, settled, left, came, run_id="2")
    found = results.load(path)
    assert found.machine["cpu"] == "A CPU"
    assert [head["run"] for head in found.runs] == ["1", "2"]
    assert {r["algorithm"]: r["us"] for r in found.records} == {"numpy": 60.0, "flat": 40.0}
    assert [(f["algorithm"], f["build"]) for f in found.failures] == [("flat", {"m": 1})]
    assert [line["algorithm"] for line in found.skipped] == ["scann"]


def test_broken_results_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("")
    with pytest.raises(ValueError, match=r"r\.jsonl holds no run"):
        results.load(path)
    path.write_text('{"kind": "run"\n')
    with pytest.raises(ValueError, match=r"r\.jsonl, line 1 is not JSON"):
        results.load(path)


def test_readme_table_and_its_ratios(tmp_path: Path) -> None:
    found = results.load(write_results(tmp_path / "r.jsonl", *made_up()))
    lines = readme.whole_table(found).splitlines()
    row = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert row[:7] == ["Made <rows>, l2", "**20.0** (3.5×)", "70.0 Flat", "**160** (3.5×)",
                       "560 Flat", "**20.0** (1.5×)", "30.0 Ivf"]
    assert row[8] == "0.40 (listed 100)"
    assert all(line.count("|") == lines[0].count("|") for line in lines[:3])
    assert "A CPU" in lines[-1]


def test_headline_takes_farann_as_it_comes(tmp_path: Path) -> None:
    lines = [
        a_record("farann", 1.0, 200.0),
        a_record("farann", 1.0, 50.0, variant={"FARANN_ISA": "avx2"}),  # nobody sets that
        a_record("flat", 1.0, 100.0, library="faiss"),
        a_record("hnsw", 1.0, 20.0, library="faiss", claims_exact=False, exact=False),
    ]
    found = results.load(write_results(tmp_path / "r.jsonl", *lines))
    times = {name: (mine and mine["us"], rival and rival["us"]) for name, mine,
             rival in tables.headline(found, "made-l2")}
    assert times == {"exact, batch": (200.0, 100.0), "exact, one by one": (None, None),
                     "recall ≥ 0.95, batch": (200.0, 20.0)}
    assert "**200** (0.50×)" in readme.whole_table(found)
    assert "**200** (0.10×)" in readme.whole_table(found)


@pytest.mark.parametrize(
    "text",
    ["no markers", f"{readme.END} {readme.START}", f"{readme.START} {readme.START} {readme.END}"],
)
def test_readme_markers_must_be_there_once(text: str) -> None:
    with pytest.raises(ValueError, match="the page must hold <!-- bench:start --> and then"):
        readme.replace_between(text, "table")


def a_checkout(folder: Path) -> Path:
    """README and page of benchmarks with markers."""
    (folder / "docs").mkdir(parents=True)
    for name in ("README.md", "docs/benchmarks.md"):
        (folder / name).write_text(f"before\n{readme.START}\nold\n{readme.END}\nafter\n")
    return folder


def test_what_readme_and_docs_show(tmp_path: Path) -> None:
    source = write_results(tmp_path / "r.jsonl", *made_up())
    checkout = a_checkout(tmp_path / "checkout")
    report.write(source, tmp_path / "page.html", checkout)
    short = (checkout / "README.md").read_text("utf-8").splitlines()
    assert short[0] == "before" and short[-1] == "after" and "old" not in short
    assert any(line.startswith("| Made <rows>, l2 | 20.0 µs, **3.5×** Flat |") for line in short)
    assert "(listed 100)" in (checkout / "docs" / "benchmarks.md").read_text("utf-8")
    tree = ElementTree.parse(checkout / "docs" / "_static" / "speed.svg").getroot()
    assert "Made <rows>, l2" in [part.text for part in tree]
    assert sum(part.tag.endswith("circle") for part in tree) == 6  # a legend, and three dots
    used = set(re.findall(r"var\((--c\d)\)", ElementTree.tostring(tree, "unicode")))
    for scheme in readme.STYLE.split("@media"):
        assert used <= set(re.findall(r"(--c\d): #", scheme))


def test_a_page_without_markers_changes_nothing(tmp_path: Path) -> None:
    source = write_results(tmp_path / "r.jsonl", *made_up())
    checkout = a_checkout(tmp_path / "checkout")
    (checkout / "docs" / "benchmarks.md").write_text("no markers")
    before = (checkout / "README.md").read_text("utf-8")
    with pytest.raises(ValueError, match="must hold"):
        report.write(source, tmp_path / "page.html", checkout)
    assert (checkout / "README.md").read_text("utf-8") == before
    assert not (checkout / "docs" / "_static").exists()


class _Checker(html.parser.HTMLParser):
    """Every tag that is opened is closed, in order."""

    VOID = ("meta", "link", "br", "circle", "polygon", "polyline", "line", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = write_results(tmp_path / "r.jsonl", *made_up())
    return report.write(path, tmp_path / "page.html")


def test_page_is_whole_and_needs_no_network(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    checker = _Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(re.findall(r'<svg class="chart ', text)) == 2
    assert "Made &lt;rows&gt;, l2" in text
    assert "Made <rows>" not in text
    assert not re.search(r'(?:src|href)="(?!#|data:,)', text)
    assert "url(" not in text
    assert "@import" not in text
    for words in ("A CPU", "abc123", "faiss 1.0", "openblas 0.3 SkylakeX", "limit of a float32"):
        assert words in text
    # Of Ivf's four settings one is not on its front.
    assert text.count('class="pt faint"') == 2
    assert "3.5×" in text


def test_page_of_exact_results_only(tmp_path: Path) -> None:
    found = write_results(tmp_path / "r.jsonl", a_record("numpy", 1.0, 9.0))
    text = report.write(found, tmp_path / "p.html").read_text(encoding="utf-8")
    assert text.count('<svg class="chart ') == 1


def test_places_on_the_axes() -> None:
    places = [charts.recall_place(r) for r in (0, 0.5, 0.9, 0.99, 0.999, 1.0)]
    assert places == sorted(places)
    assert places[0] == pytest.approx(0, abs=1e-3)
    assert places[-1] == pytest.approx(1)
    labelled = [value for value, shown in charts.log_ticks(8, 2000) if shown]
    assert labelled == [10, 100, 1000]
    assert [charts.number(v) for v in (0.01234, 4.561, 78.9, 12345.6)] == [
        "0.0123",
        "4.56",
        "78.9",
        "12,346",
    ]


def a_browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no chromium, chromium-browser or google-chrome in PATH")


def open_page(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts ran, and the lines of the console."""
    command = [a_browser(), "--headless", "--disable-gpu", "--no-first-run", "--v=0"]
    command += ["--enable-logging=stderr", f"--user-data-dir={profile}", "--dump-dom"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--no-sandbox")  # it refuses to run as root otherwise
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=300,
                          check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_page_in_a_real_browser(page: Path, tmp_path: Path) -> None:
    document, console = open_page(page, tmp_path / "profile")
    assert console == []
    drawn = re.search(r'data-charts="(\d+)/(\d+)"', document)
    assert drawn is not None
    assert drawn.groups() == ("2", "2")


def test_hover_shows_the_parameters(page: Path, tmp_path: Path) -> None:
    hovering = """<script>
      const point = [...document.querySelectorAll(".recall .pt")]
        .find(each => each.dataset.tip.includes("nprobe 16"));
      const box = point.getBoundingClientRect();
      point.closest("svg").dispatchEvent(new PointerEvent("pointermove",
        { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 }));
    </script></body>"""
    moved = tmp_path / "moved.html"
    moved.write_text(page.read_text(encoding="utf-8").replace("</body>", hovering), "utf-8")
    document, console = open_page(moved, tmp_path / "profile")
    assert console == []
    shown = re.search(r'<div id="tip"[^>]*class="on"[^>]*>([^<]*)', document)
    assert shown is not None
    assert shown.group(1).splitlines()[:3] == ["Ivf", "nprobe 16", "recall 0.9600"]
