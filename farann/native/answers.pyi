"""Types of `answers.pyx`."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

class Answers:
    def did(self) -> tuple[int, int, int, int, int, int, int, int]: ...
    def counts(self) -> list[int]: ...
    def write_top(
        self, scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], start: int
    ) -> None: ...
    def write_beyond(
        self, scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], start: int
    ) -> None: ...

def write_best(
    tasks: Sequence[Answers], scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]
) -> None: ...
