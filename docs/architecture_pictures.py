"""The pictures of architecture.md: the house from its imports, and a journey through it as stations on its floors."""

import ast
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Line
from matplotlib.textpath import TextPath

from tests.support.imports import FILES, FLOORS, ROOT, SEARCH_FLOORS, UNITS_FLOORS, level, package_graph

WIDTH = 900
"""Of each picture, in pixels of a web page; so are all lengths here."""
MARGIN = 14
PAPER, INK, FAINT, LINE = "#fbfaf6", "#1f2a37", "#6b7684", "#46566b"
# One tint a floor, from the ground up, and the same colour darker for what stands out.
TINTS = ("#e4ded2", "#ece5cf", "#d5e8d8", "#d3e3f2", "#fbe6c4", "#e6dcf2", "#f8dbd5", "#d2e9e7", "#e5e7ea", "#e5e7ea")
DEEP = ("#85796a", "#8d7b45", "#3f8a55", "#2f6ea8", "#b9781b", "#7a55a8", "#b8503f", "#2b8580", "#5b6673", "#5b6673")
INNER = {"search": SEARCH_FLOORS, "units": UNITS_FLOORS}
"""Packages that have floors of their own."""


# --- what the code says -----------------------------------------------------------------------------------------------


def summary(docstring: str | None) -> str:
    """Its first sentence, on one line."""
    text = " ".join((docstring or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".")


@cache
def module_summary(file: str, paragraph: int = 0) -> str:
    """The first sentence of a paragraph of what a file of the package says of itself."""
    docstring = ast.get_docstring(ast.parse((ROOT / file).read_text())) or ""
    return summary("".join(docstring.split("\n\n")[paragraph : paragraph + 1]))


def files_in(folder: str) -> int:
    """How many files stand in this very folder, besides its __init__.py."""
    return sum(Path(file).parent == Path(folder) and not file.endswith("__init__.py") for file in FILES)


def all_files_in(folder: str) -> int:
    """Likewise in the folder and in those below it."""
    return sum(file.startswith(f"{folder}/") and not file.endswith("__init__.py") for file in FILES)


def rooms_in(folder: str) -> list[str]:
    """The folders right below a folder."""
    start = f"{folder}/"
    names = {file.removeprefix(start).split("/")[0] for file in FILES if file.startswith(start)}
    return sorted(start + name for name in names if f"{start}{name}/__init__.py" in FILES)


def is_package(name: str) -> bool:
    """Whether this is a folder of the package."""
    return f"{name}/__init__.py" in FILES


def room_arrows() -> list[tuple[str, str]]:
    """Who imports whom, among what stands above the ground; without arrows that a longer way implies."""
    graph: dict[str, set[str]] = defaultdict(set)
    ground = {name for names in FLOORS for name in names if not any(map(is_package, names))}
    for file, targets in package_graph().items():
        for target in targets:
            one, other = (path.split("/")[0].removesuffix(".py") for path in (file, target))
            if one != other and not {one, other} & ground - {"__main__", "__init__"}:
                graph[one].add(other)

    def reached(start: str, without: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph[start] - {without})
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += graph[name]
        return seen

    return sorted((one, other) for one in list(graph) for other in graph[one] if other not in reached(one, other))


# --- drawing ----------------------------------------------------------------------------------------------------------


@cache
def text_width(text: str, size: float, bold: bool = False) -> float:
    """In pixels, of text whose letters are `size` pixels high."""
    # A little more than the letters: what draws them rounds each to whole pixels.
    return 1.03 * TextPath((0, 0), text, size, prop=_font(bold)).vertices[:, 0].max() if text.strip() else 0.0


def _font(bold: bool) -> FontProperties:
    return FontProperties(family="sans-serif", weight="bold" if bold else "normal")


class Canvas:
    """A sheet of paper `WIDTH` pixels wide; y grows downwards."""

    def __init__(self, height: float):
        self.figure = Figure(figsize=(WIDTH / 96, height / 96), dpi=96, facecolor="none")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.axis("off")
        self.box(1, 1, WIDTH - 2, height - 2, PAPER, edge="#d9d5ca", radius=10, z=0)

    def box(
        self, x: float, y: float, w: float, h: float, fill: str, *, edge: str = "none", radius: float = 5, z: float = 2
    ) -> None:
        """A box with round corners, from its upper left corner."""
        style = f"round,pad=0,rounding_size={radius}"
        patch = FancyBboxPatch((x, y), w, h, style, facecolor=fill, edgecolor=edge, linewidth=0.9, zorder=z)
        self.axes.add_patch(patch)

    def text(self, x: float, y: float, text: str, size: float, *, z: float = 6, **options: Any) -> None:
        """A line of text whose capitals are centred at `y`; the options are `bold` and matplotlib's."""
        font = _font(options.pop("bold", False))
        options = {"color": INK, "va": "baseline", "ha": "left", **options}
        self.axes.text(x, y + 0.36 * size, text, fontproperties=font, fontsize=size * 0.75, zorder=z, **options)

    def curve(self, points: list[tuple[float, float]], color: str, width: float, z: float, arrow: bool = False) -> None:
        """A smooth line that leaves and enters each point upright (`arrow`) or level."""
        vertices, codes = [points[0]], [Line.MOVETO]
        for (x0, y0), (x1, y1) in pairwise(points):
            if arrow:
                middle = (y0 + y1) / 2
                vertices += [(x0, middle), (x1, middle), (x1, y1)]
            else:
                middle = (x0 + x1) / 2
                vertices += [(middle, y0), (middle, y1), (x1, y1)]
            codes += [Line.CURVE4] * 3
        line = Line(vertices, codes)
        if arrow:
            head = "-|>,head_length=5,head_width=2.6"
            self.axes.add_patch(
                FancyArrowPatch(
                    path=line, arrowstyle=head, color=color, linewidth=width, zorder=z, shrinkA=0, shrinkB=0
                )
            )
        else:
            self.axes.add_patch(
                PathPatch(line, facecolor="none", edgecolor=color, linewidth=width, zorder=z, capstyle="round")
            )

    def save(self, path: Path) -> None:
        """Write the picture; the same bytes for the same picture."""
        with mpl.rc_context({"svg.hashsalt": "tpsolve", "svg.fonttype": "none"}):
            self.figure.savefig(path, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else None)


# --- the house --------------------------------------------------------------------------------------------------------

TITLE, ROW, ROW_GAP, PAD, FLOOR_GAP, GAP = 28, 25, 5, 9, 28, 12


@dataclass
class Block:
    """What stands on a floor, or the place where an arrow passes it by; inside a package: a room or a file."""

    path: str
    floor: int
    rows: list[list["Block"]] = field(default_factory=list)
    """Of a package: what stands in it, from the top."""
    beside: list["Block"] = field(default_factory=list)
    """The rooms in a room."""
    passing: bool = False
    h: float = ROW
    x: float = 0
    y: float = 0
    w: float = 0

    @property
    def name(self) -> str:
        return Path(self.path).name

    @property
    def count(self) -> str:
        """How many files it has: a package with all its rooms, a room by itself."""
        if not is_package(self.path):
            return ""
        inner = "/" in self.path
        return str(files_in(self.path)) if inner else f"{all_files_in(self.path)} files"

    @property
    def about(self) -> str:
        if self.name == "__init__" and "/" in self.path:
            # Its package shows the first paragraph.
            return module_summary(f"{self.path}.py", 1).replace("`", "")
        file = f"{self.path}/__init__.py" if is_package(self.path) else f"{self.path}.py"
        return module_summary(file).replace("`", "")

    @property
    def is_slab(self) -> bool:
        """Whether its name stands at its top, with room for something below."""
        return bool(self.rows) or self.h > 1.5 * ROW

    @property
    def needed(self) -> float:
        """The least width."""
        if self.passing:
            return 16
        own = text_width(self.name, 13, bold=True) + text_width(self.count, 11) + 28
        own += sum(block.needed + 6 for block in self.beside)
        return max([own, *(sum(block.needed + GAP for block in row) + PAD for row in self.rows)])

    @property
    def centre(self) -> float:
        return self.x + self.w / 2

    def inside(self, x: float) -> float:
        """`x`, or the nearest to it between the corners."""
        return min(max(x, self.x + 16), self.x + self.w - 16)


def _block(path: str, floor: int) -> Block:
    if not is_package(path):
        return Block(path, floor, h=ROW + 5)
    if path in INNER:
        rows = [[_room(f"{path}/{name}", floor) for name in names] for names in reversed(INNER[path])]
    else:
        rows = [[_room(room, floor) for room in rooms_in(path)]] if rooms_in(path) else []
    return Block(path, floor, rows, h=TITLE + len(rows) * (ROW + ROW_GAP) + 4)


def _room(path: str, floor: int) -> Block:
    return Block(path, floor, beside=[_room(room, floor) for room in rooms_in(path)] if is_package(path) else [])


def draw_house() -> Canvas:
    """Floors from the ground up, what stands on them, and who imports whom."""
    floors = [[_block(name, number) for name in names] for number, names in enumerate(FLOORS)]
    places = {block.name: block for blocks in floors for block in blocks}
    ways: list[list[Block]] = []
    for one, other in room_arrows():
        between = range(places[one].floor - 1, places[other].floor, -1)
        passing = [Block(f"{one} {other}", number, passing=True) for number in between]
        for block in passing:
            floors[block.floor].append(block)
        ways.append([places[one], *passing, places[other]])

    top = 62.0
    for blocks in reversed(floors):
        _order(blocks, ways)
        _spread(blocks, MARGIN, WIDTH - MARGIN, top, max(block.h for block in blocks))
        top += blocks[0].h + FLOOR_GAP
    canvas = Canvas(top - FLOOR_GAP + MARGIN)
    canvas.axes.fill([MARGIN + 130, WIDTH / 2, WIDTH - MARGIN - 130], [56, 14, 56], color=TINTS[-1], zorder=1)
    canvas.text(WIDTH / 2, 42, "tpsolve", 15, bold=True, ha="center", color=DEEP[-1])
    for block in places.values():
        _draw_block(canvas, block)
    for way in ways:
        _draw_way(canvas, way)
    # The lowest floors hold files alone.
    ground = next(number for number, names in enumerate(FLOORS) if any(map(is_package, names))) - 1
    y = floors[ground][0].y - FLOOR_GAP / 2
    canvas.text(WIDTH / 2, y, "every floor above may import the files below", 11, ha="center", color=FAINT)
    return canvas


def _order(blocks: list[Block], ways: list[list[Block]]) -> None:
    """Each below those from which an arrow leads to it."""
    given = {block.path: WIDTH * (number + 0.5) / len(blocks) for number, block in enumerate(blocks)}
    above: dict[str, list[float]] = defaultdict(list)
    for way in ways:
        for upper, lower in pairwise(way):
            above[lower.path].append(upper.centre)
    middle = {path: sum(above[path]) / len(above[path]) if above[path] else x for path, x in given.items()}
    blocks.sort(key=lambda block: (middle[block.path], given[block.path]))


def _spread(blocks: list[Block], left: float, right: float, top: float, height: float) -> None:
    """Side by side from wall to wall, and what stands in them likewise."""
    passing = sum(block.needed for block in blocks if block.passing)
    wanted = sum(block.needed for block in blocks if not block.passing)
    stretch = (right - left - GAP * (len(blocks) - 1) - passing) / wanted
    for block in blocks:
        block.w = block.needed * (1 if block.passing else stretch)
        block.x, block.y, block.h = left, top, height
        left += block.w + GAP
        for number, row in enumerate(block.rows):
            _spread(row, block.x + PAD, block.x + block.w - PAD, top + TITLE + number * (ROW + ROW_GAP), ROW)
        at = block.x + block.w - 4
        for room in reversed(block.beside):
            room.w, room.h = room.needed, block.h - 6
            room.x, room.y = at - room.w, top + 3
            at = room.x - 6


def _draw_block(canvas: Canvas, block: Block, depth: int = 0) -> None:
    deep = DEEP[block.floor % len(DEEP)]
    room = is_package(block.path)
    if depth:
        fill, edge = ("#ffffff", "#b4bac3") if room else ("#ffffff66", "none")
    else:
        fill, edge = TINTS[block.floor % len(TINTS)], deep
    canvas.box(block.x, block.y, block.w, block.h, fill, edge=edge, radius=6 if not depth else 4, z=2 + depth)
    size, bold = (13, True) if not depth else (12, False)
    x, y = block.x + 11, block.y + (TITLE / 2 + 1 if block.is_slab else block.h / 2)
    canvas.text(x, y, block.name, size, bold=bold, color=INK if depth else deep)
    x += text_width(block.name, size, bold) + 8
    canvas.text(x, y, block.count, 11, color=FAINT)
    x += text_width(block.count, 11) + 14 if block.count else 4
    end = block.beside[0].x if block.beside else block.x + block.w
    if block.is_slab and not block.rows:
        for number, line in enumerate(_fitted(block.about, block.w - 22, int((block.h - TITLE) / 16))):
            canvas.text(block.x + 11, y + 21 + 16 * number, line, 11)
    else:
        for line in _fitted(block.about, end - x - 8, 1):
            canvas.text(x, y, line, 11, color="#4b5563" if depth else INK)
    for below in [one for row in block.rows for one in row] + block.beside:
        _draw_block(canvas, below, depth + 1)


def _fitted(text: str, width: float, lines: int) -> list[str]:
    """The text in at most so many lines; else a shorter and shorter beginning; else nothing."""
    for part in (text, *(text.split(sign)[0] for sign in ";:," if " " in text.split(sign)[0])):
        wrapped = [""]
        for word in part.split():
            longer = f"{wrapped[-1]} {word}".strip()
            if text_width(longer, 11) <= width:
                wrapped[-1] = longer
            else:
                wrapped.append(word)
        if len(wrapped) <= lines and all(text_width(line, 11) <= width for line in wrapped):
            return wrapped
    return []


def _draw_way(canvas: Canvas, way: list[Block]) -> None:
    one, *between, other = way
    left, right = max(one.x, other.x), min(one.x + one.w, other.x + other.w)
    if between:
        start, end = one.inside(between[0].centre), other.inside(between[-1].centre)
    elif left < right:
        start = end = (left + right) / 2
    else:
        start, end = one.inside(other.centre), other.inside(one.centre)
    points = [(start, one.y + one.h)]
    for block in between:
        points += [(block.centre, block.y - FLOOR_GAP / 4), (block.centre, block.y + block.h)]
    canvas.curve([*points, (end, other.y - 1)], LINE, 1.5, 5, arrow=True)


# --- a journey --------------------------------------------------------------------------------------------------------

LANE, STRIP, NAMES = 60, 20, 118


@dataclass(frozen=True)
class Station:
    """A function that a journey calls, and the file that it stands in."""

    file: str
    function: str
    about: str

    @property
    def room(self) -> str:
        """The folder; nothing where the file stands on a floor by itself."""
        folder = str(Path(self.file).parent)
        return "" if folder == "." else folder

    @property
    def lane(self) -> tuple[int, int, str]:
        """Its floor, the floor inside its package, and its room there."""
        package = self.file.split("/")[0]
        outer = level(self.file, "", FLOORS)
        # Elsewhere the files of a package itself stand above those in its rooms.
        inner = level(self.file, f"{package}/", INNER[package]) if package in INNER else "/" not in self.room
        assert outer is not None
        assert inner is not None
        return outer, int(inner), self.room

    @property
    def width(self) -> float:
        """Of its label."""
        return max(text_width(self.function, 11.5, bold=True), text_width(Path(self.file).name, 10))


def draw_journey(stations: list[Station]) -> Canvas:
    """The stations from left to right, each on its floor."""
    used = {station.lane for station in stations}
    floors = {lane[0] for lane in used}
    lanes = sorted(used | {(number, 0, "") for number in range(len(FLOORS)) if number not in floors})
    labels = _labels(stations)
    sides: dict[tuple[int, int, str], set[bool]] = defaultdict(set)
    for station, label in zip(stations, labels, strict=True):
        sides[station.lane].add(label.above)
    heights = {lane: (STRIP, LANE, LANE + 16)[len(sides[lane])] for lane in lanes}
    canvas = Canvas(sum(heights.values()) + 2 * MARGIN)
    rails, y = {}, float(MARGIN)
    for lane in reversed(lanes):
        _draw_lane(canvas, lane, y, heights[lane], [station for station in stations if station.lane == lane])
        rails[lane] = y + (42 if sides[lane] == {True} else 19 if sides[lane] == {False} else 38)
        y += heights[lane]
    xs = _columns(stations, labels)
    ys = [rails[station.lane] for station in stations]
    canvas.curve(list(zip(xs, ys, strict=True)), LINE, 2.4, 3)
    for number, (station, label, x, y) in enumerate(zip(stations, labels, xs, ys, strict=True), 1):
        deep, tint = (colors[station.lane[0] % len(colors)] for colors in (DEEP, TINTS))
        canvas.axes.plot([x], [y], "o", markersize=14.5, color=deep, markeredgecolor="white", zorder=7)
        canvas.text(x, y, str(number), 10.5, ha="center", color="white", bold=True, z=8)
        y += -30 if label.above else 18
        canvas.box(x + label.left, y - 7, station.width, 26, tint, radius=3, z=4)
        middle = x + label.left + station.width / 2
        canvas.text(middle, y, station.function, 11.5, bold=True, ha="center", z=7)
        canvas.text(middle, y + 13, Path(station.file).name, 10, ha="center", color="#4b5563", z=7)
    return canvas


@dataclass(frozen=True)
class Label:
    """Where a station's label stands: above or below it, and from where to where."""

    above: bool
    left: float
    right: float


def _labels(stations: list[Station]) -> list[Label]:
    """Where the line is not: it comes from the left and leaves to the right, from or to a higher lane or a lower."""
    found = []
    for k, station in enumerate(stations):
        before, after = (stations[n].lane if 0 <= n < len(stations) else station.lane for n in (k - 1, k + 1))
        half, lane = station.width / 2, station.lane
        if before >= lane and after >= lane:
            found.append(Label(False, -half, half))
        elif before <= lane and after <= lane:
            found.append(Label(True, -half, half))
        elif after > lane:
            found.append(Label(False, -4, station.width - 4))
        else:
            found.append(Label(False, 4 - station.width, 4))
    return found


def _draw_lane(canvas: Canvas, lane: tuple[int, int, str], y: float, height: float, here: list[Station]) -> None:
    """A floor, or one floor or room of its package."""
    floor, _, room = lane
    canvas.box(MARGIN, y + 1, WIDTH - 2 * MARGIN, height - 2, TINTS[floor % len(TINTS)] if here else "#f1f0eb", z=1)
    if not here:
        canvas.text(MARGIN + 9, y + height / 2, ", ".join(FLOORS[floor]), 10, color="#9aa1ab")
        return
    package, _, inner = room.partition("/")
    files = list(dict.fromkeys(Path(station.file).stem for station in here))
    names = [package, inner or ", ".join(files) * (package in INNER)] if room else files
    names = [name for name in names if name]
    for number, name in enumerate(names):
        at = y + height / 2 + 17 * (number - (len(names) - 1) / 2)
        heading = number == 0 or not room
        canvas.text(MARGIN + 9, at, name, 12.5 if heading else 11, bold=heading, color=DEEP[floor % len(DEEP)])


def _columns(stations: list[Station], labels: list[Label]) -> list[float]:
    """Where each station stands: a step to the right, or as far as its label needs beside the last on its lane."""
    xs: list[float] = []
    for k, (station, label) in enumerate(zip(stations, labels, strict=True)):
        free = [
            x + other.right - label.left + 8
            for x, one, other in zip(xs, stations, labels, strict=False)
            if one.lane == station.lane
        ]
        xs.append(max([0 if k == 0 else xs[-1] + 30, *free]))
    left = max(MARGIN + NAMES - (x + label.left) for x, label in zip(xs, labels, strict=True))
    room = min((WIDTH - MARGIN - 6 - label.right - left) / x for x, label in zip(xs[1:], labels[1:], strict=True))
    if room < 1:
        raise SystemExit(f"a journey of {len(stations)} stations has no room for its labels: show fewer")
    return [left + room * x for x in xs]
