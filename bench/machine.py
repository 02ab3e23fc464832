"""The machine: what it is, and what it can do at most.

Run as ``python -m bench.machine`` it measures and prints JSON; the runner does so in a process
of its own, in which numpy's OpenBLAS chooses its kernels by itself.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_SHOWN_FLAGS = (
    "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "i8mm")
_BUFFER = 384 << 20  # bytes, well beyond the caches


def cpu_flags() -> frozenset[str]:
    """Instruction set flags as Linux names them; empty where they can't be had."""
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _cpu_name() -> str:
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()


def last_level_cache() -> int:
    """Bytes of the largest cache of the first core; 0 when unknown."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        units = {"K": 1 << 10, "M": 1 << 20}
        sizes.append(int(text.rstrip("KM")) * units.get(text[-1:], 1))
    return max(sizes, default=0)


def memory_bytes() -> int:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_bytes() -> int:
    """Memory that can be had without swapping."""
    path = Path("/proc/meminfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return memory_bytes() // 2


def resident_bytes() -> int:
    """Memory of this process now; 0 when unknown."""
    return _status("VmRSS:")


def peak_bytes() -> int:
    """Largest memory of this process so far; 0 when unknown."""
    return _status("VmHWM:")


def _status(key: str) -> int:
    # Not getrusage: its maximum is inherited from the process that started this one.
    path = Path("/proc/self/status")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return 0


def describe() -> dict[str, Any]:
    """Name and shape of the machine, without measuring."""
    flags = cpu_flags()
    return {"cpu": _cpu_name(), "cores": os.cpu_count() or 1,
            "flags": [flag for flag in _SHOWN_FLAGS if flag in flags],
            "memory_bytes": memory_bytes(), "cache_bytes": last_level_cache(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version()}


def _best(function: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure(buffer_bytes: int = _BUFFER, size: int = 2048, repeats: int = 6) -> dict[str, float]:
    """What one thread and two can reach.

    Returns
    -------
    dict
        ``read_1``, ``read_2``: bytes a second that a dot product of a long array with itself
        reads from memory, by one thread and by two; ``read_cache``: the same for an array
        of half the last cache. ``flops_1``, ``flops_2``: float32 operations a second of numpy's
        matrix product. All are lower bounds of what the machine can do, and close ones.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    buffer = np.ones(buffer_bytes // 8 * 2, dtype=np.float32)
    halves = np.array_split(buffer, 2)
    cached = buffer[: max(1024, last_level_cache() // 8)]
    square = np.ones((size, size), dtype=np.float32)
    rates: dict[str, float] = {}
    with threadpool_limits(1), ThreadPoolExecutor(2) as pool:
        rates["read_1"] = buffer.nbytes / _best(lambda: np.dot(buffer, buffer), repeats)
        rates["read_2"] = buffer.nbytes / _best(
            lambda: list(pool.map(lambda half: np.dot(half, half), halves)), repeats
        )
        rates["read_cache"] = cached.nbytes / _best(lambda: np.dot(cached, cached), 4 * repeats)
    for threads in (1, 2):
        with threadpool_limits(threads):
            rates[f"flops_{threads}"] = 2 * size**3 / _best(lambda: square @ square, repeats)
    return rates


def limits(machine: dict[str, Any], rows: int, dim: int) -> dict[str, float]:
    """Least microseconds a query for reading or multiplying every row once.

    Keys: ``batch`` and ``threads`` (float32 arithmetic of one thread, of two), ``single`` (float32
    bytes from memory).
    """
    rates, size = machine["rates"], 4 * rows * dim
    fits = 0 < size < machine.get("cache_bytes", 0)
    return {"batch": 2e6 * rows * dim / rates["flops_1"],
            "threads": 2e6 * rows * dim / rates["flops_2"],
            "single": 1e6 * size / rates["read_cache" if fits else "read_1"]}


if __name__ == "__main__":
    print(json.dumps(measure()))
