"""One self-contained HTML page of a demo's results: no network, light and dark."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from farann.demo.data import Films, Pictures, Words
from farann.io.files import replacing

Data = TypeVar("Data", Words, Pictures, Films)

say: Callable[..., None] = partial(print, flush=True)  # a demo's lines, one by one as they come

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>farann: $title</title>
<script>if (self != top) document.documentElement.className = "embedded"</script>
<style>
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6b7b; --line: #d9e0e7;
  --paper: #fbfcfd; --card: #fff; --far: #c2410c; --near: #0f6cbd; --bad: #b42318; --good: #1a7f37 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa7b4; --line: #30363d;
  --paper: #0d1117; --card: #161b22; --far: #ff9d6c; --near: #6cb6ff; --bad: #ff8a80;
  --good: #7ee787 } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.7rem; margin: 0 0 .3rem } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem }
p { margin: .3rem 0 .8rem; max-width: 46rem } .soft { color: var(--soft) }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .85rem }
th, td { padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top } td.number, th.number { text-align: right }
.row { display: flex; flex-wrap: wrap; gap: .35rem }
figure { margin: 0; width: 56px } figcaption { font-size: .68rem; line-height: 1.15;
  color: var(--soft); overflow-wrap: anywhere }
img { width: 56px; height: 56px; image-rendering: pixelated; border-radius: 4px; display: block }
.question { display: flex; gap: 1.2rem; align-items: flex-start; margin-top: 1.6rem }
.question > figure, .question > figure img { width: 96px } .question > figure img { height: 96px }
.question p { margin: 0 0 .15rem; font-size: .85rem } .question .row { margin-bottom: .6rem }
.far { color: var(--far) } .near { color: var(--near) }
.bad { color: var(--bad) } .good { color: var(--good) }
small { color: var(--soft) }
.tile { padding: 0; border: 2px solid transparent; border-radius: 4px; width: 44px; height: 44px;
  box-sizing: border-box; background: #000 padding-box; background-size: 100% 100%;
  image-rendering: pixelated }
button.tile { cursor: pointer }
.embedded section ~ section, .embedded h1 { display: none }
.tile[aria-pressed=true] { border-color: var(--near) } #answers .tile { width: 72px; height: 72px }
@media (max-width: 30em) { #choice { max-height: 9.5rem; overflow-y: auto }
  #answers .tile { width: 56px; height: 56px } }
</style>
<h1>$title</h1>
<p class="soft">$about</p>
$body
<p class="soft">Made by <code>farann demo</code>, farann $version.</p>
</html>
""")


def announced(name: str, load: Callable[[], Data], instead: str, make: Callable[[], Data]) -> Data:
    """Load a demo's data, or make substitutes if they can't be had; print which."""
    try:
        rows = load()
    except ImportError as error:
        say(f"No {name}: {error}.\n{instead}")
        rows = make()
    say(rows.about)
    return rows


def picture(pixels: NDArray[np.uint8], words: str, note: str = "") -> str:
    """A gray picture (height, width) as a figure, with a line below it."""
    below = f"{escape(words)}<br>{escape(note)}" if note else escape(words)
    return (f'<figure><img alt="{escape(words)}" src="{png(pixels)}">'
            f"<figcaption>{below}</figcaption></figure>")


def png(pixels: NDArray[np.uint8]) -> str:
    """A gray picture (height, width) as the address of a PNG that holds it."""
    height, width = pixels.shape
    scan = np.hstack([np.zeros((height, 1), np.uint8), pixels]).tobytes()  # 0: lines as they are
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits of gray
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(scan, 9)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content)) for kind, content in chunks)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def cells(figures: Iterable[str]) -> str:
    """Figures beside each other."""
    return f'<div class="row">{"".join(figures)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 99) -> str:
    """A table of cells that are HTML; columns from one on are numbers."""

    def line(tag: str, row: Sequence[str]) -> str:
        made = [f"<{tag}{' class=number' if place >= numbers_from else ''}>{cell}</{tag}>"
                for place, cell in enumerate(row)]
        return f"<tr>{''.join(made)}</tr>"

    return ('<div class="scroll"><table>' + line("th", head)
            + "".join(line("td", row) for row in rows) + "</table></div>")


def section(title: str, *parts: str) -> str:
    """A heading and its content."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def write(path: Path, title: str, about: str, sections: Iterable[str]) -> None:
    """Write the page, whole or not at all."""
    from farann import __version__

    values: dict[str, Any] = {
        "title": escape(title), "about": escape(about), "body": "\n".join(sections),
        "version": __version__}
    with replacing(path) as stream:
        stream.write(_PAGE.substitute(values).encode())
