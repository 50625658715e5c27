"""Draw the README's pictures from the rows of a comparison: python docs/pictures.py runs/digits"""

import io
import sys
from pathlib import Path

from rich.console import Console

from tpsolve.compare import Comparison, summarise
from tpsolve.compare._summary import Findings, advice
from tpsolve.compare.report._plots import gap_against_seconds
from tpsolve.compare.report._report import as_table, caption

IMAGES = Path(__file__).parent / "images"

if __name__ == "__main__":
    rows = Comparison(folder=Path(sys.argv[1])).log.read()
    console = Console(record=True, width=84, file=io.StringIO())
    console.print("$ tpsolve compare", highlight=False)
    console.print(as_table(summarise(rows), caption(Findings(rows))))
    console.print(advice(Findings(rows)), highlight=False)
    console.save_svg(str(IMAGES / "compare.svg"), title="tpsolve")
    gap_against_seconds(Findings(rows)).savefig(IMAGES / "gap.svg")
