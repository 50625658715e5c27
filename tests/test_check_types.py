"""The check of the public types: when it fails, and what it prints."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci/check_types.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("check_types", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_types = load()


def symbol(name: str, *, known: bool, ambiguous: bool = False, severity: str = "error") -> dict[str, Any]:
    diagnostics = [{"severity": severity, "message": "Type is\n  partially unknown"}]
    return {"name": name, "isTypeKnown": known, "isTypeAmbiguous": ambiguous, "diagnostics": diagnostics}


SYMBOLS = [
    symbol("a.known", known=True),
    symbol("a.unknown", known=False),
    symbol("a.ambiguous", known=False, ambiguous=True),
    symbol("a.no_docstring", known=False, severity="warning"),
]


def answer(score: float) -> str:
    return json.dumps({"typeCompleteness": {"completenessScore": score, "symbols": SYMBOLS}})


@pytest.mark.parametrize(("output", "status"), [(answer(0.98), 0), (answer(0.9799), 1), ("no JSON", 1), ("{}", 1)])
def test_a_low_score_and_a_missing_one_fail(output: str, status: int, monkeypatch: pytest.MonkeyPatch):
    # As pyright does: it prints, and its own status is 1.
    monkeypatch.setattr(check_types, "COMMAND", (sys.executable, "-c", f"print({output!r}); raise SystemExit(1)"))
    assert check_types.main() == status


def test_a_low_score_names_what_is_unknown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(check_types, "COMMAND", (sys.executable, "-c", f"print({answer(0.5)!r})"))
    assert check_types.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        "a.unknown: Type is partially unknown",
        "a.ambiguous: Type is partially unknown",
        "The types of 50.0% of the public names are known; 98% are asked for.",
    ]
