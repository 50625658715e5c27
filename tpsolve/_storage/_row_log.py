"""An append-only log of rows, one JSON object a line, that survives a kill and a torn last line."""

import json
import os
from pathlib import Path
from typing import Any

from tpsolve.errors import FileFormatError, FolderError


class RowLog:
    """The rows of one file; whatever was appended is on disk when `append` returns.

    Args:
        path: need not exist yet; its folder must.
        fields: what every row holds.
        outcome: what a row without an "error" holds besides.
    """

    path: Path
    fields: tuple[str, ...]
    outcome: tuple[str, ...]

    def __init__(self, path: Path, fields: tuple[str, ...] = (), outcome: tuple[str, ...] = ()) -> None:
        self.path, self.fields, self.outcome = path, fields, outcome

    def read(self) -> list[dict[str, Any]]:
        """All whole rows. A last line torn by a kill or a full disk is cut off the file.

        Raises:
            FileFormatError: an earlier line is no JSON object with these fields: the file is not such a log.
        """
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self.path.open("r+b") as stream:
                stream.truncate(len(whole))
        rows = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise FileFormatError(f"{self.path}:{number}: not a row of such a log. Move the file away.") from error
            if not isinstance(row, dict) or not self._is_whole(row):
                raise FileFormatError(f"{self.path}:{number}: not a row of such a log. Move the file away.")
            rows.append(row)
        return rows

    def _is_whole(self, row: dict[str, Any]) -> bool:
        fields = self.fields if "error" in row else self.fields + self.outcome
        return all(field in row for field in fields)

    def append(self, row: dict[str, Any]) -> None:
        """Write one row through to the disk.

        Raises:
            FolderError: it can't be written; rows already there are kept.
        """
        try:
            with self.path.open("ab") as stream:
                stream.write(json.dumps(row, allow_nan=False).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise FolderError(f"{self.path}: can't be written ({error.strerror}). Finished rows are kept.") from error
