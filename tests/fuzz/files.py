"""Index files and vector files, damaged with a plan and with all checksums repaired.

A case is one integer: `python tests/fuzz files 123` runs it again, and prints what it did. An index
file must be refused with FormatError, or give an index that can be searched, changed and saved. A
vector file must be refused with ValueError, or give rows.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import histories
import inside
import numpy as np
from approximate_cases import DATA as ROWS
from numpy.typing import NDArray

import farann
from farann import vectors

CORPUS = Path(__file__).parent / "corpus"
# A file that asks for an index of more coordinates is only opened: queries would be large.
LARGEST_DIM = 4096

NUMBERS = [0, 1, -1, 2, 15, 16, 17, 63, 127, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**40,
           2**48, 2**53, 2**63 - 1, 2**63, 2**64 - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 1e-300, 1e16, 1e30, 3.4e38, 1e300, math.inf,
          -math.inf, math.nan]
VALUES: list[Any] = [None, True, False, "", "l2", "dot", "cosine", "int8", "int4", "auto", [], {},
                     [[]], [None, 1.0], [1.0, None], 0.5, 1e300, 5e-324, 10**400]


class Section(NamedTuple):
    """A section as the table has it, with its payload."""

    name: str
    code: str
    shape: tuple[int, ...]
    payload: bytes


def unpack(data: bytes) -> list[Section]:
    """The sections of a valid file, as docs/format.md says."""
    sections = []
    for i in range(struct.unpack_from("<I", data, 12)[0]):
        name, code, ndim, *rest = struct.unpack_from("<48s4sI6QQQI4x", data, 64 + 128 * i)
        offset, nbytes = rest[6:8]
        sections.append(Section(name.rstrip(b"\0").decode("ascii"),
                                code.rstrip(b"\0").decode("ascii"), tuple(rest[:ndim]),
                                data[offset : offset + nbytes]))
    return sections


def pack(sections: list[Section]) -> bytes:
    """A file of any sections, with the checksums they need."""
    body, table = b"", b""
    start = 64 + 128 * len(sections)
    for name, code, shape, payload in sections:
        body += bytes(-(start + len(body)) % 64)
        table += struct.pack(
            "<48s4sI6QQQI4x", name.encode("ascii", "replace"), code.encode("ascii", "replace"),
            len(shape), *(*shape, 0, 0, 0, 0, 0, 0)[:6], start + len(body), len(payload),
            zlib.crc32(payload))
        body += payload
    return sealed(struct.pack("<8sIIQ40x", inside.files.MAGIC, inside.files.VERSION, len(sections),
                              start + len(body))
                  + table + body)


def sealed(data: bytes) -> bytes:
    """Repair the checksum of header and table."""
    count = min(struct.unpack_from("<I", data, 12)[0], (len(data) - 64) // 128)
    checksum = zlib.crc32(data[:60] + data[64 : 64 + 128 * count])
    return data[:60] + struct.pack("<I", checksum) + data[64:]


class Damage:
    """Changes of a file, drawn by a generator, each with a line in the log."""

    def __init__(self, rng: np.random.Generator, log: list[str]) -> None:
        self.rng, self.log = rng, log

    def pick(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def index_file(self, data: bytes, other: bytes) -> bytes:
        """Damage a valid index file; sections of another one may come in."""
        sections = unpack(data)
        for _ in range(int(self.rng.choice([1, 1, 1, 2, 4]))):
            self.sections(sections, unpack(other))
        data = pack(sections)
        if self.rng.random() < 0.15:
            data = self.table(data)
        return data

    def sections(self, sections: list[Section], others: list[Section]) -> None:
        if self.rng.random() < 0.35:
            sections[0] = self.metadata(sections[0])
            return
        at = int(self.rng.integers(1, len(sections))) if len(sections) > 1 else 0
        kind = self.pick(["values"] * 6 + ["bytes", "shape", "rows", "rows", "type", "drop",
                                           "rename", "other", "swap"])
        old = sections[at]
        self.log.append(f"{kind} of {old.name} {old.code} {old.shape}")
        if kind == "values" and old.payload and old.code != "json":
            sections[at] = self.values(old)
        elif kind == "bytes" and old.payload:
            sections[at] = old._replace(payload=self.bytes(old.payload, grow=False))
        elif kind == "shape":
            sections[at] = old._replace(shape=self.shape(old))
        elif kind == "rows" and old.shape and old.shape[0] and not len(old.payload) % old.shape[0]:
            sections[at] = self.rows(old)
        elif kind == "type":
            code = self.pick([c for c, t in inside.files.DTYPES.items()
                              if t.itemsize == int(old.code[1:] if old.code != "json" else 1)])
            sections[at] = old._replace(code=code)
        elif kind == "drop" and len(sections) > 1:
            del sections[at]
        elif kind == "rename":
            name = self.pick([s.name for s in others] + ["", "a b", "metadata", "x" * 48])
            sections[at] = old._replace(name=name)
        elif kind == "other":
            new = self.pick(others)
            sections[:] = [s for s in sections if s.name != new.name] + [new]
            sections.sort(key=lambda s: (s.name != "metadata", s.name))
        elif kind == "swap":
            same = [i for i, s in enumerate(sections) if s.code == old.code]
            to = self.pick(same)
            sections[at] = old._replace(payload=sections[to].payload, shape=sections[to].shape)

    def metadata(self, section: Section) -> Section:
        text = section.payload
        try:
            metadata = json.loads(text)
        except (ValueError, RecursionError):  # damaged before
            metadata = []
        if self.rng.random() < 0.15 or not isinstance(metadata, dict):
            self.log.append("bytes of metadata")
            text = self.pick([self.bytes(text, grow=True), b"[" * 100_000, b"{}", b"[]",
                              b'{"a":' * 5000])
        else:
            keys = [*metadata, "tunings", "nearest_tunings"]
            key = self.pick(keys)
            if self.rng.random() < 0.2:
                metadata.pop(key, None)
                self.log.append(f"metadata without {key}")
            else:
                old = metadata.get(key)
                metadata[key] = self.value(old)
                self.log.append(f"metadata: {key} is {str(metadata[key])[:200]}, "
                                f"was {str(old)[:80]}")
            text = json.dumps(metadata).encode()
        return section._replace(payload=text, shape=(len(text),))

    def value(self, old: Any) -> Any:
        """Another value, for a list often one with another element."""
        if isinstance(old, list) and old and self.rng.random() < 0.75:
            new = copy.deepcopy(old)
            at = int(self.rng.integers(len(new)))
            new[at] = self.value(new[at])
            return new
        if isinstance(old, (int, float)) and not isinstance(old, bool) and (
                abs(old) < 1e300 and self.rng.random() < 0.5):
            if self.rng.random() < 0.5:
                return old + self.pick([-1, 1, 16, -16])
            return old * self.pick([2, 0.5, -1, 1e-9, 1e9])
        return self.pick([*VALUES, *NUMBERS, *[f for f in FLOATS if math.isfinite(f)]])

    def values(self, section: Section) -> Section:
        """Other elements: a few, a row, or all."""
        array = np.frombuffer(section.payload, f"<{section.code}").copy()
        n = len(array)
        at: Any = self.pick([self.rng.integers(0, n, int(self.rng.integers(1, 4))),
                             slice(None, None, int(self.rng.integers(1, 9))), slice(0, n // 2 + 1)])
        how = self.pick(["set", "set", "add", "negate", "shuffle", "bits", "sort"])
        with np.errstate(all="ignore"):
            if how == "set":
                array[at] = self.extreme(array.dtype)
            elif how == "add":
                array[at] += array.dtype.type(self.pick([1, 15, 16]))
            elif how == "negate":
                array[at] = np.negative(array[at])
            elif how == "shuffle":
                self.rng.shuffle(array)
            elif how == "bits":
                array[at] = np.frombuffer(self.rng.bytes(array[at].nbytes), array.dtype)
            else:
                array.sort()
        self.log.append(f"  {how} at {at}")
        return section._replace(payload=array.tobytes())

    def extreme(self, dtype: np.dtype[Any]) -> Any:
        if dtype.kind == "f":
            return np.float64(self.pick(FLOATS)).astype(dtype)
        return np.array(self.pick(NUMBERS[:-1])).astype(np.uint64).astype(dtype)

    def shape(self, section: Section) -> tuple[int, ...]:
        """Another shape, sometimes for as many elements."""
        size = math.prod(section.shape)
        return tuple(self.pick([
            (size,), (1, size), (size, 1), (0, size), (), (size // 2, 2), section.shape[::-1],
            (2**32, 2**32), (0, 2**40), (2**63, 0), (*section.shape, 1), (1,) * 6,
        ]))

    def rows(self, section: Section) -> Section:
        """Fewer or more rows, with a payload to go with them."""
        n = section.shape[0]
        array = np.frombuffer(section.payload, np.uint8).reshape(n, -1)
        keep = self.pick([np.arange(n - 1), np.arange(max(0, n - 16)), np.arange(0),
                          np.append(np.arange(n), 0), np.arange(n + 16) % n, np.arange(n)[::-1]])
        return section._replace(payload=array[keep].tobytes(),
                                shape=(len(keep), *section.shape[1:]))

    def table(self, data: bytes) -> bytes:
        """Numbers in the header or table, or bytes of the file, with the checksum repaired."""
        out = bytearray(data)
        count = struct.unpack_from("<I", data, 12)[0]
        entry = 64 + 128 * int(self.rng.integers(count))
        at, form = self.pick([(8, "I"), (12, "I"), (16, "Q"), (entry + 52, "I"), (entry + 56, "Q"),
                              (entry + 64, "Q"), (entry + 104, "Q"), (entry + 112, "Q"),
                              (entry + 120, "I"), (entry + 124, "I")])
        number = self.pick(NUMBERS[:2] + NUMBERS[3:]) % 2 ** (32 if form == "I" else 64)
        struct.pack_into(f"<{form}", out, at, number)
        self.log.append(f"table: {number} at byte {at}")
        if self.rng.random() < 0.3:
            del out[int(self.rng.integers(64, len(out))):]
            struct.pack_into("<Q", out, 16, len(out))
        return sealed(bytes(out))

    def bytes(self, data: bytes, grow: bool) -> bytes:
        """Bytes changed, and with `grow` taken out or put in."""
        out = bytearray(data)
        for _ in range(int(self.rng.integers(1, 5))):
            at = int(self.rng.integers(len(out))) if out else 0
            how = self.pick(["flip", "set", "number"] + ["cut", "put", "end"] * grow)
            self.log.append(f"  {how} at byte {at}")
            if how == "flip" and out:
                out[at] ^= 1 << int(self.rng.integers(8))
            elif how == "set" and out:
                out[at] = self.pick([0, 1, 127, 128, 255])
            elif how == "number" and len(out) > 8:
                at = min(at, len(out) - 8)
                struct.pack_into("<I", out, at, self.pick(NUMBERS) % 2**32)
            elif how == "cut":
                del out[at : at + int(self.rng.choice([1, 4, 64]))]
            elif how == "put":
                out[at:at] = self.rng.bytes(int(self.rng.choice([1, 4, 64])))
            elif how == "end":
                del out[at:]
        return bytes(out)


# What the corpus was made of: kind, metric, rows, scale. Together they have all sections.
RECIPES = [
    ("float32", "l2", "gaussian", "usual"), ("int8", "l2", "clustered", "usual"),
    ("int8", "l2", "heavy tails", "small"), ("int8", "l2", "low rank", "small"),
    ("int8", "dot", "gaussian", "small"), ("int8", "cosine", "low rank", "small"),
    ("int8", "l2", "heavy tails", "first look"), ("int8", "cosine", "low rank", "first look"),
    ("int4", "l2", "clustered", "small"), ("int4", "cosine", "gaussian", "small"),
    ("cells", "l2", "low rank", "small"), ("cells", "dot", "clustered", "first look"),
    ("int4 cells", "l2", "heavy tails", "small"), ("int8 alone", "l2", "gaussian", "small"),
    ("int8 alone", "dot", "heavy tails", "small"), ("int4 alone", "cosine", "clustered", "small"),
    ("int4 cells alone", "l2", "clustered", "small"),
    ("int4 cells alone", "dot", "low rank", "small"),
]


def make_corpus() -> None:
    """Write an index of each recipe; the files stay as they are when farann changes."""
    CORPUS.mkdir(exist_ok=True)
    for number, (kind, metric, rows, scale) in enumerate(RECIPES):
        rng = np.random.default_rng(number)
        # Queries of few kinds, which is where lists of answers pay.
        tastes = 1.0 + rng.standard_normal((4, 10))
        queries = tastes[rng.integers(0, 4, 300)] + 0.2 * rng.standard_normal((300, 10))
        with histories.conditions("scalar", scale):
            index = farann.Index(10, metric, **histories.KINDS[kind])
            index.add(ROWS[rows](rng, 260, 10), 7 * rng.permutation(260) if number % 3 else None)
            index.build(queries).tune(k=5)
            if kind.endswith("alone") or kind == "float32":
                index.add(ROWS[rows](rng, 9, 10))
        index.save(CORPUS / f"{number:02}-{kind}-{metric}-{scale}.farann".replace(" ", "-"))


def run(seed: int) -> Counter[str]:
    """Damage one file and read it; raise an error with the log where that goes wrong."""
    rng = np.random.default_rng([seed, 1])
    log: list[str] = []
    damage = Damage(rng, log)
    level, scale = damage.pick(inside.levels()), damage.pick(list(histories.SCALES))
    with histories.conditions(level, scale), tempfile.TemporaryDirectory() as folder:
        try:
            if rng.random() < 0.25:
                return vector_file(damage, Path(folder))
            return index_file(damage, Path(folder))
        except Exception as error:
            error.add_note("\n".join(["file:", *log]))
            raise


# ---- index files ----


def index_file(damage: Damage, folder: Path) -> Counter[str]:
    files = sorted(CORPUS.glob("*.farann"))
    source, other = damage.pick(files), damage.pick(files)
    damage.log.append(f"{source.name}, parts of {other.name}")
    # Numbers of their own, so that what a case does to the file itself stays what it was.
    of_frame = Damage(damage.rng.spawn(1)[0], damage.log)
    done = damaged_file(damage, source, other, folder)
    if of_frame.rng.random() < 0.3:
        done += damaged_frame(of_frame, source, other, folder)
    return done


def damaged_frame(damage: Damage, source: Path, other: Path, folder: Path) -> Counter[str]:
    """Sync a change of a valid file to it, and damage the frame that this is."""
    path = folder / "synced.farann"
    path.write_bytes(source.read_bytes())
    index = farann.Index.load(path)
    dim = index.dim or 1
    if damage.rng.random() < 0.8:
        added(index, damage.rng.standard_normal((int(damage.rng.integers(1, 90)), dim)
                                                ).astype(np.float32))
    index.remove(index.ids[:: int(damage.rng.integers(20, 90))])
    index.sync(path)
    index.close()
    rest, content = inside.files.last_frame(path)
    path.write_bytes(rest)
    mapped = bool(damage.rng.random() < 0.5)
    reader = farann.Index.load(path, mmap=mapped)
    ids = reader.ids.tolist()
    damage.log.append(f"a frame, mapped {mapped}")
    inside.files.append_content(path, damage.index_file(content, other.read_bytes()))
    try:
        index = farann.Index.load(path, mmap=mapped)
    except farann.FormatError:
        try:
            reader.reload()
        except farann.FormatError:
            assert reader.ids.tolist() == ids
            return Counter({"frames": 1, "refused": 1})
        raise AssertionError("reload took what load refuses") from None
    reader.reload()
    assert reader.ids.tolist() == index.ids.tolist()
    for one in (index, reader):
        use(one, damage.rng, folder, damage.log)
    return Counter({"frames": 1, "accepted": 1})


def damaged_file(damage: Damage, source: Path, other: Path, folder: Path) -> Counter[str]:
    """Damage a valid file."""
    path = folder / "index.farann"
    path.write_bytes(damage.index_file(source.read_bytes(), other.read_bytes()))
    mapped = bool(damage.rng.random() < 0.5)
    with contextlib.suppress(farann.FormatError):
        inside.files.verify_file(path)
    try:
        index = farann.Index.load(path, mmap=mapped)
    except farann.FormatError:
        return Counter({"index files": 1, "refused": 1})
    damage.log.append(f"loaded, mapped {mapped}: {index!r}")
    if mapped and not sound(index):
        # Mapped rows aren't looked at before a search reads them: only that one must not crash.
        with contextlib.suppress(farann.FormatError, ValueError):
            use(index, damage.rng, folder, damage.log)
    else:
        use(index, damage.rng, folder, damage.log)
    return Counter({"index files": 1, "accepted": 1})


def sound(index: farann.Index) -> bool:
    """Whether the rows are such as `add` takes."""
    if index.dim is None or index.dim > LARGEST_DIM:
        return True
    with np.errstate(all="ignore"):
        rows = index.reconstruct(index.ids)
    return bool(np.isfinite(rows).all() and (index.metric != "cosine" or rows.any(axis=1).all()))


def use(index: farann.Index, rng: np.random.Generator, folder: Path, log: list[str]) -> None:
    """Ask an index of strange content everything; answers may be wrong, but not impossible."""
    with np.errstate(all="ignore"):  # strange numbers have strange products
        _use(index, rng, folder, log)


def _use(index: farann.Index, rng: np.random.Generator, folder: Path, log: list[str]) -> None:
    ids, dim = index.ids, index.dim
    assert len(ids) == len(index) and len(set(ids.tolist())) == len(ids)
    if dim is None or dim > LARGEST_DIM:
        return
    queries = rng.standard_normal((37, dim), dtype=np.float32)
    steps: list[Callable[[], object]] = [
        lambda: ask(index, queries),
        lambda: ask(again(index, folder), queries),
        lambda: added(index, queries[:20]),
        lambda: index.remove(index.ids[::3]),
        lambda: ask(index, queries),
        lambda: again(index, folder),
        lambda: index.tune(k=3),
        lambda: index.build(queries),
        lambda: ask(index, queries),
        lambda: again(index, folder),
    ]
    for number, step in enumerate(steps):
        log.append(f"step {number}")
        step()


def added(index: farann.Index, rows: NDArray[np.float32]) -> None:
    """Add rows, with ids of their own where a file says that the last one was in use."""
    try:
        index.add(rows)
    except ValueError as error:
        assert "no int64 is left" in str(error)
        index.add(rows, ids=np.setdiff1d(np.arange(len(index) + len(rows)), index.ids)[: len(rows)])


def again(index: farann.Index, folder: Path) -> farann.Index:
    index.save(folder / "again.farann")
    return farann.Index.load(folder / "again.farann")


def ask(index: farann.Index, queries: NDArray[np.float32]) -> None:
    ids = index.ids
    vectors = index.stats()["keep_vectors"]
    limits: list[dict[str, Any]] = [{"recall": 0.5}, {"recall": 1.0}, {"budget": 40},
                                    {"budget": 2**40}]
    limits += [{}, {"epsilon": 0.1}] if vectors else []
    for limit in limits:
        for question in (queries, queries[0]):
            for k in (1, 10):
                valid(index.search_furthest(question, k, **limit), ids)
    few = ids[: len(ids) // 5]
    valid(index.search_furthest(queries, 5, budget=100, allowed=few), few)
    valid(index.search_furthest(queries[0], 5, budget=100, exclude=few), ids)
    if vectors:
        valid(index.search_nearest(queries[:3], len(ids) + 1), ids)
        assert np.isin(index.search_beyond(queries[:3], radius=1.0).ids, ids).all()
    assert index.score(queries[:2], few).shape == (2, len(few))
    assert index.reconstruct(ids).shape == (len(ids), index.dim)


def valid(hits: farann.Hits, ids: NDArray[np.int64]) -> None:
    for answer in np.atleast_2d(hits.ids):
        found = answer[answer >= 0]
        assert len(set(found.tolist())) == len(found) and np.isin(found, ids).all()


# ---- vector files ----


def vector_file(damage: Damage, folder: Path) -> Counter[str]:
    rng = damage.rng
    suffix = damage.pick([".npy", ".npy", ".npz", ".fvecs", ".ivecs", ".bvecs", ".parquet", ".h5"])
    path = folder / f"vectors{suffix}"
    rows = rng.integers(0, 99, (int(rng.integers(1, 30)), int(rng.integers(1, 20))))
    rows = rows.astype(damage.pick([np.float32, np.float64, np.int32, np.uint8, np.float16]))
    try:
        vectors.write_vectors(path, rows)
    except ImportError:
        return Counter({"formats not there": 1})
    damage.log.append(f"{suffix} of {rows.dtype} {rows.shape}")
    data = path.read_bytes()
    # What says how large an array is stands at the beginning, in Parquet at the end.
    head = min(len(data), 160)
    part = damage.pick(["all", "head", "tail"])
    if part == "head":
        data = damage.bytes(data[:head], grow=True) + data[head:]
    elif part == "tail":
        data = data[:-head] + damage.bytes(data[-head:], grow=True)
    else:
        data = damage.bytes(data, grow=True)
    path.write_bytes(data)
    done = Counter({"vector files": 1})
    for read in (lambda file: file.read(), lambda file: file.map(folder),
                 lambda file: np.concatenate(
                     [np.empty((0, file.dim), file.dtype), *file.blocks(100)])):
        try:
            file = vectors.open_vectors(path)
            got = read(file)
        except ValueError:
            done["refused vectors"] = 1
        else:
            assert got.shape == (file.rows, file.dim), got.shape
            done["accepted vectors"] = 1
    return done
