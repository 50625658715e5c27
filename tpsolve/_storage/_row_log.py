"""An append-only log of rows, one JSON object a line, that survives a kill and a torn last line."""

import json
import os
from pathlib import Path
from typing import Any

from tpsolve._storage._documents import check_shape, check_values, parse_json
from tpsolve._storage._limits import read_bytes
from tpsolve.errors import FileFormatError, FolderError


class RowLog:
    """The rows of one file; whatever was appended is on disk when `append` returns.

    Args:
        path: need not exist yet; its folder must.
        fields: what every row holds: names, or a TypedDict with their types.
        outcome: what a row without an "error" holds besides.
    """

    path: Path
    fields: Any
    outcome: Any

    def __init__(self, path: Path, fields: Any = (), outcome: Any = ()) -> None:
        self.path, self.fields, self.outcome = path, fields, outcome

    def read(self, mend: bool = True) -> list[dict[str, Any]]:
        """All whole rows. A last line torn by a kill or a full disk is left out, and with `mend` cut off the file.

        Raises:
            FileFormatError: an earlier line is no JSON object with these fields: the file is not such a log.
        """
        if not self.path.exists():
            return []
        content = read_bytes(self.path)
        check_values(content, self.path)
        whole = content[: content.rfind(b"\n") + 1]
        if mend and len(whole) < len(content):
            with self.path.open("r+b") as stream:
                stream.truncate(len(whole))
        return [self._row(f"{self.path}:{k}", line) for k, line in enumerate(whole.splitlines(), start=1)]

    def _row(self, where: str, line: bytearray) -> dict[str, Any]:
        try:
            row = parse_json(line, where, dict[str, Any])
            for fields in (self.fields,) if "error" in row else (self.fields, self.outcome):
                if not isinstance(fields, tuple):
                    check_shape(row, where, fields)
                elif missing := [field for field in fields if field not in row]:
                    raise FileFormatError(f"{where}: lacks {missing[0]}.")
        except FileFormatError as error:
            raise FileFormatError(f"{where}: not a row of such a log. Move the file away. ({error})") from error
        return row

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
