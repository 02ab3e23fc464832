"""Which members of a class the reference has pages of: those of farann that tell what they do."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

# What Keras calls, and parts of farann that call each other.
_HOOKS = {"build_from_config", "candidate_ids", "compute_loss", "compute_output_spec", "export",
          "from_config", "get_build_config", "get_config", "load_own_variables", "made_of", "names",
          "pair_scores", "reset_states", "save_own_variables", "singles"}


def members_of(full_name: str) -> list[tuple[str, list[str]]]:
    """Methods and attributes of a class by its full name, without what other libraries define."""
    module, _, name = full_name.rpartition(".")
    cls = getattr(import_module(module), name)
    kinds: dict[str, list[str]] = {"Methods": [], "Attributes": []}
    order = [name for base in cls.__mro__ for name in vars(base)]
    for name in sorted(dir(cls), key=order.index):
        if name in _HOOKS or (name.startswith("_") and name != "__call__"):
            continue
        member = inspect.getattr_static(cls, name)
        function = _function_of(member)
        if function is None or not function.__doc__ or not _is_ours(function):
            continue
        kinds["Attributes" if isinstance(member, property) else "Methods"].append(name)
    return [(title, names) for title, names in kinds.items() if names]


def _function_of(member: Any) -> Any:
    """What is behind a method or a property; None of anything else."""
    if isinstance(member, property):
        return member.fget
    found = getattr(member, "__func__", member)
    return found if inspect.isfunction(found) else None


def _is_ours(function: Any) -> bool:
    return str(function.__module__).partition(".")[0] == "farann"
