"""The targets of rows in little memory: where each stands in its file, from which it is read when it is asked for."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tpsolve.compare._packed_rows import RowsByKey
from tpsolve.compare._run_folder import targets_log
from tpsolve.compare.running._tasks import Key


class _Named(msgspec.Struct):
    instance: str
    solver: str
    seed: int


class TargetsByKey(Mapping[Key, dict[str, Any]]):
    """The targets of rows, as they are kept, by the keys of the rows; each is a new dict whenever it is asked for.

    Of two with one key in a file the last counts: the row of the other may be missing, as after a power cut.

    Args:
        folder: of the comparison.
        rows: its rows, as `read_rows` gives them. Targets are in the file that belongs to that of the row.

    Raises:
        FileFormatError: a file of targets is damaged; what it says besides names is checked when it is asked for.
        TooLargeError: a file of targets is larger than one may be.
    """

    def __init__(self, folder: Path, rows: RowsByKey) -> None:
        self._folder, self._rows = folder, rows
        self._starts: dict[Key, int] = {}
        read = msgspec.json.Decoder(_Named).decode
        for part in sorted(rows.parts):
            log = targets_log(folder, part)
            for line, start in log.lines():
                try:
                    found = read(line)
                except (msgspec.MsgspecError, RecursionError, ValueError):
                    log.at(start)  # Which says what is wrong.
                    raise
                key = sys.intern(found.instance), sys.intern(found.solver), found.seed
                if key in rows and rows.part_of(key) == part:
                    self._starts[key] = start

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return targets_log(self._folder, self._rows.part_of(key)).at(self._starts[key])

    def __contains__(self, key: object) -> bool:
        return key in self._starts

    def __iter__(self) -> Iterator[Key]:
        return iter(self._starts)

    def __len__(self) -> int:
        return len(self._starts)
