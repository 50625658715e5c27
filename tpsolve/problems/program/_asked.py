"""What a search that walks has asked a program about one sample."""

import math

from tpsolve.problems.program._program_calls import Key

MAX_KEPT = 2**16
"""Most assignments of a sample whose energies are kept; the oldest leave first."""


class Asked:
    """The assignments of one sample that were asked, and how many calls it may spend.

    Args:
        count: how many assignments it has.

    Attributes:
        energies: by assignment.
        calls: that were spent.
        most: that may be.
        best: the values of the least energy so far.
    """

    def __init__(self, count: int):
        self.count = count
        self.energies: dict[Key, float] = {}
        self.calls, self.most = 0, math.inf
        self.best: list[int] | None = None
        self._least = math.inf

    @property
    def left(self) -> float:
        """Calls that may still be spent; 0 where all assignments are known."""
        return 0.0 if len(self.energies) >= self.count else max(0.0, self.most - self.calls)

    def admit(self, key: Key, *, calls: bool) -> bool:
        """Whether the assignment is to be asked now; `calls`: for that the program is called, which is counted."""
        if key in self.energies or self.calls + calls > self.most:
            return False
        self.calls += calls
        self.energies[key] = math.inf
        return True

    def keep(self, key: Key, energy: float, values: list[int]) -> None:
        """Remember the energy of an assignment that was admitted."""
        self.energies[key] = energy
        if energy < self._least:
            self._least, self.best = energy, values
        if len(self.energies) > MAX_KEPT:
            del self.energies[next(iter(self.energies))]
