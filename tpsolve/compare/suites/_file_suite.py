"""Files of one's own as a suite: saved problems, and tables as network problems."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpsolve.compare.suites._table_suite import ENDINGS, read_network
from tpsolve.errors import ArgumentError, FileFormatError
from tpsolve.problems import Instance, NetworkProblem, Problem, load_problem
from tpsolve.tables import TableOptions


@dataclass(frozen=True)
class FileSuite:
    """Saved problems, and tables whose networks with the fewest training errors are sought; each file is an instance.

    Args:
        files: those of `Problem.save` and `tpsolve instances` (.npz), and tables (.csv, .tsv, ...).
        target: the column of classes, the same in all tables.
        widths: units of each hidden layer, for tables.
        options: how tables are read.

    Raises:
        ArgumentError: no files, one given twice, one of another kind, tables without a target, or widths below 1.
    """

    files: Sequence[Path]
    target: str = ""
    widths: Sequence[int] = (3,)
    options: TableOptions = field(default_factory=TableOptions)

    def __post_init__(self) -> None:
        files = tuple(map(Path, self.files))
        object.__setattr__(self, "files", files)
        object.__setattr__(self, "widths", NetworkProblem([[0.0], [1.0]], [0, 1], self.widths).widths)
        if not files:
            raise ArgumentError("files", "none", "at least one problem or table")
        seen: set[Path] = set()
        for file in files:
            if file.resolve() in seen:
                raise ArgumentError("files", f"{file} twice", "each file once")
            seen.add(file.resolve())
            if not _is_problem(file) and not file.name.lower().endswith(ENDINGS):
                expected = f"saved problems (.npz) or tables ({', '.join(ENDINGS)})"
                raise ArgumentError("files", file, expected, "Folders of tables go with --tables.")
            if not _is_problem(file) and not self.target:
                raise ArgumentError("target", "nothing", "the column that holds the classes", f"{file} is a table.")

    @property
    def has_tables(self) -> bool:
        """Whether any file is a table."""
        return not all(map(_is_problem, self.files))

    def instances(self) -> list[Instance[Problem]]:
        """One a file, in their order.

        Each is called after its file, with the folders in which the files differ before it, such as `easy/1`.

        Raises:
            FileFormatError: a file is missing, damaged, or neither a problem nor a table.
            ArgumentError: a table can't be read; the message names it.
        """
        shape = "-".join(map(str, self.widths))
        folders = [file.resolve().parent for file in self.files]
        above = Path(os.path.commonpath(folders))
        names = [
            (folder.relative_to(above) / file.name.partition(".")[0]).as_posix()
            + ("" if _is_problem(file) else f"/{shape}")
            for file, folder in zip(self.files, folders, strict=True)
        ]
        counts = Counter(names)
        names = [name if counts[name] == 1 else str(file) for name, file in zip(names, self.files, strict=True)]
        found = []
        for name, file in zip(names, self.files, strict=True):
            if not file.is_file():
                raise FileFormatError(f"{file}: there is no such file.")
            problem = load_problem(file) if _is_problem(file) else self._network(file)
            found.append(Instance(name, problem))
        return found

    def to_json(self) -> dict[str, Any]:
        """What the rows of a comparison share."""
        files = [str(file) for file in self.files]
        if not self.has_tables:
            return {"files": files}
        options = self.options.to_json()
        return {**dataclasses.asdict(self), "files": files, "widths": list(self.widths), "options": options}

    def _network(self, file: Path) -> NetworkProblem:
        return read_network(file, self.target, self.widths, self.options)


def _is_problem(file: Path) -> bool:
    return file.name.lower().endswith(".npz")
