"""Say what wheels are; fail where one has a fault: check_wheel.py dist 1200000.

A wheel has one binary and no sources, files of the hashes that it records, its license, and an SBOM
of its name and version (PEP 770).
"""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import json
import sys
import zipfile
from pathlib import Path

SOURCES = (".pyx", ".pxd", ".c", ".h", ".o")


def faults(path: Path, largest: int) -> list[str]:
    """What is wrong with a wheel; empty if nothing is."""
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    found = []
    binaries = [name for name in files if name.endswith((".so", ".pyd"))]
    sources = [name for name in files if name.endswith(SOURCES)]
    if path.stat().st_size > largest:
        found.append(f"it is larger than {largest:,} bytes: is it stripped?")
    if sources or len(binaries) != 1:
        found.append(f"it has sources, or not one binary: {sources}, {binaries}")

    name, version = path.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    metadata = email.message_from_bytes(files.get(f"{info}/METADATA", b""))
    if (metadata["Name"], metadata["Version"]) != (name, version):
        found.append(f"its metadata are of {metadata['Name']} {metadata['Version']}")
    licenses = metadata.get_all("License-File", [])
    if metadata["License-Expression"] != "Apache-2.0" or not licenses or not all(
            f"{info}/licenses/{one}" in files for one in licenses):
        found.append(f"its license is {metadata['License-Expression']}, in {licenses}")
    made_of = json.loads(files.get(f"{info}/sboms/{name}.cdx.json", b"{}"))
    of = made_of.get("metadata", {}).get("component", {})
    if (of.get("name"), of.get("version")) != (name, version):
        found.append(f"there is no SBOM of {name} {version} in {info}/sboms")

    recorded = {row[0]: row[1] for row in csv.reader(
        files.get(f"{info}/RECORD", b"").decode().splitlines())}
    hashes = {name: "sha256=" + base64.urlsafe_b64encode(
        hashlib.sha256(data).digest()).decode().rstrip("=") for name, data in files.items()}
    hashes[f"{info}/RECORD"] = ""
    if recorded != hashes:
        found.append("RECORD differs from its files: "
                     f"{sorted({name for name, _ in recorded.items() ^ hashes.items()})}")
    return found


def main(folder: str, largest: str) -> int:
    failed = 0
    for path in sorted(Path(folder).glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            unpacked = sum(file.file_size for file in wheel.infolist())
        print(f"{path.name}: {path.stat().st_size:,} bytes, {unpacked:,} unpacked")
        for fault in faults(path, int(largest)):
            failed = 1
            print(f"{path.name}: {fault}")
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
