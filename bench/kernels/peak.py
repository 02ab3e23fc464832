"""Operations a second that one core reaches at most, at each instruction-set level."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_SOURCES = _HERE.parent.parent / "src_c"
_SECONDS = 0.2


# Whose words a level has, where these aren't its own, and what is defined for it.
_WORDS = {"avx2": ("avx2", ["-DMADDUBS"]), "avxvnni": ("avx2", ["-DFARANN_AVX_VNNI"]),
          "avx512": ("avx512", ["-DMADDUBS"]),
          "avx512vnni": ("avx512", ["-DFARANN_VNNI", "-DVNNI"]),
          "dotprod": ("neon", ["-DFARANN_DOTPROD"]), "i8mm": ("neon", ["-DFARANN_I8MM"])}


@cache
def peak(level: str) -> dict[str, float]:
    """Rates of one core at a level, by a loop of nothing but arithmetic on registers.

    Returns
    -------
    dict
        ``float32`` and ``float64``: operations a second of multiply-adds; ``int8``: of 8-bit dot
        products, if the level has them. A multiply and an add are two operations. Empty where there
        is no C compiler.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return {}
    words, defines = _WORDS.get(level, (level, []))
    flags = ["-O3", "-shared", "-fPIC", f"-DLEVEL={words}", f"-I{_SOURCES}", *defines]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / f"peak_{level}.so"
        subprocess.run([compiler, *flags, str(_HERE / "peak.c"), "-o", str(library)], check=True)
        functions = ctypes.CDLL(str(library))
        rates = {"float32": _rate(functions.fma_operations),
                 "float64": _rate(functions.fma_operations_f64),
                 "int8": _rate(functions.dot_operations)}
    return {name: rate for name, rate in rates.items() if rate}


def _rate(function: ctypes._NamedFuncPointer) -> float:
    function.restype = ctypes.c_double
    function.argtypes = [ctypes.c_int64, ctypes.c_void_p]
    out = ctypes.create_string_buffer(64)
    rounds, best, begun = 100_000, 0.0, time.perf_counter()
    while time.perf_counter() - begun < _SECONDS:
        start = time.perf_counter()
        operations = function(rounds, out)
        best = max(best, operations / (time.perf_counter() - start))
    return best
