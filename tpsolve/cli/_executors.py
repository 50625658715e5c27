"""What commands share that work on several processes or machines: their options, and the clusters."""

import re
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpsolve.errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    from tpsolve.compare import Shard

EXECUTORS = ("ray", "dask", "submitit")

MaxMemory = Annotated[
    float | None, typer.Option(help="GiB that a solve may take (on Linux); one that asks for more has failed.")
]
ExecutorName = Annotated[
    str, typer.Option(help="ray, dask or submitit (SLURM): solve on a cluster, on all its cores without --workers.")
]
ShardText = Annotated[
    str, typer.Option(metavar="K/N", help="Only the K-th of N parts of the solves; others may run elsewhere.")
]


def connected(executor: str, runs: Path) -> "tuple[Executor, int] | None":
    """The executor of this name, and its cores; None: the name is empty.

    Raises:
        UnknownNameError: there is none of this name.
        MissingLibraryError: its library is not installed.
    """
    if not executor:
        return None
    if executor not in EXECUTORS:
        raise UnknownNameError("--executor", executor, EXECUTORS)
    if executor == "ray":
        from tpsolve.compare.running._ray_executor import RayExecutor

        cluster = RayExecutor()
    elif executor == "dask":
        from tpsolve.compare.running._dask_executor import DaskExecutor

        cluster = DaskExecutor()
    else:
        from tpsolve.compare.running._submitit_executor import SubmititExecutor

        cluster = SubmititExecutor(runs / "submitit")
    return cluster, cluster.cores


def read_shard(text: str) -> "Shard | None":
    """The shard of a text such as 3/16; None: it is empty.

    Raises:
        ArgumentError: another text, or a number above the number of parts.
    """
    from tpsolve.compare import Shard

    if not text:
        return None
    numbers = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if numbers is None:
        raise ArgumentError("--shard", repr(text), "a part and the number of parts, such as 3/16")
    return Shard(int(numbers[1]), int(numbers[2]))
