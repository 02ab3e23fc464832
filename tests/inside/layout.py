"""Of `farann/layout`: coding rows, numbers of partitions, added rows in runs."""

from __future__ import annotations

from farann.layout.added_rows import LEAST_RUN, Added, Run
from farann.layout.build import make_codes
from farann.layout.coding import (
    ORDER_K,
    Builder,
    RowLengths,
    code_like,
    key_bounds,
    whole_panels,
)
from farann.layout.partitions import _FEWER_PER_ROOT as FEWER_PER_ROOT
from farann.layout.partitions import number_of_partitions
from farann.layout.sampling import MeanQueryDirection, sampled
