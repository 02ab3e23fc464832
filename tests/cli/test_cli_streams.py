"""Standard streams: full disks, closed pipes, closed streams, consoles, terminals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_cli import environment

import farann
from farann.cli import main

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX streams and a shell")
N = 900
NAMES = [f"ł{i}中" for i in range(N - 2)] + ["a\x1b[2J", "b\x9bz"]
SEARCH, SELECT = "search x.farann rows.npy -k 9", f"select x.farann -k {N}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).standard_normal((N, 2), dtype=np.float32)
    rows[-2:] = [[90, 90], [-90, -90]]  # among the furthest of all
    np.save("rows.npy", rows)
    index = farann.Index()
    index.add(rows, NAMES)
    index.save("x.farann")


def shell(script: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a script in which $F is farann."""
    return subprocess.run(["bash", "-c", script], capture_output=True, timeout=300, text=True,
                          env={**environment(), "F": f"{sys.executable} -m farann", **more})


@posix
@pytest.mark.parametrize(("asked", "unbuffered"), [
    (SEARCH, "1"), (f"{SEARCH} -o -", "1"), (f"{SEARCH} --json", ""), (SELECT, "1")])
def test_output_that_is_cut_is_an_error(asked: str, unbuffered: str) -> None:
    cut = shell(f"ulimit -f 4; $F {asked} -q > out", PYTHONUNBUFFERED=unbuffered)
    assert cut.returncode == 2
    assert cut.stderr == "farann: error: standard output: File too large\n"
    assert 0 < os.path.getsize("out") <= 4096


@posix
def test_input_that_is_not_copied_whole() -> None:
    cut = shell("ulimit -f 4; cat rows.npy | $F search x.farann - -q")
    assert cut.returncode == 2
    assert cut.stderr.endswith("stdin.npy, a copy of standard input: File too large\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(("asked", "unbuffered"), [("--help", ""), ("diameter x.farann", "1")])
def test_a_device_without_room(asked: str, unbuffered: str) -> None:
    full = shell(f"$F {asked} > /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert full.returncode == 2
    assert full.stderr == "farann: error: standard output: No space left on device\n"


@posix
def test_a_full_file_system(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    mounted = shell("unshare -rm true && echo yes")
    if "yes" not in mounted.stdout:
        pytest.skip("mounting takes a user namespace, which this system forbids")
    script = ("mount -t tmpfs -o size=16k none small || exit 77; "
              f"$F {SEARCH} -q > small/out; echo $? $(stat -c %s small/out); rm small/out; "
              f"$F {SEARCH} -q -o small/out.csv; echo $? $(ls -A small)")
    found = shell(f"unshare -rm bash -c '{script}'", PYTHONUNBUFFERED="1")
    if found.returncode == 77:
        pytest.skip("mounting is forbidden in user namespaces here")
    assert found.stdout == "2 16384\n2\n"
    assert found.stderr.splitlines() == [
        "farann: error: standard output: No space left on device",
        f"farann: error: {tmp_path}/small/out.csv: No space left on device"]


@posix
def test_a_pipe_that_nobody_reads() -> None:
    for asked, unbuffered in ((f"{SEARCH} -o -", ""), (SEARCH, "1")):
        found = shell(f"$F {asked} -q | (exec <&-; true); echo ${{PIPESTATUS[0]}}",
                      PYTHONUNBUFFERED=unbuffered)
        assert (found.stdout, found.stderr) == ("141\n", "")


@posix
def test_streams_that_are_closed() -> None:
    right = shell(f"$F {SEARCH} -q").stdout
    found = shell(f"$F {SEARCH} 2>&- <&-")
    assert (found.returncode, found.stdout, found.stderr) == (0, right, "")
    for asked in (f"{SEARCH} -q", "--help"):
        found = shell(f"$F {asked} >&-")
        assert (found.returncode, found.stderr) == (
            2, "farann: error: standard output: it is closed\n")
    found = shell("$F search x.farann - <&-")
    assert (found.returncode, found.stderr) == (
        2, "farann: error: -: standard input is closed\n")
    # A file takes none of the descriptors that are free.
    found = shell("$F build rows.npy -o y.farann <&- >&- 2>&- && $F info y.farann --verify --json")
    assert found.returncode == 0 and '"verified": true' in found.stdout


def test_ids_that_a_console_lacks() -> None:
    """Tables escape them; what other programs read is UTF-8."""
    for asked, encoding in ((SEARCH, "cp1252"), (SELECT, "cp1252"), (f"{SEARCH} -o -", "ascii")):
        found = subprocess.run([sys.executable, "-m", "farann", *asked.split(), "-q"], timeout=300,
                               env={**environment(), "PYTHONIOENCODING": encoding},
                               capture_output=True)
        assert found.returncode == 0 and not found.stderr
        if asked is SEARCH:
            text = found.stdout.decode("ascii")
            assert text.count("\n") == 9 * N + 1 and "\\u0142" in text
        else:
            assert "ł" in found.stdout.decode()


def test_control_characters(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Escaped where people read them, and as they are where programs do."""
    for asked in (SELECT, SEARCH, f"{SELECT} --json", f"{SEARCH} --json"):
        assert main(asked.split()) == 0
        out, err = capsysbinary.readouterr()
        assert not {"\x1b", "\x9b"} & set(out.decode()) and b"1b[2J" in out
        assert (b"2 ids printed with escapes" in err) == (asked is SELECT)
    assert main([*SELECT.split(), "-o", "-", "--quiet"]) == 0
    assert "a\x1b[2J" in capsysbinary.readouterr().out.decode().splitlines()
    assert main([*SELECT.split(), "-o", "ids.txt"]) == 0
    assert set(Path("ids.txt").read_text(encoding="utf-8").split("\n")) == {"", *NAMES}
    index = farann.Index()
    index.add([[1.0], [2.0]], ["a\nb", "c"])
    index.save("lines.farann")
    assert main(["select", "lines.farann", "-k", "2", "-o", "no.txt"]) == 2
    assert b"expected ones of a line each for text, got 'a\\nb'" in capsysbinary.readouterr().err
    assert not Path("no.txt").exists()


def test_names_of_strangers_in_messages(capsys: pytest.CaptureFixture[str]) -> None:
    Path("evil.csv").write_text("a\x1b[2J,b\x9b,c\nx,y,1\n", encoding="utf-8")
    for asked in (["build", "evil.csv", "-o", "y.farann"], ["build", "no\x1b[2J", "-o", "y.farann"],
                  ["build", "evil.csv", "--ids", "q", "-o", "y.farann"]):
        assert main(asked) == 2
        assert not {"\x1b", "\x9b"} & set(capsys.readouterr().err)


@posix
def test_a_terminal_gets_no_control_characters_and_no_binary() -> None:
    import pty

    def seen(*asked: str) -> bytes:
        reader, writer = pty.openpty()
        process = subprocess.Popen([sys.executable, "-m", "farann", *asked], stdout=writer,
                                   env={**environment(), "TERM": "dumb", "PYTHONUTF8": "1"},
                                   stderr=subprocess.STDOUT)
        os.close(writer)
        found = b""
        while True:
            try:
                part = os.read(reader, 1 << 16)
            except OSError:  # of a terminal that all have closed
                part = b""
            if not part:
                break
            found += part
        process.wait()
        os.close(reader)
        return found

    for asked in (SELECT, f"{SEARCH} -o -"):
        out = seen(*asked.split(), "-q").decode()
        assert "\x1b[2J" not in out and "a\\x1b[2J" in out and "ł" in out
    assert b"this format is no text" in seen(*SEARCH.split(), "-o", "-", "--format", "npz")


def test_main_leaves_the_streams_of_its_process(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr, sys.stdin, sys.stdout.errors
    assert main(["diameter", "x.farann"]) == 0 and main(["info", "none.farann"]) == 2
    assert (sys.stdout, sys.stderr, sys.stdin, sys.stdout.errors) == before
