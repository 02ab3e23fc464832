"""The container of a file: what comes back, what is refused, and what a crash leaves behind."""

from __future__ import annotations

import base64
import json
import os
import stat
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from inside.files import ArrayChunks, read_bytes, read_file, verify_file, write_bytes, write_file
from numpy.typing import NDArray

import farann

Arrays = dict[str, NDArray[Any]]
Content = tuple[dict[str, Any], Arrays]

LARGE = 1 << 20
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX file semantics")

# Where things are, as docs/format.md has it; not taken from the module on purpose.
ENTRY = 128
NAME, CODE, NDIM, SHAPE, OFFSET, NBYTES, CHECKSUM, RESERVED = 0, 48, 52, 56, 104, 112, 120, 124

METADATA: dict[str, Any] = {"metric": "l2", "count": 3}
ARRAYS: Arrays = {
    "ids": np.array([4, 5, 9]),
    "rows": np.array([[0.5, -1], [2, np.inf], [-0.0, 1e-45]], np.float32),
    "zero": np.empty((2, 0), np.uint8),
}
SMALL = write_bytes(METADATA, ARRAYS)

# SMALL in format 2, which differs in its number alone. If this test fails, the format has changed.
VERSION_2 = (
    "c-s4wmROXSm&e7#z`(!)#0<;~L<3JvyS2HgC5b7CC5go9$tupzV+7KY45R@ECI}7F$MY|=5JYFD6q965rUe57BWd0Q"
    "g9fPm5>UR=q>Jl8bWwgeNe)OeVPIfFvY&}aeFxC&k7!xG6hv307Uh#-f2kqFP9_rlk1N2cm6G#I^GcMgjCGWNX`v`H"
    "S;<N%$4IG`NMl)`G%J+mWFQ&X17l}DD2V{+dQem`lAsv?Rrw?V"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "numbers.farann"


def by_the_docs(data: bytes) -> Content:
    """Read a sound file in the way of docs/format.md, sharing nothing with the module."""
    magic, version, count, length, checksum = struct.unpack("<8sIIQ36xI", data[:64])
    assert (magic, version, length) == (b"\xfafarann\n", 3, len(data))
    assert checksum == zlib.crc32(data[:60] + data[64 : 64 + ENTRY * count])
    metadata, arrays = {}, {}
    for number in range(count):
        fields = struct.unpack_from("<48s4sI6QQQI4x", data, 64 + ENTRY * number)
        name, code = (field.rstrip(b"\0").decode() for field in fields[:2])
        offset, nbytes, checksum = fields[-3:]
        payload = data[offset : offset + nbytes]
        assert offset % 64 == 0 and zlib.crc32(payload) == checksum
        if code == "json":
            metadata = json.loads(payload)
        else:
            array = np.frombuffer(payload, f"<{code}").reshape(fields[3 : 3 + fields[2]])
            arrays[name] = array.astype(array.dtype.newbyteorder("="))
    return metadata, arrays


def assert_same(got: Content, expected: Content) -> None:
    """Equal metadata; arrays equal to the bit, in native byte order."""
    assert got[0] == expected[0]
    assert got[1].keys() == expected[1].keys()
    for name, array in expected[1].items():
        native = array.dtype.newbyteorder("=")
        assert got[1][name].dtype == native and got[1][name].dtype.isnative
        assert got[1][name].shape == array.shape
        assert got[1][name].tobytes() == array.astype(native).tobytes()


def sealed(data: bytes | bytearray) -> bytes:
    """Give altered bytes a valid header checksum, as a malicious writer would."""
    data = bytearray(data)
    count = struct.unpack_from("<I", data, 12)[0]
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60] + data[64 : 64 + ENTRY * count]))
    return bytes(data)


def altered(at: int, form: str, *values: int | bytes) -> bytes:
    data = bytearray(SMALL)
    struct.pack_into("<" + form, data, at, *values)
    return sealed(data)


def entry(section: int, field: int) -> int:
    return 64 + ENTRY * section + field


def with_metadata(payload: bytes) -> bytes:
    """A sound file of one section with this as its JSON."""
    fields = (1, len(payload), 0, 0, 0, 0, 0, 192, len(payload), zlib.crc32(payload))
    entry = struct.pack("<48s4sI6QQQI4x", b"metadata", b"json", *fields)
    header = struct.pack("<8sIIQ36xI", b"\xfafarann\n", 3, 1, 192 + len(payload), 0)
    return sealed(header + entry + payload)


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def cut(path: Path, length: int) -> Callable[[Any], Any]:
    """A `read_table` after which the file loses its end, as if by another process."""
    read_table = inside.files.read_table

    def read_and_cut(stream: Any) -> Any:
        sections = read_table(stream)
        os.truncate(path, length)
        return sections

    return read_and_cut


def peak_memory(call: Callable[[], object]) -> int:
    """Bytes that a call had at its height; a farann.FormatError is an outcome like any other."""
    tracemalloc.start()
    try:
        call()
    except farann.FormatError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


names = st.from_regex(r"[A-Za-z0-9_.-]{1,48}", fullmatch=True).filter(lambda n: n != "metadata")
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
dtypes = st.sampled_from(["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])


@st.composite
def arrays_of_any_layout(draw: st.DrawFn) -> NDArray[Any]:
    dtype = draw(st.sampled_from("<>")) + draw(dtypes)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4))
    array = draw(hnp.arrays(dtype, shape))
    if array.ndim:
        step = draw(st.sampled_from([1, 2, -1]))
        array = array[::step].transpose(draw(st.permutations(range(array.ndim))))
    return array


class TestRoundTrip:
    @given(
        metadata=st.dictionaries(st.text(), values, max_size=5),
        arrays=st.dictionaries(names, arrays_of_any_layout(), max_size=4),
    )
    def test_any_content(self, metadata: dict[str, Any], arrays: Arrays) -> None:
        data = write_bytes(metadata, arrays)
        assert_same(read_bytes(data), (metadata, arrays))
        assert_same(read_bytes(bytearray(data)), (metadata, arrays))
        assert_same(by_the_docs(data), (metadata, arrays))

    @pytest.mark.parametrize("mmap", [False, True])
    def test_file_has_the_same_bytes(self, mmap: bool, path: Path) -> None:
        write_file(path, METADATA, ARRAYS)
        assert path.read_bytes() == SMALL
        assert_same(read_file(path, mmap=mmap), (METADATA, ARRAYS))
        verify_file(path)

    @pytest.mark.parametrize("mmap", [False, True])
    @pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE + 5])
    def test_sizes_around_a_chunk(self, size: int, mmap: bool, path: Path) -> None:
        arrays = {"a": np.arange(size).astype(np.uint8), "b": np.arange(size // 8 * 1.0)}
        write_file(str(path), {}, arrays)
        assert_same(read_file(str(path), mmap=mmap), ({}, arrays))
        verify_file(path)

    def test_nothing_at_all(self) -> None:
        assert read_bytes(write_bytes({}, {})) == ({}, {})

    def test_arrays_are_the_callers_own(self) -> None:
        arrays = read_bytes(SMALL)[1]
        assert all(array.flags.writeable and array.flags.aligned for array in arrays.values())
        arrays["ids"][:] = 0
        assert_same(read_bytes(SMALL), (METADATA, ARRAYS))

    def test_version_2_is_read(self) -> None:
        data = zlib.decompress(base64.b85decode(VERSION_2))
        assert_same(read_bytes(data), (METADATA, ARRAYS))
        assert sealed(data[:8] + b"\x03" + data[9:]) == SMALL

    def test_order_and_layout_leave_no_trace(self) -> None:
        metadata = dict(reversed(METADATA.items()))
        arrays = {
            name: np.asfortranarray(array.astype(array.dtype.newbyteorder()))
            for name, array in reversed(ARRAYS.items())
        }
        assert write_bytes(metadata, arrays) == SMALL

    def test_input_is_not_modified(self) -> None:
        arrays = {name: array.copy() for name, array in ARRAYS.items()}
        write_bytes(METADATA, arrays)
        assert_same((METADATA, arrays), (METADATA, ARRAYS))


class TestChunks:
    def test_one_buffer_serves_all_chunks(self) -> None:
        def chunks() -> Iterator[NDArray[Any]]:
            buffer = np.empty((1, 2), np.float32)
            for row in ARRAYS["rows"]:
                buffer[0] = row
                yield buffer
                yield buffer[:0]

        streamed = ARRAYS | {"rows": ArrayChunks(np.float32, (3, 2), chunks())}
        assert write_bytes(METADATA, streamed) == SMALL

    @pytest.mark.parametrize("count, got", [(0, "0"), (2, "4"), (4, "at least 8")])
    def test_wrong_number_of_rows(self, count: int, got: str) -> None:
        rows = ArrayChunks(np.float32, (3, 2), [np.zeros((count, 2), np.float32)])
        with pytest.raises(ValueError, match=rf"'rows'.*expected chunks of 6 .*, got {got}$"):
            write_bytes({}, {"rows": rows})

    def test_stops_at_the_first_chunk_too_many(self) -> None:
        chunks = iter([np.zeros(2)] * 10)
        with pytest.raises(ValueError, match="'rows'.*got at least 6$"):
            write_bytes({}, {"rows": ArrayChunks(np.float64, (5,), chunks)})
        assert len(list(chunks)) == 7

    def test_wrong_dtype(self) -> None:
        with pytest.raises(TypeError, match="float64.*float32.*'equiv'"):
            write_bytes({}, {"rows": ArrayChunks(np.float32, (2,), [np.zeros(2)])})

    @pytest.mark.parametrize("dtype", ["<f4", ">f4"])
    def test_writing_takes_little_memory(self, dtype: str, path: Path) -> None:
        array = np.zeros((2, 4 << 20), dtype)
        assert peak_memory(lambda: write_file(path, {}, {"a": array})) < 4 * LARGE < array.nbytes


class TestRefusedContent:
    @pytest.mark.parametrize("name", ["", "a" * 49, "a b", "é", "a\n", "metadata"])
    def test_names(self, name: str) -> None:
        with pytest.raises(ValueError, match="arrays: expected names of 1 to 48 ASCII"):
            write_bytes({}, {name: np.zeros(2)})

    @pytest.mark.parametrize("dtype", ["?", "c8", "O", "U3", "S2", "M8[s]", "V4", "i4,f4"])
    def test_dtypes(self, dtype: str) -> None:
        with pytest.raises(TypeError, match="arrays\\['a'\\]: expected an integer or float dtype"):
            write_bytes({}, {"a": np.zeros(2, dtype)})

    @pytest.mark.parametrize("shape", [(1,) * 7, (-1, -2), (2**63, 0)])
    def test_shapes(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="arrays\\['a'\\]: expected at most 6 dimensions"):
            write_bytes({}, {"a": ArrayChunks("u1", shape, [np.ones(2, "u1")])})

    def test_too_many_arrays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        arrays = {f"{number}": np.zeros(1, "u1") for number in range(4095)}
        assert_same(read_bytes(write_bytes({}, arrays)), ({}, arrays))
        with pytest.raises(ValueError, match="expected fewer than 4096, got 4096"):
            write_bytes({}, arrays | {"more": np.zeros(1)})
        with monkeypatch.context() as patch:
            patch.setattr(inside.settings, "most_sections", 5000)
            data = write_bytes({}, arrays | {"more": np.zeros(1)})
        with pytest.raises(farann.FormatError, match="expected 1 to 4096 sections .*, got 4097"):
            read_bytes(data)

    @pytest.mark.parametrize(
        "value", [float("nan"), float("inf"), {1: 2, "1": 3}, {"a": 1, None: 2}, "x" * LARGE, b""]
    )
    def test_metadata(self, value: Any) -> None:
        with pytest.raises((ValueError, TypeError)):
            write_bytes({"key": value}, {})


Reader = Callable[[Path], object]
READERS: dict[str, Reader] = {
    "read": read_file,
    "mmap": lambda path: read_file(path, mmap=True),
    "verify": verify_file,
    "bytes": lambda path: read_bytes(path.read_bytes()),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
class TestDamage:
    def test_every_flipped_bit(self, reader: Reader, path: Path) -> None:
        path.write_bytes(SMALL)
        with path.open("r+b", buffering=0) as stream:
            for position, byte in enumerate(SMALL):
                for bit in range(8):
                    stream.seek(position)
                    stream.write(bytes([byte ^ 1 << bit]))
                    with pytest.raises(farann.FormatError):
                        reader(path)
                stream.seek(position)
                stream.write(bytes([byte]))
        reader(path)

    def test_every_truncation(self, reader: Reader, path: Path) -> None:
        for length in range(len(SMALL)):
            path.write_bytes(SMALL[:length])
            with pytest.raises(farann.FormatError, match="truncated" if length else "empty"):
                reader(path)

    def test_more_bytes(self, reader: Reader, path: Path) -> None:
        path.write_bytes(SMALL + b"\0")
        with pytest.raises(farann.FormatError, match=f"too long: expected {len(SMALL)} bytes"):
            reader(path)


def read_or_refuse(data: bytes) -> None:
    """Bytes are either refused as such or read as the docs say."""
    try:
        content = read_bytes(data)
    except farann.FormatError as error:
        assert str(error)
    else:
        assert_same(content, by_the_docs(data))


class TestFuzz:
    @given(st.binary(max_size=400), st.sampled_from([b"", SMALL[:8], SMALL[:24], SMALL[:64]]))
    def test_any_bytes(self, tail: bytes, head: bytes) -> None:
        read_or_refuse(head + tail)

    @given(
        st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=6),
        st.integers(0, len(SMALL)),
    )
    def test_altered_and_sealed(self, edits: list[tuple[int, int]], keep: int) -> None:
        data = bytearray(SMALL)
        for position, value in edits:
            data[position] = value
        read_or_refuse(sealed(data))
        if keep >= 64:
            struct.pack_into("<Q", data, 16, keep)
            read_or_refuse(sealed(data[:keep]))

    @given(
        st.integers(0, 3),
        st.lists(st.sampled_from([SHAPE, SHAPE + 8, OFFSET, NBYTES]), min_size=1, unique=True),
        st.integers(0, 2**64 - 1) | st.sampled_from([2**bits for bits in range(64)]),
    )
    def test_any_number_in_the_table(self, section: int, fields: list[int], value: int) -> None:
        data = bytearray(SMALL)
        for field in fields:
            struct.pack_into("<Q", data, entry(section, field), value)
        read_or_refuse(sealed(data))

    @given(st.binary(max_size=30) | st.text('[]{}":,019.eE-+aN\\u', max_size=30).map(str.encode))
    def test_any_metadata(self, payload: bytes) -> None:
        try:
            metadata, arrays = read_bytes(with_metadata(payload))
        except farann.FormatError as error:
            assert str(error).startswith("metadata: expected") or "not valid JSON" in str(error)
        else:
            assert isinstance(metadata, dict) and not arrays


# Sections of SMALL: 0 metadata, 1 ids, 2 rows, 3 zero. Each change carries a valid checksum.
HOSTILE = {
    "magic": (altered(0, "8s", b"\x89PNG\r\n\x1a\n"), "not a farann file"),
    "version 0": (altered(8, "I", 0), "format version 0, .*: build it again"),
    "version 1": (altered(8, "I", 1), "format version 1, .*: build it again"),
    "newer": (altered(8, "I", 4), "version 4, newer than .*reads \\(3\\): a newer farann"),
    "newest": (altered(8, "I", 2**32 - 1), "version 4294967295, newer"),
    "no sections": (altered(12, "I", 0), "expected 1 to 4096 sections .*, got 0"),
    "one section less": (altered(12, "I", 3), "'metadata': .* at byte 448"),
    "one section more": (altered(12, "I", 5), "'metadata': .* at byte 704"),
    "most sections": (altered(12, "I", 2**32 - 1), "sections .*, got 4294967295"),
    "length": (altered(16, "Q", 2**64 - 1), "truncated: expected 18446744073709551615"),
    "declared tail": (
        sealed(SMALL[:16] + struct.pack("<Q", 800) + SMALL[24:] + bytes(32)),
        "32 bytes after the last section",
    ),
    "reserved in header": (altered(30, "B", 1), "reserved bytes of the header"),
    "reserved in table": (altered(entry(1, RESERVED), "B", 1), "'ids': its row of the table"),
    "unused length": (altered(entry(1, SHAPE + 8), "Q", 1), "'ids': its row of the table"),
    "name": (altered(entry(1, NAME), "4s", b"i\0ds"), "is not a name"),
    "no name": (altered(entry(1, NAME), "48s", b""), "section 1: '' is not a name"),
    "long name": (altered(entry(1, NAME), "48s", b"\xff" * 48), "is not a name"),
    "same name": (altered(entry(1, NAME), "48s", b"rows"), "same name"),
    "second metadata": (altered(entry(1, NAME), "48s", b"metadata"), "section 1: expected the"),
    "second json": (altered(entry(1, CODE), "4s", b"json"), "section 1: expected the first"),
    "metadata elsewhere": (altered(entry(0, NAME), "48s", b"other"), "section 0: expected the"),
    "metadata of numbers": (altered(entry(0, CODE), "4s", b"u1"), "section 0: expected the"),
    "dtype": (altered(entry(2, CODE), "4s", b"O8"), "'rows': unknown dtype 'O8'"),
    "dtype of bytes": (altered(entry(2, CODE), "4s", b"\xff\0f4"), "'rows': unknown dtype"),
    "dtype of other size": (altered(entry(2, CODE), "4s", b"f8"), "isn't that of f8"),
    "ndim": (altered(entry(2, NDIM), "I", 7), "at most 6 dimensions, got 7"),
    "huge ndim": (altered(entry(2, NDIM), "I", 2**32 - 1), "dimensions, got 4294967295"),
    "shape": (altered(entry(2, SHAPE), "Q", 4), "f4 of shape \\(4, 2\\) at byte 704"),
    "shape that wraps": (altered(entry(3, SHAPE), "QQ", 2**32, 2**32), "is too large"),
    "empty but huge": (altered(entry(3, SHAPE), "QQ", 2**63, 0), "is too large"),
    "empty, product huge": (
        altered(entry(3, NDIM), "I3Q", 3, 2**40, 2**40, 0), "is too large"
    ),
    "huge section": (
        altered(entry(3, SHAPE), "QQ32xQQ", 2**62, 1, 768, 2**62), "'zero' reaches beyond the end"
    ),
    "huger section": (
        altered(entry(3, SHAPE), "QQ32xQQ", 2**63, 1, 768, 2**63), "'zero': .* is too large"
    ),
    "all 6 lengths huge": (altered(entry(3, NDIM), "I6Q", 6, *[2**64 - 1] * 6), "is too large"),
    "nbytes": (altered(entry(2, NBYTES), "Q", 2**63), "'rows': its row of the table"),
    "overlap": (altered(entry(2, OFFSET), "Q", 640), "'rows': .* at byte 704"),
    "offset in the table": (altered(entry(1, OFFSET), "Q", 64), "'ids': .* at byte 640"),
    "unaligned": (altered(entry(2, OFFSET), "Q", 705), "'rows': .* at byte 704"),
    "offset beyond": (altered(entry(2, OFFSET), "Q", 2**64 - 64), "'rows': .* at byte 704"),
    "longer than the file": (
        altered(entry(0, SHAPE), "Q40xQQ", 2**62, 576, 2**62), "'metadata' reaches beyond"
    ),
    "padding": (altered(639, "B", 1), "'ids': the padding before it is not zero"),
    "payload": (altered(704, "B", 1), "'rows' is damaged: wrong checksum"),
    "text": (b"id,x,y\n1,2,3\n", "not a farann file: expected it to begin with"),
    "pickle": (b"\x80\x04N.", "not a farann file"),
    "short": (SMALL[:5], "truncated: expected at least 64 bytes, got 5"),
    "empty": (b"", "the file is empty"),
    "list": (with_metadata(b"[]"), "metadata: expected a JSON object, got list"),
    "no json": (with_metadata(b""), "metadata is not valid JSON"),
    "half json": (with_metadata(b'{"a":'), "metadata is not valid JSON"),
    "not utf-8": (with_metadata(b'{"a":"\xff"}'), "metadata is not valid JSON"),
    "utf-16": (with_metadata('{"a":1}'.encode("utf-16")), "metadata is not valid JSON"),
    "nan": (with_metadata(b'{"a":NaN}'), "NaN is not a finite number"),
    "infinite": (with_metadata(b'{"a":1e999}'), "1e999 is not a finite number"),
    "key twice": (with_metadata(b'{"a":1,"a":2}'), "a key comes twice"),
    "many digits": (with_metadata(b'{"a":' + b"9" * 5000 + b"}"), "metadata is not valid JSON"),
    "deep": (with_metadata(b'{"a":' + b"[" * 200_000), "metadata is not valid JSON"),
    "long metadata": (with_metadata(b" " * LARGE + b"{}"), "metadata: expected at most 1048576"),
}


@pytest.mark.parametrize("data, message", HOSTILE.values(), ids=HOSTILE)
class TestHostile:
    @pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
    def test_refused(self, data: bytes, message: str, reader: Reader, path: Path) -> None:
        path.write_bytes(data)
        with pytest.raises(farann.FormatError, match=message):
            reader(path)

    def test_file_is_named(self, data: bytes, message: str, path: Path) -> None:
        path.write_bytes(data)
        with pytest.raises(farann.FormatError, match=f"^.*numbers.farann: .*{message}"):
            read_file(path)

    def test_takes_little_memory(self, data: bytes, message: str, path: Path) -> None:
        path.write_bytes(data)
        # JSON takes a few times its bytes; nothing else is larger than the file.
        assert peak_memory(lambda: read_file(path)) < 50_000 + 5 * len(data)


class Fault(Exception):
    """Raised in the middle of a write."""


def failing_rows(fault: type[BaseException]) -> ArrayChunks:
    def chunks() -> Iterator[NDArray[Any]]:
        yield np.zeros((LARGE, 2), np.float32)
        raise fault

    return ArrayChunks(np.float32, (2 * LARGE, 2), chunks())


class TestCrashSafety:
    @pytest.mark.parametrize("exists", [False, True])
    @pytest.mark.parametrize("fault", [Fault, KeyboardInterrupt, MemoryError])
    def test_fault_while_writing(
        self, fault: type[BaseException], exists: bool, path: Path
    ) -> None:
        if exists:
            path.write_bytes(SMALL)
        with pytest.raises(fault):
            write_file(path, {}, {"rows": failing_rows(fault)})
        assert files_in(path.parent) == (["numbers.farann"] if exists else [])
        assert not exists or path.read_bytes() == SMALL

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_fault_of_the_system(
        self, call: str, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        path.write_bytes(SMALL)
        monkeypatch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            write_file(path, {}, {})
        assert files_in(path.parent) == ["numbers.farann"]
        assert path.read_bytes() == SMALL

    @posix
    def test_on_disk_before_in_place(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        events = []
        fsync, replace = os.fsync, os.replace

        def spy_fsync(descriptor: int) -> None:
            status = os.fstat(descriptor)
            events.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
            fsync(descriptor)

        def spy_replace(source: str, target: str) -> None:
            assert Path(source).read_bytes() == SMALL
            assert Path(source).parent == Path(target).parent
            events.append("replace")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", spy_fsync)
        monkeypatch.setattr(os, "replace", spy_replace)
        write_file(path, METADATA, ARRAYS)
        assert events == [f"{len(SMALL)} bytes", "replace", "folder"]

    @posix
    def test_folder_that_cannot_be_synced(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fsync = os.fsync

        def fsync_files_only(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(22, "Invalid argument")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fsync_files_only)
        write_file(path, METADATA, ARRAYS)
        assert path.read_bytes() == SMALL

    def test_killed_while_writing(self, path: Path, run_python: Callable[..., object]) -> None:
        path.write_bytes(SMALL)
        code = """
import os
from inside.files import ArrayChunks, write_file
def chunks():
    yield np.zeros(1 << 20)
    os._exit(9)
write_file(PATH, {}, {"rows": ArrayChunks(float, (1 << 21,), chunks())})
"""
        run_python(code.replace("PATH", repr(str(path))), status=9)
        assert path.read_bytes() == SMALL
        (left_over,) = set(files_in(path.parent)) - {path.name}
        assert left_over.startswith(".farann-") and left_over.endswith(".tmp")
        with pytest.raises(farann.FormatError):
            read_file(path.parent / left_over)


class TestPaths:
    def test_missing(self, path: Path) -> None:
        for reader in READERS.values():
            with pytest.raises(FileNotFoundError):
                reader(path)
        with pytest.raises(FileNotFoundError, match="nowhere.numbers"):
            write_file(path.parent / "nowhere" / "numbers.farann", {}, {})

    @posix
    def test_folder_or_device(self, path: Path) -> None:
        path.mkdir()
        for reader in READERS.values():
            with pytest.raises(IsADirectoryError):
                reader(path)
        with pytest.raises(IsADirectoryError):
            write_file(path, {}, {})
        with pytest.raises(OSError, match="expected a regular file, got a device"):
            write_file(os.devnull, {}, {})
        assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
        assert files_in(path.parent) == ["numbers.farann"]

    @posix
    @pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
    def test_mode_as_of_open(self, mask: int, path: Path) -> None:
        before = os.umask(mask)
        try:
            write_file(path, {}, {})
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask

    @posix
    @pytest.mark.parametrize("dangling", [False, True])
    def test_link_stays(self, dangling: bool, path: Path) -> None:
        folder = path.parent / "elsewhere"
        folder.mkdir()
        target = folder / "target"
        if not dangling:
            target.write_bytes(b"old")
        path.symlink_to("elsewhere/target")
        write_file(path, METADATA, ARRAYS)
        assert path.is_symlink() and target.read_bytes() == SMALL
        assert files_in(folder) == ["target"]

    def test_relative(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(path.parent)
        write_file("numbers.farann", METADATA, ARRAYS)
        assert path.read_bytes() == SMALL


class TestMapped:
    large = np.arange(LARGE // 4, dtype=np.float32)

    def test_read_only_and_aligned(self, path: Path) -> None:
        write_file(path, METADATA, ARRAYS | {"large": self.large, "later": self.large[::-1]})
        arrays = read_file(path, mmap=True)[1]
        for array in arrays.values():
            assert array.ctypes.data % array.itemsize == 0
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            arrays["large"].flags.writeable = True
        assert arrays["large"].ctypes.data % 64 == arrays["later"].ctypes.data % 64 == 0
        del array, arrays["large"]
        assert arrays["later"][0] == self.large[-1]

    def test_only_large_sections_go_unchecked(self, path: Path) -> None:
        write_file(path, METADATA, ARRAYS | {"large": self.large})
        data = bytearray(path.read_bytes())
        at = data.index(self.large.tobytes())
        data[at] ^= 1
        path.write_bytes(data)
        mapped = read_file(path, mmap=True)[1]
        assert mapped["large"][0] != 0 and (mapped["large"][1:] == self.large[1:]).all()
        for reader in (read_file, verify_file):
            with pytest.raises(farann.FormatError, match="'large' is damaged: wrong checksum"):
                reader(path)
        data[at - 1] ^= 1  # the padding before it
        path.write_bytes(data)
        with pytest.raises(farann.FormatError, match="padding before it"):
            read_file(path, mmap=True)

    def test_takes_no_memory(self, path: Path) -> None:
        write_file(path, {}, {"large": np.tile(self.large, 16)})
        assert peak_memory(lambda: read_file(path, mmap=True)) < LARGE
        assert peak_memory(lambda: verify_file(path)) < 2 * LARGE
        assert peak_memory(lambda: read_file(path)) > 16 * LARGE

    @posix
    def test_replacing_leaves_the_mapping(self, path: Path) -> None:
        write_file(path, {}, {"large": self.large})
        mapped = read_file(path, mmap=True)[1]["large"]
        write_file(path, {}, {"large": -mapped})
        assert (mapped == self.large).all()
        assert (read_file(path, mmap=True)[1]["large"] == -self.large).all()

    @posix
    @pytest.mark.parametrize("length", [0, 1000])
    @pytest.mark.parametrize("reader", [READERS["read"], READERS["mmap"], READERS["verify"]])
    def test_cut_short_meanwhile(
        self, reader: Reader, length: int, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_file(path, METADATA, {"large": self.large})
        monkeypatch.setattr(inside.settings, "read_table", cut(path, length))
        with pytest.raises(farann.FormatError, match="'(metadata|large)': the file was cut short"):
            reader(path)


@posix
@pytest.mark.parametrize("mmap", [False, True])
def test_readers_see_the_old_or_the_new(mmap: bool, path: Path) -> None:
    def write(number: int) -> None:
        write_file(path, {"n": number}, {"rows": np.full(LARGE // 4, number, np.float32)})

    def read() -> None:
        try:
            while not done.is_set():
                metadata, arrays = read_file(path, mmap=mmap)
                assert (arrays["rows"] == metadata["n"]).all()
                seen.add(metadata["n"])
        except BaseException as error:
            faults.append(error)

    seen: set[int] = set()
    faults: list[BaseException] = []
    done = threading.Event()
    write(0)
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 40):
        write(number)
    done.set()
    for reader in readers:
        reader.join()
    assert not faults and len(seen) > 1
    assert files_in(path.parent) == ["numbers.farann"]
