"""Files on disk: opening regular ones only, and replacing one wholly or not at all.

What is promised about crashes, permissions and what killed processes leave is in
``docs/how-it-works/saving.md``.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import os
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

StrPath = str | os.PathLike[str]

_ACCESS_LIST = "system.posix_acl_access"  # what Linux calls the attribute with a file's ACL


def require_regular(path: StrPath, status: os.stat_result | None = None) -> os.stat_result:
    """Refuse directories, FIFOs, sockets and devices; return what the system says of the file."""
    name = os.fsdecode(path)
    status = os.stat(name) if status is None else status
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "device")
        raise OSError(errno.EINVAL, f"expected a regular file, got a {kind}", name)
    return status


def occupy_standard_descriptors() -> None:
    """Open the null device as descriptors 0 to 2 where these are closed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def private_folder(name: str) -> Path:
    """A folder for temporary files that this user alone can use, the same one each time.

    If another user has taken its name, it is a new one, which is removed at exit.
    """
    if not hasattr(os, "getuid"):  # Windows has a folder for temporary files for each user
        path = Path(tempfile.gettempdir(), name)
        path.mkdir(exist_ok=True)
        return path
    path = Path(tempfile.gettempdir(), f"{name}-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o700)
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
        return path
    path = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def open_regular(path: StrPath) -> io.BufferedReader:
    """Open a regular file, or what a link to one points to, for reading."""
    name = os.fsdecode(path)
    require_regular(name)  # just opening a device can have effects
    # The name may mean something else by now: never wait for somebody to write to a FIFO.
    extra = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    stream = open(name, "rb", opener=lambda file, flags: os.open(file, flags | extra))
    try:
        require_regular(name, os.fstat(stream.fileno()))
    except BaseException:
        stream.close()
        raise
    return stream


@contextlib.contextmanager
def replacing(path: StrPath) -> Iterator[io.BufferedRandom]:
    """Open a new file that takes the place of ``path`` at the end, unless something goes wrong.

    The new file lies beside the old one until it is on disk. It has the mode, owner, group and
    access list of the old one; what can't be kept is never replaced by something wider. Where
    there was none, it has what any new file gets. A symbolic link stays, and what it points to
    is replaced. The caller must not close the file.
    """
    target = os.path.realpath(os.fsdecode(path))
    try:
        old = require_regular(target)
    except FileNotFoundError:
        old = None
    folder, name = os.path.split(target)
    prefix = f".farann-{zlib.crc32(os.fsencode(name)):08x}-"
    _sweep(folder, prefix)
    # Nobody else may open it before it has the mode of the old file.
    mode = 0o666 if old is None else 0o600
    while True:
        temporary = os.path.join(folder, f"{prefix}{os.urandom(8).hex()}.tmp")
        try:
            stream = open(temporary, "x+b", opener=lambda file, flags: os.open(file, flags, mode))
        except OSError as error:
            error.filename = target  # the name that the caller knows
            raise
        try:
            with stream:
                if not _claim(stream.fileno(), temporary):
                    continue
                if old is not None and os.name != "nt":
                    _keep_access(stream.fileno(), target, old)
                yield stream
                stream.flush()
                force(stream.fileno())
                if os.name == "nt":
                    stream.close()  # Windows renames no open file
                os.replace(temporary, target)  # still locked, so that nobody sweeps it
                break
        except BaseException as error:
            if isinstance(error, OSError) and error.filename is None and error.errno is not None:
                error.filename = target
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    _sync_folder(folder)


def force(descriptor: int) -> None:
    """Force a file to disk; on macOS past the cache of the drive, where `fsync` leaves it."""
    os.fsync(descriptor)
    if hasattr(fcntl, "F_FULLFSYNC"):
        with contextlib.suppress(OSError):  # a file system that doesn't know it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)


def _claim(descriptor: int, temporary: str) -> bool:
    """Lock a new temporary file; False if a sweep in another process came in between."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, where nothing is ever swept
        return True
    return os.path.exists(temporary)


def _sweep(folder: str, prefix: str) -> None:
    """Remove what killed saves to the same name have left; the lock of one that runs is held."""
    if fcntl is None:
        return
    ours = re.compile(re.escape(prefix) + r"[0-9a-f]{16}\.tmp")
    # A folder may refuse to be listed, a file to be locked or removed: then it stays.
    with contextlib.suppress(OSError):
        for name in filter(ours.fullmatch, os.listdir(folder)):
            with contextlib.suppress(OSError):
                _remove_unlocked(os.path.join(folder, name))


def _remove_unlocked(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        require_regular(path, os.fstat(descriptor))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)


def _keep_access(descriptor: int, target: str, old: os.stat_result) -> None:
    """Give a new, empty file the owner, group, mode and access list of the old one.

    Whatever the system refuses to set leaves fewer people with access, not more.
    """
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except OSError:  # only root gives files away; a group of one's own can be set
            with contextlib.suppress(OSError):
                os.fchown(descriptor, -1, old.st_gid)
    mode = old.st_mode & 0o777  # set-user-ID and its like make no sense on data
    in_group = os.fstat(descriptor).st_gid == old.st_gid
    if not in_group:
        # Members of the group that it has now had the rights of others, and the other way round.
        common = (mode >> 3) & mode & 0o7
        mode = mode & 0o700 | common << 3 | common
    if not _keep_access_list(descriptor, target, in_group):
        mode &= 0o700  # the bits of the group are no group's then
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, mode)


def _keep_access_list(descriptor: int, target: str, in_group: bool) -> bool:
    """Copy an access list beyond the mode bits; False if there is one that can't be kept."""
    if not hasattr(os, "getxattr"):
        return True
    try:
        entries = os.getxattr(target, _ACCESS_LIST)
    except OSError:
        # The folder may have given the new file a list, which the mode would bring to life.
        with contextlib.suppress(OSError):
            os.removexattr(descriptor, _ACCESS_LIST)
        return True
    try:
        if in_group:
            os.setxattr(descriptor, _ACCESS_LIST, entries)
    except OSError:
        return False
    return in_group


def _sync_folder(folder: str) -> None:
    """Force a rename to disk where a folder can be opened at all."""
    if os.name == "nt":
        return
    # Some file systems refuse; the file itself is in place and whole either way.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
