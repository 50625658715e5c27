"""A model as a combinational Verilog module of threshold gates, with a testbench that checks itself."""

import itertools
import operator
import shutil
import subprocess
from pathlib import Path

import numpy as np

from tpsolve.errors import ExportError
from tpsolve.models.export._plan import Plan
from tpsolve.models.export._yosys import simulate

MAX_WORK, MAX_NUMBERS = 500_000, 10_000_000
"""Weights times rows of a comparison, and numbers in all rows: what takes a second or two."""
SUFFIXES = (".v", "_tb.v")
MAX_BITS = 64
MAX_WEIGHTS = 5000
"""Each is a multiplier or an adder of its own; a simulation of more takes minutes."""
MAX_LISTED = 8
"""Units below the outputs whose patterns are listed, each with its class: fewer gates than sums that are compared."""


def write(plan: Plan) -> dict[str, bytes]:
    """The files by their suffixes.

    Raises:
        ExportError: inputs that are not whole, more than `MAX_WEIGHTS` weights, or sums of more than `MAX_BITS` bits.
    """
    count = sum(v != 0 for layer in plan.whole for weight, _ in layer for v in weight)
    if count > MAX_WEIGHTS:
        mend = "Train a narrower network, such as --set widths=32, or export the model as .c."
        raise ExportError("model", f"{count:,} weights", f"at most {MAX_WEIGHTS:,} for .v", mend)
    if not plan.grid.whole:
        name = plan.features[int(np.argmax(plan.grid.parts != 1))]
        mend = "Scale the table first, such as tenths of it as whole numbers."
        raise ExportError("model", f"values of {name} that are no whole numbers", "whole numbers for .v", mend)
    widths = _input_bits(plan)
    bits = [
        [_bits(*unit, reach) for unit in layer] for layer, reach in zip(plan.whole, _reaches(plan, widths), strict=True)
    ]
    most = max(map(max, bits))
    if most > MAX_BITS:
        raise ExportError("model", f"sums of {most} bits", f"at most {MAX_BITS} for .v")
    comment = "\n".join(f"// {line}".rstrip().rstrip("\\") for line in ["Made by tpsolve.", *plan.about])
    outputs = max(1, (len(plan.classes) - 1).bit_length())
    ports = ", ".join(f"input {_range(width)}x{j}" for j, width in enumerate(widths))
    lines = [comment, f"module {plan.name}({ports}, output {f'[{outputs - 1}:0] ' if outputs > 1 else ''}y);"]
    names = [f"$signed(x{j})" if width < 0 else f"$signed({{1'b0, x{j}}})" for j, width in enumerate(widths)]
    top = len(plan.whole) - 1
    listed = top > 0 and len(plan.whole[top - 1]) <= MAX_LISTED
    for number, layer in enumerate(plan.whole[:top] if listed else plan.whole):
        for k, (weight, bias) in enumerate(layer):
            own = bits[number][k]
            lines.append(f"  wire signed [{own - 1}:0] s{number}_{k} = {_sum(weight, bias, names, own, number)};")
            lines.append(f"  wire h{number}_{k} = s{number}_{k} >= 0;")
        names = [f"h{number}_{k}" for k in range(len(layer))]
    if listed:
        lines += _listed(plan, names, outputs)
    elif len(names) == 1:
        lines.append(f"  assign y = h{top}_0;")
    else:
        # Each stage holds the largest sum so far and its class.
        widest = max(bits[top])
        lines.append(f"  wire signed [{widest - 1}:0] m0 = s{top}_0;\n  wire [{outputs - 1}:0] y0 = 0;")
        for k in range(1, len(names)):
            above = f"s{top}_{k} > m{k - 1}"
            lines.append(f"  wire signed [{widest - 1}:0] m{k} = {above} ? s{top}_{k} : m{k - 1};")
            lines.append(f"  wire [{outputs - 1}:0] y{k} = {above} ? {outputs}'d{k} : y{k - 1};")
        lines.append(f"  assign y = y{len(names) - 1};")
    lines.append("endmodule\n")
    return {".v": "\n".join(lines).encode(), "_tb.v": _testbench(plan, widths, outputs).encode()}


def _listed(plan: Plan, names: list[str], outputs: int) -> list[str]:
    """The class of each pattern of the units below the outputs, the last of which is the lowest bit."""
    classes = []
    for pattern in itertools.product((-1, 1), repeat=len(names)):
        sums = [sum(map(operator.mul, weight, pattern)) + bias for weight, bias in plan.whole[-1]]
        classes.append(int(sums[0] >= 0) if len(sums) == 1 else sums.index(max(sums)))
    usual = max(set(classes), key=classes.count)
    lines = [f"  reg {f'[{outputs - 1}:0] ' if outputs > 1 else ''}found;", "  always @* begin"]
    lines.append(f"    case ({{{', '.join(names)}}})")
    for number, found in enumerate(classes):
        if found != usual:
            lines.append(f"      {len(names)}'b{number:0{len(names)}b}: found = {outputs}'d{found};")
    return [*lines, f"      default: found = {outputs}'d{usual};", "    endcase", "  end", "  assign y = found;"]


def run(plan: Plan, folder: Path) -> tuple[np.ndarray, str] | None:
    """The classes that a simulation gives, and the simulator; None: there is none.

    Icarus Verilog runs the testbench. Without it, yosys runs the module alone.
    """
    compiler, simulator = shutil.which("iverilog"), shutil.which("vvp")
    if compiler is None or simulator is None:
        found = simulate(folder / f"{plan.stem}.v", _input_bits(plan), plan.rows)
        return None if found is None else (found, "yosys")
    sources = [str(folder / f"{plan.stem}{suffix}") for suffix in SUFFIXES]
    program = str(folder / "program")
    done = subprocess.run([compiler, "-g2005", "-Wall", "-o", program, *sources], capture_output=True, text=True)
    if done.returncode:
        raise ExportError(
            "model", f"Verilog that iverilog refuses: {done.stderr[:300]}", "Verilog", "Please report it."
        )
    told = subprocess.run([simulator, program, "+v"], capture_output=True, text=True)
    return np.array([int(word) for word in told.stdout.split()[: len(plan.rows)]]), "iverilog"


def _input_bits(plan: Plan) -> list[int]:
    """Of each feature how many bits its values in training and in the check rows need; negative: signed ones."""
    found = []
    lows, highs = np.minimum(plan.grid.low, plan.rows.min(axis=0)), np.maximum(plan.grid.high, plan.rows.max(axis=0))
    for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
        if low < 0:
            found.append(-(1 + max((-int(low) - 1).bit_length(), int(high).bit_length() if high > 0 else 0)))
        else:
            found.append(max(1, int(high).bit_length()))
    return found


def _reaches(plan: Plan, widths: list[int]) -> list[list[int]]:
    """For each layer how large its inputs can be."""
    return [[2 ** abs(width) for width in widths]] + [[1] * len(layer) for layer in plan.whole[:-1]]


def _bits(weight: list[int], bias: int, reach: list[int]) -> int:
    """Of a sum, and of each of its terms."""
    largest = abs(bias) + sum(abs(w) * r for w, r in zip(weight, reach, strict=True))
    return largest.bit_length() + 1


def _range(width: int) -> str:
    signed = "signed " if width < 0 else ""
    return signed if abs(width) == 1 else f"{signed}[{abs(width) - 1}:0] "


def _sum(weight: list[int], bias: int, names: list[str], bits: int, number: int) -> str:
    terms = []
    for w, name in zip(weight, names, strict=True):
        if w and number == 0:
            terms.append(f"{_literal(w, bits)} * {name}")
        elif w:
            terms.append(f"({name} ? {_literal(w, bits)} : {_literal(-w, bits)})")
    return " + ".join([*terms, _literal(bias, bits)])


def _literal(value: int, bits: int) -> str:
    return f"(-{bits}'sd{-value})" if value < 0 else f"{bits}'sd{value}"


def _testbench(plan: Plan, widths: list[int], outputs: int) -> str:
    ports = ", ".join(f".x{j}(x{j})" for j in range(len(widths)))
    steps = []
    for row, expected in zip(plan.rows.astype(int).tolist(), plan.expected.tolist(), strict=True):
        values = ", ".join(
            f"{'-' if v < 0 else ''}{abs(w)}'{'s' if w < 0 else ''}d{abs(v)}" for v, w in zip(row, widths, strict=True)
        )
        steps.append(f"    check({values}, {expected});")
    arguments = "\n".join(f"    input {_range(width)}a{j};" for j, width in enumerate(widths))
    assign = " ".join(f"x{j} = a{j};" for j in range(len(widths)))
    inputs = "\n".join(f"  reg {_range(width)}x{j};" for j, width in enumerate(widths))
    return f"""// Made by tpsolve: rows of {plan.name} and their classes; +v prints each class.
module {plan.name}_tb;
{inputs}
  wire {f"[{outputs - 1}:0] " if outputs > 1 else ""}y;
  integer wrong;
  {plan.name} dut({ports}, .y(y));
  task check;
{arguments}
    input integer expected;
    begin
      {assign}
      #1;
      if ($test$plusargs("v")) $display("%0d", y);
      if (y !== expected) wrong = wrong + 1;
    end
  endtask
  initial begin
    wrong = 0;
{chr(10).join(steps)}
    $display("%0d of {len(plan.rows)} rows differ", wrong);
    $finish;
  end
endmodule
"""
