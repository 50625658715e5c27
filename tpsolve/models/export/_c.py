"""A model as C99: a function, its header, and a program of test vectors; whole-number arithmetic only.

A small network is written as sums; a larger one, or one whose inputs are bits, as tables of weights, `_c_tables`.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np

from tpsolve.errors import ExportError
from tpsolve.models.export import _c_tables
from tpsolve.models.export._plan import Plan

MAX_WORK, MAX_NUMBERS = 2_000_000_000, 20_000_000
"""Weights times rows of a comparison, and numbers in all rows: what takes a second or two."""
MAX_VECTORS = 300_000
"""Numbers in the program of test vectors, which would take long to compile."""
SUMS = 100
"""Weights in all, up to which they are written as sums."""
SUFFIXES = (".c", ".h", "_test.c")
MAX_INPUT = 2**31 - 1
_TYPES: dict[str, type[np.generic]] = {
    "int8_t": np.int8,
    "uint8_t": np.uint8,
    "int32_t": np.int32,
    "double": np.float64,
}
_READER = """#include <stdio.h>
#include "{stem}.h"

int main(void)
{{
    static {kind} row[{n}];
    while (fread(row, sizeof row, 1, stdin) == 1) {{
        {predict}
        printf("%d\\n", found);
    }}
    return 0;
}}
"""
_PACK_HEADER = """
/* Makes the words of the values of the inputs, which are -1 and +1 or 0 and 1. */
void {name}_pack(const int8_t values[{n}], uint32_t x[{words}]);
"""
_PACK = """void {name}_pack(const int8_t values[{n}], uint32_t x[{words}])
{{
    for (int j = 0; j < {words}; j++)
        x[j] = 0;
    for (int j = 0; j < {n}; j++)
        if (values[j] > 0)
            x[j / 32] |= UINT32_C(1) << j % 32;
}}

"""
_FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic")


def write(plan: Plan) -> dict[str, bytes]:
    """The files by their suffixes."""
    kind = _kind(plan)
    whole_inputs = kind != "double"
    name, guard = plan.name, f"{plan.name.upper()}_H"
    weights = "int64_t"
    large = plan.two_values is not None or sum(len(unit) for layer in plan.whole for unit, _ in layer) > SUMS
    tables, body = _c_tables.tables_and_body(plan, kind) if large else ("", _body(plan, whole_inputs))
    if not whole_inputs and large:
        weights = _c_tables.smallest_type(weight for weight, _ in plan.whole[0])
    features, classes = len(plan.features), len(plan.classes)
    reading = "whole numbers" if whole_inputs else "any finite numbers; -1 for NaN and infinity"
    given, more, pack = f"const {kind} x[{features}]", "", ""
    if plan.two_values is not None:
        words = -(-features // 32)
        reading = "input j is bit j % 32 of word j / 32, 1 if its value is 1"
        given, more = f"const uint32_t x[{words}]", _PACK_HEADER.format(name=name, n=features, words=words)
        pack = _PACK.format(name=name, n=features, words=words)
    comment = _comment(plan.about)
    header = f"""{comment}
#ifndef {guard}
#define {guard}

#include <stdint.h>

#define {name.upper()}_FEATURES {features}
#define {name.upper()}_CLASSES {classes}

extern const char *const {name}_class_names[{classes}];

/* The number of the class of one row: {reading}. The answer is exact. */
int {name}_predict({given});
{more}
#endif
"""
    labels = ", ".join(_string(str(label)) for label in plan.classes)
    source = f"""/* Made by tpsolve; {plan.stem}.h says what is computed. */
#include "{plan.stem}.h"
{_arithmetic(plan, weights) if not whole_inputs and (large or _reads_inputs(plan)) else ""}{tables}
const char *const {name}_class_names[{classes}] = {{{labels}}};

{pack}int {name}_predict({given})
{{
{body}
}}
"""
    return {".h": header.encode(), ".c": source.encode(), "_test.c": _test(plan, kind).encode()}


def run(plan: Plan, folder: Path) -> tuple[np.ndarray, str] | None:
    """The classes that the compiled program gives to the rows, and the compiler; None: there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    kind = _kind(plan)

    def compiled(main: str) -> str:
        program = str(folder / Path(main).stem)
        command = [compiler, *_FLAGS, str(folder / f"{plan.stem}.c"), str(folder / main), "-o", program]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ExportError("model", f"C that {compiler} refuses: {done.stderr[:300]}", "C99", "Please report this.")
        return program

    vectors = subprocess.run([compiled(f"{plan.stem}_test.c"), "-v"], capture_output=True, text=True)
    if _every(plan) == 1:
        return np.array([int(line) for line in vectors.stdout.split()[: len(plan.rows)]]), Path(compiler).name
    reader = _READER.format(stem=plan.stem, predict=_predict(plan, "row"), kind=kind, n=len(plan.features))
    (folder / "reader.c").write_text(reader)
    content = plan.rows.astype(_TYPES[kind]).tobytes()
    found = subprocess.run([compiled("reader.c")], input=content, capture_output=True).stdout.split()
    classes = np.array([int(word) for word in found])
    if vectors.returncode and np.array_equal(classes, plan.expected):
        told = vectors.stdout.splitlines()[-1]
        raise ExportError("model", f"test vectors: {told}", "none that differs", "Please report this.")
    return classes, Path(compiler).name


def _every(plan: Plan) -> int:
    """One of so many rows is a test vector."""
    return -(-plan.rows.size // MAX_VECTORS)


def _kind(plan: Plan) -> str:
    """The type of one value of a row."""
    if plan.two_values is not None:
        return "int8_t"
    return "uint8_t" if plan.pixels else "int32_t" if _takes_whole_inputs(plan) else "double"


def _predict(plan: Plan, row: str) -> str:
    """The statement of C that finds the class of a row of values."""
    if plan.two_values is None:
        return f"int found = {plan.name}_predict({row});"
    words = -(-len(plan.features) // 32)
    lines = ("int found;", f"uint32_t x[{words}];", f"{plan.name}_pack({row}, x);", f"found = {plan.name}_predict(x);")
    return "\n        ".join(lines)


def _takes_whole_inputs(plan: Plan) -> bool:
    """Whether inputs are whole numbers of 32 bits whose sums fit into 64, whatever they are."""
    largest = max(sum(map(abs, weight)) * (MAX_INPUT + 1) + abs(bias) for weight, bias in plan.whole[0])
    small = plan.grid.low.min() >= -MAX_INPUT - 1 and plan.grid.high.max() <= MAX_INPUT
    return bool(plan.grid.whole and small and largest < 2**63)


def _body(plan: Plan, whole_inputs: bool) -> str:
    lines: list[str] = []
    inputs = [f"x[{j}]" for j in range(len(plan.features))]
    for number, (layer, read) in enumerate(zip(plan.whole[:-1], _read_units(plan), strict=True)):
        if number == 0 and not whole_inputs:
            lines.append(f"for (int j = 0; j < {len(inputs)}; j++)")
            lines.append("    if (x[j] - x[j] != 0.0)\n            return -1;")
        for k in read:
            weight, bias = layer[k]
            if number == 0 and not whole_inputs:
                row = ", ".join(map(_literal, weight))
                lines.append(f"static const int64_t w{k}[] = {{{row}}};")
                fires = f"fires(x, w{k}, {_literal(bias)})"
            else:
                fires = f"{_sum(weight, bias, inputs)} >= 0"
            lines.append(f"const int h{number}_{k} = {fires} ? 1 : -1;")
        inputs = [f"h{number}_{k}" for k in range(len(layer))]
    sums = [_sum(weight, bias, inputs) for weight, bias in plan.whole[-1]]
    if len(sums) == 1:
        lines.append(f"return {sums[0]} >= 0;")
    else:
        rows = ",\n        ".join(sums)
        lines.append(f"const int64_t s[] = {{\n        {rows}}};\n    int best = 0;")
        lines.append(f"for (int k = 1; k < {len(sums)}; k++)\n        if (s[k] > s[best])\n            best = k;")
        lines.append("return best;")
    if not any(name in line for line in lines for name in ("x[", "(x,")):
        lines.insert(0, "(void)x;")
    return "\n".join(f"    {line}" for line in lines)


def _read_units(plan: Plan) -> list[list[int]]:
    """Of each hidden layer the units that the output depends on: of others, compilers would warn."""
    found: list[list[int]] = []
    above = list(range(len(plan.whole[-1])))
    for layer in reversed(plan.whole[1:]):
        above = [k for k in range(len(layer[0][0])) if any(layer[unit][0][k] for unit in above)]
        found.insert(0, above)
    return found


def _reads_inputs(plan: Plan) -> bool:
    return bool(_read_units(plan)[0])


def _sum(weight: list[int], bias: int, names: list[str]) -> str:
    terms = [f"{_literal(w)} * {name}" for w, name in zip(weight, names, strict=True) if w]
    return " + ".join([*terms, _literal(bias)])


def _literal(value: int) -> str:
    return f"(-INT64_C({-value}))" if value < 0 else f"INT64_C({value})"


def _arithmetic(plan: Plan, weights: str) -> str:
    features = len(plan.features)
    return f"""#include <string.h>

#define LIMBS 72

/* Adds w * x to the fixed-point number a, whose lowest bit is 2^-1074: all bits of all doubles. */
static void add_product(uint32_t a[LIMBS], int64_t w, double x)
{{
    uint64_t bits, m, u, low, middle, high;
    uint32_t part[5];
    int exponent, shift, k, negative;
    memcpy(&bits, &x, sizeof bits);
    exponent = (int)((bits >> 52) & 0x7ff);
    m = bits & ((UINT64_C(1) << 52) - 1);
    if (exponent)
        m |= UINT64_C(1) << 52;
    else
        exponent = 1;
    negative = (w < 0) != (int)(bits >> 63);
    u = w < 0 ? (uint64_t)-w : (uint64_t)w;
    low = (m & 0xffffffff) * (u & 0xffffffff);
    middle = (m >> 32) * (u & 0xffffffff) + (low >> 32);
    high = (m >> 32) * (u >> 32) + (middle >> 32);
    middle = (middle & 0xffffffff) + (m & 0xffffffff) * (u >> 32);
    high += middle >> 32;
    shift = exponent - 1;
    m = (middle << 32) | (low & 0xffffffff);
    k = shift % 32;
    part[0] = (uint32_t)(m << k);
    part[1] = (uint32_t)((m << k) >> 32);
    u = k ? (m >> (64 - k)) | (high << k) : high;
    part[2] = (uint32_t)u;
    part[3] = (uint32_t)(u >> 32);
    part[4] = k ? (uint32_t)(high >> (64 - k)) : 0;
    low = negative;
    for (k = shift / 32; k < LIMBS; k++) {{
        uint32_t limb = k - shift / 32 < 5 ? part[k - shift / 32] : 0;
        low += (uint64_t)a[k] + (negative ? ~limb : limb);
        a[k] = (uint32_t)low;
        low >>= 32;
    }}
}}

/* Whether w * x + b is at least 0: by its rounded value where that decides, else exactly. */
static int fires(const double x[], const {weights} w[], int64_t b)
{{
    double sum = (double)b, size = b < 0 ? -sum : sum;
    uint32_t a[LIMBS] = {{0}};
    int j;
    for (j = 0; j < {features}; j++) {{
        double p = (double)w[j] * x[j];
        sum += p;
        size += p < 0 ? -p : p;
    }}
    size = size * {4 * (features + 2)} * 2.220446049250313e-16 + 1e-290;
    if (sum > size)
        return 1;
    if (sum < -size)
        return 0;
    for (j = 0; j < {features}; j++)
        add_product(a, w[j], x[j]);
    add_product(a, b, 1.0);
    return !(a[LIMBS - 1] >> 31);
}}
"""


def _test(plan: Plan, kind: str) -> str:
    features = len(plan.features)
    taken, classes = plan.rows[:: _every(plan)], plan.expected[:: _every(plan)]
    count = len(taken)
    shown = repr if kind == "double" else (lambda v: str(int(v)))
    rows = ",\n".join("    {" + ", ".join(shown(v) for v in row) + "}" for row in taken.tolist())
    expected = ", ".join(map(str, classes.tolist()))
    return f"""/* Made by tpsolve: rows and their classes. Ends with 0 if all agree; -v prints each class. */
#include <stdio.h>
#include "{plan.stem}.h"

static const {kind} rows[{count}][{features}] = {{
{rows}}};
static const int expected[{count}] = {{{expected}}};

int main(int argc, char **argv)
{{
    int wrong = 0, i;
    (void)argv;
    for (i = 0; i < {count}; i++) {{
        {_predict(plan, "rows[i]")}
        if (argc > 1)
            printf("%d\\n", found);
        wrong += found != expected[i];
    }}
    printf("%d of {count} rows differ\\n", wrong);
    return wrong != 0;
}}
"""


def _comment(lines: list[str]) -> str:
    safe = [line.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").rstrip("\\") for line in lines]
    return "/* Made by tpsolve.\n" + "\n".join(f" * {line}".rstrip() for line in safe) + "\n */"


def _string(text: str) -> str:
    """A literal in octal escapes of UTF-8, but for letters and digits."""
    signs = [chr(b) if b < 128 and (chr(b).isalnum() or chr(b) in " _.-+") else f"\\{b:03o}" for b in text.encode()]
    return f'"{"".join(signs)}"'
