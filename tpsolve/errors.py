"""Typed errors: which argument, what arrived, what was expected, how to mend it."""

import difflib
from collections.abc import Iterable
from typing import Any

MAX_SHOWN = 2000
"""Letters of what arrived, in a message."""


class TpsolveError(Exception):
    """Base of every error that tpsolve raises on purpose.

    Errors can be pickled and copied, whatever arguments their class takes, so that a worker process can raise them.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_message, (type(self), self.args), vars(self)


class ArgumentError(TpsolveError, ValueError):
    """An argument makes no sense; raised before any work.

    `argument` names it. The message says what arrived, what was expected and how to mend it.
    """

    def __init__(self, argument: str, got: object, expected: str, mend: str = "") -> None:
        self.argument = argument
        message = f"{argument}: got {_shown(got)}, expected {expected}."
        super().__init__(f"{message} {mend}".rstrip())


def _shown(value: object) -> str:
    """The value as a text of at most `MAX_SHOWN` letters."""
    try:
        text = str(value)
    except ValueError:  # Python writes no whole numbers of more than 4300 digits.
        text = "a number of more than 4300 digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


class ShapeError(ArgumentError):
    """A tensor's shape disagrees with the others."""


class ValueSetError(ArgumentError):
    """A tensor holds values outside its value set, such as a target that is not -1, 0 or +1."""


class NotFiniteError(ArgumentError):
    """A tensor holds NaN or infinity."""


class DeviceError(ArgumentError):
    """Tensors of one problem lie on different devices, or a device does not exist."""


class BudgetError(ArgumentError):
    """A budget that is empty, negative or not a number."""


class TooLargeError(ArgumentError):
    """The problem is larger than this solver can take."""


class NotAcceptedError(ArgumentError):
    """The solver does not take this kind of problem, or the problem lacks something it needs."""


class ExportError(ArgumentError):
    """A model that a language can't hold, or a program that gives another class than the model."""


class BlockError(ArgumentError):
    """A block whose value for a sample is not only a function of that sample's targets."""


class UnknownNameError(ArgumentError):
    """A name that is in no registry; the message offers the nearest ones."""

    def __init__(self, argument: str, got: str, known: Iterable[str], meant: str | None = None) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(got, known, n=3, cutoff=0.5) if meant is None else [meant]
        mend = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
        super().__init__(argument, repr(got), f"one of {', '.join(known)}", mend)


class MissingLibraryError(TpsolveError, ImportError):
    """An optional library is not installed."""

    def __init__(self, what: str, library: str, install: str) -> None:
        super().__init__(f"{what} needs {library}, which is not installed. Run: pip install {install}")


class FileFormatError(TpsolveError):
    """A file is truncated, foreign or of a version that this tpsolve cannot read."""


class FolderError(TpsolveError, OSError):
    """A folder cannot be written, or holds something else than expected."""


class FolderInUseError(FolderError):
    """Another process writes into the folder, or may; the message says which one, where and since when."""


class WorkerError(TpsolveError):
    """A process that was to carry out tasks could not be started."""


class ContradictionError(TpsolveError):
    """A solver claimed a bound that its own targets refute: a defect, never a result."""


def _from_message(kind: type[TpsolveError], args: tuple[Any, ...]) -> TpsolveError:
    """The error of this class with `args`, its finished message; the class's own __init__ would make one anew."""
    error = kind.__new__(kind, *args)
    super(TpsolveError, error).__init__(*args)
    return error


class PluginWarning(UserWarning):
    """A plug-in was not loaded; the message names it, its package and the reason. Everything else works."""


class PartialConversionWarning(UserWarning):
    """`convert` has replaced modules, and the model calls the same activation as a function besides, where it says."""
