"""The settings that an index was made with."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from farann.contract import checks
from farann.contract.code_widths import CODE_WIDTHS, INT8, CodeWidth
from farann.contract.metric_traits import MetricTraits
from farann.contract.row_types import STORED


class IndexSpec(NamedTuple):
    """The settings of an index that concern its rows."""

    metric: MetricTraits
    coded: bool
    seed: int
    cells: int | str | None = None
    width: CodeWidth = INT8  # of codes, if there are any
    vectors: bool = True  # whether coded rows stay as they came, too
    row_type: str = "float32"

    @property
    def codes(self) -> str:
        """The users' name of these codes."""
        width = self.width if self.coded else None
        return next(name for name, one in CODE_WIDTHS.items() if one == width)

    @property
    def stored(self) -> np.dtype[Any]:
        """The type of rows in memory."""
        return STORED[self.row_type]


def check_codes(codes: Any, cells: Any, keep_vectors: Any) -> int | str | None:
    """Check what an index was asked to keep of its rows; gives `cells` as Python has it."""
    checks.to_choice("codes", codes, tuple(CODE_WIDTHS))
    cells = checks.to_cells(cells)
    if cells is not None and codes == "float32":
        raise ValueError("cells: partitions need codes, and codes='float32' means none")
    checks.check_flag("keep_vectors", keep_vectors)
    if not keep_vectors and codes == "float32":
        raise ValueError("keep_vectors: without vectors there must be codes, and "
                         "codes='float32' means none")
    return cells  # type: ignore[no-any-return]
