"""Metadata of a file as JSON, and back; nothing that is read is trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from farann.contract import FormatError

MAX_METADATA = 1 << 20  # bytes of JSON, which takes far more room once it is parsed


def encode_metadata(metadata: Mapping[str, Any]) -> bytes:
    """JSON; ValueError or TypeError for what it can't say."""
    text = json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"), allow_nan=False)
    payload = text.encode("ascii")
    # Never write what cannot be read.
    check_metadata_size(len(payload))
    decode_metadata(payload)
    return payload


def check_metadata_size(nbytes: int) -> None:
    """Refuse more than there may be, before there is memory for it."""
    if nbytes > MAX_METADATA:
        raise FormatError(f"metadata: expected at most {MAX_METADATA} bytes, got {nbytes}")


def decode_metadata(payload: bytes) -> dict[str, Any]:
    """What JSON says, if it is an object without repeated keys and infinite numbers."""
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key comes twice")
        return dict(pairs)

    def finite(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError(f"{text} is not a finite number")
        return float(text)

    try:
        metadata = json.loads(
            payload.decode("utf-8"),
            object_pairs_hook=unique,
            parse_float=finite,
            parse_constant=finite,
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"metadata is not valid JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise FormatError(
            f"metadata: expected a JSON object, got {type(metadata).__name__}"
        )
    return metadata
