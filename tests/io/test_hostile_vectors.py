"""Vector files made to do harm: those that lead elsewhere, and those that claim or unpack to
far more than they are."""

from __future__ import annotations

import os
import socket
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_vectors import message, npy_bytes, whole_numbers

from farann.cli import main
from farann.vectors import open_vectors, read_id_lists, read_ids, write_vectors

TOO_MUCH = "expected at most 67108864 bytes of numbers once unpacked, got "
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


def refused_in_little_memory(path: Path, expected: str, **options: Any) -> None:
    """What Python allocates; what HDF5 and Arrow do is for the limit on declared sizes."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="^" + str(path)) as caught:
            open_vectors(path, **options).read()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert expected in str(caught.value)


class TestElsewhere:
    """HDF5 can take numbers from other files: an index of /etc/passwd could be built."""

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "secret.h5", "w") as file:
            file["train"] = whole_numbers()
        (tmp_path / "secret.raw").write_bytes(whole_numbers().tobytes())
        return tmp_path / "secret.h5"

    @staticmethod
    def made(folder: Path, fill: Callable[[Any, Any], object]) -> Path:
        h5py = pytest.importorskip("h5py")
        with h5py.File(folder / "a.h5", "w") as file:
            fill(file, h5py)
        return folder / "a.h5"

    def test_external_storage(self, tmp_path: Path, secret: Path) -> None:
        raw = [(str(secret.with_suffix(".raw")), 0, 240)]
        path = self.made(tmp_path, lambda file, _: file.create_dataset(
            "train", (12, 5), "f4", external=raw))
        assert "'train' has external storage" in message(path)

    def test_virtual_data_sets(self, tmp_path: Path, secret: Path) -> None:
        def fill(file: Any, h5py: Any) -> None:
            layout = h5py.VirtualLayout((12, 5), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "train", (12, 5))
            file.create_virtual_dataset("train", layout)

        assert "'train' is a virtual data set" in message(self.made(tmp_path, fill))

    @pytest.mark.parametrize("name", [None, "train", "/train", "inner/train", "./inner/train"])
    def test_links(self, name: str | None, tmp_path: Path, secret: Path) -> None:
        def external(file: Any, h5py: Any) -> None:
            file["train"] = h5py.ExternalLink(str(secret), "/train")
            file["inner"] = h5py.ExternalLink(str(secret), "/")

        def soft(file: Any, h5py: Any) -> None:
            file["out"] = h5py.ExternalLink(str(secret), "/")
            file["train"] = h5py.SoftLink("/out/train")
            file["inner"] = h5py.SoftLink("/out")

        for fill in (external, soft):
            text = message(self.made(tmp_path, fill), name)
            assert "is a soft or external link, which may lead into another file" in text

    def test_hard_links_are_followed(self, tmp_path: Path) -> None:
        def fill(file: Any, h5py: Any) -> None:
            file["one"] = whole_numbers()
            file["inner/other"] = file["one"]

        path = self.made(tmp_path, fill)
        for name in ("", ":one", ":inner/other", ":/inner//./other"):
            assert_array_equal(open_vectors(f"{path}{name}").read(), whole_numbers())

    def test_swapped_between_looking_and_reading(self, tmp_path: Path, secret: Path) -> None:
        found = open_vectors(self.made(
            tmp_path, lambda file, _: file.create_dataset("train", data=whole_numbers())))
        self.made(tmp_path, lambda file, h5py: file.__setitem__(
            "train", h5py.ExternalLink(str(secret), "/train")))
        with pytest.raises(ValueError, match="a.h5: .* external link"):
            found.read()


class TestClaims:
    """Files that claim to hold far more than they can, by honest compression or by none."""

    def test_unallocated_hdf5(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        for options in ({}, {"chunks": (1000, 100)}):
            with h5py.File(tmp_path / "a.h5", "w") as file:
                file.create_dataset("train", (10**9, 100), "f4", **options)
            refused_in_little_memory(tmp_path / "a.h5", TOO_MUCH + "400000000000")

    def test_chunks_larger_than_the_data_set(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("train", (2, 100), "f4", chunks=(1 << 23, 100),
                                maxshape=(None, 100))
        refused_in_little_memory(tmp_path / "a.h5", TOO_MUCH + f"{400 << 23}")

    def test_chunks_that_unpack_to_more_than_they_should(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            data = file.create_dataset("train", (100, 4), "f4", chunks=(50, 4),
                                       compression="gzip", shuffle=True)
            data[:] = 1
            data.id.write_direct_chunk((50, 0), zlib.compress(bytes(100 << 20), 9))
        refused_in_little_memory(tmp_path / "a.h5",
                                 "the chunk at (50, 0) unpacks to more than 800 bytes")

    def test_honest_chunks_are_read(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        rows = whole_numbers(500, 40)
        for options in ({"compression": "gzip", "shuffle": True, "fletcher32": True},
                        {"compression": "lzf"}, {"compression": "gzip"}):
            with h5py.File(tmp_path / "a.h5", "w") as file:
                file.create_dataset("train", data=rows, chunks=(300, 40), **options)
            for limit in (None, 300 * 40 * 4 * 2):  # so low that every chunk is looked at
                found = open_vectors(tmp_path / "a.h5", max_bytes=limit)
                assert_array_equal(found.read(), rows)

    def test_compressed_twice(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((100, 4))
        settings.set_deflate(9)
        settings.set_deflate(9)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            h5py.h5d.create(file.id, b"train", h5py.h5t.NATIVE_FLOAT,
                            h5py.h5s.create_simple((100, 4)), settings)
        assert "compressed more than once (filters [1, 1])" in message(tmp_path / "a.h5")

    def test_zip_bombs(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, (
                archive.open("a.npy", "w")) as entry:
            entry.write(npy_bytes("(1000, 25000)"))
            for _ in range(100):
                entry.write(bytes(1_000_000))
        assert (tmp_path / "a.npz").stat().st_size < 110_000
        refused_in_little_memory(tmp_path / "a.npz", TOO_MUCH + "100000000")
        found = open_vectors(tmp_path / "a.npz", max_bytes=100_000_000)
        assert sum(len(block) for block in found.blocks(1 << 20)) == 1000

    def test_headers_of_gigabytes_in_a_zip(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, (
                archive.open("a.npy", "w")) as entry:
            entry.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", 64 << 20))
            for _ in range(64):
                entry.write(b" " * (1 << 20))
        refused_in_little_memory(tmp_path / "a.npz", "damaged")

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_zips_by_methods_without_a_limit(self, method: int, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
            archive.writestr("a.npy", npy_bytes("(2, 5)", bytes(40)))
        assert f"packed by method {method}" in message(tmp_path / "a.npz")

    def test_npy_header_larger_than_the_file(self, tmp_path: Path) -> None:
        for version, form in ((1, "<H"), (2, "<I"), (3, "<I")):
            length = struct.pack(form, 0xFFFF if version == 1 else 0xFFFFFFFF)
            (tmp_path / "a.npy").write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + b"{")
            assert message(tmp_path / "a.npy")

    @pytest.mark.parametrize("plain", [False, True])
    def test_parquet_of_repeats(self, plain: bool, tmp_path: Path) -> None:
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        zeros = arrow.array(np.zeros(20_000_000, np.float32))  # 80 MB in some 10 kB
        if not plain:
            zeros = arrow.ListArray.from_arrays(arrow.array(np.array([0, 20_000_000], "i4")), zeros)
        parquet.write_table(arrow.table({"v": zeros}), tmp_path / "a.parquet", compression="zstd")
        assert (tmp_path / "a.parquet").stat().st_size < 100_000
        before = arrow.total_allocated_bytes(), arrow.default_memory_pool().max_memory()
        refused_in_little_memory(tmp_path / "a.parquet", TOO_MUCH + "8000")
        # Not even the length of the first list was looked up.
        assert arrow.default_memory_pool().max_memory() <= max(*before)
        found = open_vectors(tmp_path / "a.parquet", max_bytes=100_000_000)
        assert found.rows * found.dim == 20_000_000

    @pytest.mark.parametrize("dim", [2**31 - 1, 2**30, 2**29 - 1, 2**20, 0, -1, -(2**31)])
    @pytest.mark.parametrize("extension", [".fvecs", ".ivecs", ".bvecs"])
    def test_absurd_lengths_of_rows(self, extension: str, dim: int, tmp_path: Path) -> None:
        path = tmp_path / f"a{extension}"
        path.write_bytes(struct.pack("<i", dim) + bytes(4000))
        assert f"{dim}" in message(path)

    @posix
    @pytest.mark.parametrize("dim", [2**31 - 1, 2**29])
    def test_absurd_lengths_in_a_file_with_holes(self, dim: int, tmp_path: Path) -> None:
        path = tmp_path / "a.fvecs"
        path.write_bytes(struct.pack("<i", dim))
        os.truncate(path, 4 + 4 * dim)  # takes no room on disk
        with pytest.raises(ValueError, match="a.fvecs: "):
            open_vectors(path)


class TestLimit:
    def test_what_it_counts(self, tmp_path: Path) -> None:
        rows = whole_numbers(12, 5)
        for extension, size in ((".npy", 240), (".npz", 240), (".fvecs", 240), (".bvecs", 60)):
            path = tmp_path / f"a{extension}"
            write_vectors(path, rows)
            assert_array_equal(open_vectors(path, max_bytes=size).read(), rows)
            with pytest.raises(ValueError, match=f"{path.name}: expected at most {size - 1} bytes "
                                                 f"of numbers once unpacked, got {size}; max_b"):
                open_vectors(path, max_bytes=size - 1)

    def test_large_files_may_hold_as_much_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inside.settings, "usual_file_bytes", 1 << 20)
        np.savez_compressed(tmp_path / "a.npz", np.zeros((1000, 500), np.float32))
        assert "got 2000000; the limit is 100 times the file's size and at least 1 MiB" in (
            message(tmp_path / "a.npz"))
        with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
            archive.writestr("padding", bytes(20_000))
        assert open_vectors(tmp_path / "a.npz").read().shape == (1000, 500)

    def test_ids(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
        np.save(tmp_path / "b.npy", np.arange(6))
        assert len(read_ids(tmp_path / "b.npy", max_bytes=48)) == 6
        assert len(read_id_lists(tmp_path / "a.npy", 2, max_bytes=48)) == 2
        with pytest.raises(ValueError, match="b.npy: expected at most 47 bytes"):
            read_ids(tmp_path / "b.npy", max_bytes=47)
        with pytest.raises(ValueError, match="a.npy: expected at most 47 bytes"):
            read_id_lists(tmp_path / "a.npy", 2, max_bytes=47)

    @pytest.mark.parametrize(("value", "fault"), [(0, ValueError), (1.5, TypeError)])
    def test_wrong_limits(self, value: Any, fault: type[Exception], tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", whole_numbers())
        for call in (lambda: open_vectors(tmp_path / "a.npy", max_bytes=value),
                     lambda: read_ids(tmp_path / "a.npy", max_bytes=value),
                     lambda: read_id_lists(tmp_path / "a.npy", 12, max_bytes=value)):
            with pytest.raises(fault, match="^max_bytes: "):
                call()

    def test_on_the_command_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        np.save("rows.npy", whole_numbers(20, 5))
        np.save("ids.npy", np.arange(60)[::3].astype(np.int64))
        np.save("seen.npy", np.zeros((20, 9), np.int64))
        build = ["build", "rows.npy", "-o", "x.farann", "-q"]
        search = ["search", "x.farann", "rows.npy", "-q"]
        assert main([*build, "--max-bytes", "400"]) == 0
        assert main([*search, "--max-bytes", "400", "-o", "out.npz"]) == 0
        for arguments, name in (
            ([*build, "--max-bytes", "399"], "rows.npy"),
            ([*build, "--ids", "seen.npy", "--max-bytes", "400"], "seen.npy"),
            ([*search, "--max-bytes", "399"], "rows.npy"),
            ([*search, "--exclude", "seen.npy", "--max-bytes", "400"], "seen.npy"),
            ([*search, "--allowed", "seen.npy", "--max-bytes", "400"], "seen.npy"),
            (["tune", "x.farann", "--queries", "rows.npy", "--max-bytes", "399"], "rows.npy"),
        ):
            capsys.readouterr()
            assert main(arguments) == 2
            assert capsys.readouterr().err.startswith(
                f"farann: error: {name}: expected at most {arguments[-1]} bytes of numbers")


@posix
@pytest.mark.parametrize("extension", [".npy", ".npz", ".fvecs", ".txt", ".parquet", ".h5"])
def test_what_is_no_regular_file(
    extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO would be waited for, for ever."""
    monkeypatch.chdir(tmp_path)  # the names of sockets must be short
    os.mkfifo(f"fifo{extension}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"socket{extension}")
    for name in (f"fifo{extension}", f"socket{extension}"):
        with pytest.raises(OSError, match="expected a regular file, got a"):
            read_ids(name)
        if extension != ".txt":
            with pytest.raises(OSError, match="expected a regular file, got a"):
                open_vectors(name)
            with pytest.raises((OSError, ImportError), match="expected a regular file, got a"):
                write_vectors(name, whole_numbers())
    assert len(os.listdir()) == 2
