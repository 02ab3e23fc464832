"""Count the instructions of ARM kernels, by emulation: `python packaging/count_arm.py PROGRAM`.

qemu-aarch64 translates one instruction at a time and logs each that it executes within the
addresses of the kernel's function. That is no time: instructions differ, and so do CPUs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

EMULATOR = ["qemu-aarch64", "-cpu", "max,sve=off"]
# Kernels whose work is done by a function of another name.
_FUNCTIONS = {"scan_codes_i8_high": "scan_high"}


def ranges(program: str) -> dict[str, str]:
    """Where each function is, and how many bytes it has, as qemu wants it.

    Compilers may split a function: its parts have its name before a period.
    """
    table = subprocess.run(["aarch64-linux-gnu-nm", "-S", program], check=True, text=True,
                           capture_output=True).stdout
    found: dict[str, list[str]] = defaultdict(list)
    for line in map(str.split, table.splitlines()):
        if len(line) == 4:
            found[line[3].split(".")[0]].append(f"0x{line[0]}+0x{line[1]}")
    return {name: ",".join(parts) for name, parts in found.items()}


def executed(program: str, level: str, kernel: str, where: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        subprocess.run([*EMULATOR, "-one-insn-per-tb", "-d", "exec,nochain", "-dfilter", where,
                        "-D", str(log), program, level, kernel], check=True)
        with log.open(encoding="utf-8", errors="replace") as lines:
            return sum(line.startswith("Trace ") for line in lines)


def main(program: str) -> int:
    functions = ranges(program)
    cases = subprocess.run([*EMULATOR, program], check=True, capture_output=True, text=True).stdout
    counts: dict[str, dict[str, float]] = defaultdict(dict)
    for case in cases.splitlines():
        level, kernel, products = re.fullmatch(r"(\w+) (\w+) (\d+)", case).groups()  # type: ignore[union-attr]
        name = _FUNCTIONS.get(kernel, kernel.removesuffix("_high"))
        # Levels that differ in products of codes alone have the other kernels of neon.
        function = functions.get(f"farann_{name}_{level}") or functions[f"farann_{name}_neon"]
        n = executed(program, level, kernel, function)
        counts[kernel][level] = n / int(products)
    levels = list(next(iter(counts.values())))
    print("| instructions a product |", " | ".join(levels), "|")
    print("|---|" + "---:|" * len(levels))
    for kernel, of_level in counts.items():
        print(f"| `{kernel}` |", " | ".join(
            f"{n:.3f} ({of_level['scalar'] / n:.1f}×)" for n in of_level.values()), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
