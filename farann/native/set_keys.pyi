"""Types of `set_keys.pyx`."""

import numpy as np
import numpy.typing as npt

from farann.native.process import CancelFlag
from farann.native.snapshot import Snapshot

def member_keys(
    snapshot: Snapshot,
    members: npt.NDArray[np.float32],
    slots: npt.NDArray[np.int64],
    keys: npt.NDArray[np.float64],
    flag: CancelFlag | None = None,
) -> None: ...
