"""Calls of a program: checked, batched, counted and remembered."""

import asyncio
import copy
import inspect
import itertools
import json
import math
import operator
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from dataclasses import dataclass
from os import PathLike
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.errors import ArgumentError
from tpsolve.problems.program._answer_file import AnswerFile

Key = tuple[int, ...]
"""The symbols of one call, as the program reads them."""


class _Failed:
    """The answer of a call that raised, or gave NaN: equal to no label."""

    def __reduce__(self) -> str:
        return "FAILED"

    def __repr__(self) -> str:
        return "failed"


FAILED: Final = _Failed()
_MISSING = object()
_FAILED_ON_DISK = {"failed": True}
BATCHED = (False, "numpy", "torch")


class _Giving:
    """Assignments of one answer, the oldest first."""

    def __init__(self) -> None:
        self._keys: dict[Key, None] = {}
        self._newest: np.ndarray | None = None

    def add(self, key: Key) -> None:
        self._keys[key], self._newest = None, None

    def __len__(self) -> int:
        return len(self._keys)

    def remove(self, key: Key) -> None:
        self._keys.pop(key, None)
        self._newest = None

    def newest(self, max_count: int) -> np.ndarray:
        newest = self._newest
        if newest is None or len(newest) != min(len(self._keys), max_count):
            self._newest = newest = np.array(list(self._keys)[-max_count:], dtype=np.int64)
        return newest


@dataclass
class CallCounts:
    """What has been asked of a program.

    Args:
        calls: assignments for which it ran.
        remembered: assignments whose answer was known already.
        failed: calls that raised, or gave NaN.
        first_failure: what the first of these said; "" without any.
    """

    calls: int = 0
    remembered: int = 0
    failed: int = 0
    first_failure: str = ""

    def __sub__(self, earlier: "CallCounts") -> "CallCounts":
        calls, remembered = self.calls - earlier.calls, self.remembered - earlier.remembered
        return CallCounts(calls, remembered, self.failed - earlier.failed, self.first_failure)


class ProgramCalls:
    """A program with a memory of its answers, which serves many problems one after another.

    Args:
        function: what is called: with n whole numbers, `function(*symbols)`, and returns any value; or, if `batched`,
            with an array `(C, n)` int64 of C assignments, and returns C values. A spin is -1 or +1, a symbol of K
            values 0 to K - 1. A call that raises counts as wrong for every label, as does NaN. An `async` function is
            awaited, `max_concurrent` calls at a time.
        batched: False; "numpy" or "torch": what the array is.
        executor: runs the calls of a function of single assignments, such as a ThreadPoolExecutor for slow ones; None:
            one after another in this thread.
        max_remembered: answers kept; the oldest leave first. 0 keeps none.
        path: of a file that keeps the answers on disk too, across processes. They must be values that JSON holds.
        max_concurrent: calls of an `async` function under way at once.

    The program must give equal answers for equal symbols: an answer is remembered, and taken for true. A copy crosses
    to another process with its memory where the function does; pickle takes no lambda, cloudpickle does. An executor
    stays behind. Threads may share one; two of them may call the same assignment at the same time.

    Raises:
        ArgumentError: the function can't be called, or another argument makes no sense.
        FileFormatError, FolderError: `path` holds something else, or can't be written.
    """

    function: Callable[..., Any]
    batched: str | bool
    executor: Executor | None
    max_remembered: int
    max_concurrent: int
    counts: CallCounts
    frozen: bool
    """Whether only remembered answers are given; all others are then wrong, and not counted."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        batched: str | bool = False,
        executor: Executor | None = None,
        max_remembered: int = 2**20,
        path: str | PathLike[str] | None = None,
        max_concurrent: int = 32,
    ):
        if not callable(function):
            raise ArgumentError("program", type(function).__name__, "a function of the symbols")
        if batched is True:
            batched = "numpy"
        if not isinstance(batched, bool | str) or batched not in BATCHED:
            raise ArgumentError("batched", repr(batched), "False, 'numpy' or 'torch'")
        if executor is not None and not isinstance(executor, Executor):
            raise ArgumentError("executor", type(executor).__name__, "a concurrent.futures.Executor")
        if isinstance(executor, ProcessPoolExecutor):
            _check_pickled(function)
        check_count("max_remembered", max_remembered, 0)
        check_count("max_concurrent", max_concurrent, 1)
        self.function, self.batched, self.executor = function, batched, executor
        self.max_remembered, self.max_concurrent = max_remembered, max_concurrent
        self.counts = CallCounts()
        self.frozen = False
        self._answers: dict[Key, Any] = {}
        self._known_whole: set[tuple[tuple[int, ...], ...]] = set()
        self._giving: dict[tuple[Any, int], _Giving] = {}
        self._disk = None if path is None else AnswerFile(path)
        self._memory = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """All but the executor and the lock of the memory, which can't cross to another process."""
        with self._memory:
            answers, giving = dict(self._answers), copy.deepcopy(self._giving)
        state = {**vars(self), "executor": None, "_answers": answers, "_giving": giving, "_known_whole": set()}
        del state["_memory"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _memory=threading.RLock())

    @classmethod
    def of(cls, program: "Callable[..., Any] | ProgramCalls") -> "ProgramCalls":
        """`program` itself, if it remembers already."""
        return program if isinstance(program, ProgramCalls) else cls(program)

    def check_arguments(self, count: int) -> None:
        """Raise ArgumentError unless the function takes `count` symbols by position (a batch: one array)."""
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):
            return  # Some functions of compiled libraries don't say what they take.
        given, what = (1, "one array") if self.batched else (count, f"{count} symbols")
        try:
            signature.bind(*range(given))
        except TypeError as error:
            raise ArgumentError(
                "program",
                f"a function of {signature}",
                f"one that takes {what} by position",
                "Wrap it: lambda *symbols: program(..., keyword=value).",
            ) from error

    def __deepcopy__(self, memo: dict[int, Any]) -> "ProgramCalls":
        """The same object: copies of a model share one memory."""
        return self

    def answers(self, keys: Sequence[Key]) -> list[Any]:
        """The answer for each assignment; each distinct one is called at most once.

        Raises:
            ArgumentError: a batched program returns another number of answers, or changes its input.
        """
        found: dict[Key, Any] = {}
        unknown: list[Key] = []
        with self._memory:
            for key in dict.fromkeys(keys):
                answer = self._recall(key)
                if answer is not _MISSING:
                    found[key] = answer
                elif self.frozen:
                    found[key] = FAILED
                else:
                    unknown.append(key)
            self.counts.remembered += len(found) * (not self.frozen)
        try:
            # One by one: what is answered before the program is interrupted is kept.
            for key, answer in zip(unknown, self._run(unknown), strict=True):
                found[key] = answer
                self._keep(key, answer)
        finally:
            if self._disk is not None and unknown:
                self._disk.save()
        return [found[key] for key in keys]

    def unknown(self, keys: Sequence[Key]) -> list[Key]:
        """Those of the assignments, each once, whose answers are not remembered: each would cost a call."""
        with self._memory:
            return [key for key in dict.fromkeys(keys) if self._recall(key) is _MISSING]

    def giving(self, answer: Any, length: int, max_count: int) -> np.ndarray:
        """The newest assignments of `length` symbols that are known to give an answer equal to this one.

        None of them where the answer is not simple, or is only on disk.

        Returns:
            int64 `(M, length)`, M <= max_count; not to be changed.
        """
        with self._memory:
            known = self._giving.get((answer, length)) if is_simple(answer) else None
            return np.empty((0, length), dtype=np.int64) if known is None else known.newest(max_count)

    def knows_all(self, values: tuple[tuple[int, ...], ...]) -> bool:
        """Whether `giving` has all assignments of every simple answer; `values` are those of each symbol.

        Not so where an answer is not simple: it may be equal to a simple one, and `giving` would not know.
        """
        with self._memory:
            if math.prod(map(len, values)) > len(self._answers):
                return False
            if values not in self._known_whole:
                answers = (self._answers.get(key, _MISSING) for key in itertools.product(*values))
                if not all(answer is FAILED or is_simple(answer) for answer in answers):
                    return False
                self._known_whole.add(values)
            return True

    def state(self) -> list[tuple[Key, Any]]:
        """What is remembered, of answers that are plain numbers, texts or None, or tuples of these."""
        with self._memory:
            return [(key, answer) for key, answer in self._answers.items() if is_simple(answer)]

    def load_state(self, state: Sequence[tuple[Key, Any]]) -> None:
        """Remember what `state()` gave.

        Raises:
            ArgumentError: it is something else.
        """
        try:
            known = [(tuple(map(operator.index, key)), plain(answer)) for key, answer in state]
        except (TypeError, ValueError) as error:
            raise ArgumentError("state", str(error), "what state() gave: pairs of symbols and an answer") from error
        for key, answer in known:
            self._keep(key, answer)

    def _recall(self, key: Key) -> Any:
        answer = self._answers.get(key, _MISSING)
        if answer is not _MISSING or self._disk is None:
            return answer
        text = self._disk.get(json.dumps(key))
        return _MISSING if text is None else _from_text(text)

    def _keep(self, key: Key, answer: Any) -> None:
        if not self.max_remembered:
            return
        with self._memory:
            self._forget(key)
            self._answers[key] = answer
            if is_simple(answer):
                self._giving.setdefault((answer, len(key)), _Giving()).add(key)
            if len(self._answers) > self.max_remembered:
                self._forget(next(iter(self._answers)))
            if self._disk is not None:
                self._disk.put(json.dumps(key), _to_text(answer))

    def _forget(self, key: Key) -> None:
        answer = self._answers.pop(key, _MISSING)
        if answer is not _MISSING:
            self._known_whole.clear()
            if is_simple(answer) and (others := self._giving.get((answer, len(key)))) is not None:
                others.remove(key)
                if not others:
                    self._giving.pop((answer, len(key)), None)

    @torch.no_grad()
    def _run(self, keys: list[Key]) -> Iterator[Any]:
        """The answers in order, each as soon as it is there."""
        if not keys:
            return
        if self.batched or _is_async(self.function):
            self.counts.calls += len(keys)
            yield from self._run_batch(keys) if self.batched else self._run_async(keys)
        elif self.executor is not None:
            futures: list[Future[Any]] = []
            try:
                futures += [self.executor.submit(self.function, *key) for key in keys]
                self.counts.calls += len(keys)
                for future in futures:
                    yield self._settled(future.result)
            except (BrokenExecutor, CancelledError, RuntimeError) as error:
                # Nothing is known of these assignments: they must not be remembered as failed.
                raise ArgumentError(
                    "executor",
                    f"{type(error).__name__} ({error})",
                    "one that runs all its calls",
                    "Make a new one; what was answered before is remembered.",
                ) from error
            finally:
                # After an interrupt, no call begins that nobody waits for.
                for future in futures:
                    future.cancel()
        else:
            for key in keys:
                self.counts.calls += 1
                yield self._settled(lambda key=key: self.function(*key))

    def _run_async(self, keys: list[Key]) -> list[Any]:
        # In a thread of its own: notebooks have a loop that runs already.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, self._gather(keys)).result()

    async def _gather(self, keys: list[Key]) -> list[Any]:
        gate = asyncio.Semaphore(self.max_concurrent)

        async def one(key: Key) -> Any:
            async with gate:
                try:
                    answer = await self.function(*key)
                except Exception as error:  # Whatever the program raises: this assignment is wrong.
                    return self._failed(f"{type(error).__name__}: {error}")
            return self._checked(answer)

        return await asyncio.gather(*map(one, keys))

    def _run_batch(self, keys: list[Key]) -> list[Any]:
        array = np.array(keys, dtype=np.int64)
        given = torch.from_numpy(array.copy()) if self.batched == "torch" else array.copy()
        try:
            answers = self.function(given)
        except Exception as error:  # Whatever the program raises; which assignment it was nobody knows.
            self.counts.failed += len(keys) - 1
            return [self._failed(f"{type(error).__name__}: {error}")] * len(keys)
        if not np.array_equal(np.asarray(given), array):
            raise ArgumentError(
                "program", "a function that changes its input", "one that leaves it as it is", "Copy it first."
            )
        answers = plain(answers)
        count = len(answers) if isinstance(answers, tuple) else None
        if count != len(keys):
            got = "no sequence" if count is None else f"{count} answers"
            raise ArgumentError(
                "program", f"{got} for {len(keys)} assignments", "one answer each", "Or leave out batched=."
            )
        return [self._checked(answer) for answer in answers]

    def _settled(self, call: Callable[[], Any]) -> Any:
        try:
            answer = call()
        except (BrokenExecutor, CancelledError):
            raise
        except Exception as error:  # Whatever the program raises: this assignment is wrong.
            return self._failed(f"{type(error).__name__}: {error}")
        if inspect.iscoroutine(answer):
            answer.close()
            raise ArgumentError(
                "program", "a function that returns a coroutine", "one of async def, or values", "Pass that itself."
            )
        return self._checked(answer)

    def _checked(self, answer: Any) -> Any:
        try:
            answer = plain(answer)
        except Exception as error:  # Whatever a value of another library raises: it has no answer.
            return self._failed(f"{type(error).__name__}: {error}")
        return self._failed("NaN") if isinstance(answer, float) and math.isnan(answer) else answer

    def _failed(self, why: str) -> _Failed:
        self.counts.failed += 1
        self.counts.first_failure = self.counts.first_failure or why
        return FAILED


def plain(value: Any) -> Any:
    """Tensors, arrays, lists and numbers of libraries as Python's tuples and numbers, so that == answers one bool."""
    if isinstance(value, Tensor):
        value = value.detach().tolist()
    elif isinstance(value, np.ndarray | np.generic) or type(value).__module__.partition(".")[0] == "pandas":
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value


def _is_async(function: Callable[..., Any]) -> bool:
    # An object may have an async __call__.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(vars(type(function)).get("__call__"))


def _check_pickled(function: Callable[..., Any]) -> None:
    try:
        pickle.dumps(function)
    except Exception as error:  # Pickle raises what it likes.
        raise ArgumentError(
            "program",
            f"a function that can't cross to a process of the executor ({error})",
            "one that pickle takes",
            "Define it by def at the top of a module, or take a ThreadPoolExecutor.",
        ) from error


def is_simple(value: Any) -> bool:
    """Whether it is a plain number, a text or None, or a tuple of these: equal ones have equal hashes."""
    if isinstance(value, tuple):
        return all(map(is_simple, value))
    return value is None or type(value) in (bool, int, float, str)


def _to_text(answer: Any) -> str:
    """The answer as JSON, from which `_from_text` makes an equal one."""
    try:
        text = json.dumps(_FAILED_ON_DISK if answer is FAILED else answer)
        back = _from_text(text)
        # NaN in a tuple is not equal to itself, but looks the same.
        if back is not answer and back != answer and repr(back) != repr(answer):
            raise ValueError(f"it would come back as {back!r}")
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            "program",
            f"an answer of type {type(answer).__name__} ({error})",
            "values that JSON holds, for path=",
            "Leave out path=.",
        ) from error
    return text


def _from_text(text: str) -> Any:
    value = json.loads(text)
    return FAILED if value == _FAILED_ON_DISK else plain(value)
