"""Looks at each page of the built site in a browser: `python docs/check_pages.py`.

At the widths of a desk, a tablet and a phone, in light and dark: no page is wider than its window,
and in dark mode no picture has dark lines on nothing. It takes playwright, and Chromium of the
system or of playwright; nothing is fetched but from the folder.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

WIDTHS, SCHEMES = (1200, 800, 400), ("light", "dark")
# Elements that are wider than the window, and whether the page itself is.
WIDE = """() => {
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    if (wide <= 0) return [];
    const room = document.documentElement.clientWidth;
    const out = [...document.querySelectorAll('body *')].filter(
        e => e.getBoundingClientRect().right > room + 1 && !e.children.length);
    return [`${wide} px`, ...out.slice(0, 3).map(e => `${e.tagName} ${e.textContent.slice(0, 40)}`)];
}"""
# Pictures without a background of their own whose average is as dark as the page.
DARK = """() => [...document.querySelectorAll('article img')].filter(picture => {
    if (!picture.complete || !picture.naturalWidth || !picture.getClientRects().length) return false;
    const canvas = document.createElement('canvas');
    const [w, h] = [canvas.width, canvas.height] = [80, 80];
    const context = canvas.getContext('2d');
    context.fillStyle = getComputedStyle(document.body).backgroundColor;
    context.fillRect(0, 0, w, h);
    context.drawImage(picture, 0, 0, w, h);
    const data = context.getImageData(0, 0, w, h).data;
    let lightest = 0;
    for (let i = 0; i < data.length; i += 4)
        lightest = Math.max(lightest, data[i] + data[i + 1] + data[i + 2]);
    return lightest < 330;
}).map(picture => picture.getAttribute('src'))"""


def main(folder: Path, shots: Path | None) -> int:
    """Check all pages; says what is wrong and returns how many pages have something."""
    pages = sorted(page.relative_to(folder).as_posix() for page in folder.rglob("*.html"))
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        wrong = _look(f"http://127.0.0.1:{server.server_port}", pages, shots)
        server.shutdown()
    for line in wrong:
        print(line)
    print(f"{len(pages)} pages at {', '.join(map(str, WIDTHS))} px, light and dark: "
          f"{len(wrong) or 'nothing'} wrong")
    return min(len(wrong), 1)


def _look(address: str, pages: list[str], shots: Path | None) -> list[str]:
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for width in WIDTHS:
            for scheme in SCHEMES:
                context = browser.new_context(viewport={"width": width, "height": 800},
                                              color_scheme=scheme)
                # Only the site itself is there: formulas stay as they are written.
                context.route("**/*", lambda route: route.continue_()
                              if route.request.url.startswith(address) else route.abort())
                page = context.new_page()
                for name in pages:
                    page.goto(f"{address}/{name}")
                    found = _faults(page, scheme)
                    wrong += [f"{name}, {width} px, {scheme}: {fault}" for fault in found]
                    if shots is not None:
                        file = shots / f"{name.replace('/', '_')}-{width}-{scheme}.png"
                        page.screenshot(path=file, full_page=True)
                context.close()
        browser.close()
    return wrong


def _faults(page: Any, scheme: str) -> list[str]:
    wide = page.evaluate(WIDE)
    dark = page.evaluate(DARK) if scheme == "dark" else []
    return [*([f"wider than the window: {', '.join(wide)}"] if wide else []),
            *(f"{picture} can't be seen" for picture in dark)]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the built site")
    parser.add_argument("--shots", type=Path, help="folder for pictures of all pages")
    arguments = parser.parse_args()
    sys.exit(main(arguments.folder, arguments.shots))
