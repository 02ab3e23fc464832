"""Which batches begin with codes, where these ruled out too little for the ones before."""

from __future__ import annotations

from farann import _core

# Where so many tasks in a row gave codes up, or would have done far better without, so many are
# searched without them.
_FUTILE, _WITHOUT = 2, 7


class CodeTrials:
    """What came of codes in exact searches for k rows, one task after another.

    A count of tasks decides, so that the same searches scan the same rows each time. Answers don't
    depend on it. One counts for all threads; where two of them count at once, one may be lost.
    """

    def __init__(self) -> None:
        self._futile = self._without = 0

    @classmethod
    def of(cls, snapshot: _core.Snapshot, k: int, nearest: bool) -> CodeTrials:
        """Those of a snapshot for searches of one kind, for about k rows."""
        kind = k.bit_length(), nearest
        trials: CodeTrials = (snapshot.code_trials.get(kind)
                              or snapshot.code_trials.setdefault(kind, cls()))
        return trials

    def begin(self) -> bool:
        """Whether the next task is to begin with codes."""
        if self._without == 0:
            return True
        self._without -= 1
        return False

    def note(self, futile: bool) -> None:
        """Take note of what a task did that began with codes."""
        self._futile = self._futile + 1 if futile else 0
        if self._futile >= _FUTILE:
            self._without = _WITHOUT
