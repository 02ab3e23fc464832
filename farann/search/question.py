"""A question to a store, checked: the one record that travels from `ask` to the tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from farann._types import Float64Array, Int64Array
from farann.contract.stop_rule import Limits
from farann.search.filters import UNFILTERED, RowFilters

if TYPE_CHECKING:
    from farann.store.store import Store, View


class Question(NamedTuple):
    """The checked arguments of a search in a store."""

    store: Store
    view: View  # of the store
    queries: Any  # vectors (n, dim), or `MemberSets` of them
    k: int
    threads: int
    row_filters: RowFilters = UNFILTERED
    limits: Limits | None = None
    every_row: bool = False  # all rows may be found, but for those that are excluded
    nearest: bool = False
    radii: Float64Array | None = None  # all rows beyond these, or the nearest ones; exactly

    def of(self, which: Int64Array, row_filters: RowFilters | None = None) -> Question:
        """Select some of the queries."""
        return self._replace(queries=self.queries[which],
                             row_filters=row_filters or self.row_filters.of(which),
                             radii=None if self.radii is None else self.radii[which])
