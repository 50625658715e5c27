"""What does `import tpsolve` cost beyond `import torch`? Whole processes in turns."""

import statistics
import subprocess
import sys

from benchmarks.record import in_turns, median_ratio, save


def start(module: str) -> None:
    """A process that imports `module` and ends."""
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)


if __name__ == "__main__":
    seconds = in_turns({name: lambda name=name: start(name) for name in ("tpsolve", "torch")}, repeats=15)
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
