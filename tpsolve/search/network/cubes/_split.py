"""Cubes halved before anybody works on them, so that all who can have one."""

import heapq
from collections.abc import Callable, Iterable, Sequence

from tpsolve.search.network.circuits._sat_master import SatMaster

Literals = tuple[int, ...]

_LOOKED_AT = 30
"""Variables that are tried before a cube is halved unseen."""


def most_telling(
    master: SatMaster, variables: Iterable[int], assumed: Sequence[int], limit: int, skipped: Literals = ()
) -> int:
    """The variable of which both values say most of the others, if the literals `assumed` hold; 0: there is none."""
    best, chosen = 0.0, 0
    for variable in variables:
        if variable in skipped or -variable in skipped:
            continue
        first, second = (master.implied([*assumed, literal], limit) for literal in (variable, -variable))
        # One half without networks leaves the other as it is.
        worth = 0.5 if first is None or second is None else float(1 + first) * (1 + second)
        if worth > best:
            best, chosen = worth, variable
    return chosen


def halved(
    cubes: Sequence[Literals],
    count: int,
    master: SatMaster,
    drawn: Callable[[int], Sequence[int]],
    limit: int,
    stop: Callable[[], bool],
) -> list[Literals]:
    """At least `count` cubes that hold together what the given ones hold, unless `stop` says True before.

    The cube from whose literals least follows is the largest, and is halved first.

    Args:
        master: of all networks.
        drawn: so many variables of the formula, drawn anew.
        limit: only networks that cost at most this are sought.
    """
    heap: list[tuple[float, int, Literals]] = []
    done: list[Literals] = []

    def put(literals: Literals) -> None:
        follows = master.implied(literals, limit)
        if follows is None:
            done.append(literals)
        else:
            heapq.heappush(heap, (follows, len(heap) + len(done), literals))

    for literals in cubes:
        put(literals)
    while heap and len(heap) + len(done) < count and not stop():
        _, _, literals = heapq.heappop(heap)
        variable = most_telling(master, drawn(_LOOKED_AT), literals, limit, literals)
        if not variable:
            done.append(literals)
            continue
        for literal in (variable, -variable):
            put((*literals, literal))
    return [*(literals for _, _, literals in sorted(heap)), *done]


def hold_all(cubes: Sequence[Literals]) -> bool:
    """Whether the cubes hold everything together, as those do that were made by halving."""
    if not cubes:
        return False
    if () in cubes:
        return True
    literal = cubes[0][0]
    halves = ([cube for cube in cubes if -sign not in cube] for sign in (literal, -literal))
    return all(
        hold_all([tuple(each for each in cube if abs(each) != abs(literal)) for cube in half]) for half in halves
    )
