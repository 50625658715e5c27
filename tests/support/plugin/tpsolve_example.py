"""A plug-in of tpsolve: a solver, a learner, a suite, and a solver whose name is taken."""

from dataclasses import dataclass

import torch

from tpsolve import LayerProblem, problems, search, units


@dataclass(frozen=True)
class Twice(search.Solver):
    """The activations, or their negation, whichever is better."""

    name = "twice"
    accepts = (LayerProblem,)
    one_step = "the whole rule"
    needs_start = True

    def run(self, problem, budget, generator, report):
        assert problem.start is not None
        report.offer(problem.start)
        report.offer(-problem.start)
        report.step()


@dataclass(frozen=True)
class OtherKeep(Twice):
    """A solver under the name of one that tpsolve has."""

    name = "keep"


@dataclass(frozen=True)
class Means(units.UnitLearner):
    """The line half-way between the means of the two classes."""

    name = "means"
    convex = False

    def learn(self, task):
        x, t, c = task.samples.inputs, task.samples.targets, task.samples.weight
        c = t.abs() if c is None else c * t.abs()
        plus, minus = (torch.where(t == side, c, 0.0) for side in (1, -1))
        both = ((plus.sum(0) > 0) & (minus.sum(0) > 0))[:, None]
        above, below = (part.T @ x / part.sum(0).clamp(min=1e-30)[:, None] for part in (plus, minus))
        weight = torch.where(both, above - below, 0.0)
        bias = -(weight * (above + below)).sum(1) / 2
        bias = torch.where(both[:, 0], bias, plus.sum(0).sign() - minus.sum(0).sign()) * self.bias
        fitted = units.Units(weight, bias)
        task.meter.step(0.0)
        errors = ((fitted.predict(x) != t) & (t != 0)).sum(0)
        margin = torch.where(t != 0, t * fitted.decision(x), torch.inf).amin(0)
        share = errors.double() / len(x)
        steps = torch.ones_like(errors)
        return units.UnitFit(weight, bias, errors, margin, share, share, errors == 0, steps, task.meter.seconds)


def tiny(samples, seed):
    """One problem of six targets."""
    return [problems.make_instance("random", n=6, m=4, samples=samples, seed=seed)]
