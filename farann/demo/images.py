"""``farann demo images``: pictures least and most like others, and pictures unlike each other."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

import numpy as np

import farann
from farann._types import Float32Array, Int64Array
from farann.demo import data, page
from farann.demo.data import Pictures
from farann.demo.page import say

PICTURES = 8  # answers shown a query
UNLIKE = 30  # pictures shown that are unlike each other
CHOICE = 6  # pictures of each kind that can be clicked

# Shows the answers to the picture that is clicked; all were computed when the page was made.
_CHOOSER = Template("""<div class="row" id="choice"></div>
<div id="answers" aria-live="polite"></div>
<script>
const all = $all;
function tile(kind, picture, text) {
  const made = document.createElement(kind);
  made.className = "tile"; made.title = text; made.setAttribute("aria-label", text);
  if (kind != "button") made.setAttribute("role", "img");
  made.style.backgroundImage = `url($${all.pictures[picture]})`;
  return made;
}
function line(kind, words, hits) {
  const head = document.createElement("p"), row = document.createElement("div");
  head.className = kind; head.textContent = words; row.className = "row";
  row.append(...hits.map(([picture, score]) =>
    tile("span", picture, `$${all.names[picture]}, cosine $${score}`)));
  return [head, row];
}
function show(button, query) {
  for (const other of choice.children) other.setAttribute("aria-pressed", other == button);
  answers.replaceChildren(...line("far", "least like it", query.far),
                          ...line("near", "most like it", query.near));
}
const choice = document.getElementById("choice"), answers = document.getElementById("answers");
choice.append(...all.queries.map(query => {
  const button = tile("button", query.picture, all.names[query.picture]);
  button.onclick = () => show(button, query);
  return button;
}));
choice.children[0].click();
</script>
""")


def run(output: Path) -> bool:
    """Show the pictures, on a page too, and tell whether answers are those of numpy in float64."""
    pictures = page.announced("Fashion-MNIST", data.load_fashion,
                           "These are scikit-learn's digits instead.", data.load_digits)
    # Raw pixels are all positive, and least like most pictures are the same few dark ones.
    rows = np.subtract(pictures.rows, pictures.rows.mean(axis=0), dtype=np.float32)
    index = farann.Index(metric="cosine")
    index.add(rows, copy=False)
    kinds = [np.flatnonzero(np.array(pictures.labels) == kind)[:CHOICE]
             for kind in dict.fromkeys(pictures.labels)]
    queries = np.concatenate(kinds)
    furthest, nearest = (search(rows[queries], PICTURES, exclude=queries[:, None])
                         for search in (index.search_furthest, index.search_nearest))
    strips = []
    say("\nLeast like each, by cosine of the pixels less the mean picture")
    for at in np.cumsum([0, *map(len, kinds[:-1])]):  # the first of each kind
        names = [pictures.labels[i] for i in furthest.ids[at]]
        say(f"  {pictures.labels[queries[at]]:<12} {', '.join(dict.fromkeys(names))}"[:80])
        strips.append(f'<div class="question">{_picture(pictures, queries[at])}<div>'
                      f"<p class=far>least like it</p>{_pictures(pictures, furthest, at)}"
                      f"<p class=near>most like it</p>{_pictures(pictures, nearest, at)}</div>"
                      "</div>")
    pair = index.diameter()
    one, other = (pictures.labels[i] for i in pair.ids)
    say(f"\nThe two pictures least alike: {one} and {other}, cosine {pair.score:.3f}")
    right = _agrees(rows, queries, furthest.ids)
    say(f"Ids {'agree' if right else 'DISAGREE'} with numpy in float64: "
        f"{furthest.ids.size} looked at.")
    page.write(output, "Pictures least like others", pictures.about, [
        page.section("Click a picture", _chooser(pictures, queries, furthest, nearest)),
        page.section("Least and most like each", *strips),
        page.section(f"{UNLIKE} pictures unlike each other",
                     "<p>Each is the one furthest from all before it.</p>",
                     page.cells(_picture(pictures, i) for i in index.select_diverse(UNLIKE).ids)),
        page.section("The two least alike", page.cells(_picture(pictures, i) for i in pair.ids))])
    return right


def _chooser(pictures: Pictures, queries: Int64Array, furthest: farann.Hits,
             nearest: farann.Hits) -> str:
    """Pictures to click, with the answers to each: they work without farann."""
    shown = np.unique([queries, *furthest.ids.T, *nearest.ids.T]).tolist()
    places = {row: place for place, row in enumerate(shown)}

    def hits_of(hits: farann.Hits, at: int) -> list[tuple[int, float]]:
        return [(places[row], round(float(score), 2))
                for row, score in zip(hits.ids[at].tolist(), hits.scores[at], strict=True)]

    content = json.dumps({
        "names": [pictures.labels[row] for row in shown],
        "pictures": [page.png(pictures.pixels(row)) for row in shown],
        "queries": [{"picture": places[row], "far": hits_of(furthest, at),
                     "near": hits_of(nearest, at)} for at, row in enumerate(queries.tolist())]})
    return _CHOOSER.substitute(all=content.replace("<", "\\u003c"))


def _picture(pictures: Pictures, row: int, note: str = "") -> str:
    return page.picture(pictures.pixels(row), pictures.labels[row], note)


def _pictures(pictures: Pictures, hits: farann.Hits, row: int) -> str:
    return page.cells(_picture(pictures, i, f"{score:.2f}")
                      for score, i in zip(hits.scores[row], hits.ids[row], strict=True))


def _agrees(rows: Float32Array, places: Int64Array, ids: Int64Array) -> bool:
    """Whether float64 finds no rows less like the queries than those of the answers."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    queries = rows[places] / norms[places, None]
    cosines = np.hstack([queries @ part.T.astype(np.float64)
                         for part in np.array_split(rows, 1 + len(rows) // 5_000)]) / norms
    best = np.sort(cosines, axis=1)[:, : ids.shape[1]]
    return np.allclose(np.take_along_axis(cosines, ids, axis=1), best, rtol=1e-12)
