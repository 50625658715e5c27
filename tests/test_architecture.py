"""The page of the architecture shows the code as it is: `python -m docs.architecture` would write it again."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.imports import FLOORS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "architecture.md"
PICTURES = sorted(re.findall(r"\]\(images/([\w-]+\.svg)\)", PAGE.read_text()))
MEND = "run python -m docs.architecture"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: what other tests have cached would be missing among the calls."""
    command = [sys.executable, "-W", "error", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=DOCS.parent, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page and its pictures, made anew."""
    folder = tmp_path_factory.mktemp("architecture")
    done = python("-m", "docs.architecture", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def labels(picture: Path) -> list[str]:
    texts = ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()).strip() for text in texts]


@pytest.mark.slow
def test_lists_of_the_page_are_those_of_a_fresh_run(fresh: Path):
    assert PAGE.read_text() == (fresh / PAGE.name).read_text(), MEND


@pytest.mark.slow
def test_page_shows_every_picture(fresh: Path):
    assert sorted(path.name for path in (fresh / "images").iterdir()) == PICTURES
    assert len(PICTURES) == 5


@pytest.mark.slow
@pytest.mark.parametrize("picture", PICTURES)
def test_labels_of_a_picture_are_those_of_a_fresh_run(picture: str, fresh: Path):
    shown = labels(DOCS / "images" / picture)
    assert len(shown) > 20
    assert shown == labels(fresh / "images" / picture), MEND


def test_page_has_a_paragraph_for_each_floor():
    leads = re.findall(r"^\*\*(`.*`)\.\*\*", PAGE.read_text(), re.MULTILINE)
    assert leads == [", ".join(f"`{name}`" for name in names) for names in FLOORS]


ASKED = """
from docs.architecture import Journey, definition, layer, stations
for ask in (
    lambda: stations(Journey("journey", layer, ("search/_solve.py", "search/exact/_milp.py"))),
    lambda: stations(Journey("journey", layer, ("search/_cp_sat_run.py", "search/_naming.py:find_solver"))),
    lambda: definition("no_such_name"),
    lambda: definition("digits"),
    lambda: definition("problems:digits"),
):
    try:
        print(ask())
    except SystemExit as refusal:
        print("refused:", refusal)
"""


@pytest.mark.slow
def test_what_no_run_passes_and_what_no_single_file_defines_is_refused():
    done = python("-c", ASKED)
    assert done.returncode == 0, done.stderr
    never, too_early, no_file, two_files, found = done.stdout.splitlines()
    assert never.startswith("refused: journey: search/exact/_milp.py was not called after ")
    assert too_early.startswith("refused: journey: search/_naming.py:find_solver was not called after ")
    assert no_file == "refused: no_such_name: defined in no file"
    assert two_files.startswith("refused: digits: defined in compare/")
    assert found == "problems/instances/_table_instances.py"
