"""The command line: one file a command, in the order of `tpsolve --help`."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any, TextIO

import typer

from tpsolve._version import __version__
from tpsolve.cli._exact import exact
from tpsolve.cli._instances import instances
from tpsolve.cli._list_solvers import list_solvers
from tpsolve.cli._separate import separate
from tpsolve.cli._solve import solve
from tpsolve.cli._terminal import INTERRUPTED, LightCommand, OnceCommand, notes, output, visible
from tpsolve.cli._train import train
from tpsolve.cli._verify import verify
from tpsolve.cli.compare._compare import compare
from tpsolve.cli.compare._report import report
from tpsolve.cli.models._export import export
from tpsolve.cli.models._predict import predict
from tpsolve.cli.models._show import show
from tpsolve.errors import PluginWarning, TpsolveError

app: typer.Typer = typer.Typer(
    help="Target search for networks of hard-threshold units: compare solvers, or run one.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    # Lines of a docstring flow together in --help.
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., None]] = {
    "compare": compare,
    "report": report,
    "list": list_solvers,
    "solve": solve,
    "verify": verify,
    "exact": exact,
    "predict": predict,
    "show": show,
    "export": export,
    "instances": instances,
    "separate": separate,
    "train": train,
}
_SHORTER = {"groups": "group", "monotone": "rising"}
"""Options that are called otherwise than the argument that they become."""
for _name, _command in COMMANDS.items():
    app.command(_name, cls=LightCommand if _command is report else OnceCommand)(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        output.print(f"tpsolve {__version__}", highlight=False)
        raise typer.Exit()


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Target search for networks of hard-threshold units: compare solvers, or run one."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _tell_in_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """As `warnings.showwarning`, but of a plug-in that was not loaded in one line, without a place in the code."""
    if issubclass(category, PluginWarning):
        notes.print(f"tpsolve: {message}", highlight=False, markup=False, soft_wrap=True)
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        print("\n".join(map(visible, text.split("\n"))), file=file or sys.stderr, end="")


def main(loading: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext) -> None:
    """Entry point: one line and exit status 2 for what the user can mend, never a traceback for it.

    Args:
        loading: stands around the import of torch.
    """
    try:
        try:
            _run(loading)
        finally:
            # Here, since Python says more than a line of what it can't write at its end.
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
    except OSError as error:
        if error.filename is not None or isinstance(error, TpsolveError):
            raise
        _end_without_output(error)


def _end_without_output(error: OSError) -> None:
    """Say that what the output is sent to takes nothing, if anything can still be said."""
    with contextlib.suppress(OSError, ValueError):
        os.write(2, f"tpsolve: the output can't be written ({error.strerror}).\n".encode())
    # What waits in the buffers is lost, and would be tried once more.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    sys.exit(2)


def _named_as_option(error: TpsolveError) -> str:
    """The message, with an argument that the command has an option for named as that option."""
    text, argument = str(error), getattr(error, "argument", "")
    option = f"--{_SHORTER.get(argument, argument).removeprefix('budget.').replace('_', '-')}"
    commands: Any = getattr(typer.main.get_command(app), "commands", {})
    used = next((commands[word] for word in sys.argv[1:] if word in commands), None)
    known = {name for parameter in getattr(used, "params", ()) for name in parameter.opts}
    return option + text.removeprefix(argument) if option in known and text.startswith(f"{argument}:") else text


def _run(loading: Callable[[], AbstractContextManager[None]]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _tell_in_one_line
            status = app(standalone_mode=False, obj=loading)
    except TpsolveError as error:
        notes.print(f"tpsolve: {visible(_named_as_option(error))}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    except MemoryError:
        notes.print("tpsolve: the memory is full. Take a smaller problem, or a part of it.", highlight=False)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        notes.print("tpsolve: interrupted.", highlight=False)
        sys.exit(INTERRUPTED)
    except Exception as error:  # Typer's own errors of usage; their class has moved between its versions.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        notes.print(f"tpsolve: {visible(message())}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)
