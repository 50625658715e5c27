"""The page on models shows the saved rows of the benchmark."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = importlib.util.spec_from_file_location("generalisation_tables", ROOT / "docs" / "generalisation.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, found.name, module)
    found.loader.exec_module(module)
    return module


def test_the_page_shows_the_saved_rows(tables: ModuleType):
    page, groups = (ROOT / "docs" / "models.md").read_text(), tables.read_rows()
    assert tables.section(groups) in page
    assert tables.offers(groups) in page
    assert tables.states(groups) in page


def test_a_table_that_a_method_has_not_finished_is_left_out(tables: ModuleType, tmp_path: Path, monkeypatch):
    lines = (ROOT / "benchmarks" / "results" / "generalisation.jsonl").read_text().splitlines()
    before = tables.section(tables.read_rows()).splitlines()
    name = before[2].split("|")[1].strip()
    rows = [json.loads(line) for line in lines]
    gone = next(number for number, row in enumerate(rows) if (row["table"], row["method"]) == (name, tables.ORDER[0]))
    (tmp_path / "generalisation.jsonl").write_text("\n".join(lines[:gone] + lines[gone + 1 :]) + "\n")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    after = tables.section(tables.read_rows()).splitlines()
    assert len(after) == len(before) - 1
    assert not any(line.startswith(f"| {name} ") for line in after)
