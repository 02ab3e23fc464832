"""The measurements behind `recall=`: tables, their guards, and where both are kept.

`Tuning` is public. The folder imports `quantize` (for k-means), `runtime` and `contract`.
"""

from farann.tuning.table import Tuning

__all__ = ["Tuning"]
