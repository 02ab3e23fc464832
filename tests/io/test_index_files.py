"""Saved indexes: the same bytes, whole or not at all, and faults that are told as such."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_same, assert_same_bits, index_of, snapshot
from numpy.typing import NDArray
from reference import METRICS

import farann

HALF = np.float32(0.5)


def grid(n: int, dim: int = 3, seed: int = 0) -> Float32:
    return np.random.default_rng(seed).integers(-9, 10, (n, dim)).astype(np.float32) + HALF


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.farann"


@pytest.fixture
def saved(path: Path) -> bytes:
    """The bytes of a small index with own ids, saved at `path`."""
    index_of(grid(20), ids=np.arange(20) * 7).build().save(path)
    return path.read_bytes()


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


class TestSameBytes:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("built", [False, True])
    def test_same_rows_same_file(self, metric: str, built: bool, tmp_path: Path) -> None:
        contents = set()
        for number, threads in enumerate((1, 2, 2)):
            index = index_of(grid(900, 20), metric, threads=threads)
            if built:
                index.build()
            index.save(tmp_path / f"{number}")
            contents.add((tmp_path / f"{number}").read_bytes())
        assert len(contents) == 1

    def test_rows_added_in_parts(self, path: Path) -> None:
        rows = grid(500, 8)
        index_of(rows).build().save(path)
        whole = path.read_bytes()
        index = index_of(rows[:200])
        index.add(rows[200:201])
        index.add(rows[201:])
        index.build().save(path)
        assert path.read_bytes() == whole

    def test_loading_and_saving_again(self, saved: bytes, path: Path) -> None:
        for mmap in (False, True):
            farann.Index.load(path, mmap=mmap).save(path)
            assert path.read_bytes() == saved

    def test_searching_changes_nothing(self, saved: bytes, path: Path) -> None:
        index = farann.Index.load(path)
        index.search_furthest(grid(5, seed=1), exclude=[[7]] * 5)
        index.search_beyond(grid(5, seed=1), radius=2.0)
        index.save(path)
        assert path.read_bytes() == saved

    def test_pickles_carry_the_same_bytes(self, saved: bytes, path: Path) -> None:
        assert saved in pickle.dumps(farann.Index.load(path))

    def test_at_every_level(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = np.random.default_rng(0).standard_normal((2000, 30), dtype=np.float32)
        contents = set()
        for level in inside.levels():
            monkeypatch.setattr(inside.settings, "forced_level", level)
            index = index_of(rows, "cosine").build()
            assert index.isa == level
            index.save(path)
            contents.add(path.read_bytes())
        assert len(contents) == 1


class TestRoundTrip:
    @pytest.mark.parametrize("mmap", [False, True])
    def test_empty(self, mmap: bool, path: Path) -> None:
        for index in (farann.Index(), farann.Index(5, "dot"), index_of(grid(3))):
            index.remove(index.ids)
            index.save(path)
            again = farann.Index.load(path, mmap=mmap)
            assert (len(again), again.dim, again.metric) == (0, index.dim, index.metric)
            assert again.add(np.ones((1, index.dim or 2))).tolist() == [3 if index.dim == 3 else 0]

    def test_default_ids_go_on_where_they_were(self, path: Path) -> None:
        index = index_of(grid(5))
        index.add(grid(1), [41])
        index.remove([41, 4])
        index.save(path)
        for again in (farann.Index.load(path), pickle.loads(pickle.dumps(index))):
            assert again.add(grid(2)).tolist() == [42, 43]

    def test_rows_waiting_and_rows_removed(self, path: Path) -> None:
        rows = grid(300, 6)
        index = index_of(rows[:200]).build()
        index.add(rows[200:])
        index.remove(np.arange(50, 250))
        index.save(path)
        live = np.r_[:50, 250:300]
        expected = reference.furthest(rows[:9], rows[live], 10, "l2", ids=live)
        for mmap in (False, True):
            again = farann.Index.load(path, mmap=mmap)
            assert np.array_equal(again.ids, live)
            assert_same(again.search_furthest(rows[:9]), expected)

    def test_kinds_of_paths(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        index = index_of(grid(4))
        monkeypatch.chdir(tmp_path)
        for path in ("plain", tmp_path / "with space.é", str(tmp_path / "x.y")):
            index.save(path)
            assert len(farann.Index.load(path)) == 4

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="nothing.here"):
            farann.Index.load(tmp_path / "nothing.here")
        with pytest.raises(FileNotFoundError):
            index_of(grid(4)).save(tmp_path / "no folder" / "index")
        with pytest.raises(OSError):
            index_of(grid(4)).save(tmp_path)


class TestMapped:
    """A mapped file is never written, whatever happens to the index."""

    @pytest.fixture
    def rows(self) -> Float32:
        return np.random.default_rng(0).standard_normal((30_000, 20), dtype=np.float32)

    @pytest.mark.parametrize("metric", METRICS)
    def test_life_goes_on(self, metric: str, rows: Float32, path: Path) -> None:
        index_of(rows[:29_000], metric).build().save(path)
        content = path.read_bytes()
        index = farann.Index.load(path, mmap=True)
        queries = rows[:7] + np.float32(0.125)

        def check(index: farann.Index, live: NDArray[np.intp]) -> None:
            expected = reference.furthest(queries, rows[live], 10, metric, ids=live)
            assert_same(index.search_furthest(queries), expected)
            assert_same_bits(index.reconstruct(live[::100]), rows[live[::100]])
            assert np.array_equal(index.ids, live)

        check(index, np.arange(29_000))
        index.add(rows[29_000:])
        check(index, np.arange(30_000))
        index.remove(np.arange(0, 30_000, 3))
        live = np.delete(np.arange(30_000), np.s_[::3])
        check(index, live)
        assert path.read_bytes() == content
        check(farann.Index.load(path, mmap=True), np.arange(29_000))
        check(index.build(), live)
        assert path.read_bytes() == content
        index.save(path)
        check(index, live)
        check(farann.Index.load(path, mmap=True), live)

    def test_what_comes_back_cannot_write_the_file(self, rows: Float32, path: Path) -> None:
        index_of(rows).save(path)
        content = path.read_bytes()
        index = farann.Index.load(path, mmap=True)
        for array in (index.reconstruct([0, 1]), index.ids, index.reconstruct(index.ids)):
            if array.flags.writeable:
                array[:] = 0
        assert path.read_bytes() == content
        assert_same_bits(index.reconstruct([0, 1]), rows[:2])

    def test_pickles_do_not_need_the_file(self, rows: Float32, path: Path) -> None:
        index_of(rows).save(path)
        mapped = farann.Index.load(path, mmap=True)
        data = pickle.dumps(mapped)
        del mapped
        path.unlink()
        assert_same_bits(pickle.loads(data).reconstruct([29_999]), rows[29_999:])


class TestCrashes:
    """The old file or the new one, never something between, and nothing left lying about."""

    SAVE = """
import os, signal
import farann

real = os.replace
def die(*_, **__):
    os._exit(9)
def replace_and_die(*args, **options):
    real(*args, **options)
    os._exit(9)
def killed_after(n_bytes):
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
{how}
index = farann.Index(16)
index.add(given["rows"])
index.build()
while True:
    index.save(str(given["path"]))
"""

    @pytest.mark.parametrize(
        ("how", "new"),
        [
            ("os.fsync = die", False),
            ("os.replace = die", False),
            ("os.replace = replace_and_die", True),
        ],
    )
    def test_dying_while_saving(
        self, how: str, new: bool, saved: bytes, path: Path, run_python: Callable[..., Any]
    ) -> None:
        rows = grid(1000, 16, seed=1)
        run_python(self.SAVE.format(how=how), status=9, path=str(path), rows=rows)
        index = farann.Index.load(path)
        if new:
            assert_same_bits(index.reconstruct(index.ids), rows)
        else:
            assert path.read_bytes() == saved

    @pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
    @pytest.mark.parametrize("share", [0.0001, 0.5, 0.9999])
    def test_killed_at_any_byte(
        self, share: float, saved: bytes, path: Path, run_python: Callable[..., Any]
    ) -> None:
        """The system kills who writes more bytes of a file than it may."""
        rows = grid(20_000, 16, seed=1)
        index_of(rows).build().save(path.with_name("whole"))
        n_bytes = int(share * path.with_name("whole").stat().st_size)
        code = "import resource" + self.SAVE.format(how=f"killed_after({n_bytes})")
        run_python(code, status=-signal.SIGXFSZ, path=str(path), rows=rows)
        left = list(path.parent.glob(".farann-*.tmp"))
        assert [file.stat().st_size for file in left] == [n_bytes]
        assert path.read_bytes() == saved
        farann.Index.load(path).save(path)
        assert not left[0].exists()

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_failing_disk(
        self, step: str, saved: bytes, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        index = index_of(grid(50, 4), "dot")
        before = snapshot(index)
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(OSError, match="No space"):
                index.save(path)
        assert path.read_bytes() == saved and files_in(path.parent) == [path.name]
        assert snapshot(index) == before
        index.save(path)
        assert farann.Index.load(path).metric == "dot" and files_in(path.parent) == [path.name]

    def test_synced_before_renamed(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        events = []
        for name in ("fsync", "replace"):
            real = getattr(os, name)

            def noted(*args: Any, name: str = name, real: Any = real, **options: Any) -> Any:
                events.append(name)
                return real(*args, **options)

            monkeypatch.setattr(os, name, noted)
        index_of(grid(9)).save(path)
        assert events[:2] == ["fsync", "replace"]


class TestFaults:
    """Whatever is wrong with the bytes, it is a FormatError."""

    @staticmethod
    def refused(path: Path, content: bytes) -> None:
        path.write_bytes(content)
        for mmap in (False, True):
            with pytest.raises(farann.FormatError):
                farann.Index.load(path, mmap=mmap)

    def test_kind_of_error(self) -> None:
        assert issubclass(farann.FormatError, ValueError)

    def test_truncated_anywhere(self, saved: bytes, path: Path) -> None:
        for length in range(len(saved)):
            self.refused(path, saved[:length])

    def test_any_bit_flipped(self, saved: bytes, path: Path) -> None:
        flip = np.random.default_rng(0).integers(0, 8, len(saved))
        for at in range(len(saved)):
            altered = bytearray(saved)
            altered[at] ^= 1 << int(flip[at])
            self.refused(path, bytes(altered))

    def test_any_bytes_zeroed_or_swapped(self, saved: bytes, path: Path) -> None:
        for at in range(0, len(saved) - 8, 8):
            for piece in (bytes(8), b"\xff" * 8, saved[at : at + 8][::-1]):
                if piece != saved[at : at + 8]:
                    self.refused(path, saved[:at] + piece + saved[at + 8 :])

    def test_bytes_appended(self, saved: bytes, path: Path) -> None:
        gap = bytes(-len(saved) % 4096)
        for tail in (b"\1", b"\0" * 64 + b"\1", saved, gap + b"\1" * 64):
            self.refused(path, saved + tail)
        for tail in (b"\0", gap, gap + bytes(64) + b"\1" * 99):  # what a killed sync leaves
            path.write_bytes(saved + tail)
            assert len(farann.Index.load(path)) == 20

    def test_not_a_farann_file(self, path: Path) -> None:
        noise = np.random.default_rng(0).bytes(5000)
        for content in (b"", b"\x93NUMPY", noise, pickle.dumps([1]), b"PK\x03\x04" + noise):
            self.refused(path, content)

    def test_the_file_is_named(self, path: Path) -> None:
        path.write_bytes(b"something else")
        with pytest.raises(farann.FormatError, match=path.name):
            farann.Index.load(path)

    def test_pickles_are_checked_too(self, saved: bytes, path: Path) -> None:
        data = pickle.dumps(farann.Index.load(path))
        at = data.index(saved) + len(saved) - 3
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(farann.FormatError):
            pickle.loads(altered)


class TestContradictions:
    """Sections that are sound one by one and don't fit together."""

    @pytest.fixture
    def parts(self, saved: bytes, path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return inside.files.read_file(path)

    @staticmethod
    def refused_or_harmless(
        path: Path, metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> bool:
        """Load what was made up: a FormatError, or an index that answers; nothing worse."""
        inside.files.write_file(path, metadata, arrays)
        refused = []
        for mmap in (False, True):
            try:
                index = farann.Index.load(path, mmap=mmap)
            except farann.FormatError:
                refused.append(mmap)
                continue
            for k in (3, 30):
                hits = index.search_furthest(np.ones((2, 3), np.float32), k)
                assert np.isin(hits.ids, [-1, *index.ids.tolist()]).all()
            assert len(index.reconstruct(index.ids)) == len(index.ids) == len(index)
        # Mapped rows are not read, so a NaN among them is not seen.
        assert refused in ([], [False], [False, True])
        return refused == [False, True]

    def test_as_it_was(self, parts: Any, path: Path) -> None:
        assert not self.refused_or_harmless(path, *parts)

    def test_arrays_of_other_lengths(self, parts: Any, path: Path) -> None:
        metadata, arrays = parts
        for name, array in arrays.items():
            if array.ndim and array.size:
                for other in (array[:-1], np.concatenate([array, array[:1]]), array[:0]):
                    assert self.refused_or_harmless(path, metadata, {**arrays, name: other}), name

    def test_arrays_of_other_shapes_and_dtypes(self, parts: Any, path: Path) -> None:
        metadata, arrays = parts
        for name, array in arrays.items():
            with np.errstate(invalid="ignore"):  # NaN marks rows without codes
                others = [array[None], array[..., None], array.astype("f8"), array.astype("i2")]
            for other in others:
                if other.dtype != array.dtype or other.shape != array.shape:
                    assert self.refused_or_harmless(path, metadata, {**arrays, name: other}), name

    def test_arrays_left_out(self, parts: Any, path: Path) -> None:
        metadata, arrays = parts
        for name in arrays:
            rest = {other: array for other, array in arrays.items() if other != name}
            refused = self.refused_or_harmless(path, metadata, rest)
            assert refused or name != "rows"
            # A file may do without ids that count from 0, lower halves of codes, and the level that
            # single queries begin with.
            assert refused or name in ("ids", "codes.low_nibbles", "codes.slots",
                                       "codes.whole_codes_first", "codes.float32_below"), name
            assert refused or name != "ids" or (
                farann.Index.load(path).ids.tolist() == list(range(20)))

    def test_metadata_left_out_or_senseless(self, parts: Any, path: Path) -> None:
        metadata, arrays = parts
        for key, value in metadata.items():
            rest = {other: v for other, v in metadata.items() if other != key}
            self.refused_or_harmless(path, rest, arrays)
            for other in (None, "sense", -1, 2**70, 0.5, [1], {"a": 1}):
                if other != value:
                    self.refused_or_harmless(path, {**metadata, key: other}, arrays)

    def test_metadata_that_matters(self, parts: Any, path: Path) -> None:
        metadata, arrays = parts
        senseless = {"metric": ["euclid", 3], "dim": [4, 2, 0, -3, "3"]}
        for key, value in ((key, value) for key, values in senseless.items() for value in values):
            assert key in metadata
            assert self.refused_or_harmless(path, {**metadata, key: value}, arrays), (key, value)

    def test_ids_that_cannot_be(self, parts: Any, path: Path) -> None:
        metadata, arrays = parts
        for bad in (-1, int(arrays["ids"][1]), -(2**63)):
            ids = arrays["ids"].copy()
            ids[0] = bad
            assert self.refused_or_harmless(path, metadata, {**arrays, "ids": ids}), bad

    def test_bytes_of_every_array_at_random(self, parts: Any, path: Path) -> None:
        """Checksums are right here, so that only the sense of the numbers is left to check."""
        metadata, arrays = parts
        rng = np.random.default_rng(0)
        for name, array in arrays.items():
            for _ in range(30 if array.size else 0):
                noise = bytearray(array.tobytes())
                at = int(rng.integers(len(noise)))
                noise[at : at + 8] = rng.bytes(len(noise[at : at + 8]))
                other = np.frombuffer(bytes(noise), array.dtype).reshape(array.shape)
                self.refused_or_harmless(path, metadata, {**arrays, name: other})
