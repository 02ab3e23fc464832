"""Types of `partitions.pyx`."""

from farann.quantize.records import PartitionArrays

class Partitions:
    def __init__(self, n_coded: int, n_positions: int, arrays: PartitionArrays) -> None: ...
