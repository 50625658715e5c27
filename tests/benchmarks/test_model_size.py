"""The page on models shows the saved sizes, and what is measured is measured rightly."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def load(path: Path):
    found = importlib.util.spec_from_file_location(path.stem + "_loaded", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_page_shows_the_saved_sizes():
    assert load(ROOT / "docs" / "model_size.py").section() in (ROOT / "docs" / "models.md").read_text()


def test_the_page_on_exact_answers_shows_the_saved_rows_of_large_tables():
    assert load(ROOT / "docs" / "large_tables.py").section() in (ROOT / "docs" / "exact.md").read_text()


def test_the_last_row_of_a_method_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = load(ROOT / "docs" / "model_size.py")
    row = {"data": "digits", "method": "thresholds 8, 8 bits", "bytes": 10, "accuracy": 0.5, "machine": "m"}
    row |= {"python": "3", "tpsolve": "0"}
    rows = [row, {**row, "bytes": 20, "gates": 7}]
    (tmp_path / "model_size.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    assert "| digits | thresholds 8, 8 bits | 20 | 50.0 % | 7 |" in module.section()
    assert "| 10 |" not in module.section()


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, ("gcc", "ld", "size"))), reason="no compiler")
def test_bytes_are_those_of_what_predict_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    module = load(ROOT / "benchmarks" / "model_size.py")
    X, y = np.array([[1, 2], [3, 0]]), np.array([0, 1])
    source = "static const unsigned char t[{0}] = {{1}};\nint unused(int k) {{ return t[k]; }}\n"
    used = "int predict(const int32_t *x) {{ return {1}x[0] > 2; }}\n"
    small, large = (
        module.compiled(tmp_path, "#include <stdint.h>\n" + (source + used).format(1000, read), "int32_t", X, y)
        for read in ("", "t[x[1]] + ")
    )
    assert small["accuracy"] == 1.0
    assert large["accuracy"] == 1.0
    assert small["bytes"] < 200
    assert 1000 < large["bytes"] < 1200
