# %% [markdown]
"""# Three strategies on the layers of a real network.

Which search should set the targets of a layer? This example trains a small hard-threshold network on scikit-learn's
digits, takes the target problems of its layers, and gives each problem to three solvers: the closed-form rule of the
paper, a local search, and an exact solver. The exact solver's bounds say how far from the optimum the others are.

Run it from any folder: `python compare_strategies.py`. It takes about six seconds and writes one picture. For a
comparison of all solvers, with rows on disk and a report, run `tpsolve compare`.
"""

# %%
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import tpsolve
from tpsolve.nn import convert
from tpsolve.problems import harvest

# %% [markdown]
# ## A network
#
# `convert` replaces every ReLU by a hard threshold, which outputs -1 or +1. `loss.backward()` then trains the network
# by the closed-form rule.

# %%
pixels, digits = load_digits(return_X_y=True)
inputs, labels = torch.tensor(pixels, dtype=torch.float32) / 8 - 1, torch.tensor(digits)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
convert(model, nn.ReLU)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for batch in torch.randperm(len(labels)).split(64):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
    optimizer.step()
accuracy = (model(inputs).argmax(1) == labels).float().mean().item()
print(f"after one epoch: {accuracy:.0%} of the digits are right")
assert accuracy > 0.5

# %% [markdown]
# ## Its target problems
#
# `harvest` returns one problem for each linear layer that reads threshold outputs. Each asks for the targets of the 32
# units below the layer, for 8 digits. The objective of the lower problem is the hinge loss of the units above, and
# that of the upper problem is the cross-entropy of the labels.

# %%
layers = harvest(model, inputs[:8], labels[:8])
for layer in layers:
    print(layer.name, layer.problem)

# %% [markdown]
# ## Three solvers
#
# A solver is named by a text, such as `hill-climb:restarts=8`. The budget is the same for all. `objective` is what the
# targets cost, a number for each digit. `bound` is proved: no targets of that digit cost less. `keep` is the baseline:
# its targets are the activations themselves.

# %%
solvers = ("keep", "sign-gradient", "hill-climb:restarts=8", "cp-sat")
budget = tpsolve.Budget(seconds=1)
results = {}
for layer in layers:
    for solver in solvers:
        found = results[layer.name, solver] = tpsolve.solve(layer.problem, solver, budget=budget)
        mean, proved = found.objective.mean().item(), found.optimal.double().mean().item()
        print(f"{layer.name:16} {solver:22} mean objective {mean:.4f}, proved optimal {proved:.0%}")

# %% [markdown]
# Three things hold on any machine, however fast it is:
#
# - No solver returns targets below a proved bound.
# - `hill-climb` starts at the activations, and only goes down.
# - Where `cp-sat` reports `optimal`, nobody else is better.

# %%
for layer in layers:
    exact = results[layer.name, "cp-sat"]
    for solver in solvers:
        objective = results[layer.name, solver].objective
        assert (objective >= exact.bound - 1e-9).all()
        assert (objective >= exact.objective - 1e-6)[exact.optimal].all()
    assert (results[layer.name, "hill-climb:restarts=8"].objective <= results[layer.name, "keep"].objective).all()

# %% [markdown]
# ## The picture
#
# A dot is one digit. Its height is the objective minus the bound that `cp-sat` proved. A dot at 0 is proved optimal.

# %%
figure, panels = plt.subplots(1, len(layers), figsize=(9, 3.6), sharey=True, layout="constrained")
for panel, layer in zip(panels, layers, strict=True):
    for place, solver in enumerate(solvers):
        gap = (results[layer.name, solver].objective - results[layer.name, "cp-sat"].bound).clamp(min=0)
        panel.scatter(place + torch.linspace(-0.2, 0.2, len(gap)), gap, s=16)
    panel.set_xticks(range(len(solvers)), [solver.partition(":")[0] for solver in solvers])
    panel.set_yscale("symlog", linthresh=1e-3)
    panel.set_title(f"layer {layer.name.replace('/', ', ')}")
panels[0].set_ylabel("objective - proved bound")
figure.savefig("compare-strategies.png", dpi=100)
