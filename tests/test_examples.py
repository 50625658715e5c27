"""The scripts of docs/examples run from anywhere, and each stands on the page that shows them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SCRIPTS = sorted((DOCS / "examples").glob("*.py"))

each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


@pytest.mark.slow
@each_script
def test_example_runs_and_draws_its_picture(script: Path, tmp_path: Path):
    # Alone in a folder of its own: it may need no file of the repository, and its own assertions hold.
    (tmp_path / script.name).write_bytes(script.read_bytes())
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", script.name]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (picture,) = tmp_path.glob("*.png")
    assert (DOCS / "images" / f"example-{picture.name}").exists(), "the page shows the picture"


@each_script
def test_page_shows_the_example(script: Path):
    assert f"```{{literalinclude}} examples/{script.name}\n" in (DOCS / "examples.md").read_text()


@each_script
def test_example_is_a_notebook_that_opens_with_its_title(script: Path):
    cells = script.read_text().split("# %%")
    assert cells[0] == ""
    assert cells[1].startswith(' [markdown]\n"""# ')
    assert sum(not cell.startswith(" [markdown]") for cell in cells[1:]) >= 4
