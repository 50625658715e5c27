"""Names in any script in pictures: a font that has the letters, or escapes."""

from collections.abc import Iterator

import pytest
from matplotlib.figure import Figure
from support.pages import drawn_rows

from tpsolve import _glyphs
from tpsolve._glyphs import drawable, dress
from tpsolve.compare._summary import Findings
from tpsolve.compare.report._plots import FIGURES, draw


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose fonts have few letters."""
    have = {"": frozenset[str](), "Han": frozenset("中文"), "Few": frozenset("中"), "Cyrillic": frozenset("Ж")}
    monkeypatch.setattr(_glyphs, "_of_machine", lambda: have)
    monkeypatch.setattr(_glyphs, "_usual", lambda: frozenset(map(ord, "é")))
    _glyphs._fonts.cache_clear()
    yield
    _glyphs._fonts.cache_clear()


@pytest.mark.usefixtures("fonts")
def test_letters_that_no_font_has_are_escapes():
    assert drawable("plain") == "plain"
    assert drawable("é中文Ж한") == "é中文Ж\\ud55c"


@pytest.mark.usefixtures("fonts")
def test_fonts_are_those_that_have_the_letters_and_no_more():
    figure = Figure()
    title = figure.subplots().set_title("中文 é")
    dress(figure)
    assert title.get_fontfamily()[-1] == "Han"
    assert "Few" not in title.get_fontfamily()
    plain = Figure()
    label = plain.subplots().set_title("é")
    dress(plain)
    assert set(label.get_fontfamily()).isdisjoint({"Han", "Few", "Cyrillic"})


def test_every_picture_of_a_comparison_is_drawn_without_a_letter_missing():
    # Warnings are errors, so boxes in place of letters would be.
    findings = Findings(drawn_rows(("tabu 한", "中文", "a\u202eb"), tuple("abcdef")))
    for name in FIGURES:
        draw(name, findings).draw_without_rendering()
