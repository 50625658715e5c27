"""The targets of rows in little memory: where each stands in its file, from which it is read when it is asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tpsolve.compare._row_files import Key, Places, file_and_start, targets_log


class _Named(msgspec.Struct):
    instance: str
    solver: str
    seed: int


class TargetsByKey:
    """The targets of rows, as they are kept, by the keys of the rows; each is a new dict whenever it is asked for.

    Of two with one key in a file the last counts: the row of the other may be missing, as after a power cut.

    Args:
        folder: of the comparison. parts: of its files.
        rows: where its rows stand. Targets are in the file that belongs to that of the row.

    Raises:
        FileFormatError: a file of targets is damaged; what it says besides names is checked when it is asked for.
        TooLargeError: a file of targets is larger than one may be.
    """

    def __init__(self, folder: Path, parts: Sequence[str], rows: Places) -> None:
        self._logs, self._rows = [targets_log(folder, part) for part in parts], rows
        self._starts = [Places(last=True) for _ in parts]
        read = msgspec.json.Decoder(_Named).decode
        for log, starts in zip(self._logs, self._starts, strict=True):
            for line, start in log.lines():
                try:
                    found = read(line)
                except (msgspec.MsgspecError, RecursionError, ValueError):
                    log.at(start)  # Which says what is wrong.
                    raise
                starts.add((found.instance, found.solver, found.seed), start)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        number, start = self._find(key)
        if start < 0:
            raise KeyError(key)
        return self._logs[number].at(start)

    def __contains__(self, key: Key) -> bool:
        return self._find(key)[1] >= 0

    def _find(self, key: Key) -> tuple[int, int]:
        """The file of a key, and where in it its targets begin; -1: it has none."""
        place = int(self._rows.find([key])[0])
        if place < 0:
            return 0, -1
        number, _ = file_and_start(place)
        return number, int(self._starts[number].find([key])[0])
