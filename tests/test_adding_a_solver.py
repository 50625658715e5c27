"""The page about adding a solver, followed to the letter: inside a copy of the tree, and outside of it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tpsolve.testing import SOLVER_CHECKS

pytestmark = [pytest.mark.slow, pytest.mark.docs]

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/adding-a-solver.md").read_text()
INSIDE = PAGE[PAGE.index("## In tpsolve itself") :]


def run(folder: Path, *arguments: str) -> str:
    """Standard output of Python in `folder`, whose tpsolve comes before that of this tree."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT))),
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def block(text: str, opening: str) -> str:
    """The first fenced block that opens with `opening`."""
    found = re.search(rf"^```{re.escape(opening)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, opening
    return found[1]


def solver_block() -> str:
    """The Python block of the page that defines Prefixes, imports and all."""
    (found,) = [text for text in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S) if "class Prefixes" in text]
    return found


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree with the two edits of the page."""
    folder = tmp_path_factory.mktemp("tree")
    junk = shutil.ignore_patterns("__pycache__", "images", "_build")
    for name in ("tpsolve", "docs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=junk)
    shutil.copy(ROOT / "pyproject.toml", folder)

    saved = re.search(r"Save the class `Prefixes` as `([^`]+)`", INSIDE)
    assert saved is not None
    source = solver_block()
    (folder / saved[1]).write_text(f"{block(INSIDE, 'text')}\n\n{source[source.index('@dataclass') :]}")

    named = re.search(r"Import it in `([^`]+)`", INSIDE)
    assert named is not None
    lines = block(INSIDE, "diff").splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] != "+")
    after = "".join(line[1:] for line in lines if line[0] != "-")
    registry = (folder / named[1]).read_text()
    assert registry.count(before) == 1
    (folder / named[1]).write_text(registry.replace(before, after))
    return folder


ASKED = """
import json, runpy, sys
import tpsolve.search
print(json.dumps([tpsolve.search.Prefixes.name, tpsolve.search.__file__]))
print(json.dumps(runpy.run_path("docs/conf.py")["myst_substitutions"]))
sys.argv = ["tpsolve", "list"]
runpy.run_module("tpsolve", run_name="__main__")
"""


@pytest.fixture(scope="module")
def told(copy: Path) -> list[str]:
    """Lines that one process of the copy prints: a public name, what the pages are made of, and the list of solvers."""
    return run(copy, "-c", ASKED).splitlines()


def test_list_and_the_public_names_have_it(copy: Path, told: list[str]):
    assert json.loads(told[0]) == ["prefixes", str(copy / "tpsolve/search/__init__.py")]
    (row,) = (line for line in told[2:] if "prefixes" in line)
    assert "The best prefix of the targets ranked by the gradient at the activations" in row


def test_tables_and_reference_of_the_pages_have_it(told: list[str]):
    made = json.loads(told[1])
    assert re.search(r"^\| `prefixes` \| layer \| no \| no \| - \| - \| The best prefix", made["solvers"], re.MULTILINE)
    assert re.search(r"^\| `prefixes` \| one prefix of every sample \|$", made["steps"], re.MULTILINE)
    assert "autoclass:: tpsolve.search.Prefixes" in made["solver_classes"]
    assert "One step: one prefix of every sample." in made["solver_classes"]


@pytest.mark.nightly
def test_contract_and_layering_hold_for_it(copy: Path):
    laws = "reaches or downward or algorithm or private or name or corridor"
    files = ("tests/search/test_solver_contract.py", "tests/test_layering.py")
    options = ("-v", "-p", "no:cacheprovider", "-n", "0", "-k", f"prefixes or (test_layering and ({laws}))")
    passed = re.findall(r"^(\S+)::.* PASSED", run(copy, "-m", "pytest", *files, *options), re.MULTILINE)
    assert passed.count(files[0]) > 50
    assert passed.count(files[1]) >= 8


@pytest.mark.nightly
def test_package_of_its_own_passes_the_checks_that_the_page_shows(tmp_path: Path):
    project = tomllib.loads(block(PAGE, "text pyproject.toml"))
    # That such an entry point works once it is installed is shown with the plug-in of test_plugins.py.
    plugin = tomllib.loads((ROOT / "tests/support/plugin/pyproject.toml").read_text())
    assert project["build-system"] == plugin["build-system"]
    (group,) = project["project"]["entry-points"].values()
    assert project["project"]["entry-points"].keys() <= plugin["project"]["entry-points"].keys()
    assert group == {"prefixes": "tpsolve_prefixes:Prefixes"}
    (module,) = project["tool"]["setuptools"]["py-modules"]

    (tmp_path / f"{module}.py").write_text(solver_block())
    (tmp_path / "prefixes_test.py").write_text(block(PAGE, "text prefixes_test.py"))
    told = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "prefixes_test.py")
    passed = re.search(r"(\d+) passed", told)
    assert passed is not None
    assert int(passed[1]) == len(SOLVER_CHECKS)
