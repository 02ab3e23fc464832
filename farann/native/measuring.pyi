"""Types of `measuring.pyx`."""

import numpy as np
import numpy.typing as npt

from farann.contract.stop_rule import StopRule
from farann.native.process import CancelFlag
from farann.native.snapshot import Filter, Snapshot

def score_slots(
    snapshot: Snapshot,
    queries: npt.NDArray[np.float32],
    slots: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    start: int,
    stop: int,
    flag: CancelFlag | None = None,
) -> None: ...

def keys_of_found(
    snapshot: Snapshot,
    queries: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.int64],
    slots: npt.NDArray[np.int64],
    nearest: bool,
    keys: npt.NDArray[np.float64],
    start: int,
    stop: int,
    flag: CancelFlag | None = None,
) -> None: ...

def surprises(
    snapshot: Snapshot,
    filter: Filter,
    queries: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    k: int,
    rule: StopRule,
    *,
    nearest: bool = False,
) -> npt.NDArray[np.float64]: ...
