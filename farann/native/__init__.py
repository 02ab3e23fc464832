"""The native core: owns buffers and lifetimes, releases the GIL, searches.

A `Snapshot` is one immutable state of an index. A `Filter` says which rows may be found. A search
answers some queries of a batch with scratch memory of its own; threads run searches side by side
over the same snapshot.

All modules are compiled into one shared object, so that the C kernels are there once. Each has its
own entry in it, `PyInit_<module>`; here they are loaded, a module after those that it needs.
"""

import os  # and not pathlib, which takes longer to import than most of the package
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader

# Lowest first; `_cyutility` is what Cython adds to all.
MODULES = ("_cyutility", "kernels", "codes", "snapshot", "guard", "watch", "query_batch",
           "sources", "collector", "grouped", "bounds", "judge", "levels", "row_levels", "probing",
           "search", "task", "single", "picks", "greedy", "measuring", "sets", "merging")


def _library() -> str:
    """The file that all modules are in."""
    folder = os.path.dirname(os.path.abspath(__file__))
    for suffix in EXTENSION_SUFFIXES:
        path = os.path.join(folder, f"_all{suffix}")
        if os.path.exists(path):
            return path
    raise ImportError(f"farann's native core isn't built: there is no _all{EXTENSION_SUFFIXES[0]} "
                      f"in {folder}; install farann, or run make build")


def _load(path: str) -> None:
    """Import the modules as if each had a file of its own."""
    for name in MODULES:
        full = f"{__name__}.{name}"
        spec = spec_from_loader(full, ExtensionFileLoader(full, path), origin=path)
        assert spec is not None and spec.loader is not None
        spec.has_location = True
        module = module_from_spec(spec)
        sys.modules[full] = module
        globals()[name] = module
        spec.loader.exec_module(module)


_load(_library())
