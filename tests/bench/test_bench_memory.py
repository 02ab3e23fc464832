"""Memory cgroups: what is said where none can be made. What is read in little memory is counted
by tests/layout/test_reads.py, and held in little by tests/io/test_out_of_core.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.scale import measure, memory


def test_no_group_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                          capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(memory, "_parent_and_file", lambda: (tmp_path / "none", "limit"))
    monkeypatch.setattr("sys.argv", ["measure", "--folder", str(tmp_path), "--out",
                                     str(tmp_path / "out"), "--memory", "1", "--rows", "10"])
    with pytest.raises(SystemExit):
        measure.main()
    assert "can't be made or limited" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a file system in memory")
def test_folders_in_memory_are_refused() -> None:
    with pytest.raises(memory.NotHereError, match="isn't counted"):
        memory.check_counted(Path("/dev/shm"))
