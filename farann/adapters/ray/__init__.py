"""Sharded indexes on Ray: more rows than one machine holds, with the answers of one index.

Ray places workers, starts them again and feeds them; here is what a shard does, and the exact
merge. The module that knows Ray is `cluster`; the others are plain Python.
"""

from typing import TYPE_CHECKING, Any

from farann.adapters.ray.gathering import Partial
from farann.adapters.ray.storage import Manifest, ShardError, ShardRecord, SharedTuning

if TYPE_CHECKING:
    from farann.adapters.ray.cluster import Cluster, build

__all__ = ["Cluster", "Manifest", "Partial", "ShardError", "ShardRecord", "SharedTuning", "build"]

if not TYPE_CHECKING:  # which would take any name for one that there is
    def __getattr__(name: str) -> Any:
        if name not in ("Cluster", "build"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise ModuleNotFoundError(f"farann.adapters.ray.{name} needs Ray, which is not "
                                      "installed: pip install 'farann[ray]'", name="ray") from error
        from farann.adapters.ray import cluster

        return getattr(cluster, name)
