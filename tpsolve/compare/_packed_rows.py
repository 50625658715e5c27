"""Rows of a comparison in little memory: each is kept packed, and is unpacked when it is asked for."""

import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, overload

import msgspec

from tpsolve.compare.running._tasks import Key

_RAW = -15
"""No header and no checksum, and the largest window."""

_ALIKE = {"instance", "solver", "settings", "budget", "loss", "start", "fingerprint", "tolerance"}
_ALIKE |= {"device", "host", "processor", "versions", "time", "status", "notes"}
"""What many rows have in common."""


class PackedRows(Sequence[dict[str, Any]]):
    """Rows as their file has them. Each is a new dict whenever it is asked for, so what is changed in one is lost.

    Args:
        packed: each row by `pack` with `common`.
        common: a text with which the rows have much in common.
    """

    __slots__ = ("_common", "_packed")

    def __init__(self, packed: Iterable[bytes], common: bytes) -> None:
        self._packed, self._common = list(packed), common

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Self:
        if isinstance(index, slice):
            return type(self)(self._packed[index], self._common)
        return _unpacked(self._packed[index], self._common)

    def __len__(self) -> int:
        return len(self._packed)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | PackedRows):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return repr(list(self))

    def unpacked(self) -> list[dict[str, Any]]:
        """All rows, to be read often and not changed: what many rows say alike is one object in all of them."""
        seen: dict[str, Any] = {}
        rows = []
        for row in self:
            for name in _ALIKE & row.keys():
                row[name] = seen.setdefault(f"{name} {row[name]!r}", row[name])
            rows.append(row)
        return rows


class RowsByKey(Mapping[Key, dict[str, Any]]):
    """Rows by what identifies them; of two with one key the first counts."""

    def __init__(self) -> None:
        self._packed: dict[Key, bytes] = {}
        self._common = b""
        self._parts: dict[Key, str] = {}

    def add(self, row: dict[str, Any], line: bytes | None = None, part: str = "") -> None:
        """Take a row, unless there is one with its key.

        Args:
            line: its JSON, where that is known.
            part: what the name of its file has besides, if it is that of a shard.
        """
        key = key_of(row)
        if key not in self._packed:
            line = json.dumps(row).encode() if line is None else line
            # Most of what a row says all rows say.
            self._common = self._common or line
            packer = zlib.compressobj(1, wbits=_RAW, zdict=self._common)
            # Names stand in many keys.
            names = sys.intern(key[0]), sys.intern(key[1])
            self._packed[*names, key[2]] = packer.compress(line) + packer.flush()
            if part:
                self._parts[*names, key[2]] = part

    def part_of(self, key: Key) -> str:
        """What the name of the file of a row has besides; "": it is not that of a shard."""
        return self._parts.get(key, "")

    @property
    def parts(self) -> set[str]:
        """What the names of all files have besides."""
        return {"", *self._parts.values()}

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return _unpacked(self._packed[key], self._common)

    def __contains__(self, key: object) -> bool:
        return key in self._packed

    def __iter__(self) -> Iterator[Key]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def rows(self, keys: Iterable[Key] | None = None) -> PackedRows:
        """The rows of those of the `keys` that have one, in their order; None: all rows."""
        found = self._packed.values() if keys is None else (self._packed[key] for key in keys if key in self._packed)
        return PackedRows(found, self._common)


def key_of(row: Mapping[str, Any]) -> Key:
    """What identifies a row within a run."""
    return row["instance"], row["solver"], row["seed"]


def _unpacked(packed: bytes, common: bytes) -> dict[str, Any]:
    return msgspec.json.decode(zlib.decompressobj(_RAW, common).decompress(packed))
