"""The folder of a sharded index, on any file system that fsspec knows."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np

from farann._types import Float32Array
from farann.adapters.ray.manifest import ShardError
from farann.io.files import replacing

_AT_ONCE = 16 << 20


class Storage:
    """Files by name under a URI such as ``s3://bucket/folder`` or a path.

    Parameters
    ----------
    uri : str or path-like
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise ImportError("farann.adapters.ray needs fsspec, which is not installed: "
                              "pip install 'farann[ray]'") from error
        self.uri = os.fspath(uri)
        self._fs, self._root = fsspec.core.url_to_fs(self.uri)
        self._fs.use_listings_cache = False
        protocol = self._fs.protocol
        protocols = protocol if isinstance(protocol, tuple) else (protocol,)
        self.is_local = "file" in protocols
        self.is_memory = "memory" in protocols  # of this process: Ray's workers have another

    def path(self, name: str) -> str:
        """A file's name on its file system."""
        return f"{self._root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self.path(name)))

    def read(self, name: str) -> bytes:
        """All bytes of a file; FileNotFoundError if there is none."""
        return bytes(self._fs.cat_file(self.path(name)))

    def digest(self, name: str) -> str:
        """The SHA-256 of a small file, in hexadecimal digits."""
        return hashlib.sha256(self.read(name)).hexdigest()

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted, but for hidden ones, which may be what a killed
        process left; none if it isn't there."""
        self._fs.invalidate_cache()
        try:
            paths = self._fs.ls(self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        names = sorted(Path(path).name for path in paths)
        return [f"{folder}/{name}" for name in names if not name.startswith(".")]

    def write(self, name: str, content: bytes, *, new: bool = False) -> None:
        """Write a file, whole or not at all; with `new`, FileExistsError if it is there."""
        if self.is_local:
            self._write_local(name, content, new)
        elif new:
            if self.exists(name):
                raise FileExistsError(self.path(name))
            self._fs.pipe_file(self.path(name), content, mode="create")
        else:
            self._fs.pipe_file(self.path(name), content)

    def read_rows(self, name: str) -> Float32Array:
        """The rows of a file that `write_rows` wrote."""
        rows: Float32Array = np.load(io.BytesIO(self.read(name)), allow_pickle=False)
        return rows

    def write_rows(self, name: str, rows: Float32Array) -> None:
        """Write rows as an .npy file, whole or not at all."""
        content = io.BytesIO()
        np.save(content, rows)
        self.write(name, content.getvalue())

    def put(self, local: Path, name: str) -> None:
        """Copy a local file to its place."""
        if not self.is_local:
            self._fs.put_file(os.fspath(local), self.path(name))
            return
        with local.open("rb") as source, replacing(self._place(name)) as file:
            shutil.copyfileobj(source, file, _AT_ONCE)

    def fetch(self, name: str, sha256: str, what: str, cache: Path) -> Path:
        """A local copy of a file, or the file itself where it is local, checked by its hash.

        ShardError, which says `what`, if it isn't there or isn't the one with this hash.
        """
        if self.is_local:
            path = Path(self.path(name))
            check(path, sha256, f"{what} of {self.uri}")
            return path
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / f"{sha256}.farann"
        if path.exists():
            with suppress(ShardError):
                check(path, sha256, what)
                return path
        # Another worker of this machine may do the same: each has a file of its own until then.
        part = cache / f".{sha256}.{os.getpid()}"
        try:
            self._fs.get_file(self.path(name), os.fspath(part))
            check(part, sha256, f"{what} of {self.uri}")
            os.replace(part, path)
        except FileNotFoundError:
            raise ShardError(f"{what} of {self.uri}: the file is not there") from None
        finally:
            part.unlink(missing_ok=True)
        return path

    def _write_local(self, name: str, content: bytes, new: bool) -> None:
        target = self._place(name)
        written = target.with_name(f".{uuid.uuid4().hex}.part") if new else target
        try:
            with replacing(written) as file:
                file.write(content)
            if new:
                os.link(written, target)  # unlike a rename this fails where the name is taken
        finally:
            if new:
                written.unlink(missing_ok=True)

    def _place(self, name: str) -> Path:
        """Where a local file goes, in a folder that is there."""
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def sha256_of(path: Path) -> str:
    """The hash of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()


def check(path: Path, sha256: str, what: str) -> None:
    """ShardError if a file isn't the one with this hash."""
    try:
        found = sha256_of(path)
    except FileNotFoundError:
        raise ShardError(f"{what}: the file is not there") from None
    if found != sha256:
        raise ShardError(f"{what}: the file was changed or damaged: its SHA-256 is {found}, the "
                         f"manifest says {sha256}; restore it, or build this shard again")


