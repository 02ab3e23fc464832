"""Errors and warnings that users see by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class FormatError(ValueError):
    """The bytes are not a whole, unaltered farann file that this version can read."""


class RecallWarning(UserWarning):
    """Many queries are unlike those that a recall was measured with.

    They get exact answers, so recall is what was asked for, but searches take longer than they
    would if `Index.build` or `Index.tune` were given queries of that kind.
    """
