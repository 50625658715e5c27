"""The layers of a large network as C: tables of weights, and loops over them.

Outputs of hidden units are bits of words, and so are inputs with two values. A layer that reads -1 and +1 and whose
weights are all -1 or +1 takes one popcount for 32 weights. Weights of up to `MAX_PLANES` bits are stored bit by bit,
and take as many popcounts: that is never longer than the table of the weights, and is quicker up to about five bits.
"""

from collections.abc import Iterable, Sequence

from tpsolve.models.export._plan import Plan

MAX_PLANES = 8
_WORD = 32
_POPCOUNT = """
static int popcount(uint32_t v)
{
    v -= v >> 1 & UINT32_C(0x55555555);
    v = (v & UINT32_C(0x33333333)) + (v >> 2 & UINT32_C(0x33333333));
    v = (v + (v >> 4)) & UINT32_C(0x0f0f0f0f);
    return (int)(v * UINT32_C(0x01010101) >> 24);
}
"""

Units = Sequence[tuple[list[int], int]]


def tables_and_body(plan: Plan, kind: str) -> tuple[str, str]:
    """The tables of all layers, and the lines of the function; inputs are of the type `kind`."""
    tables, lines = [], []
    if kind == "double":
        n = len(plan.features)
        lines.append(f"for (int j = 0; j < {n}; j++)\n        if (x[j] - x[j] != 0.0)\n            return -1;")
    for number, units in enumerate(plan.whole):
        last = number == len(plan.whole) - 1
        if number == 0:
            table, total = _first(units, kind) if plan.two_values is None else _of_bits(units, 0, "x", plan.two_values)
        else:
            table, total = _of_bits(units, number, f"h{number - 1}", [(-1, 1)] * len(units[0][0]))
        tables.append(table)
        count = len(units)
        head = f"for (int k = 0; k < {count}; k++) {{\n{total}"
        if not last:
            words = -(-count // _WORD)
            lines.append(f"uint32_t h{number}[{words}] = {{0}};")
            body = f"        if (s >= 0)\n            h{number}[k / {_WORD}] |= UINT32_C(1) << k % {_WORD};\n    }}"
            lines.append(f"{head}{body}")
        elif count == 1:
            lines.append(f"{head}        return s >= 0;\n    }}\n    return 0;")
        else:
            lines.append("int64_t largest = 0;\n    int best = 0;")
            keep = "            largest = s;\n            best = k;\n"
            lines.append(f"{head}        if (k == 0 || s > largest) {{\n{keep}        }}\n    }}\n    return best;")
    popcount = _POPCOUNT if any("popcount(" in line for line in lines) else ""
    return popcount + "".join(tables), "\n".join(f"    {line}" for line in lines)


def _first(units: Units, kind: str) -> tuple[str, str]:
    """The table of the lowest layer, and the lines that compute the sum s of unit k."""
    weights, biases, n = [w for w, _ in units], [b for _, b in units], len(units[0][0])
    if kind == "double":
        table = _matrix("w0", smallest_type(weights), weights) + _vector("b0", "int64_t", biases)
        return table, "        const int s = fires(x, w0[k], b0[k]) ? 0 : -1;\n"
    reach = 2**8 if kind == "uint8_t" else 2**31
    total = _type(max(sum(map(abs, w)) * reach + abs(b) for w, b in units), least=32)
    table = _matrix("w0", smallest_type(weights), weights) + _vector("b0", total, biases)
    lines = f"        {total} s = b0[k];\n        for (int j = 0; j < {n}; j++)\n"
    return table, f"{lines}            s += ({total})w0[k][j] * x[j];\n"


def _of_bits(units: Units, number: int, below: str, values: Sequence[tuple[int, int]]) -> tuple[str, str]:
    """As `_first`, of a layer that reads the bits `below`; `values` are those that a bit of 0 and of 1 stands for."""
    factor = 2 if all(pair == (-1, 1) for pair in values) else 1
    if factor == 1:
        units = [
            (
                [w * (high - low) for w, (low, high) in zip(weight, values, strict=True)],
                b + sum(w * low for w, (low, _) in zip(weight, values, strict=True)),
            )
            for weight, b in units
        ]
    weights, biases, n = [w for w, _ in units], [b for _, b in units], len(units[0][0])
    words = -(-n // _WORD)
    total = _type(max(2 * sum(map(abs, w)) + abs(b) + n for w, b in units), least=32)
    w, c = f"w{number}", f"c{number}"
    if factor == 2 and all(abs(v) == 1 for weight in weights for v in weight):
        # As many -1 as bits that differ.
        table = _matrix(w, "uint32_t", [_packed([v > 0 for v in weight]) for weight in weights])
        constants = [b + n for b in biases]
        step = f"s -= 2 * popcount({below}[j] ^ {w}[k][j]);"
        lines = f"        {total} s = {c}[k];\n        for (int j = 0; j < {words}; j++)\n            {step}\n"
        return table + _vector(c, total, constants), lines
    # Of -1 and +1: twice the weights of the +1, less all weights.
    constants = [b - sum(weight) for weight, b in units] if factor == 2 else biases
    planes = 1 + max(v.bit_length() if v >= 0 else (-v - 1).bit_length() for weight in weights for v in weight)
    if planes <= MAX_PLANES:
        rows = [[w for p in range(planes) for w in _packed([v >> p & 1 for v in weight])] for weight in weights]
        table = _matrix(w, "uint32_t", rows)
        # A negative number is stored as its two's complement: its highest bit counts negatively.
        lines = f"""        {total} s = {c}[k];
        for (int p = 0; p < {planes}; p++) {{
            {total} held = 0;
            for (int j = 0; j < {words}; j++)
                held += popcount({below}[j] & {w}[k][p * {words} + j]);
            s += (p == {planes - 1} ? -{factor} : {factor}) * held * (({total})1 << p);
        }}
"""
        return table + _vector(c, total, constants), lines
    lines = f"""        {total} s = {c}[k];
        for (int j = 0; j < {n}; j++)
            if ({below}[j / {_WORD}] >> j % {_WORD} & 1)
                s += {factor} * ({total}){w}[k][j];
"""
    return _matrix(w, smallest_type(weights), weights) + _vector(c, total, constants), lines


def _packed(bits: Sequence[int]) -> list[int]:
    """Words of 32 bits, the first of which is the lowest one."""
    return [
        sum(1 << k for k, bit in enumerate(bits[start : start + _WORD]) if bit) for start in range(0, len(bits), _WORD)
    ]


def smallest_type(weights: Iterable[Sequence[int]]) -> str:
    """The smallest type of C that holds all of these."""
    return _type(max(abs(v) for weight in weights for v in weight))


def _type(largest: int, least: int = 8) -> str:
    """The smallest type of C that holds all numbers of at most this absolute value."""
    return f"int{next(bits for bits in (8, 16, 32, 64) if bits >= least and largest < 2 ** (bits - 1))}_t"


def _vector(name: str, kind: str, values: Sequence[int]) -> str:
    return f"static const {kind} {name}[{len(values)}] = {{{_numbers(kind, values)}}};\n"


def _matrix(name: str, kind: str, rows: Sequence[Sequence[int]]) -> str:
    lines = ",\n".join("    {" + _numbers(kind, row) + "}" for row in rows)
    return f"static const {kind} {name}[{len(rows)}][{len(rows[0])}] = {{\n{lines}}};\n"


def _numbers(kind: str, values: Sequence[int]) -> str:
    if kind == "uint32_t":
        return ", ".join(f"0x{v:x}U" for v in values)
    if kind == "int64_t":
        return ", ".join(f"INT64_C({v})" for v in values)
    return ", ".join(map(str, values))
