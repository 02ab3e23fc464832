"""Types of `judge.pyx`."""

from typing import final

class CodeTrials:
    def begin(self) -> bool: ...
    def note(self, futile: bool) -> None: ...

@final
class Judge: ...
