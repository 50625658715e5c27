"""A training run: a recipe carried out, with everything it leaves in its folder."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve._plain import is_real
from tpsolve._result import Budget
from tpsolve._storage._folder_lock import is_empty, locked
from tpsolve._storage._write_whole import delete_written
from tpsolve.errors import ArgumentError, FileFormatError, FolderError, NotFiniteError
from tpsolve.nn import TargetReport, target_backward
from tpsolve.search import Solver
from tpsolve.train._averaging import averaged_weights, estimate_batch_norm
from tpsolve.train._checkpoint import Position, load_checkpoint, process_state, save_checkpoint
from tpsolve.train._diagnosis_log import check_diagnose, diagnostic_rows
from tpsolve.train._ftprop_mb import ftprop_mb
from tpsolve.train._launch import arithmetic, autocast, check_launch, prepare
from tpsolve.train._measure import FIGURES, counted, measured
from tpsolve.train._optimizer import new_optimizer, width_schedule
from tpsolve.train._processes import Processes, joined
from tpsolve.train._program_judge import ProgramJudge
from tpsolve.train._recipe import Recipe
from tpsolve.train._run_log import RECIPE, WRITTEN, Log, has_rows, make_folder
from tpsolve.train.data._load_data import load_data
from tpsolve.train.data._table_rows import FILE, TablePreprocessing
from tpsolve.train.models._build import build_model
from tpsolve.train.models._few_weights import make_weights_few
from tpsolve.train.models._take_away import BEFORE, CHECKPOINT, MODEL, inputs_of, save_model

REPORT_SECONDS = 0.2
"""Between two reports of progress; each waits for the device."""
TALK_STEPS = 25
"""Batches after which several processes ask each other whether to stop."""


@dataclass(frozen=True)
class Moment:
    """How a run stands, in the middle of an epoch.

    Args:
        epoch, step: counted from 0; `steps` make an epoch.
        loss, accuracy: means over this epoch's batches so far, in training.
        rate: the learning rate.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float
    rate: float


def train(
    recipe: Recipe,
    folder: Path | str,
    *,
    data_root: Path | str | None = None,
    device: str = "cpu",
    resume: bool = False,
    fresh: bool = False,
    tensorboard: bool = False,
    diagnose: int = 0,
    checkpoint_minutes: float = 10.0,
    progress: Callable[[Moment], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Train the recipe's network and return one row an epoch; files go to `folder` as the run proceeds.

    The folder holds `recipe.toml`, `metrics.jsonl`, `curves.png` and `checkpoint.pt`, and of a table `table.json`,
    which `TablePreprocessing.load` reads. Of a dense network of hard thresholds, `model.npz` is the model after the
    last epoch, which `tpsolve.load_model` reads; `load_network` loads every network. A checkpoint is written after
    every epoch, every few minutes within one, and when `stop` says True, which is asked after every batch. The one
    before is kept as `checkpoint-before.pt`. A run that goes on from one on the same
    device ends with the same bits as one that was never interrupted. Under torchrun each process takes its part of
    every batch; the first writes the files.

    With a program, accuracies are those of its answers, and rows hold those of the symbols too, the share of groups for
    which consistent symbols were found in training, and the program's calls. The loss counts 0 for groups without any.

    Args:
        data_root: folder with the files of the data set; digits need none.
        resume: go on from the checkpoint in `folder`, or begin if there is no run yet.
        fresh: delete the files of the run that `folder` holds, and no others, and begin anew.
        diagnose: after every so many epochs, put the figures of `tpsolve.nn.diagnose` for each threshold into
            `diagnostics.jsonl` and `diagnostics.png`; 0: never. The training stays the same, bit for bit. Not with a
            program.
        checkpoint_minutes: after so many, a checkpoint is written in the middle of an epoch too.

    Raises:
        TpsolveError: a setting, file or device makes no sense; before any training.
        FolderInUseError: another process writes into `folder`.
        FolderError: `folder` holds a run already, rows or a checkpoint, and neither `resume` nor `fresh` is True; or
            `resume` is, and it holds only rows; or `fresh` is, and it is not the folder of a run.
        NotFiniteError: the loss became NaN or infinite; finished epochs are kept.
    """
    if not isinstance(recipe, Recipe):
        raise ArgumentError("recipe", repr(recipe), "a Recipe", "Pass load_recipe(name).")
    if resume and fresh:
        raise ArgumentError("fresh", "True, and resume too", "one of the two", "resume goes on, fresh begins anew.")
    if not (is_real(checkpoint_minutes) and 0 < checkpoint_minutes < math.inf):
        raise ArgumentError("checkpoint_minutes", checkpoint_minutes, "a positive, finite number")
    folder, root = Path(folder), None if data_root is None else Path(data_root)
    with joined(device, recipe.batch) as (processes, place), torch.random.fork_rng():
        check_launch(recipe, place, processes.world)
        check_diagnose(diagnose, recipe)
        with _locked_by_first(folder, processes), arithmetic(recipe, place):
            saved = (folder / CHECKPOINT).exists()
            if (saved or has_rows(folder)) and not (resume or fresh):
                raise FolderError(f"{folder}: holds a run already. Resume it, or give this one another name.")
            if resume and has_rows(folder) and not saved:
                mend = "Choose another name."
                raise FolderError(f"{folder}: holds rows of a run, but no checkpoint to go on from. {mend}")
            run = _Run(recipe, folder, root, place, processes, 60 * checkpoint_minutes)
            run.try_search()
            if fresh:
                run.delete()
            return run.to_its_end(resume, tensorboard, diagnose, progress, stop)


@contextmanager
def _locked_by_first(folder: Path, processes: Processes) -> Iterator[None]:
    """The lock of the folder, which the first process holds; all raise what it raises."""
    with ExitStack() as held:
        refused = None
        if processes.rank == 0:
            try:
                held.enter_context(locked(folder))
            except FolderError as error:
                refused = error
        refused = processes.gather(refused)[0]
        if refused is not None:
            raise refused
        yield


class _Run:
    """The parts of a run that lives in this process."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        root: Path | None,
        device: torch.device,
        processes: Processes,
        seconds: float,
    ) -> None:
        self.checkpoint_seconds, self.saved = seconds, time.monotonic()
        self.recipe, self.folder, self.device, self.processes = recipe, folder, device, processes
        self.source = load_data(recipe, root, device, processes.rank, processes.world)
        torch.manual_seed(recipe.seed)
        model = build_model(recipe, self.source.shape, self.source.classes)
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
        self.arithmetic = partial(autocast, recipe, device)
        self.loss = partial(cross_entropy, label_smoothing=recipe.smooth) if recipe.smooth else cross_entropy
        self.judged, self.counted = cross_entropy, counted
        self.program = ProgramJudge(recipe, self.source.classes) if recipe.program else None
        if self.program is not None:
            self.loss = self.judged = self.program.loss
            self.counted = self.program.counted
        self.solver: str | dict[str | int, Solver | str] | None = None if recipe.program else recipe.solver or None
        if recipe.solver_layers == "last":
            self.solver = {-1: recipe.solver}
        self.optimizer = new_optimizer(recipe, self.model)
        self.widths = width_schedule(recipe, self.model)
        self.averaged = averaged_weights(self.model, recipe.average) if recipe.average else None
        self.position = Position()

    def try_search(self) -> None:
        """Raise what a search of this network's targets would raise, before there is any file of the run."""
        if self.solver is None and self.program is None:
            return
        inputs, labels = next(iter(self.source.train(epoch_seed(self.recipe.seed, 0))))
        if self.solver is None:
            # One of its own: the memory of the run's begins empty.
            ProgramJudge(self.recipe, self.source.classes).try_search(labels)
        else:
            target_backward(deepcopy(self.model), inputs, labels, self.loss, solver=self.solver, budget=Budget(steps=1))

    def delete(self) -> None:
        """Delete the files of the run that the folder holds, in the first process, for which the others wait."""
        first = self.processes.rank == 0
        foreign = not is_empty(self.folder) and not (self.folder / RECIPE).exists()
        if self.processes.any(first and foreign, self.device):
            raise FolderError(f"{self.folder}: is not the folder of a run. Choose another name.")
        if first:
            delete_written(self.folder, (CHECKPOINT, BEFORE, FILE, MODEL, *WRITTEN))
        self.processes.any(False, self.device)

    def to_its_end(
        self,
        resume: bool,
        tensorboard: bool,
        diagnose: int,
        progress: Callable[[Moment], None] | None,
        stop: Callable[[], bool],
    ) -> list[dict[str, Any]]:
        table = getattr(self.source, "table", None)
        if resume and (self.folder / CHECKPOINT).exists():
            if table is not None and TablePreprocessing.load(self.folder) != table:
                mend = "Give the run another name."
                raise ArgumentError("table", f"{self.recipe.table}, which has changed", "the table of the run", mend)
            self._load()
        position = self.position
        log = None
        if self.processes.rank == 0:
            make_folder(self.folder)
            if table is not None:
                table.save(self.folder)
            log = Log(self.folder, self.recipe, position, tensorboard)
        random = torch.get_rng_state()
        prepare(self.model, self.recipe, self._sample(), self.device)
        torch.set_rng_state(random)
        while position.epoch < self.recipe.epochs:
            if not self._epoch(progress, stop):
                self._save()
                break
            row = self._row()
            position.rows.append(row)
            position.epoch, position.step, position.seconds = position.epoch + 1, 0, 0.0
            position.tally = [0.0] * FIGURES
            figures = self._diagnosed() if diagnose and position.epoch % diagnose == 0 else []
            position.diagnostics += figures
            self._save()
            if log is not None:
                log.append(row, figures)
            if self._told_to_stop(stop):
                break
        if log is not None and position.rows:
            log.draw()
            if not position.step:
                network = self.model if self.averaged is None else self.averaged.module
                save_model(self.folder, network, self.source, self.recipe)
        return position.rows

    def _load(self) -> None:
        """Go on from the checkpoint."""
        try:
            self.position = load_checkpoint(
                self.folder / CHECKPOINT,
                self.recipe,
                self.model,
                self.averaged,
                self.optimizer,
                self.processes.rank,
                self.processes.world,
                self.program and self.program.loss_fn,
            )
        except FileFormatError as error:
            if not (self.folder / BEFORE).exists():
                raise
            mend = f"Or rename {BEFORE}, the one before it, to {CHECKPOINT}, and go on from there."
            raise FileFormatError(f"{error} {mend}") from error

    def _epoch(self, progress: Callable[[Moment], None] | None, stop: Callable[[], bool]) -> bool:
        """Train to the end of the epoch; False: stopped before."""
        recipe, position, source = self.recipe, self.position, self.source
        seed = epoch_seed(recipe.seed, position.epoch)
        if not position.step:
            # Processes drop different units, as they see different samples.
            torch.manual_seed((seed << 10) + self.processes.rank)
        if self.program is not None:
            self.program.loss_fn.train()
        if recipe.weights_are_few(position.epoch):
            make_weights_few(recipe, self.model)
            if self.averaged is not None:
                make_weights_few(recipe, self.averaged.module)
        if self.widths is not None:
            self.widths.load_state_dict({"step": position.epoch})
        rate = recipe.rate_at(position.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        started = told = time.perf_counter() - position.seconds
        tally = torch.tensor(position.tally, dtype=torch.float64, device=self.device)

        def count_fallbacks(report: TargetReport) -> None:
            tally[3] += sum(report.fallbacks.values())

        passes = ftprop_mb(
            self.model,
            source.train(seed, position.step),
            self.loss,
            self.optimizer,
            solver=self.solver,
            budget=Budget(steps=recipe.solver_steps),
            arithmetic=self.arithmetic,
            before_step=self.processes.before_step(self.model),
            told=count_fallbacks,
        )
        for loss, outputs, labels in passes:
            if self.averaged is not None:
                self.averaged.update_parameters(self.model)
            tally += self.counted(loss, outputs, labels)
            position.step += 1
            if progress is not None and time.perf_counter() - told > REPORT_SECONDS:
                told = time.perf_counter()
                total, hits, samples = tally[:3].tolist()
                progress(Moment(position.epoch, position.step, source.steps, total / samples, hits / samples, rate))
            if position.step < source.steps:
                if self._told_to_stop(stop):
                    break
                if self._overdue():
                    position.tally, position.seconds = tally.tolist(), time.perf_counter() - started
                    self._write(self._states())
        position.tally, position.seconds = tally.tolist(), time.perf_counter() - started
        return position.step == source.steps

    def _overdue(self) -> bool:
        """Whether the last checkpoint is too old."""
        return self._agreed(lambda: time.monotonic() - self.saved > self.checkpoint_seconds)

    def _told_to_stop(self, stop: Callable[[], bool]) -> bool:
        return self._agreed(stop)

    def _agreed(self, asked: Callable[[], bool]) -> bool:
        """Whether `asked` says so in some process."""
        if self.processes.world == 1:
            return asked()
        # All must do it after the same batch, and asking costs a message.
        return self.position.step % TALK_STEPS == 0 and self.processes.any(asked(), self.device)

    def _row(self) -> dict[str, Any]:
        """What is measured at the end of an epoch."""
        recipe, position, source = self.recipe, self.position, self.source
        self.processes.same_state(self.model)
        tally = torch.tensor(position.tally, dtype=torch.float64, device=self.device)
        total, hits, samples, missing, right, calls = self._summed(tally)
        row: dict[str, Any] = {"epoch": position.epoch + 1, "rate": recipe.rate_at(position.epoch)}
        row |= {"train_loss": total / samples, "train_accuracy": hits / samples}
        if self.program is not None:
            row |= {"train_symbol_accuracy": right / (samples * recipe.count), "consistent": 1 - missing / samples}
            self.program.loss_fn.eval()
        judged = self._averaged() or self.model
        for name, batches in (("validation", source.validation()), ("test", source.test())):
            if batches is not None:
                figures = measured(judged, batches, self.arithmetic, self.judged, self.counted)
                total, hits, of, _, right, asked = self._summed(figures)
                row |= {f"{name}_loss": total / of, f"{name}_accuracy": hits / of}
                if self.program is not None:
                    row[f"{name}_symbol_accuracy"] = right / (of * recipe.count)
                    calls += asked
        for name, value in row.items():
            if not math.isfinite(value):
                where = f"{value} in epoch {position.epoch + 1}"
                raise NotFiniteError(name, where, "a finite number", "A lower rate may help.")
        if self.solver is not None:
            row["fallbacks"] = int(missing)
        images = samples
        if self.program is not None:
            row["calls"] = int(calls)
            images = samples * recipe.count
        return row | {"seconds": position.seconds, "images_per_second": images / position.seconds}

    def _averaged(self) -> nn.Module | None:
        """The network of averaged weights, whose batch norm has seen the epoch's first batches."""
        if self.averaged is None:
            return None
        with self.arithmetic():
            epoch = self.source.train(epoch_seed(self.recipe.seed, self.position.epoch))
            estimate_batch_norm(self.averaged, (inputs for inputs, _ in epoch))
        self.processes.same_state(self.averaged.module)
        return self.averaged

    def _diagnosed(self) -> list[dict[str, Any]]:
        """Figures of every threshold on the batch that the next epoch begins with, in the first process."""
        if self.processes.rank:
            return []
        inputs, labels = next(iter(self.source.train(epoch_seed(self.recipe.seed, self.position.epoch))))
        self.model.train()
        return diagnostic_rows(self.model, inputs, labels, self.position.epoch)

    def _summed(self, tally: Tensor) -> list[float]:
        return self.processes.total(tally).tolist()

    def _save(self) -> None:
        states = self._states()
        self._write(states)
        if self.position.step and self.averaged is not None:
            # In mid-epoch its batch norm is that of the weights in training. It takes a while, hence after the first.
            self._averaged()
            self._write(states, keep=None)

    def _states(self) -> list[dict[str, Any]]:
        own = process_state(self.device, self.position, self.program and self.program.loss_fn)
        return self.processes.gather(own)

    def _write(self, states: list[dict[str, Any]], keep: str | None = BEFORE) -> None:
        self.saved = time.monotonic()
        if self.processes.rank == 0:
            save_checkpoint(
                self.folder / CHECKPOINT,
                self.recipe,
                self.model,
                self.averaged,
                self.optimizer,
                self.position,
                states,
                inputs_of(self.source),
                keep,
            )

    def _sample(self) -> Tensor:
        """A batch of the shape that training has, for the recording of a graph."""
        shape = (self.recipe.batch // self.processes.world, *self.source.shape)
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        return torch.zeros(shape, device=self.device).contiguous(memory_format=layout)


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of everything that is drawn for one epoch of a run."""
    return (seed << 20) + epoch
