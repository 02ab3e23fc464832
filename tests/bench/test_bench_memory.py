"""Builds and searches in a memory cgroup, where one can be made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.scale import measure, memory

LIMIT, ROWS = 300 << 20, 250_000  # 384 MB of rows; Python and its libraries take about 100 MB


def test_bytes_are_read_from_text() -> None:
    assert [memory.to_bytes(text) for text in ("400M", "2g", "17")] == [400 << 20, 2 << 30, 17]
    for wrong in ("", "M", "4T", "-1", "1.5G"):
        with pytest.raises(ValueError, match="memory: expected a number of bytes"):
            memory.to_bytes(wrong)


def test_no_group_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                          capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(memory, "_parent_and_file", lambda: (tmp_path / "none", "limit"))
    monkeypatch.setattr("sys.argv", ["measure", "--folder", str(tmp_path), "--out",
                                     str(tmp_path / "out"), "--memory", "1M", "--rows", "10"])
    with pytest.raises(SystemExit):
        measure.main()
    assert "can't be made or limited" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a file system in memory")
def test_folders_in_memory_are_refused() -> None:
    with pytest.raises(memory.NotHereError, match="isn't counted"):
        memory.check_counted(Path("/dev/shm"))


def test_reads_in_little_memory(tmp_path: Path) -> None:
    """Bytes from the disk, read-ahead included; the counts of rows are in test_reads."""
    try:
        memory.check_counted(tmp_path)
        with memory.group_of(LIMIT):
            pass
    except memory.NotHereError as error:
        pytest.skip(str(error))
    memory.run(tmp_path, tmp_path / "out", LIMIT, ROWS, [None], compared=False)
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    build, *searches = lines
    assert build["read_bytes"] <= 8.5 * build["rows_bytes"]
    for line in searches:
        assert line["read_bytes"] <= 0.05 * line["rows_bytes"]
