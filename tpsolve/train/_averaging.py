"""Averages of the weights along a training run, which a run measures in their place."""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, islice

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from tpsolve._plain import is_real
from tpsolve.errors import ArgumentError
from tpsolve.nn.passes._frozen import copied
from tpsolve.thresholds._base import Threshold

STATISTICS_BATCHES = 200
"""So many batches give the means and variances of batch norm, each with the same weight."""


def averaged_weights(model: nn.Module, share: float) -> AveragedModel:
    """A copy of `model` whose `update_parameters(model)` moves it to an average of all weights so far.

    After the n-th update, weights of k updates ago count in proportion to about (1 - k / n)^(1 / share - 1): two
    thirds of the average are of the last `share` of the run, however long it is. This is the polynomial-decay
    averaging of Shamir and Zhang (2013), their eta being 1 / share - 1. Buffers are those of `model`; before the
    copy is used, `estimate_batch_norm` gives it the statistics of its own.

    Args:
        share: more than 0 and at most 1, which is the plain mean.

    Raises:
        ArgumentError: another share.
        NotAcceptedError: a model that can't be copied.
    """
    if not (is_real(share) and 0 < share <= 1):
        raise ArgumentError("share", share, "more than 0 and at most 1")
    return _Averaged(copied(model), multi_avg_fn=partial(_blend, share))


class _Averaged(AveragedModel):
    def update_parameters(self, model: nn.Module) -> None:
        # A width of 1 is no buffer until it changes, and buffers are copied one by one.
        for own, other in zip(_thresholds(self.module), _thresholds(model), strict=True):
            if own._width is None and other._width is not None:
                own._width = other._width.clone()
        super().update_parameters(model)


def _thresholds(model: nn.Module) -> list[Threshold]:
    return [module for module in model.modules() if isinstance(module, Threshold)]


def _blend(share: float, averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
    newest = 1 / (share * int(updates) + 1)
    get_ema_multi_avg_fn(1 - newest)(list(averages), list(weights), updates)


def estimate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give batch norm the means and variances that the first 200 `batches`, each `(B, ...)`, have in `network`.

    Raises:
        ArgumentError: there is no batch.
    """
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise ArgumentError("batches", "none", "at least one", "An iterator that has ended gives no more.")
    update_bn(islice(chain([first], rest), STATISTICS_BATCHES), network)
