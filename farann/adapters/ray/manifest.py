"""What a sharded index consists of: its shards, and how each is told from a damaged one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from farann._version import __version__
from farann.contract.errors import FormatError

NAME = "manifest.json"
_FORMAT = 1


class ShardError(RuntimeError):
    """A shard can't be searched: its file is not what the manifest says, or its workers are gone.

    The message names the shard.
    """


@dataclass(frozen=True)
class ShardRecord:
    """One shard, as the manifest lists it.

    Attributes
    ----------
    file : str
        Its name in the folder of the manifest.
    rows : int
    first_id, last_id : int or str
        The smallest and the largest id.
    sha256 : str
        Of the file, in hexadecimal digits.
    bytes : int
        Of the file.
    """

    file: str
    rows: int
    first_id: Any
    last_id: Any
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """A sharded index: what `build` returns, and writes last.

    Attributes
    ----------
    metric : str
    dim : int
    codes : str
    rows : int
        Of all shards.
    shards : tuple of ShardRecord
    farann : str
        The version that built it.
    grouped : bool
        Whether rows have groups.
    """

    metric: str
    dim: int
    codes: str
    rows: int
    shards: tuple[ShardRecord, ...]
    farann: str = __version__
    grouped: bool = False

    def to_json(self) -> bytes:
        """The bytes of its file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Manifest:
        """Read the bytes of its file; FormatError if they aren't those of one."""
        try:
            fields = json.loads(content)
            version = fields.pop("format")
            if version != _FORMAT:
                raise FormatError(f"{where}: expected a manifest of format {_FORMAT}, "
                                  f"got {version!r}; a newer farann wrote it")
            shards = tuple(ShardRecord(**record) for record in fields.pop("shards"))
            made = cls(shards=shards, **fields)
            whole = made.rows == sum(int(record.rows) for record in shards) and shards
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{where}: not a manifest of shards ({error})") from None
        if not whole:
            raise FormatError(f"{where}: expected as many rows as its shards have together, "
                              f"got {made.rows}")
        return made

    def name_of(self, shard: int) -> str:
        """What messages call a shard; the one after the last holds rows that were added."""
        if shard == len(self.shards):
            return f"shard {shard} (added rows)"
        return f"shard {shard} ({self.shards[shard].file})"
