"""What `recall=` takes: measured tables, the guards that go with them, and where both are kept.

`Tuning` is public. The folder imports `quantize` (for k-means), `runtime` and `contract`.
"""

from farann.tuning.table import Tuning

__all__ = ["Tuning"]
