"""Write the tables of reliability.md from the rows of the benchmarks: `python docs/reliability.py`."""

import re
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"


FREE = 1.7
"""Cores that two workers must have had for their seconds to say something."""


def rows_of(benchmark: str) -> list[dict[str, Any]]:
    """The rows of a benchmark."""
    return read_parts(RESULTS / f"{benchmark}.jsonl")


def crashes() -> str:
    """How often runs were ended how, and how often what must hold did."""
    tried, failed = Counter[str](), Counter[str]()
    rows = rows_of("crashes")
    dated = [row for row in rows if "code" in row]
    latest = sum(row["tried"] for row in dated)
    for row in rows:
        tried[row["kind"]] += row["tried"]
        failed[row["kind"]] += len(row["failures"])
    lines = ["| what was tried | times | ended otherwise than the whole run |", "|---|---:|---:|"]
    lines += [f"| {kind} | {count:,} | {failed[kind]} |" for kind, count in tried.items()]
    words = (
        "Runs were ended in many ways and gone on with. Rows of a comparison must be those of the whole one, but for "
        "what is measured, and each must be there once. Weights of a training must be the same bits. Of two processes "
        "in one folder, one must do all, and the other end with one line. Power was cut on a simulated disk, which "
        "loses what was not synced, at every sync and rename. "
        + (f"{latest} of all are of the code of {dated[0]['code']} or later. " if dated else "")
        + f"On {rows[0]['machine']}, with Python {rows[0]['python']}."
    )
    return "\n".join([words, "", *lines])


def cluster() -> str:
    """64 simulated workers, and cube and conquer with one worker and two."""
    # What was measured later stands for what was measured before.
    rows = list({(row["kind"], row["workers"], row.get("deaths")): row for row in rows_of("cluster")}.values())
    heads = ("tasks", "workers", "deaths", "work, s", "seconds", "efficiency", "longest task, s", "tail, s")
    heads += ("workers that died", "scheduler, s of the processor", "rows or cubes lost or twice")
    heads += ("times as fast as one",)
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    names = {"comparison": "solves of a comparison", "cubes": "cubes of one network"}
    loads = [row["load"] for row in rows if row["kind"] in names]
    for row in rows:
        if row["kind"] in names:
            wrong = row["twice"] + row["tasks"] - row["rows"] if row["kind"] == "comparison" else int(not row["closed"])
            lines.append(
                f"| {row['tasks']} {names[row['kind']]} | {row['workers']} | {row['deaths']:.0%} "
                f"| {row['work_seconds']:.0f} | {row['seconds']:.1f} | {row['efficiency']:.0%} "
                f"| {row['longest_seconds']:.1f} | {row['tail_seconds']:.1f} | {row['died']} "
                f"| {row['scheduler_seconds']:.1f} | {wrong} "
                f"| {row.get('one_worker_seconds', row['work_seconds']) / row['seconds']:.1f} |"
            )
    words = (
        "Here workers are simulated. The scheduler, and what keeps the rows or joins the cubes, are the real ones. A "
        "worker sleeps for as long as the task took when it was measured, times a factor. Efficiency is the work that "
        "counted, over the seconds of all workers. What it lacks are workers that died, those that wait for the last "
        "tasks (the tail), and what the scheduler takes itself. Cubes are halved before the first is dealt out, four "
        "for each worker, and one that takes long is cut into eight parts, which are the next to be dealt out. "
        "That makes more work in all than one worker needs, so what they gain is the last column: "
        "the seconds of one worker, who halves only cubes that take long, over theirs. "
        f"The load of the machine was {min(loads):.0f} to {max(loads):.0f} "
        f"on two cores meanwhile, so the scheduler had a small share of one. On {rows[0]['machine']}."
    )
    parts = [words, "", *lines]
    real = [row for row in rows if row["kind"] == "conquer"]
    if real:
        first = real[0]
        parts += ["", f"Cube and conquer on `{first['table']}` with {first['units']} units, real workers:", ""]
        heads = (
            "workers",
            "errors",
            "bound",
            "cubes",
            "seconds",
            "seconds of the processor",
            "cores that it got",
            "proof",
        )
        parts += [f"| {' | '.join(heads)} |", f"|{'---:|' * len(heads)}"]
        for row in real:
            found = row["search"]
            parts.append(
                f"| {row['workers']} | {found['errors']:g} | {found['bound']:g} | {found['cubes']} "
                f"| {row['seconds']:.0f} | {row['processor_seconds']:.0f} | {row['cores']:.2f} | {row['proof']} |"
            )
    return "\n".join(parts)


def scale() -> str:
    """Planning and resuming of a large comparison."""
    rows = [row for row in {row["instances"]: row for row in rows_of("scale")}.values() if "checked" in row]
    row = max(rows, key=lambda row: row["instances"])
    solves = row["instances"] * row["solvers"]
    words = (
        f"A comparison of {row['instances']:,} instances and {row['solvers']} solvers is planned in "
        f"{row['plan_and_save_seconds']:.1f} s of the processor, with its instances written to the disk. With all "
        f"{solves:,} rows there it is resumed in {row['resume_seconds']:.1f} s. Three of these are for objectives "
        "that are recomputed. Rows and targets stay in their files, and each is read when it is asked for. A task is a "
        "number until its turn comes. So resuming grows by "
        f"{_bytes_a_row(rows, 'loaded_mib', 'resumed_mib'):.0f} bytes a row from the least of these to the largest, "
        f"and planning by {_bytes_a_row(rows, 'made_mib', 'planned_mib'):.0f} beyond what the suite's own instances "
        f"take. On {row['machine']}, with a load of {row['load']:.0f}."
    )
    heads = ("rows", "JSON, MiB", "MiB of a new one", "planned, MiB", "MiB before resuming", "resumed, MiB", "seconds")
    lines = [f"| {' | '.join((*heads, 'objectives recomputed'))} |", f"|{'---:|' * (len(heads) + 1)}"]
    for row in sorted(rows, key=lambda row: row["instances"]):
        solves = row["instances"] * row["solvers"]
        found = re.search(r"objectives of ([0-9,]*[0-9])", row["checked"])
        lines.append(
            f"| {solves:,} | {row['rows_mib']:.0f} | {row['made_mib']:.0f} | {row['planned_mib']:.0f} "
            f"| {row['loaded_mib']:.0f} | {row['resumed_mib']:.0f} | {row['resume_seconds']:.1f} "
            f"| {found[1] if found else f'{solves:,}'} |"
        )
    return "\n".join([words, "", *lines])


def _bytes_a_row(rows: list[dict[str, Any]], before: str, after: str) -> float:
    """By how much the memory that is taken besides grows from the comparison with the fewest rows to the largest."""
    least, most = (pick(rows, key=lambda row: row["instances"] * row["solvers"]) for pick in (min, max))
    more = (most[after] - most[before]) - (least[after] - least[before])
    return 2**20 * more / max(1, most["instances"] * most["solvers"] - least["instances"] * least["solvers"])


def report_page() -> str:
    """Drawing the page of a large comparison, and opening it."""
    latest = {(row["instances"], row["solvers"]): row for row in rows_of("report_page")}
    heads = ("rows", "instances", "solvers", "seconds of the processor", "MiB at most", "MB of the page", "opened in")
    lines = [f"| {' | '.join(heads)} |", f"|{'---:|' * len(heads)}"]
    for row in latest.values():
        shown = "-" if row["opened_seconds"] is None else f"{row['opened_seconds']:.1f} s"
        lines.append(
            f"| {row['rows']:,} | {row['instances']:,} | {row['solvers']} | {row['drawn_seconds']:.0f} "
            f"| {row['drawn_mib']:.0f} | {row['page_mb']:.1f} | {shown} |"
        )
    loads = [row["load"] for row in latest.values()]
    words = (
        "`tpsolve report` drew the page of rows at random, with traces of eight points. Chromium opened it from the "
        "disk. The time to open it ends when the last table has its first line. The solves of the first 200 instances "
        f"are in the page, those of the others in files beside it. The load of the machine was {min(loads):.0f} to "
        f"{max(loads):.0f} on two cores."
    )
    return "\n".join([words, "", *lines])


def workers() -> str:
    """One worker and two on the same work."""
    heads = (
        "workers",
        "solves",
        "seconds",
        "seconds of the processor",
        "cores that it got",
        "load before",
        "same rows",
    )
    lines = [f"| {' | '.join(heads)} |", f"|{'---:|' * len(heads)}"]
    rows = rows_of("workers")
    for row in rows:
        figures = f"{row['seconds']:.0f} | {row['processor_seconds']:.0f} | {row['cores']:.2f} | {row['load']:.1f}"
        same = "yes" if row["same_rows"] else "no"
        lines.append(f"| {row['workers']} | {row['tasks']} | {figures} | {same} |")
    # What was measured last is of the code as it is.
    pairs = [(one, two) for one, two in zip(rows[::2], rows[1::2], strict=True) if one["tasks"] == rows[-1]["tasks"]]
    free = [one["seconds"] / two["seconds"] for one, two in pairs if two["cores"] >= FREE]
    found = f"Of {rows[-1]['tasks']} solves, two workers that got at least {FREE} cores were " if free else ""
    found += f"{statistics.median(free):.2f} times as fast as one (median of {len(free)} pairs). " if free else ""
    words = (
        "Two workers and one did the same work, with budgets in steps and one thread each. The rows tell how much of "
        "the machine they got: other programs ran on it. Where two workers did not get nearly two cores, the seconds "
        f"say nothing of what two free cores give. {found}"
        f"On {rows[0]['machine']}."
    )
    return "\n".join([words, "", *lines])


def hostile_files() -> str:
    """How changed files of each kind ended, and how long and how much they took at most."""
    everything = rows_of("hostile_files")
    # What was measured last is of the code as it is.
    rows = [row for row in everything if row["seed"] == everything[-1]["seed"]]
    before = [row for row in everything if row["seed"] != everything[-1]["seed"]]
    ends: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for text, count in row["ends"].items():
            kind, _, end = text.partition(": ")
            ends[kind, end] += count
    kinds = sorted({kind for kind, _ in ends})
    lines = ["| kind of file | tried | read | refused with one line | anything else |", "|---|---:|---:|---:|---:|"]
    totals = Counter[str]()
    for kind in kinds:
        read, refused = ends[kind, "read"], ends[kind, "refused"]
        tried = sum(count for (one, _), count in ends.items() if one == kind)
        totals.update(tried=tried, read=read, refused=refused, other=tried - read - refused)
        lines.append(f"| {kind} | {tried:,} | {read:,} | {refused:,} | {tried - read - refused:,} |")
    cells = " | ".join(f"{totals[name]:,}" for name in ("tried", "read", "refused", "other"))
    lines.append(f"| all | {cells} |")
    slowest, peak = max(row["slowest"] for row in rows), max(row["peak"] for row in rows)
    first = rows[0]
    words = (
        f"Valid files of {len(kinds)} kinds were changed as somebody does who knows their structure: headers, numbers, "
        "types, shapes, sizes and bytes. Hashes were made anew, so that checks see the change. The limit "
        f"of a file was 64 MiB. The slowest took {slowest:.1f} s of the processor, and the largest "
        f"{peak / 2**20:.0f} MiB. Anything else would be a traceback, a crash, more than 5 s or 128 MiB, or a file or "
        "process that appears. "
        f"Files of other seeds, {sum(sum(row['ends'].values()) for row in before):,} in all, were tried on the code as "
        f"it came to be: {sum(len(row['failures']) for row in before)} ended as something else, which was mended. "
        f"On {first['machine']}, with Python {first['python']}."
    )
    return "\n".join([words, "", *lines])


if __name__ == "__main__":
    page = HERE / "reliability.md"
    text = page.read_text(encoding="utf-8")
    sections = {"crashes": crashes, "workers": workers, "cluster": cluster, "scale": scale, "report-page": report_page}
    for name, section in (sections | {"hostile-files": hostile_files}).items():
        marked = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        content = section()
        text = marked.sub(lambda found, content=content: f"{found[1]}\n{content}\n\n{found[2]}", text)
    page.write_text(text, encoding="utf-8")
