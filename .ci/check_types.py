"""Check that the types of the public names are known, as `pyright --verifytypes` counts them.

    python .ci/check_types.py

tpsolve must be installed, or on the PYTHONPATH. Types that come from libraries without types don't count.
"""

import json
import subprocess
import sys
from typing import Any

MIN_SCORE = 0.98
"""The least share of public names whose type is known."""
COMMAND = ("pyright", "--verifytypes", "tpsolve", "--ignoreexternal", "--outputjson")


def unknown_types(completeness: dict[str, Any]) -> list[str]:
    """A line for each name, public or part of a public type, whose type is unknown or could be inferred otherwise."""
    return [
        f"{symbol['name']}: {' '.join(diagnostic['message'].split())}"
        for symbol in completeness["symbols"]
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
        for diagnostic in symbol["diagnostics"]
        if diagnostic["severity"] == "error"
    ]


def main() -> int:
    """Print the score, and what is unknown if it is too low; the exit status is 1 then."""
    # pyright's own status is 1 where a single type is unknown.
    done = subprocess.run(COMMAND, capture_output=True, text=True)
    try:
        completeness = json.loads(done.stdout)["typeCompleteness"]
    except (ValueError, KeyError):
        print(f"pyright gave no score: {done.stdout}{done.stderr}", file=sys.stderr)
        return 1
    score = completeness["completenessScore"]
    failed = score < MIN_SCORE
    if failed:
        print("\n".join(unknown_types(completeness)))
    print(f"The types of {score:.1%} of the public names are known; {MIN_SCORE:.0%} are asked for.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
