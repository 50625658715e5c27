"""Text from anywhere, on one line that a terminal shows and does not obey."""


def printable(text: object) -> str:
    """`text` on one line, with escapes in place of characters that a terminal would obey instead of showing."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)
