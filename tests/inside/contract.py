"""Of `farann/contract`: traits of metrics and widths, where a search stops, foreign columns."""

from __future__ import annotations

from typing import Any

from farann.contract import arrow as _arrow
from farann.contract.index_spec import CODE_WIDTHS, CodeWidth, IndexSpec, traits_of
from farann.contract.stop_rule import ALL_CODES, EXACT, StopRule
from farann.contract.strings import packed


def arrow_structs(schema: object, array: object) -> tuple[Any, Any]:
    """The structs in two capsules of the Arrow interface, to be changed."""
    return (_arrow._Schema.from_address(_arrow._pointer_in(schema, b"arrow_schema")),
            _arrow._Array.from_address(_arrow._pointer_in(array, b"arrow_array")))
