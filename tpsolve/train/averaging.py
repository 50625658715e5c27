"""Averages of the weights along a training run, which a run measures in their place."""

from collections.abc import Iterable
from itertools import islice

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

STATISTICS_BATCHES = 200
"""So many batches give the means and variances of batch norm, each with the same weight."""


def averaged_weights(model: nn.Module, share: float) -> AveragedModel:
    """A copy of `model` whose `update_parameters` moves it to an average of all weights so far, the last ones foremost.

    After the n-th update, weights of k updates ago count in proportion to about (1 - k / n)^(1 / share - 1):
    most of the average is of the last `share` of the run, however long it is. This is the polynomial-decay
    averaging of Shamir and Zhang (2013), their eta being 1 / share - 1. Buffers are those of `model`.

    Args:
        share: more than 0 and at most 1, which is the plain mean.
    """

    def blend(averages: tuple[Tensor, ...] | list[Tensor], weights: tuple[Tensor, ...] | list[Tensor], _: object):
        eta = 1 / share - 1
        newest = (eta + 1) / (int(averaged.n_averaged) + 1 + eta)
        get_ema_multi_avg_fn(1 - newest)(averages, weights, _)

    averaged = AveragedModel(model, multi_avg_fn=blend)
    return averaged


def estimate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give batch norm the means and variances that the first 200 `batches` have in `network`."""
    update_bn(islice(batches, STATISTICS_BATCHES), network)
