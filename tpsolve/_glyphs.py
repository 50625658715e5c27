"""Texts of pictures in any script: fonts of this machine that have the letters, escapes for what none has."""

from collections.abc import Iterable
from functools import cache

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

NO_FONTS = ("Last Resort", "Emoji")
"""Parts of the names of fonts that show boxes in place of letters, or that can't be drawn as lines."""


def drawable(text: str) -> str:
    """`text` with an escape such as \\u4e2d for each letter that no font of this machine has."""
    if text.isascii():
        return text
    _, lacking = _fonts(frozenset(_foreign(text)))
    return "".join(sign.encode("unicode_escape").decode() if sign in lacking else sign for sign in text)


def dress(figure: Figure) -> Figure:
    """The figure, whose texts are drawn in fonts that have their letters."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    families, _ = _fonts(frozenset(sign for text in texts for sign in _foreign(text.get_text())))
    if families:
        for text in texts:
            text.set_fontfamily([*rcParams["font.family"], *families])
    return figure


def _foreign(text: str) -> Iterable[str]:
    return () if text.isascii() else (sign for sign in text if not sign.isascii())


@cache
def _fonts(signs: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families that have together what the usual font has not of these signs, and the signs that none has."""
    lacking = {sign for sign in signs if ord(sign) not in _usual()}
    families: list[str] = []
    while lacking:
        family, found = max(
            ((name, lacking & have) for name, have in _of_machine().items()), key=lambda each: len(each[1])
        )
        if not found:
            break
        families.append(family)
        lacking -= found
    return tuple(families), frozenset(lacking)


@cache
def _usual() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


@cache
def _of_machine() -> dict[str, frozenset[str]]:
    """The letters of each family in its upright, normal weight; read once, when a picture first needs them."""
    found: dict[str, frozenset[str]] = {"": frozenset()}
    for entry in sorted(
        fontManager.ttflist, key=lambda entry: (entry.name, abs(int(entry.weight) - 400), entry.style != "normal")
    ):
        if entry.name in found or any(part in entry.name for part in NO_FONTS):
            continue
        try:
            found[entry.name] = frozenset(map(chr, get_font(entry.fname).get_charmap()))
        except (OSError, RuntimeError):  # A font that matplotlib can't read.
            continue
    return found
