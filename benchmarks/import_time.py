"""What does `from tpsolve import solve` cost beyond `import torch`? Whole processes in turns."""

import statistics
import subprocess
import sys

from benchmarks.record import in_turns, median_ratio, save

IMPORTS = {"tpsolve": "from tpsolve import solve", "torch": "import torch"}


def start(imports: str) -> None:
    """A process that imports this and ends."""
    subprocess.run([sys.executable, "-c", imports], check=True)


if __name__ == "__main__":
    seconds = in_turns({name: lambda text=text: start(text) for name, text in IMPORTS.items()}, repeats=15)
    save(
        "import_time",
        [
            {
                "tpsolve_seconds": statistics.median(seconds["tpsolve"]),
                "torch_seconds": statistics.median(seconds["torch"]),
                "ratio": median_ratio(seconds, "tpsolve", "torch"),
            }
        ],
    )
