"""A plug-in from outside: installed into a fresh environment, known by its name everywhere, and told of if broken."""

import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import tpsolve

pytestmark = [pytest.mark.slow, pytest.mark.cli]

PLUGIN = Path(__file__).parent / "support" / "plugin"


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has the plug-in, and sees tpsolve and the libraries of this one."""

    python: Path
    folder: Path

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        environment.pop("PYTHONPATH", None)
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, cwd=self.folder, env=environment
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("plugin")
    venv.create(folder / "fresh", with_pip=False)
    python = folder / "fresh" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    (packages,) = {Path(path) for path in site_packages(python)}
    here = [str(Path(tpsolve.__file__).parents[1]), *(path for path in sys.path if path.endswith("-packages"))]
    (packages / "here.pth").write_text("\n".join(here))
    shutil.copytree(PLUGIN, folder / "source")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", *offline, str(folder / "source")]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return Environment(python, folder)


def site_packages(python: Path) -> list[str]:
    code = "import site, json; print(json.dumps(site.getsitepackages()))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return [path for path in json.loads(done.stdout) if path.endswith("-packages")]


def assert_broken_ones_are_named(err: str) -> None:
    """One line for each solver of the plug-in that can't be loaded, and no others."""
    lines = err.splitlines()
    begin = "tpsolve: solver plug-in {} (package tpsolve-example 0.3) was not loaded: {}"
    assert len(lines) == 3, err
    assert lines[0].startswith(begin.format("absent", "ModuleNotFoundError: No module named 'tpsolve_example.absent'"))
    assert lines[1].startswith(begin.format("impostor", "ArgumentError: solver: got <class 'tpsolve_example.Means'>"))
    assert lines[2].startswith(begin.format("keep", "ArgumentError: solver: got the name 'keep', expected another"))


def test_list_shows_the_solver_and_names_the_broken_ones_in_a_line_each(installed: Environment):
    done = installed.run("-m", "tpsolve", "list")
    assert done.returncode == 0
    (row,) = (line for line in done.stdout.splitlines() if "twice" in line)
    assert "The activations, or their negation, whichever is better" in row
    assert "hill-climb" in done.stdout
    assert "under the name of one that tpsolve has" not in done.stdout
    assert_broken_ones_are_named(done.stderr)


def test_solve_runs_it(installed: Environment):
    problem = tpsolve.problems.make_instance("random", n=8, m=6, samples=2, seed=1).problem
    problem.save(installed.folder / "p.npz")
    done = installed.run("-m", "tpsolve", "solve", "p.npz", "--solver", "twice", "--steps", 1, "--save", "r.npz")
    assert done.returncode == 0, done.stderr
    result, _ = tpsolve.load_result(installed.folder / "r.npz")
    assert problem.start is not None
    both = torch.minimum(problem.objective(problem.start), problem.objective(-problem.start))
    assert torch.equal(result.objective, both)


@pytest.mark.nightly
def test_compare_runs_it_on_the_suite_of_the_plugin(installed: Environment):
    options = ("--samples", 1, "--seconds", 0.02, "--seeds", 1, "--solver", "twice", "--solver", "hill-climb")
    done = installed.run("-m", "tpsolve", "compare", "--suite", "tiny", *options)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (installed.folder / "runs/tiny/rows.jsonl").read_text().splitlines()]
    assert [row["solver"] for row in rows] == ["twice", "hill-climb"]
    assert not any("error" in row for row in rows)


def test_python_finds_solver_learner_and_suite(installed: Environment):
    done = installed.run(PLUGIN.parent / "use_plugin.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all done\n"
