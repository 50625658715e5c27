"""`python -m tpsolve`."""

from tpsolve.cli import main

main()
