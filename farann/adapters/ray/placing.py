"""What actors and tasks ask of Ray's machines."""

from __future__ import annotations

from typing import Any

import ray

from farann.adapters.ray.manifest import ShardError


def placed(given: dict[str, Any] | None, defaults: dict[str, Any],
           n: int) -> tuple[dict[str, Any], int | None]:
    """Options of n actors or tasks that run at the same time, and how many threads each has.

    ShardError if Ray's machines don't have the CPUs, which it would wait for.
    """
    options = {**defaults, **(given or {})}
    cpus = float(options["num_cpus"])
    if n and cpus > 0.0:
        _check_room(n, cpus, defaults["num_cpus"])
    return options, max(int(cpus), 1) if (given or {}).get("num_cpus") else None


def _check_room(n: int, cpus: float, default: float) -> None:
    if not ray.is_initialized():
        ray.init()
    machines = [float(node["Resources"].get("CPU", 0.0)) for node in ray.nodes() if node["Alive"]]
    # An actor lies on one machine. Ray counts CPUs in ten thousandths.
    room = sum(round(machine * 10_000) // max(round(cpus * 10_000), 1) for machine in machines)
    if room < n:
        raise ShardError(
            f"ray_remote_args: {n} workers of {cpus:g} CPUs each need {n * cpus:g} CPUs; Ray's "
            f"machines have {sum(machines):g} in all, and room for {room} of these workers; pass a "
            f"smaller num_cpus, which is {default:g} by default, or start more machines first")
