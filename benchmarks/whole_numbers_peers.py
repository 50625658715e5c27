"""Peers of `integer-search`: straight-through gradients, a genetic algorithm, and a mixed-integer model.

All budgets are seconds of the processor, on one core. The settings were chosen on tables of `TUNING`. The genetic
algorithm is pygad's:

    pip install --no-deps --target FOLDER pygad

and FOLDER on PYTHONPATH. It is left out where pygad is not installed.
"""

import importlib.util
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from torch import Tensor

SETTINGS = ((0.7, 0.1, 300), (None, 0.1, 1500))
"""Of the straight-through network: the threshold of `ternary`, the rate of Adam, and steps of one training.

Rates from 0.01 to 0.3 were tried on digits and heart; 0.1 was the best. Both thresholds were tried with 300 and with
1500 steps on four tables."""
PULLS = (0.0003, 0.001, 0.003)
"""Of the straight-through network whose weights have a price: the slope by which latent weights are pulled towards 0.

Of 0.0003 to 0.01 on three tables. With hindsight the best for each cell is shown."""
RESTARTS, WIDTH = 8, 0.5
"""Networks side by side, and the width of the region in which hidden units learn, in typical sums."""
POPULATION, PARENTS, MUTATED = 50, 5, 2
"""Of the genetic algorithm; MUTATED: genes that change in each child. Populations of 30 to 200 and 1 to 4 genes were
tried on heart, digits and tictactoe."""
PRICE = 1.0
"""Of each weight other than 0, of the networks whose weights have one: as much as so many errors."""
MAX_MODEL = 2
"""Units of a mixed-integer model: with these it finds little but equal outputs, and more are no easier."""
WALL = 3
"""Seconds by the clock that HiGHS is given for each of the processor, since its limit is one by the clock."""


@dataclass
class Found:
    """A network, of weights and biases of each layer, and its training errors."""

    layers: list[tuple[Tensor, Tensor]]
    errors: float


def predicted(layers: list[tuple[Tensor, Tensor]], X: np.ndarray) -> np.ndarray:
    """Classes 0 and 1, in whole numbers of numpy."""
    h = X.astype(np.int64)
    for weight, bias in layers:
        z = h @ weight.numpy().astype(np.int64).T + bias.numpy().astype(np.int64)
        h = np.where(z >= 0, 1, -1)
    return (h[:, 0] > 0).astype(np.int64)


def _constant(n: int, width: int, y: np.ndarray) -> Found:
    label = 1.0 if 2 * y.sum() >= len(y) else -1.0
    zero = torch.zeros(width, n).double(), torch.zeros(width).double()
    return Found(
        [zero, (torch.zeros(1, width).double(), torch.tensor([label - 0.5]).double().round())],
        float(min(y.sum(), len(y) - y.sum())),
    )


def ternary(weight: Tensor, threshold: float | None) -> Tensor:
    """-1, 0, +1 by a threshold in mean sizes (0.7: Li, Zhang and Liu 2016), passed straight through; None: a third."""
    size = 1 / 3 if threshold is None else threshold * weight.detach().abs().mean((-2, -1), keepdim=True)
    rounded = torch.where(weight.detach().abs() > size, weight.detach().sign(), torch.zeros_like(weight))
    return rounded + (weight - weight.detach())


def trained(
    setting: tuple[float | None, float, int],
    X: np.ndarray,
    y: np.ndarray,
    width: int,
    seconds: float,
    seed: int,
    pull: float = 0.0,
    price: float = 0.0,
) -> Found:
    """The best of networks trained by Adam, `RESTARTS` side by side, and then anew until the time is over.

    With a `pull` latent weights are drawn to 0, and the best network is that of the fewest errors, and `price` for each
    weight other than 0.
    """
    threshold, rate, steps = setting
    ends, generator = time.thread_time() + seconds, torch.Generator().manual_seed(seed)
    inputs, wanted = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(2.0 * y - 1, dtype=torch.float32)
    best, least = Found([], math.inf), math.inf
    while time.thread_time() < ends and least > 0:
        shapes = ((width, X.shape[1]), (1, width))
        sizes = (float((inputs - inputs.mean(0)).square().sum(1).mean().sqrt()), math.sqrt(width))
        weights = [2 * torch.rand(RESTARTS, *shape, generator=generator) - 1 for shape in shapes]
        # In units of a typical sum.
        biases = [torch.rand(RESTARTS, shape[0], generator=generator) - 0.5 for shape in shapes]
        biases[0] -= (ternary(weights[0], threshold) @ inputs.mean(0)) / sizes[0]
        adam = torch.optim.Adam([p.requires_grad_() for p in (*weights, *biases)], rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        for _ in range(steps):
            layers, h, z = [], inputs, inputs
            for weight, bias, size in zip(weights, biases, sizes, strict=True):
                rounded = ternary(weight, threshold)
                shift = bias + ((bias * size).round() / size - bias).detach()
                layers.append((rounded, shift * size))
                z = torch.matmul(h, rounded.mT) / size + shift[:, None]
                soft = WIDTH * torch.tanh(z / WIDTH)
                h = torch.where(z >= 0, 1.0, -1.0) + (soft - soft.detach())
            cost = (h[..., 0].detach().sign() != wanted).sum(1).float()
            if price:
                cost = cost + price * sum((w.detach().round() != 0).sum((1, 2)) for w, _ in layers)
            lowest, row = cost.min(0)
            if float(lowest) < least:
                kept = [(w[row].detach().round().double(), b[row].detach().round().double()) for w, b in layers]
                best, least = Found(kept, float((predicted(kept, X) != y).sum())), float(lowest)
            if time.thread_time() >= ends or least == 0:
                break
            adam.zero_grad()
            loss = torch.nn.functional.softplus(-3 * z[..., 0] * wanted).mean(1).sum()
            (loss + pull * sum(weight.abs().sum() for weight in weights)).backward()
            adam.step()
            schedule.step()
            with torch.no_grad():
                for weight in weights:
                    weight.clamp_(-1, 1)
    return best


def evolved(X: np.ndarray, y: np.ndarray, width: int, seconds: float, seed: int) -> Found:
    """pygad: a gene a weight or bias; tournaments, crossover in one or two points, random mutation, elitism."""
    ends, n = time.thread_time() + seconds, X.shape[1]
    inputs, wanted = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y == 1)

    def layers_of(genes: np.ndarray) -> list[tuple[Tensor, Tensor]]:
        read = torch.as_tensor(genes.astype(np.float32))
        parts = read.split([width * n, width, width, 1], dim=-1)
        return [(parts[0].unflatten(-1, (width, n)), parts[1]), (parts[2][..., None, :], parts[3])]

    def fitness(_: Any, genes: Any, __: Any) -> list[float]:
        h = inputs
        for weight, bias in layers_of(np.atleast_2d(np.array(genes))):
            h = torch.where(torch.matmul(h, weight.mT) + bias[:, None] >= 0, 1.0, -1.0)
        return (-((h[..., 0] > 0) != wanted).sum(1).double()).tolist()

    def stop(ga: Any) -> str | None:
        return "stop" if time.thread_time() >= ends or ga.best_solutions_fitness[-1] == 0 else None

    spread = max(1, round(math.sqrt(n)))
    space = [[-1, 0, 1]] * (width * n) + [list(range(-spread, spread + 1))] * width
    space += [[-1, 0, 1]] * width + [list(range(-width, width + 1))]
    ga = import_module("pygad").GA(
        num_generations=10**9,
        sol_per_pop=POPULATION,
        num_parents_mating=PARENTS,
        parent_selection_type="tournament",
        crossover_type="two_points",
        mutation_type="random",
        mutation_num_genes=MUTATED,
        keep_elitism=2,
        num_genes=len(space),
        gene_type=int,
        gene_space=space,
        fitness_func=fitness,
        fitness_batch_size=POPULATION,
        on_generation=stop,
        random_seed=seed,
        suppress_warnings=True,
    )
    ga.run()
    genes, _, _ = ga.best_solution(ga.last_generation_fitness)
    layers = [(weight.double(), bias.double()) for weight, bias in layers_of(np.array(genes))]
    return Found(layers, float((predicted(layers, X) != y).sum()))


def modelled(X: np.ndarray, y: np.ndarray, width: int, seconds: float, seed: int) -> Found:
    """HiGHS on the model of mip_nn (Thorbjarnarson and Yorke-Smith 2023): big-M rows, and a bit for each wrong row.

    Of each hidden unit ternary weights and a whole bias, and its output at each training row; the output unit's
    weights times these outputs by four rows each.
    """
    ends, rows, n = time.process_time() + seconds, len(y), X.shape[1]
    # Columns: first weights, first biases, outputs h in {0, 1}, second weights, second bias, products, wrong rows.
    sizes = [width * n, width, rows * width, width, 1, rows * width, rows]
    begin = np.concatenate([[0], np.cumsum(sizes)])
    weight, bias, h, second, last, product, wrong = (np.arange(a, b) for a, b in itertools.pairwise(begin))
    big, top = 2.0 * n + 2, 2.0 * width + 2
    lower: Any = np.concatenate(
        [np.full(s, v) for s, v in zip(sizes, (-1, -n - 1, 0, -1, -width - 1, -1, 0), strict=True)]
    )
    upper: Any = np.concatenate([np.full(s, v) for s, v in zip(sizes, (1, n + 1, 1, 1, width + 1, 1, 1), strict=True)])
    entries: list[tuple[np.ndarray, np.ndarray]] = []
    least: list[float] = []

    def add(columns: Any, factors: Any, at_least: float) -> None:
        entries.append((np.asarray(columns), np.asarray(factors, dtype=float)))
        least.append(at_least)

    for i in range(rows):
        for j in range(width):
            own, out = weight[j * n : (j + 1) * n], h[i * width + j]
            # z >= 0 where the output is 1, and z <= -1 where it is 0.
            add([*own, bias[j], out], [*X[i], 1, -big], -big)
            add([*own, bias[j], out], [*-X[i], -1, big], 1)
            # product = second weight times (2 h - 1).
            p, w = product[i * width + j], second[j]
            add([p, w, out], [1, -1, -2], -2)
            add([p, w, out], [-1, 1, -2], -2)
            add([p, w, out], [1, 1, 2], 0)
            add([p, w, out], [-1, -1, 2], 0)
        own = product[i * width : (i + 1) * width]
        if y[i] == 1:
            add([*own, last[0], wrong[i]], [*np.ones(width), 1, top], 0)
        else:
            add([*own, last[0], wrong[i]], [*-np.ones(width), -1, top], 1)
    places = np.concatenate([c for c, _ in entries]), np.cumsum([0, *(len(c) for c, _ in entries)])
    matrix = csr_array((np.concatenate([f for _, f in entries]), *places), shape=(len(entries), int(begin[-1])))
    bounds: Any = np.array(least)
    cost = np.zeros(int(begin[-1]))
    cost[wrong] = 1
    left = ends - time.process_time()
    answer = None
    if left > 0:
        answer = milp(
            cost,
            integrality=np.ones_like(cost),
            bounds=Bounds(lower, upper),
            constraints=LinearConstraint(matrix, bounds, np.inf),
            options={"time_limit": WALL * left},
        ).x
    if answer is None:
        return _constant(n, width, y)
    whole = torch.as_tensor(np.round(answer))
    layers = [(whole[weight].reshape(width, n), whole[bias]), (whole[second][None], whole[last])]
    return Found(layers, float((predicted(layers, X) != y).sum()))


def peers(width: int) -> Iterator[tuple[str, Any]]:
    """Name and function of inputs, labels, width, seconds and seed."""
    for setting in SETTINGS:
        yield f"straight-through {setting}", lambda *given, setting=setting: trained(setting, *given)
    for pull in PULLS:
        yield (
            f"priced straight-through {pull}",
            lambda *given, pull=pull: trained(SETTINGS[1], *given, pull=pull, price=PRICE),
        )
    if importlib.util.find_spec("pygad"):
        yield "genetic", evolved
    if width <= MAX_MODEL:
        yield "mixed-integer", modelled
