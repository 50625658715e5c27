"""Give the settings in saved solver texts their present names: `python -m benchmarks.convert_texts FILE ...`.

Saved rows, tables, recipes and pages name a solver by its text, such as `circuits:max_drawn=50000`. Texts written
before version 0.1.0 may hold the old names in `RENAMED`. The script converts text files of any kind in place. It writes
each file whole or not at all. What is no solver text stays as it is, byte for byte. A second run changes nothing.
"""

import re
import sys
from pathlib import Path

from tpsolve._storage._write_whole import write_whole

RENAMED = {
    "beam": {"width": "beam_width", "children": "max_children", "least_confident": "max_candidates"},
    "minimum-disturbance": {"group": "max_group"},
    "circuits": {"drawn": "max_drawn", "cuts": "max_cuts", "local": "local_seconds"},
    "ftprop": {"moving": "max_moving", "tries": "max_tries"},
    "weight-box": {"box": "max_weight"},
    "big-m": {"box": "max_weight"},
}
"""Of each solver the old name of a setting and the present one."""
SETTING = r'\w+=[^\s,;()"`|]+'
TEXT = re.compile(rf"(?<![\w-])({'|'.join(RENAMED)}):({SETTING}(?:,\s*{SETTING})*)")


def convert(text: str) -> str:
    """`text` with the present names in every solver text that it holds."""
    return TEXT.sub(_convert_one, text)


def _convert_one(found: re.Match[str]) -> str:
    names = RENAMED[found[1]]
    return f"{found[1]}:" + re.sub(r"(?<!\w)(\w+)(?==)", lambda name: names.get(name[1], name[1]), found[2])


def main(paths: list[str]) -> None:
    if not paths:
        sys.exit(__doc__)
    for path in map(Path, paths):
        before = path.read_bytes()
        after = convert(before.decode()).encode()
        if after != before:
            write_whole(path, lambda stream, after=after: stream.write(after))
        print(f"{path}: {'converted' if after != before else 'nothing to convert'}")


if __name__ == "__main__":
    main(sys.argv[1:])
