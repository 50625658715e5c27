"""What a build ships: all of the package and nothing else, and the check that says so."""

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci/check_wheel.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("check_wheel", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_wheel = load()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    check_wheel.build(folder)
    return folder


@pytest.fixture
def dist(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    for path in built.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.slow
def test_wheel_and_source_archive_hold_the_package_and_nothing_else(built: Path):
    assert check_wheel.check(built) == []
    files = check_wheel.wheel_files(next(built.glob("*.whl")))
    # Each kind of data file that the package has.
    assert {Path(name).suffix for name in files if name.startswith("tpsolve/")} >= {
        ".py",
        ".typed",
        ".html",
        ".json",
        ".toml",
    }


@pytest.mark.slow
def test_command_of_the_release_workflow_ends_with_status_0(built: Path):
    done = subprocess.run([sys.executable, str(SCRIPT), str(built)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_file_left_out_of_the_wheel_is_named(dist: Path):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if name != "tpsolve/py.typed"}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
    assert check_wheel.check(dist) == [f"{wheel.name}: missing: tpsolve/py.typed"]
    done = subprocess.run([sys.executable, str(SCRIPT), str(dist)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "missing: tpsolve/py.typed" in done.stdout


def test_stray_file_in_the_wheel_is_named(dist: Path):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tests/zoo.py", "")
    assert check_wheel.check(dist) == [f"{wheel.name}: not expected: tests/zoo.py"]


@pytest.mark.slow
def test_stray_file_in_the_source_archive_is_named(dist: Path, tmp_path_factory: pytest.TempPathFactory):
    (source,) = dist.glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    (top / "notes.txt").write_text("")
    with tarfile.open(source, "w:gz") as archive:
        archive.add(top, top.name)
    assert check_wheel.check(dist) == [f"{source.name}: not expected: notes.txt"]


def test_wheel_of_another_version_is_refused(dist: Path):
    (wheel,) = dist.glob("*.whl")
    wheel.rename(dist / "tpsolve-0.0.1-py3-none-any.whl")
    assert check_wheel.check(dist) == [f"missing: {wheel.name}", "not expected: tpsolve-0.0.1-py3-none-any.whl"]
