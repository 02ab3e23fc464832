"""Say what wheels are; fail where one is too large or has sources: check_wheel.py dist 1200000."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

SOURCES = (".pyx", ".pxd", ".c", ".h", ".o")


def main(folder: str, largest: str) -> int:
    failed = 0
    for path in sorted(Path(folder).glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            files = wheel.infolist()
        binaries = {file.filename: file.file_size for file in files
                    if file.filename.endswith((".so", ".pyd"))}
        sources = [file.filename for file in files if file.filename.endswith(SOURCES)]
        size = path.stat().st_size
        print(f"{path.name}: {size:,} bytes, {sum(file.file_size for file in files):,} unpacked; "
              + ", ".join(f"{name} {n:,}" for name, n in binaries.items()))
        if size > int(largest):
            failed = 1
            print(f"{path.name} is larger than {int(largest):,} bytes: is it stripped?")
        if sources or len(binaries) != 1:
            failed = 1
            print(f"{path.name} has sources, or not one binary: {sources}, {list(binaries)}")
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
