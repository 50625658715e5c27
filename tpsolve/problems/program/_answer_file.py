"""A file of a program's answers, which outlive a crash; threads and processes share it."""

import contextlib
import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from os import PathLike
from typing import Any

from tpsolve._storage._documents import check_values
from tpsolve._storage._limits import max_bytes
from tpsolve.errors import ArgumentError, FileFormatError, FolderError

SAVE_SECONDS = 0.1
"""Answers that come faster are written together."""
_TABLE = "CREATE TABLE answers (key text primary key, answer text)"
LOCK_SECONDS = 60.0
"""How long a write waits for those of other processes."""


class AnswerFile:
    """Texts by key in an SQLite file, which is locked no longer than a write takes.

    Args:
        path: of the file, which is made if there is none.

    Raises:
        ArgumentError: `path` is no path.
        FileFormatError, FolderError: it holds something else, or can't be read or written.
    """

    def __init__(self, path: str | PathLike[str]):
        if not isinstance(path, str | PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError("path", type(path).__name__, "the path of a file")
        self._path = path
        self._open()

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process opens the file anew."""
        return {"_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._path = state["_path"]
        self._open()

    def get(self, key: str) -> str | None:
        """The text of this key, which is JSON; None: there is none.

        Raises:
            FileFormatError: it is something else.
            TooLargeError: its values would take more than a file may.
        """
        with self._connection() as file:
            if key in self._waiting:
                return self._waiting[key]
            row = file.execute("select answer from answers where key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            check_values(row[0], self._path)
            json.loads(row[0])
        except (TypeError, ValueError, RecursionError) as error:
            raise FileFormatError(f"{self._path}: holds an answer that is no JSON ({error}).") from error
        return row[0]

    def put(self, key: str, text: str) -> None:
        """Keep the text: on disk at once, unless another was written within `SAVE_SECONDS`; then by the next `put`
        after these, or by `save`.
        """
        with self._connection():
            self._waiting[key] = text
            if time.monotonic() - self._saved > SAVE_SECONDS:
                self.save()

    def save(self) -> None:
        """Write what waits."""
        with self._connection() as file:
            if self._waiting:
                with file:
                    file.executemany("insert or replace into answers values (?, ?)", self._waiting.items())
            self._waiting = {}
            self._saved = time.monotonic()

    def _open(self) -> None:
        self._lock = threading.RLock()
        self._process = -1
        with self._connection():
            pass

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone."""
        try:
            with self._lock:
                # SQLite allows no connection to be used by a forked process.
                if self._process != os.getpid():
                    self._waiting: dict[str, str] = {}
                    self._saved = -math.inf
                    self._file = sqlite3.connect(self._path, timeout=LOCK_SECONDS, check_same_thread=False)
                    self._file.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(max_bytes(), 2**30))
                    with self._file:
                        self._file.execute(_TABLE.replace("TABLE", "TABLE if not exists", 1))
                    # Views and triggers of a stranger would run here.
                    held = self._file.execute("select sql from sqlite_master where sql is not null").fetchall()
                    if held != [(_TABLE,)]:
                        raise sqlite3.DatabaseError("other tables")
                    self._process = os.getpid()
                yield self._file
        except sqlite3.OperationalError as error:
            mend = "Choose a folder that you may write to, on a disk with space."
            raise FolderError(f"{self._path}: can't be read or written ({error}). {mend}") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # The latter of an error's own words.
            raise FileFormatError(f"{self._path}: no memory of a program ({error}).") from error
