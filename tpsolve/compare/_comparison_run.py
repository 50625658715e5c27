"""A comparison from Python: run it, and look at what came of it."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from tpsolve._check_arguments import check_count
from tpsolve._result import lines_table
from tpsolve.compare._run_folder import Comparison
from tpsolve.compare._runner import run_comparison
from tpsolve.compare._same_host import of_one_host
from tpsolve.compare._statistics import Row
from tpsolve.compare._summary import Findings, Summary, advice
from tpsolve.compare.report._plots import FIGURES, draw
from tpsolve.compare.report._report import COLUMNS, as_table, caption, write_report
from tpsolve.compare.suites._file_suite import FileSuite
from tpsolve.compare.suites._suites import Suite, suite
from tpsolve.compare.suites._table_suite import TableSuite
from tpsolve.errors import ArgumentError, MissingLibraryError, UnknownNameError

OF_SAMPLES = ("objective", "bound", "status", "found_at", "proved_at")


@dataclass(frozen=True, repr=False)
class ComparisonRun:
    """What a comparison found.

    Args:
        comparison: what was compared, and where its files are.
        rows: one a solve, as `rows.jsonl` has them.
    """

    comparison: Comparison
    rows: Sequence[Row]

    @cached_property
    def _findings(self) -> Findings:
        return Findings(of_one_host(self.rows)[0])

    @property
    def summaries(self) -> list[Summary]:
        """One a solver, the one that leaves least first."""
        return self._findings.summaries

    @property
    def advice(self) -> str:
        """Which solver to use when, in words, from what paired tests tell apart."""
        return advice(self._findings)

    def table(self, width: int = 80) -> Table:
        """The table that the command line prints, within `width` characters; `rich.print` and notebooks show it."""
        return as_table(self.summaries, caption(self._findings), width)

    def plot(self, name: str = "gap") -> Figure:
        """One of the pictures: gap, solved, targets, ranks or wins, as the report's files have them.

        Raises:
            UnknownNameError: another name.
        """
        if name not in FIGURES:
            raise UnknownNameError("picture", name, FIGURES)
        return draw(name, self._findings)

    def report(self) -> Path:
        """Write `report.html`, `table.csv` and the pictures into the run's folder; the path of the page.

        Raises:
            FolderError: the folder can't be written.
        """
        return write_report(self.comparison, self.rows)

    def to_frame(self) -> Any:
        """A pandas DataFrame with one row for each sample of each solve.

        Its columns are instance, loss, solver, seed, sample, objective, bound, status, found_at, proved_at, seconds (of
        the call, all samples together) and error. A solve that failed has one row, without a sample.

        Raises:
            MissingLibraryError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingLibraryError("to_frame()", "pandas", "pandas") from error
        lines = []
        for row in self.rows:
            head = {name: row[name] for name in ("instance", "loss", "solver", "seed")}
            for sample in range(len(row.get("objective", ()))):
                values = {name: row[name][sample] for name in OF_SAMPLES}
                lines.append({**head, "sample": sample, **values, "seconds": row["seconds"], "error": None})
            if "error" in row:
                lines.append({**head, "sample": None, **dict.fromkeys((*OF_SAMPLES, "seconds")), "error": row["error"]})
        columns = ("instance", "loss", "solver", "seed", "sample", *OF_SAMPLES, "seconds", "error")
        return pandas.DataFrame(lines, columns=columns)

    def __repr__(self) -> str:
        """What was compared, and the solvers that leave least."""
        best = ", ".join(f"{summary.solver} {summary.left:.1%}" for summary in self.summaries[:3])
        return f"ComparisonRun on {self.comparison.source}: {caption(self._findings)}\n  left: {best or 'nothing'}"

    def _repr_html_(self) -> str:
        """For notebooks: the table and the verdict."""
        lines = ([content(summary) for _, content in COLUMNS] for summary in self.summaries)
        words = f"{html.escape(caption(self._findings))}. {html.escape(self.advice)}"
        return f"{lines_table([heading for heading, _ in COLUMNS], lines, 'solvers')}<p>{words}</p>"


def run(
    instances: str | Suite | FileSuite | TableSuite = "digits",
    solvers: Sequence[str] = (),
    *,
    folder: str | Path | None = None,
    samples: int = 4,
    seconds: float = 0.1,
    seeds: int = 3,
    suite_seed: int = 0,
    device: str = "cpu",
    fresh: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> ComparisonRun:
    """Give every instance to every solver under one budget, as `tpsolve compare` does; what is done already is kept.

    Args:
        instances: a suite: a name, a function, or "file.py:function"; see `suite`. Or files, or a folder of tables.
        solvers: texts such as "hill-climb:restarts=8"; none: every installed solver that is not made of others.
        folder: where the rows are; by default `runs/NAME`, named after the suite, "files" or the folder of tables.
        samples: of each instance. seconds: budget a sample.
        seeds: number of seeds of each solver that draws anything, from 0 on.
        suite_seed: of the instances. device: where the problems lie.
        fresh: delete the folder's earlier comparison.
        progress: called with (solves finished, solves in all, what is solved now).

    Raises:
        ArgumentError, UnknownNameError, DeviceError: an argument makes no sense.
        FolderError, FileFormatError: the folder holds another comparison, is damaged, or can't be written.
    """
    check_count("seeds", seeds, 1)
    if isinstance(solvers, str):
        raise ArgumentError("solvers", repr(solvers), "a list of texts", f"Write [{solvers!r}].")
    files = instances if isinstance(instances, FileSuite) else None
    tables = instances if isinstance(instances, TableSuite) else None
    known = "digits" if isinstance(instances, FileSuite | TableSuite) else suite(instances)
    name = "files" if files is not None else known if tables is None else tables.folder.name
    comparison = Comparison(
        folder=Path("runs") / name if folder is None else Path(folder) if isinstance(folder, str) else folder,
        suite=known,
        tables=tables,
        files=files,
        solvers=tuple(solvers),
        samples=samples,
        seconds=seconds,
        seeds=tuple(range(seeds)),
        suite_seed=suite_seed,
        device=device,
    )
    return ComparisonRun(comparison, run_comparison(comparison, fresh=fresh, progress=progress))
