"""Per-unit learners, batched over units, and certificates of what can be learned."""

from tpsolve.units.certificate import Certificate
from tpsolve.units.separability import Separability

__all__ = ["Certificate", "Separability"]
