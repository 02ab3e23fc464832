"""Cases of the fuzzers that are kept: each is run again, whether it once found something or not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import alike
import files
import histories
import pytest
import questions
from cases import DEEP

from farann import Index

CORPUS = Path(__file__).parent / "corpus"
CHOSEN, OTHERS = (CORPUS / "seeds.txt").read_text().split("# These")


def seeds_of(kind: str) -> list[int]:
    chosen, others = (re.findall(rf"^{kind} (\d+)", text, re.M) for text in (CHOSEN, OTHERS))
    return [int(seed) for seed in chosen[:: 1 if DEEP else 3] + others]


@pytest.mark.parametrize("seed", seeds_of("histories"))
def test_histories(seed: int) -> None:
    assert histories.run(seed)["checks"] > 0


@pytest.mark.parametrize("seed", seeds_of("alike"))
def test_histories_of_alike_rows(seed: int) -> None:
    assert alike.run(seed)["checks"] > 0


@pytest.mark.parametrize("seed", seeds_of("questions"))
def test_histories_with_questions_by_id_of_pairs_and_selections(seed: int) -> None:
    assert questions.run(seed)["checks"] > 0


@pytest.mark.parametrize("seed", seeds_of("files"))
def test_files(seed: int) -> None:
    files.run(seed)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.farann")), ids=lambda path: path.stem)
def test_files_of_the_corpus_are_whole(path: Path) -> None:
    """What is damaged was in order before, and is written again as it was read."""
    data = path.read_bytes()
    assert files.pack(files.unpack(data)) == data
    assert len(Index.load(path)) > 200


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler")
def test_kernels_on_random_bytes(tmp_path: Path) -> None:
    here = Path(__file__).parent
    root = here.parent.parent
    sources = [here / "plain.c", *sorted((here / "core").glob("*.c")),
               *sorted((root / "src_c").rglob("*.c"))]
    subprocess.run(
        ["cc", "-std=c11", "-O0", "-ffp-contract=off", "-fno-math-errno", f"-I{root / 'src_c'}",
         "-Werror=int-conversion", *map(str, sources), "-lm", "-o", str(tmp_path / "core")],
        check=True)
    subprocess.run([tmp_path / "core"], check=True, timeout=300)


def test_a_wrong_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches that forget a row now and then."""
    search = Index.search_furthest

    def forgetful(self: Index, queries: Any, k: int = 10, **more: Any) -> Any:
        hits: Any = search(self, queries, k, **more)
        if k > 1:
            hits.ids[..., -1] = hits.ids[..., 0]
        return hits

    monkeypatch.setattr(Index, "search_furthest", forgetful)
    with pytest.raises(AssertionError) as failure:
        for seed in seeds_of("histories"):
            histories.run(seed)
    assert "history:" in failure.value.__notes__[0]
