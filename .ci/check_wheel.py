"""Check what a build ships: every file of the package, its metadata, and nothing else.

    python -m build && python .ci/check_wheel.py dist

Without a folder, a source archive and a wheel are built from a copy of the tree, with the setuptools that is installed.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
METADATA = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
AROUND = ("LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg")
"""Files of the source archive that the wheel is built from, besides the package."""
BUILT = ("__pycache__", "*.egg-info", "build", "dist", ".*", "runs")


def version() -> str:
    """The version of the tree, whatever is installed."""
    command = [sys.executable, "-c", "import tpsolve; print(tpsolve.__version__)"]
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def package_files() -> set[str]:
    """All files below tpsolve/, by their paths from the root."""
    found = (path for path in (ROOT / "tpsolve").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


def wheel_files(path: Path) -> set[str]:
    """All files of a wheel."""
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def source_files(path: Path) -> set[str]:
    """All files of a source archive but setuptools' own notes, by their paths below its one folder."""
    with tarfile.open(path) as archive:
        names = [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]
    return {name for name in names if not name.startswith("tpsolve.egg-info/")}


def differences(found: set[str], expected: set[str]) -> list[str]:
    """One line for each file that is missing or should not be there."""
    missing = [f"missing: {name}" for name in sorted(expected - found)]
    return missing + [f"not expected: {name}" for name in sorted(found - expected)]


def check(folder: Path) -> list[str]:
    """One line for each fault of the wheel and the source archive in `folder`."""
    name = f"tpsolve-{version()}"
    wheel, source = folder / f"{name}-py3-none-any.whl", folder / f"{name}.tar.gz"
    faults = differences({path.name for path in folder.iterdir()}, {wheel.name, source.name})
    if faults:
        return faults
    package = package_files()
    metadata = {f"{name}.dist-info/{file}" for file in METADATA}
    for path, files, expected in (
        (wheel, wheel_files(wheel), package | metadata),
        (source, source_files(source), package | set(AROUND)),
    ):
        faults += [f"{path.name}: {fault}" for fault in differences(files, expected)]
    return faults


def build(folder: Path) -> None:
    """Build both into `folder`, from a copy of the tree: what lies in build/ would come along."""
    with tempfile.TemporaryDirectory() as copy:
        tree = Path(copy, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*BUILT))
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(tree)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Print the faults; the exit status is 1 if there are any."""
    if len(sys.argv) > 1:
        faults = check(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder))
            faults = check(Path(folder))
    print("\n".join(faults) or f"{len(package_files())} files of the package, all there and nothing else.")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
