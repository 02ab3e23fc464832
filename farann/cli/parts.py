"""Parts of the output of a long command, kept beside it so that an interrupted run continues."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from farann import Hits
from farann.cli import answers
from farann.io.files import open_regular, replacing
from farann.io.vector_formats import look

_PART_NAME = re.compile(r"[0-9a-f]{32}-\d{6,}\.npz")  # a fingerprint, and the number of a part


def fingerprint_of(files: Iterable[Path], facts: Any) -> str:
    """A digest of the bytes of files, and of what else the output depends on."""
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16)
    for path in files:
        with open_regular(path) as stream:
            digest.update(hashlib.file_digest(stream, "blake2b").digest())
    return digest.hexdigest()


class Parts:
    """Answers to batches of queries, as files in the folder OUTPUT.parts."""

    def __init__(self, output: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = output.with_name(f"{output.name}.parts"), fingerprint

    def load(self, number: int, shape: tuple[int, int]) -> Hits | None:
        """The answers of a part; None if there are none, of this shape and undamaged."""
        arrays = []
        for name, dtype in (("ids", np.int64), ("scores", np.float32), ("keys", np.float64)):
            try:
                content = look(self._path(number), name, name)
                if content.shape != shape or content.dtype != dtype:
                    return None
                arrays.append(np.concatenate([np.empty((0, shape[1]), dtype),
                                              *content.read(max(1, shape[0]))]))
            except (OSError, ValueError):
                return None
        return Hits(*arrays)

    def keep(self, number: int, hits: Hits) -> None:
        """Write a part, whole or not at all."""
        self._folder.mkdir(exist_ok=True)
        with replacing(self._path(number)) as stream:
            answers.WRITERS["npz"](stream, [hits])

    def remove(self) -> None:
        """Remove all parts, of other fingerprints too, and the folder if nothing else is in it."""
        for path in self._folder.glob("*.npz"):  # none where there is no folder
            if _PART_NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._fingerprint}-{number:06}.npz"
