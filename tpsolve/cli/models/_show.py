"""`tpsolve show`: what a saved model does, in words and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tpsolve.cli._answers import Answers, Csv, Json, Quiet
from tpsolve.cli._files import check_picture, save_picture
from tpsolve.cli._tables import show_schema
from tpsolve.cli._terminal import output, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show(
    model: Annotated[
        Path, typer.Argument(help="A model that `exact --save` or `train` has saved (.npz), or the folder of a run.")
    ],
    picture: Annotated[Path | None, typer.Option(help="Draw the network here; the suffix is the format.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Print what a model reads and the rules by which it decides; a single unit as a scorecard.

    The picture shows the regions of the classes where there are two features, else the units with a bar a weight; of
    images, the weights of the first layer as images.
    """
    from tpsolve.errors import NotAcceptedError
    from tpsolve.models import load_model
    from tpsolve.models._words import left_out

    answers = Answers(as_json, as_csv, quiet)
    check_picture("--picture", picture)
    read = load_model(model)
    if read.schema is not None and not quiet:
        show_schema(read.schema)
    table = Table()
    for heading in ("features", "classes", "widths", "trained on", "errors", "bound", "status"):
        table.add_column(heading, justify="right", overflow="fold")
    classes = escape(visible(", ".join(map(str, read.classes))))
    widths = ",".join(map(str, read.widths))
    figures = (f"{read.objective:g}", f"{read.bound:g}", read.status.value)
    table.add_row(str(len(read.features)), classes, widths, str(read.count), *figures)
    try:
        points, words = read.scorecard()
    except NotAcceptedError:
        points, words = [], ""
    row = {"features": len(read.features), "classes": list(map(str, read.classes)), "widths": list(read.widths)}
    row |= {"trained_on": read.count, "errors": read.objective, "bound": read.bound, "status": read.status.value}
    rules = list(read.rules) if read.is_readable else None
    about = {"names": list(map(str, read.features)), "rules": rules, "counts": read.counts, "points": dict(points)}
    gone = left_out(read.layers) if read.is_readable else []
    answers.give(table, [row], **about, score=words or None, left_out=gone)
    if read.counts:
        answers.say(f"test rows right: {read.counts.get('right', 0)} of {read.counts.get('test', 0)}")
    if read.counts.get("merged"):
        answers.say(f"trained in float32, where {read.counts['merged']} rows have the inputs of a row that differs")
    if read.schema is not None and read.schema.rounded and read.counts:
        answers.say(f"trained on numbers that float64 rounds: {', '.join(map(visible, read.schema.rounded))}")
    if read.proof is not None and read.proof.penalty:
        price, cost, least = (f"{float(v):g}" for v in (read.proof.penalty, read.proof.objective, read.proof.bound))
        answers.say(f"errors and {price} for each weight other than 0: {cost}, proved to be at least {least}")
    for rule in rules or ():
        answers.say(rule)
    if gone:
        answers.say(f"The same everywhere, and left out: {', '.join(gone)}")
    if rules is None:
        units = sum(len(bias) for _, bias in read.layers.weights)
        many = f"{units:,} units with {read.size:,} weights: too many to print. tpsolve export writes them as .json."
        answers.say(many)
    if words and answers.for_people:
        card = Table()
        card.add_column("feature", overflow="fold")
        card.add_column("points", justify="right")
        for name, count in points:
            card.add_row(escape(visible(name)), str(count))
        output.print(card)
        answers.say(f"score: the sum of value times points; {words}")
    if picture is not None:

        def draw() -> "Figure":
            from tpsolve.pictures import draw_model

            return draw_model(read)

        save_picture(picture, picture.name, draw, answers)
