"""What the commands share: consoles, progress bars, and Ctrl-C."""

import signal
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from types import FrameType
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from typer.core import TyperCommand

from tpsolve.errors import ArgumentError


class _SafeConsole(Console):
    """Whatever is printed, no text of a file reaches the terminal raw: only what rich writes moves the cursor."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            lines = segment.text.split("\n")
            if segment.control or all(line.isprintable() for line in lines):
                yield segment
            else:
                yield segment._replace(text="\n".join(map(visible, lines)))


# What a command is asked for goes to standard output, what it says on the way to standard error.
output, notes = _SafeConsole(), _SafeConsole(stderr=True)

MAX_SEED = 2**63 - 1
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells expect."""
ASKING = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what a cluster sends that takes the machine back."""


class Interrupt:
    """While entered, the first Ctrl-C or SIGTERM is remembered, and the second one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Interrupt":
        self._previous = {asking: signal.signal(asking, self._note) for asking in ASKING}
        return self

    def __exit__(self, *_: object) -> None:
        for asking, previous in self._previous.items():
            signal.signal(asking, previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        for asking in ASKING:
            signal.signal(asking, signal.default_int_handler)


class OnceCommand(TyperCommand):
    """A command that refuses an option which is given twice, where only the last one would count, and needs torch."""

    needs_torch = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As its parent does.

        Raises:
            ArgumentError: an option that takes one value is given twice.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for parameter, count in Counter(given).items():
            if count > 1 and not parameter.multiple and parameter.nargs == 1 and parameter.param_type_name == "option":
                raise ArgumentError(
                    parameter.opts[-1], f"{count} of them", "one", "The command line has it more than once."
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As its parent does, with torch loaded, which help does without; the context's object stands around it."""
        if self.needs_torch:
            with (ctx.obj or nullcontext)():
                # For the command to find it loaded: Ctrl-C in the middle of it would come up as an error of torch.
                import torch  # noqa: F401
        return super().invoke(ctx)


class LightCommand(OnceCommand):
    """One that does without torch, which takes a second and 200 MiB."""

    needs_torch = False


def visible(text: str) -> str:
    """`text` with what a terminal would obey, or can't show, as escapes such as \\x1b: names come from files."""
    plain = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    encoding = output.encoding
    return plain.encode(encoding, "backslashreplace").decode(encoding)


def say(text: str) -> None:
    """Print a line as it is: paths hold brackets and may be long."""
    output.print(visible(text), highlight=False, markup=False, soft_wrap=True)


def say_stopped(rows: int, fresh: bool) -> None:
    """Say how a comparison goes on that was stopped with so many finished rows.

    Args:
        fresh: whether it began with `--fresh`, which would delete them.
    """
    again = "the same command without --fresh" if fresh else "the same command"
    kept = f"Stopped. Finished rows are kept: {again} goes on from here."
    notes.print(kept if rows else "Stopped before a row was finished.", highlight=False, soft_wrap=True)


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the option named `name` as a parameter stands in the command line, or in its environment variable."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def refuse_given(context: typer.Context, options: Iterable[str], where: str) -> None:
    """Raise ArgumentError if one of these options, named as parameters, was given where it means nothing."""
    for name in options:
        if is_given(context, name):
            value = context.params[name]
            option = f"--{name.replace('_', '-')}"
            raise ArgumentError(option, value, f"no {option} {where}", "It would be ignored.")


def progress_bar(seconds: float | None = None, *, quiet: bool = False) -> Progress:
    """A bar on a terminal, nothing in a pipe or if `quiet`; counts seconds if given, else rows."""
    count = TextColumn("{task.completed:.1f} s") if seconds else MofNCompleteColumn()
    return Progress(
        BarColumn(30),
        count,
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=notes,
        transient=True,
        disable=quiet or not notes.is_terminal,
    )
