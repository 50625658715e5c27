"""An append-only log of rows, one JSON object a line, that survives a kill and a torn last line."""

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tpsolve._storage._documents import check_shape, check_values, parse_json
from tpsolve._storage._limits import check_bytes, max_bytes, opened, read_bytes
from tpsolve._storage._write_whole import sync_folder
from tpsolve.errors import FileFormatError, FolderError

_PIECE = 2**16


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

    def read(self) -> list[dict[str, Any]]:
        """All whole rows. A last line that is torn by a kill or a full disk, or is being written, is left out.

        Raises:
            FileFormatError: an earlier line is no JSON object with these fields: the file is not such a log.
        """
        if not self.path.exists():
            return []
        content = read_bytes(self.path)
        check_values(content, self.path)
        whole = content[: content.rfind(b"\n") + 1]
        return [self._row(f"{self.path}:{k}", line) for k, line in enumerate(whole.splitlines(), start=1)]

    def each(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Each row that `read` gives, and where in the file it begins: for more rows than memory may hold.

        Raises:
            FileFormatError: as `read`, when the line is reached.
            TooLargeError: the file is larger than one may be.
        """
        for number, (line, start) in enumerate(self.lines(), start=1):
            yield self._row(f"{self.path}:{number}", line), start

    def lines(self) -> Iterator[tuple[bytes, int]]:
        """Each whole line, whatever it holds, and where in the file it begins.

        Raises:
            TooLargeError: the file is larger than one may be.
        """
        if not self.path.exists():
            return
        size, most = 0, max_bytes()
        with opened(self.path) as stream:
            while line := stream.readline(most + 1 - size):
                start, size = size, size + len(line)
                if size > most:
                    check_bytes(self.path, size)
                if line.endswith(b"\n"):
                    yield line, start

    def at(self, start: int) -> dict[str, Any]:
        """The row of the line that begins there.

        Raises:
            FileFormatError: as `read`.
        """
        with opened(self.path) as stream:
            stream.seek(start)
            return self._row(f"{self.path}, byte {start}", stream.readline(max_bytes() + 1))

    def _row(self, where: str, line: bytes | bytearray) -> dict[str, Any]:
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

    def append(self, *rows: dict[str, Any]) -> list[int]:
        """Write rows through to the disk, together; a torn last line is cut off first.

        One process appends at a time: see `locked`.

        Returns:
            Where in the file each begins.

        Raises:
            FolderError: it can't be written; rows already there are kept.
        """
        new = not self.path.exists()
        try:
            with self.path.open("a+b") as stream:
                end = _cut_torn(stream)
                lines = [json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows]
                stream.writelines(lines)
                stream.flush()
                os.fsync(stream.fileno())
            if new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise FolderError(f"{self.path}: can't be written ({error.strerror}).{self._kept()}") from error
        return [end + before for before in itertools.accumulate(map(len, lines[:-1]), initial=0)][: len(lines)]

    def _kept(self) -> str:
        try:
            return " Finished rows are kept." if b"\n" in self.path.read_bytes() else ""
        except OSError:
            return ""


def read_parts(path: Path, fields: Any = (), outcome: Any = ()) -> list[dict[str, Any]]:
    """The rows of a file and of those beside it that shards have written, such as `wide.shard-3-of-16.jsonl`.

    Arguments and errors are those of `RowLog`.
    """
    paths = [path, *sorted(path.parent.glob(f"{path.stem}.shard-*.jsonl"))]
    return [row for one in paths for row in RowLog(one, fields, outcome).read()]


def _cut_torn(stream: IO[bytes]) -> int:
    """Cut what stands behind the last line feed off a file; its size then."""
    end = size = stream.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _PIECE)
        stream.seek(start)
        at = stream.read(end - start).rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        stream.truncate(end)
    return end
