"""The native core's names for Python."""

from farann.native.codes import (CODE_SPAN, MOST_AXES, Codes, Partitions, Transform, add_to_groups,
                                 code_extents, code_rows, encode_rows, pack_codes, rotate)
from farann.native.collector import Collector, NearestBeyondCollector, RangeCollector
from farann.native.greedy import Greedy
from farann.native.grouped import GroupedCollector
from farann.native.guard import Guard
from farann.native.judge import CodeTrials
from farann.native.kernels import (METRICS, Apart, CancelFlag, Cancelled, begin_arithmetic,
                                   end_arithmetic, fail_allocation, first_bad_row, flush_denormals,
                                   give_back_memory, isa_levels, largest_query_code, widened)
from farann.native.measuring import keys_of_found, keys_of_slots, surprises
from farann.native.merging import (add_directions_exactly, add_rows_exactly, empty_sum, mean_of_sum,
                                   merge_sorted)
from farann.native.sets import SetSearch
from farann.native.single import SingleSearch
from farann.native.snapshot import Filter, Snapshot, marked
from farann.native.task import Task, write_best
from farann.native.watch import KeyModel, Watch
