"""`Program`: a program without a gradient as a module in the middle of a model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tpsolve._plain import plain_number
from tpsolve.errors import ArgumentError, ShapeError
from tpsolve.problems import ProgramCalls
from tpsolve.problems.program._program_calls import FAILED


class Program(nn.Module):
    """What a program makes of the outputs of thresholds and choices; no gradient passes it.

    `loss.backward()` ends here: what lies below learns nothing from it. `target_backward` searches the thresholds and
    choices below by forward passes only, while what lies above gets its gradients as usual.

    Args:
        program: as `ProgramCalls` takes it; called with the symbols of a sample. Its answers are numbers, or lists of
            numbers of one length.
        symbols: how the outputs of a sample are read. "sign": each is a symbol, a whole number such as -1 or +1. A
            number of classes K of at least 2: each K of them are the one-hot vector of a `Choice`, and the symbol is
            its class from 0 to K - 1. A list of these, one a symbol: the outputs follow one another in its order.
        options: of `ProgramCalls`, such as batched="numpy".

    Takes `(B, ...)`, flattened to the outputs of each sample, such as `(B, n, K)` of n choices. Returns `(B, k)` for
    lists of k numbers, `(B, 1)` for single ones, in the dtype of its input. The answer of a call that raises is NaN, so
    that a search takes other targets.

    Raises:
        ArgumentError: `symbols` make no sense, inputs are no whole numbers or no one-hot vectors, the program takes
            another number of symbols, or answers are no numbers.
        ShapeError: inputs that are no whole number of symbols, or not as many as the list names.
    """

    program: ProgramCalls
    symbols: str | int | Sequence[int | str]

    def __init__(
        self,
        program: Callable[..., Any] | ProgramCalls,
        symbols: str | int | Sequence[int | str] = "sign",
        **options: Any,
    ):
        super().__init__()
        if options and isinstance(program, ProgramCalls):
            raise ArgumentError("options", sorted(options), "none beside a ProgramCalls", "Give them to ProgramCalls.")
        symbols = [plain_number(one) for one in symbols] if isinstance(symbols, list | tuple) else plain_number(symbols)
        for one in symbols if isinstance(symbols, list) else [symbols]:
            classes = isinstance(one, int) and not isinstance(one, bool) and one >= 2
            if not classes and not (isinstance(one, str) and one == "sign"):
                raise ArgumentError(
                    "symbols", repr(symbols), "'sign', a number of classes of at least 2, or a list of these"
                )
        self.program = program if isinstance(program, ProgramCalls) else ProgramCalls(program, **options)
        self.symbols = symbols

    def forward(self, h: Tensor) -> Tensor:
        """The answers for each sample."""
        if not isinstance(h, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError("h", type(h).__name__, "a tensor (B, ...) of outputs of thresholds or choices")
        if h.dim() < 2 or h.dtype == torch.bool or h.is_complex():
            raise ShapeError("h", f"{h.dtype} of shape {tuple(h.shape)}", "real numbers (B, ...), a row a sample")
        symbols = self._read(h.detach().flatten(1))
        self.program.check_arguments(symbols.shape[1])
        answers = self.program.answers([tuple(row) for row in symbols.tolist()])
        rows = [answer if isinstance(answer, tuple) or answer is FAILED else (answer,) for answer in answers]
        width = next((len(row) for row in rows if row is not FAILED), 1)
        filled = [(float("nan"),) * width if row is FAILED else row for row in rows]
        try:
            return torch.tensor(filled, dtype=h.dtype, device=h.device).reshape(len(h), width)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ArgumentError(
                "program", f"answers such as {answers[0]!r}", "numbers, or lists of one length"
            ) from error

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return "" if self.symbols == "sign" else f"symbols={self.symbols!r}"

    def _read(self, flat: Tensor) -> Tensor:
        """The symbols `(B, n)` int64 of outputs `(B, ...)`."""
        whole = flat.round()
        if not bool((whole == flat).all()):
            raise ArgumentError(
                "h", "numbers that are not whole", "outputs of thresholds or choices, such as -1 and +1"
            )
        if self.symbols == "sign":
            return whole.long()
        width, symbols = flat.shape[1], self.symbols
        if isinstance(symbols, int):
            if not width or width % symbols:
                raise ShapeError("h", f"{width} outputs of a sample", f"a multiple of {symbols}, one-hot vectors")
            hot = whole.unflatten(1, (-1, symbols))
            return _classes(hot)
        sizes = [1 if one == "sign" else int(one) for one in symbols]
        if sum(sizes) != width:
            raise ShapeError("h", f"{width} outputs of a sample", f"{sum(sizes)}, for the symbols {list(symbols)}")
        parts = zip(whole.split(sizes, 1), sizes, strict=True)
        return torch.cat([part.long() if size == 1 else _classes(part[:, None]) for part, size in parts], 1)


def _classes(hot: Tensor) -> Tensor:
    """The classes `(B, n)` of one-hot vectors `(B, n, K)`."""
    if not bool(((hot == 0) | (hot == 1)).all()) or not bool((hot.sum(2) == 1).all()):
        raise ArgumentError("h", "vectors that are not one-hot", "outputs of Choice, or symbols='sign'")
    return hot.argmax(2)
