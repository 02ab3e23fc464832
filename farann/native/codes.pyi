"""Types of `codes.pyx`."""

from farann.quantize.records import CodeArrays

CACHED_BYTES: int
HUB_ROWS: int

class Codes:
    n_filled: int
    def __init__(
        self, n_rows: int, dim: int, arrays: CodeArrays, in_runs: bool = False
    ) -> None: ...
