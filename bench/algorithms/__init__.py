"""The peers: one small file each, found by looking into this folder."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from fnmatch import fnmatch

from .base import Algorithm

__all__ = ["Algorithm", "all_algorithms", "by_name", "matching"]


def all_algorithms() -> list[type[Algorithm]]:
    """Every concrete algorithm of every file in this folder, farann first, then by name."""
    found: dict[str, type[Algorithm]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for _, value in inspect.getmembers(module, inspect.isclass):
            if (
                issubclass(value, Algorithm)
                and value.__module__ == module.__name__
                and not inspect.isabstract(value)
            ):
                if value.name in found and found[value.name] is not value:
                    raise ValueError(f"two algorithms are named {value.name!r}")
                found[value.name] = value
    return sorted(found.values(), key=lambda a: (a.library != "farann", a.baseline, a.name))


def by_name(name: str) -> type[Algorithm]:
    """The algorithm of that name; KeyError names those there are."""
    for algorithm in all_algorithms():
        if algorithm.name == name:
            return algorithm
    raise KeyError(f"no algorithm {name!r}; there are {[a.name for a in all_algorithms()]}")


def matching(patterns: list[str] | None) -> list[type[Algorithm]]:
    """Algorithms whose name or library matches one of the shell patterns; all when None."""
    everything = all_algorithms()
    if not patterns:
        return everything
    chosen = [
        algorithm
        for algorithm in everything
        if any(fnmatch(algorithm.name, p) or algorithm.library == p for p in patterns)
    ]
    if not chosen:
        raise ValueError(
            f"no algorithm matches {', '.join(patterns)}; "
            f"there are {', '.join(a.name for a in everything)}"
        )
    return chosen
