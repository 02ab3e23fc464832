"""Of `farann/tuning`: tables, what measures them, guards."""

from __future__ import annotations

from farann.results import share_found
from farann.tuning.guard import Guard, GuardArrays, make_guard, signs_of
from farann.tuning.measure import Answered, Searches, measure, rule_of, sample_size
from farann.tuning.measure import in_pieces as measure_in_pieces
from farann.tuning.table import Measured, Tunings, missing_at
