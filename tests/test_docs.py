"""The pages do what they say: examples run, shown output is real, links lead somewhere, nothing is left out.

Conventions of the pages: every ```python block runs, all of a page in one namespace; an ```output block
right below holds what it prints. In ```console blocks the lines that begin with `$ tpsolve` run, and
what follows is their output. A line of three dots stands for any lines that are not shown. A block that
begins with ```text NAME is a file that commands and examples find.
"""

import contextlib
import importlib
import importlib.util
import io
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.public_names import exported, not_public
from typer.main import get_command
from typer.testing import CliRunner

from tpsolve import SOLVERS, cli
from tpsolve.compare import SUITES
from tpsolve.losses import LOSSES
from tpsolve.problems import GENERATORS
from tpsolve.units import LEARNERS

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

QUICK = {"--seconds": "0.01", "--seeds": "1", "--samples": "1"}
"""Options that `tpsolve compare` gets here, also where the page gives them: minutes become seconds."""
COLUMNS = 80
"""Width of the terminal on the pages, unless a command begins with COLUMNS=."""

LONG = ("command-line.md", "models.md", "quickstart.md", "training.md")
"""Pages whose commands compare and train for seconds."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: what follows its opening fence, its content, and the line where that begins."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command of a console block, and what the page shows below it."""

    words: list[str]
    columns: int
    shown: list[str]


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    fences = re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(found[1].strip(), found[2], text[: found.start(2)].count("\n") + 1) for found in fences]


def write_files(page: Path, folder: Path) -> None:
    """The files that a page shows."""
    for block in blocks(page):
        if named := re.fullmatch(r"text (\S+)", block.language):
            (folder / named[1]).write_text(block.text)


def commands(page: Path) -> list[Command]:
    """The `tpsolve` commands of a page, in order."""
    found: list[Command] = []
    for block in blocks(page):
        if block.language not in ("console", "sh"):
            continue
        for line in block.text.splitlines():
            if ours := re.match(r"\$ (?:COLUMNS=(\d+) )?tpsolve\b(.*)", line):
                found.append(Command(shlex.split(ours[2], comments=True), int(ours[1] or COLUMNS), []))
            elif line.startswith("$"):
                found.append(Command([], COLUMNS, []))
            elif found:
                found[-1].shown.append(line)
    return [command for command in found if command.words]


def plain(text: str) -> list[str]:
    """Lines without what differs between runs or machines: times, rounding errors, widths, sizes of proofs."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"\d[\d.]*(e[+-]\d+)? s, \d+ steps", "TIME", text)
    text = re.sub(r"\b\d(\.\d+)?e-\d+", "TINY", text)
    text = re.sub(r"\d+ (circuits, each|learned by)", r"SOME \1", text)
    text = re.sub(r"([─━═])\1*", r"\1", text)
    return [line for raw in text.splitlines() if (line := re.sub(r"\s+", " ", raw).strip())]


def assert_shown(shown: list[str], real: str, where: str) -> None:
    """What the page shows is the real output, but for lines left out at three dots."""
    expected, actual = plain("\n".join(shown)), plain(real)
    if "..." not in expected:
        assert expected == actual, f"{where} printed something else:\n{real}"
    at = 0
    for line in expected:
        if line != "...":
            assert line in actual[at:], f"{where} did not print {line!r}:\n{real}"
            at = actual.index(line, at) + 1


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """What a page registers ends with it."""
    before = [(registry, set(registry)) for registry in (SOLVERS, LEARNERS)]
    yield
    for registry, names in before:
        for name in set(registry) - names:
            del registry[name]


@each_page
@pytest.mark.rounding
@pytest.mark.slow
def test_python_of_the_page_runs_and_prints_what_it_shows(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    namespace = {"__name__": f"page_{page.stem}"}
    found = blocks(page)
    for number, block in enumerate(found):
        if block.language != "python":
            continue
        # Blank lines above make the lines of a traceback those of the page.
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        below = found[number + 1] if number + 1 < len(found) else None
        if below is not None and below.language == "output":
            assert_shown(below.text.splitlines(), printed.getvalue(), f"{page.name}:{block.line}")


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow) if page.name in LONG else page for page in PAGES],
    ids=lambda page: page.name,
)
@pytest.mark.rounding
def test_commands_of_the_page_run_and_print_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_plots: None
):
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    for command in commands(page):
        words, shown = list(command.words), command.shown
        if words[0] == "compare":
            # Files have their own samples.
            fixed = "--training" in words or any(word.endswith(".npz") for word in words)
            quick = {option: value for option, value in QUICK.items() if not (fixed and option == "--samples")}
            for option, value in quick.items():
                if option in words:
                    words[words.index(option) + 1] = value
                else:
                    words += [option, value]
            shown = []
        # A wide terminal of the developer must not change what is compared.
        monkeypatch.setenv("COLUMNS", str(command.columns))
        for console in (cli.output, cli.notes):
            monkeypatch.setattr(console, "_width", command.columns)
        result = CliRunner().invoke(cli.app, words, prog_name="tpsolve")
        what = f"{page.name}: tpsolve {shlex.join(words)}"
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"{what} failed") from result.exception
        assert result.exit_code == 0, f"{what} ended with status {result.exit_code}:\n{result.output}"
        if any(line.strip() for line in shown):
            assert_shown(shown, result.output, what)


@each_page
def test_no_block_of_code_escapes_the_tests(page: Path):
    stray = re.findall(r"^[ \t>]+```(?:python|console|sh)\b.*$|^~~~.*$", page.read_text(), re.MULTILINE)
    assert not stray, "the tests find blocks at the start of a line alone"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_pages_take_public_names_only(page: Path):
    found = [not_public(block.text) for block in blocks(page) if block.language == "python"]
    assert list(itertools.chain(*found)) == []


# The scripts in docs/ that draw its pictures, and those in benchmarks/, are tools of the project: they may use what is
# not public.
@pytest.mark.parametrize("script", sorted(DOCS.glob("examples/*.py")), ids=lambda script: script.name)
def test_examples_take_public_names_only(script: Path):
    assert not_public(script.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from tpsolve.nn._target_pass import TargetPass", ["tpsolve.nn._target_pass.TargetPass"]),
        ("import tpsolve.nn._diagnosis as d", ["tpsolve.nn._diagnosis"]),
        ("from tpsolve import solve, _storage", ["tpsolve._storage"]),
        ("from tpsolve.search.local import _tabu", ["tpsolve.search.local._tabu"]),
        ("from tpsolve.search import local", ["tpsolve.search.local"]),
        ("from tpsolve.search import register_all, Tabu", ["tpsolve.search.register_all"]),
        ("from tpsolve.spins import torch", ["tpsolve.spins.torch"]),
        ("import tpsolve\ntpsolve._result.load_result(p)", ["tpsolve._result.load_result", "tpsolve._result"]),
        ("import tpsolve\ntpsolve.nn.chain_of(model)", ["tpsolve.nn.chain_of"]),
        ("print(report._pass)", ["report._pass"]),
        (
            "import tpsolve.nn\nfrom tpsolve import pictures, __version__\nfrom tpsolve.train.data import load_digits",
            [],
        ),
        ("import os\nfrom tpsolve.spins import sign\ntpsolve.search.Circuits().name\nself.__class__", []),
    ],
)
def test_the_reader_tells_public_names_from_others(source: str, found: list[str]):
    assert not_public(source) == found


@each_page
def test_relative_links_lead_to_files(page: Path):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^()\s#]+)(?:#[^()\s]*)?\)", re.sub(r"`[^`\n]*`", "", prose))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as Sphinx builds them, with every warning an error."""
    missing = [name for name in ("sphinx", "furo", "myst_parser") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install -c constraints.txt '.[docs]'")
    folder = tmp_path_factory.mktemp("docs")
    options = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(folder / "doctrees")]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, f"sphinx-build -W failed:\n{built.stderr}"
    return folder / "html"


@pytest.mark.slow
def test_sphinx_builds_every_page_without_a_warning(site: Path):
    assert {path.stem for path in DOCS.glob("*.md")} <= {path.stem for path in site.glob("*.html")}


@pytest.mark.slow
def test_built_pages_load_nothing_from_elsewhere(site: Path):
    for page in site.glob("*.html"):
        loaded = re.findall(r"<(?:script|link|img)\b[^>]*(?:src|href)=\"(https?:[^\"]*)\"", page.read_text())
        assert loaded == [], page.name


@pytest.mark.slow
@pytest.mark.parametrize("page", ["choosing-a-solver", "concepts"], ids=["solvers", "steps"])
def test_every_solver_is_in_the_tables_that_the_registry_makes(site: Path, page: str):
    table = (site / f"{page}.html").read_text()
    assert [name for name in SOLVERS if f'<span class="pre">{name}</span>' not in table] == []


@pytest.mark.parametrize(
    "module",
    [
        "tpsolve",
        "tpsolve.problems",
        "tpsolve.search",
        "tpsolve.tables",
        "tpsolve.units",
        "tpsolve.nn",
        "tpsolve.train",
        "tpsolve.models",
        "tpsolve.compare",
        "tpsolve.testing",
    ],
)
@pytest.mark.slow
def test_every_public_name_is_in_the_reference(module: str, site: Path):
    reference = (site / "api.html").read_text()
    public = exported(module)
    # A module, the version, or a name that is already public one floor up.
    elsewhere = {name for name in public if f'id="tpsolve.{name}"' in reference}
    wanted = {name for name in public if not name.startswith("__") and name not in elsewhere}
    missing = [name for name in wanted if f'id="{module}.{name}"' not in reference]
    assert [name for name in missing if f'id="module-{module}.{name}"' not in reference] == []


GROUP: Any = get_command(cli.app)
COMMANDS = {f"tpsolve {name}" for name in GROUP.commands}
OPTIONS = {option for command in GROUP.commands.values() for given in command.params for option in given.opts}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("concepts.md", LOSSES),
        ("command-line.md", COMMANDS),
        ("command-line.md", {option for option in OPTIONS if option.startswith("--")} - {"--help"}),
        ("command-line.md", GENERATORS),
        ("command-line.md", SUITES),
    ],
    ids=["losses", "commands", "options", "generators", "suites"],
)
def test_everything_that_can_be_named_on_the_command_line_is_on_the_page(page: str, names: set[str]):
    text = (DOCS / page).read_text()
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_dependency_has_its_reason():
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    names = {re.split(r"[^\w.-]", item)[0] for item in wanted} - {"tpsolve"}
    reasons = (DOCS / "libraries.md").read_text()
    assert [name for name in sorted(names) if not re.search(rf"\| {re.escape(name)} \|", reasons)] == []


def test_measured_table_names_solvers_that_exist():
    page = (DOCS / "choosing-a-solver.md").read_text()
    table = re.search(r"<!-- measured: begin.*?-->(.*)<!-- measured: end -->", page, re.DOTALL)
    assert table is not None
    names = re.findall(r"^\| `([\w-]+)[^`]*` \|", table[1], re.MULTILINE)
    assert names
    assert set(names) <= set(SOLVERS)
