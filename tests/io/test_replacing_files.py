"""Saving over a file: who may read it afterwards, what killed saves leave, what is no file."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from cases import index_of

import farann
from farann.cli import main
from farann.vectors import write_vectors

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")

ACL = "system.posix_acl_access"
FIFO = "expected a regular file, got a FIFO"


def save(path: Path, content: bytes = b"new") -> None:
    with inside.files.replacing(path) as stream:
        stream.write(content)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def left_over(path: Path, digits: str = "0123456789abcdef") -> Path:
    """The name of a temporary file that a killed save to path leaves; see saving.md of the docs."""
    return path.with_name(f".farann-{zlib.crc32(path.name.encode()):08x}-{digits}.tmp")


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An access list as Linux stores it: tag, rights and id of each entry."""
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, rights, number & 0xFFFFFFFF) for tag, rights, number in entries)


# User 1234 may do what the group may not, or the other way round.
LIST = acl((1, 6, -1), (2, 4, 1234), (4, 0, -1), (16, 4, -1), (32, 0, -1))  # looks like 0640
BAN = acl((1, 6, -1), (2, 0, 1234), (4, 4, -1), (16, 4, -1), (32, 4, -1))  # looks like 0644


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.bin"


@pytest.fixture
def old(path: Path) -> Path:
    path.write_bytes(b"old")
    path.chmod(0o640)
    return path


@pytest.fixture
def with_list(old: Path) -> Path:
    try:
        os.setxattr(old, ACL, LIST)
    except (OSError, AttributeError):
        pytest.skip("no access lists here")
    return old


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


class TestAccess:
    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o444, 0o400, 0o755])
    @pytest.mark.parametrize("mask", [0o022, 0o077, 0])
    def test_the_mode_stays(self, mode: int, mask: int, path: Path) -> None:
        before = os.umask(mask)
        try:
            save(path, b"old")
            assert mode_of(path) == 0o666 & ~mask
            path.chmod(mode)
            with inside.files.replacing(path) as stream:
                # Nobody may open what is going to be filled and keep it open.
                assert stat.S_IMODE(os.fstat(stream.fileno()).st_mode) == mode
                stream.write(b"new")
        finally:
            os.umask(before)
        assert mode_of(path) == mode and path.read_bytes() == b"new"

    def test_nobody_else_may_open_it_before(
        self, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.open
        modes: list[int] = []

        def noted(file: Any, flags: int, *mode: int, **options: Any) -> int:
            modes.extend(mode)
            return real(file, flags, *mode, **options)

        monkeypatch.setattr(os, "open", noted)
        old.chmod(0o666)
        before = os.umask(0)
        try:
            save(old)
        finally:
            os.umask(before)
        assert modes == [0o600] and mode_of(old) == 0o666

    def test_set_user_id_is_dropped(self, old: Path) -> None:
        old.chmod(0o6755)
        save(old)
        assert mode_of(old) == 0o755

    def test_of_indexes_and_what_commands_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        rows = np.ones((9, 3), np.float32)
        write_vectors("rows.npy", rows)
        index_of(rows).save("x.farann")
        outputs = ["x.farann", "out.npz", "out.csv", "rows.npy"]
        for name in outputs:
            Path(name).touch()
            Path(name).chmod(0o600)
        index_of(rows).save("x.farann")
        assert main(["search", "x.farann", "rows.npy", "-q", "-k", "1", "-o", "out.npz"]) == 0
        assert main(["search", "x.farann", "rows.npy", "-q", "-k", "1", "-o", "out.csv"]) == 0
        write_vectors("rows.npy", rows)
        assert [mode_of(Path(name)) for name in outputs] == [0o600] * 4
        assert len(Path("out.csv").read_text().splitlines()) == 10
        assert main(["build", "rows.npy", "-q", "-o", "x.farann"]) == 0
        assert mode_of(Path("x.farann")) == 0o600
        assert names_in(tmp_path) == sorted(outputs)

    @root
    def test_owner_and_group_stay(self, old: Path) -> None:
        os.chown(old, 1234, 2345)
        save(old)
        status = old.stat()
        assert (status.st_uid, status.st_gid, mode_of(old)) == (1234, 2345, 0o640)

    @root
    @pytest.mark.parametrize(
        ("mode", "less"),
        [(0o640, 0o600), (0o644, 0o644), (0o664, 0o644), (0o604, 0o600), (0o666, 0o666),
         (0o600, 0o600), (0o757, 0o755)],
    )
    def test_where_the_group_cannot_be_kept(
        self, mode: int, less: int, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.chown(old, 1234, 2345)
        old.chmod(mode)
        monkeypatch.setattr(os, "fchown", refuse)
        save(old)
        assert old.stat().st_gid != 2345 and mode_of(old) == less

    @root
    def test_where_only_the_owner_cannot_be_kept(
        self, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.fchown

        def as_a_user(descriptor: int, owner: int, group: int) -> None:
            if owner != -1:
                refuse()
            real(descriptor, owner, group)

        os.chown(old, 1234, 2345)
        monkeypatch.setattr(os, "fchown", as_a_user)
        save(old)
        status = old.stat()
        assert (status.st_uid, status.st_gid, mode_of(old)) == (0, 2345, 0o640)

    def test_where_the_mode_cannot_be_set(
        self, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "fchmod", refuse)
        save(old)
        assert mode_of(old) == 0o600 and old.read_bytes() == b"new"

    def test_access_lists_stay(self, with_list: Path) -> None:
        save(with_list)
        assert os.getxattr(with_list, ACL) == LIST

    @pytest.mark.parametrize("entries", [LIST, BAN], ids=["more", "less"])
    @pytest.mark.parametrize("call", ["setxattr", pytest.param("fchown", marks=root)])
    def test_access_lists_that_cannot_be_kept(
        self, call: str, entries: bytes, with_list: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.setxattr(with_list, ACL, entries)
        if call == "fchown":
            os.chown(with_list, -1, 2345)
        monkeypatch.setattr(os, call, refuse)
        save(with_list)
        # Its mode says 0640 or 0644, but not all of these could read it.
        assert mode_of(with_list) == 0o600
        with pytest.raises(OSError):
            os.getxattr(with_list, ACL)

    def test_lists_that_a_folder_gives_are_not_taken(self, with_list: Path) -> None:
        with_list.unlink()
        os.setxattr(with_list.parent, "system.posix_acl_default", LIST)
        with_list.write_bytes(b"old")
        os.removexattr(with_list, ACL)
        with_list.chmod(0o640)
        save(with_list)
        with pytest.raises(OSError):
            os.getxattr(with_list, ACL)
        assert mode_of(with_list) == 0o640


class TestSweep:
    def test_what_a_killed_save_left(
        self, path: Path, run_python: Callable[..., object]
    ) -> None:
        code = """
import os
from inside.files import replacing
with replacing(PATH) as stream:
    stream.write(b"half")
    stream.flush()
    os._exit(9)
"""
        for _ in range(2):  # the second sweeps what the first left
            run_python(code.replace("PATH", repr(str(path))), status=9)
            (name,) = names_in(path.parent)
            assert left_over(path).name[:17] == name[:17] and len(name) == len(left_over(path).name)
        save(path)
        assert names_in(path.parent) == [path.name]

    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_read_only_ones_too(self, mode: int, old: Path) -> None:
        left_over(old).touch(mode)
        save(old)
        assert names_in(old.parent) == [old.name]

    def test_nothing_else(self, path: Path, tmp_path: Path) -> None:
        others = [
            left_over(path.with_name("y.bin")),
            left_over(path, "0123456789abcde"),
            left_over(path, "0123456789abcdef0"),
            left_over(path, "0123456789ABCDEF"),
            left_over(path, "0123456789abcdeg"),
            path.with_name(left_over(path).name + ".bak"),
            path.with_name(left_over(path).name + "\n"),
            path.with_name("a" + left_over(path).name),
            path.with_name(".farann-0123456789abcdef.tmp"),
        ]
        for other in others:
            other.touch()
        left_over(path, "0" * 16).mkdir()
        os.mkfifo(left_over(path, "1" * 16))
        left_over(path, "2" * 16).symlink_to(others[0])
        before = names_in(tmp_path)
        save(path)
        assert names_in(tmp_path) == sorted([*before, path.name])

    def test_saves_in_this_process_are_left_alone(self, path: Path) -> None:
        with inside.files.replacing(path) as first:
            first.write(b"first")
            (temporary,) = names_in(path.parent)
            save(path, b"second")
            assert names_in(path.parent) == sorted([temporary, path.name])
            assert path.read_bytes() == b"second"
        assert path.read_bytes() == b"first" and names_in(path.parent) == [path.name]

    def test_saves_in_other_processes_are_left_alone(
        self, path: Path, run_python: Callable[..., object]
    ) -> None:
        code = """
from inside.files import replacing
with replacing(PATH) as stream:
    stream.write(b"theirs")
"""
        with inside.files.replacing(path) as stream:
            run_python(code.replace("PATH", repr(str(path))))
            assert path.read_bytes() == b"theirs"
            stream.write(b"ours")
        assert path.read_bytes() == b"ours" and names_in(path.parent) == [path.name]

    def test_the_lock_is_held_until_the_name_is_taken(
        self, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.replace

        def late(source: str, target: str) -> None:
            inside.files.sweep(str(old.parent), os.path.basename(source)[:17])
            real(source, target)

        monkeypatch.setattr(os, "replace", late)
        save(old)
        assert old.read_bytes() == b"new" and names_in(old.parent) == [old.name]

    @pytest.mark.parametrize("holds", [True, False])
    def test_a_sweep_between_making_and_locking(
        self, holds: bool, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file is swept, or about to be: another is made."""
        claim, held = inside.files.claim, contextlib.ExitStack()
        lost: list[str] = []

        def too_late(descriptor: int, temporary: str) -> bool:
            if not lost:
                lost.append(temporary)
                if holds:
                    rival = held.enter_context(open(temporary, "rb"))
                    locks = inside.settings.files_fcntl
                    locks.flock(rival, locks.LOCK_EX | locks.LOCK_NB)
                else:
                    inside.files.remove_unlocked(temporary)
                assert not claim(descriptor, temporary)
                return False
            return claim(descriptor, temporary)

        monkeypatch.setattr(inside.settings, "claim", too_late)
        with held:
            save(old)
            assert old.read_bytes() == b"new"
            left = [Path(lost[0]).name] if holds else []  # who holds it is going to remove it
            assert names_in(old.parent) == [*left, old.name]

    def test_without_locks(self, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a lock says nothing nothing is swept, and saving works."""
        def no_locks(*_: object) -> None:
            raise OSError(37, "No locks available")

        changes: list[Callable[[pytest.MonkeyPatch], None]] = [
            lambda patch: patch.setattr(inside.settings, "files_fcntl", None),
            lambda patch: patch.setattr(inside.settings.files_fcntl, "flock", no_locks),
        ]
        for change in changes:
            left_over(old).touch()
            with monkeypatch.context() as patch:
                change(patch)
                save(old)
            assert names_in(old.parent) == [left_over(old).name, old.name]
            save(old)
            assert names_in(old.parent) == [old.name]

    def test_a_full_disk_is_swept_first(self, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        left_over(old).write_bytes(b"half")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            save(old)
        assert names_in(old.parent) == [old.name] and old.read_bytes() == b"old"

    def test_many_at_once(self, old: Path) -> None:
        """Threads that all save to one name, and sweep: none loses its file."""
        faults: list[BaseException] = []

        def saves(number: int) -> None:
            try:
                for _ in range(30):
                    save(old, bytes([number]) * 999)
            except BaseException as fault:
                faults.append(fault)

        threads = [threading.Thread(target=saves, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults and names_in(old.parent) == [old.name]
        assert old.read_bytes() in [bytes([number]) * 999 for number in range(4)]


class TestNoRegularFiles:
    @pytest.fixture
    def odd(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
        monkeypatch.chdir(tmp_path)  # the names of sockets must be short
        os.mkfifo("fifo")
        os.symlink("fifo", "link")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
            yield {"fifo": FIFO, "link": FIFO, "socket": "got a socket", os.devnull: "got a device",
                   ".": "directory"}

    def test_are_neither_read_nor_replaced(self, odd: dict[str, str], tmp_path: Path) -> None:
        before = names_in(tmp_path)
        for name, expected in odd.items():
            for call in (farann.Index.load, farann.Index().save, inside.files.open_regular,
                         lambda name: farann.Index.load(name, mmap=True)):
                with pytest.raises(OSError, match=expected) as caught:
                    call(name)
                assert caught.value.filename in (name, os.path.realpath(name))
        assert names_in(tmp_path) == before
        assert stat.S_ISFIFO(os.stat("fifo").st_mode) and os.path.islink("link")

    def test_on_the_command_line(
        self, odd: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save("rows.npy", np.ones((3, 2), np.float32))
        for arguments in (["info", "fifo"], ["search", "fifo", "rows.npy"],
                          ["build", "rows.npy", "-o", "fifo"]):
            assert main(arguments) == 2
            assert capsys.readouterr().err == f"farann: error: fifo: {FIFO}\n"

    def test_a_fifo_that_comes_after_the_look(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Opening it must not wait for who writes, who may never come."""
        path.write_bytes(b"a file")
        real = os.open

        def swapped(file: Any, *rest: Any, **options: Any) -> int:
            if file == str(path):
                assert rest[0] & os.O_NONBLOCK
                path.unlink()
                os.mkfifo(path)
            return real(file, *rest, **options)

        monkeypatch.setattr(os, "open", swapped)
        with pytest.raises(OSError, match=FIFO):
            inside.files.open_regular(path)

    def test_links_to_files_are_followed(self, old: Path) -> None:
        link = old.with_name("link")
        link.symlink_to(old.name)
        save(link)
        assert link.is_symlink() and old.read_bytes() == b"new" and mode_of(old) == 0o640
        with inside.files.open_regular(link) as stream:
            assert stream.read() == b"new"
        write_vectors(old.with_name("a.npy"), np.ones((1, 2)))
        link = old.with_name("b.npy")
        link.symlink_to("a.npy")
        write_vectors(link, np.zeros((1, 2)))
        assert link.is_symlink() and not np.load(old.with_name("a.npy")).any()

    def test_links_that_lead_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(OSError):
            save(tmp_path / "a")
        assert names_in(tmp_path) == ["a", "b"]


def test_past_the_cache_of_the_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a call for it, as on macOS; some file systems don't know it."""
    done: list[object] = []
    real = inside.settings.files_fcntl

    class Mac:
        F_FULLFSYNC = 51

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def fcntl(self, _: int, command: int) -> None:
            done.append(command)
            if done.count(command) > 1:
                raise OSError

    monkeypatch.setattr(inside.settings, "files_fcntl", Mac())
    monkeypatch.setattr(os, "fsync", lambda _: done.append("fsync"))
    for n in (1, 2):
        save(tmp_path / "file")  # the folder, too, is forced to disk
        assert done == n * ["fsync", 51, "fsync"]
