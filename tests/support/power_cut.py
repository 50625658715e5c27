"""A disk that loses at a power cut whatever was not synced: the states that it may be left in."""

import contextvars
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """Watches a folder: what is synced is durable, all else may be there after a power cut, or a part of it, or not.

    Contents of files and names in folders are synced apart, as POSIX has it. Names come in the order in which they were
    given, contents in any. A cut falls before each call of `os.fsync`, `os.replace` and `os.link`, and whenever a test
    asks for one.

    Args:
        root: the folder; durable as it is.
        at_cut: called for each moment in which a cut may fall.
    """

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, at_cut: Callable[["Disk"], None]) -> None:
        self.root, self.at_cut = root, at_cut
        self.busy = False
        # Descriptors keep numbers of files from being given again.
        self.open: dict[int, int] = {}
        self.durable: dict[int, bytes] = {}
        self.names: dict[Path, list[dict[str, int]]] = {root: [self._listed(root)]}
        for path in root.rglob("*"):
            if path.is_file():
                self.durable[path.stat().st_ino] = path.read_bytes()
        real = {name: getattr(os, name) for name in ("replace", "link")}

        def fsync(descriptor: Any) -> None:
            # Nothing is synced in earnest, which takes its time.
            self.cut()
            if not self.busy:
                self._sync(descriptor)

        def renaming(name: str) -> Callable[..., None]:
            def call(*arguments: Any) -> None:
                self.cut()
                real[name](*arguments)
                if not self.busy:
                    self.look()

            return call

        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "replace", renaming("replace"))
        patch.setattr(os, "link", renaming("link"))

    def _listed(self, folder: Path) -> dict[str, int]:
        found = {}
        for path in folder.iterdir():
            number = found[path.name] = path.stat().st_ino
            if path.is_file() and number not in self.open:
                self.open[number] = os.open(path, os.O_RDONLY)
        return found

    def cut(self) -> None:
        """A cut may fall now."""
        # What a test does with a state that is left is not watched.
        if not self.busy:
            self.look()
            self.busy = True
            # Whoever goes on is another process, which knows of nothing that this one is about.
            contextvars.Context().run(self.at_cut, self)
            self.busy = False

    def look(self) -> None:
        """Take note of the names that there are."""
        for folder in [self.root, *(path for path in self.root.rglob("*") if path.is_dir())]:
            states = self.names.setdefault(folder, [{}])
            listed = self._listed(folder)
            if listed != states[-1]:
                states.append(listed)

    def _sync(self, descriptor: int) -> None:
        number = os.fstat(descriptor).st_ino
        for folder in self.names:
            if folder.exists() and folder.stat().st_ino == number:
                self.names[folder] = [self._listed(folder)]
                return
        if number in self.open:
            self.durable[number] = self._content(number)

    def _content(self, number: int) -> bytes:
        return os.pread(self.open[number], 2**30, 0)

    def left(self, target: Path, drawn: random.Random) -> None:
        """Make `target` what a cut at this moment leaves of the folder; one of the possible states is drawn."""
        shutil.rmtree(target, ignore_errors=True)
        self._leave(self.root, target, drawn)

    def _leave(self, folder: Path, target: Path, drawn: random.Random) -> None:
        target.mkdir()
        states = self.names.get(folder, [{}])
        # The extremes break most: nothing that was not synced is there, or all names without their contents.
        for name, number in drawn.choice([states[0], states[-1], drawn.choice(states)]).items():
            if folder / name in self.names:
                self._leave(folder / name, target / name, drawn)
            elif number in self.open:
                (target / name).write_bytes(self._left_of(number, drawn))

    def _left_of(self, number: int, drawn: random.Random) -> bytes:
        before, now = self.durable.get(number, b""), self._content(number)
        if before == now:
            return now
        part = now[: drawn.randint(0, len(now))]
        return drawn.choice([before, before, now, part if part.startswith(before) else before, before + b"\0" * 7])

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in self.open.values():
            os.close(descriptor)
