"""Of `farann/contract`: traits of metrics and widths, where a search stops."""

from __future__ import annotations

from farann.contract.index_spec import CODE_WIDTHS, CodeWidth, IndexSpec, traits_of
from farann.contract.stop_rule import ALL_CODES, EXACT, StopRule
from farann.contract.strings import packed
