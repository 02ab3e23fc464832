"""Types of `partitions.pyx`."""

from farann.quantize.records import PartitionArrays

class Cells:
    def __init__(self, n_coded: int, n_positions: int, arrays: PartitionArrays) -> None: ...
