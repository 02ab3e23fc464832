"""Types of `partitions.pyx`."""

from farann._records import CellArrays

class Cells:
    def __init__(self, n_coded: int, n_positions: int, arrays: CellArrays) -> None: ...
