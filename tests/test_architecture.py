"""The page of the architecture shows the code as it is: `python -m docs.architecture` would write it again."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.imports import FLOORS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "architecture.md"
MEND = "run python -m docs.architecture"


def python(*arguments: str) -> str:
    """What it prints in a process of its own: what other tests have cached would be missing among the calls."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def labels(picture: Path) -> list[str]:
    texts = ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()).strip() for text in texts]


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.docs
def test_page_and_pictures_are_those_of_a_fresh_run(tmp_path: Path):
    # One test: a run takes seconds.
    python("-m", "docs.architecture", str(tmp_path))
    page = PAGE.read_text()
    assert page == (tmp_path / PAGE.name).read_text(), MEND
    pictures = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert len(pictures) == 5
    assert pictures == sorted(re.findall(r"\]\(images/([\w-]+\.svg)\)", page))
    for name in pictures:
        shown = labels(DOCS / "images" / name)
        assert len(shown) > 20
        assert shown == labels(tmp_path / "images" / name), f"{name}: {MEND}"


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
@pytest.mark.docs
def test_what_no_run_passes_and_what_no_single_file_defines_is_refused():
    never, too_early, no_file, two_files, found = python("-c", ASKED).splitlines()
    assert never.startswith("refused: journey: search/exact/_milp.py was not called after ")
    assert too_early.startswith("refused: journey: search/_naming.py:find_solver was not called after ")
    assert no_file == "refused: no_such_name: defined in no file"
    assert two_files.startswith("refused: digits: defined in compare/")
    assert found == "problems/instances/_table_instances.py"
