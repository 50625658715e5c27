# %% [markdown]
"""# Train a hard-threshold network in PyTorch.

You have a PyTorch model and want its units to output -1 and +1. This example swaps the activations, trains the network
on scikit-learn's digits with `loss.backward()`, and then lets a search set the targets instead.

Run it from any folder: `python train_with_targets.py`. It takes about ten seconds and writes one picture.
"""

# %%
import copy

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import tpsolve
from tpsolve.nn import convert, target_backward

# %% [markdown]
# ## The data and the model
#
# 1,797 scans of 8 x 8 pixels. A third of them is held out. `convert` replaces every ReLU of any model by a hard
# threshold.

# %%
pixels, digits = load_digits(return_X_y=True)
inputs, labels = torch.tensor(pixels, dtype=torch.float32) / 8 - 1, torch.tensor(digits)
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
train, test = order[600:], order[:600]

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
convert(model, nn.ReLU)
print(model)
hidden = model[:2](inputs)
assert set(hidden.unique().tolist()) == {-1.0, 1.0}

# %% [markdown]
# ## Two backward passes that are one
#
# Behind `loss.backward()` stands the closed-form rule of Friesen and Domingos (2018): the target of a unit is the sign
# of its negative gradient. `target_backward` runs the forward pass, the loss and the backward pass in one call, and any
# solver can set the targets. Its default solver is the same rule, so the gradients are equal, bit for bit.


# %%
def gradients(model: nn.Module) -> torch.Tensor:
    """All gradients of a model in one row."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


first = train[:64]
cross_entropy(model(inputs[first]), labels[first]).backward()
by_rule = gradients(model)
model.zero_grad()
target_backward(model, inputs[first], labels[first], cross_entropy)
assert torch.equal(gradients(model), by_rule)

# %% [markdown]
# ## The training loop
#
# One loop for both. `solver=None` trains by `loss.backward()`. Otherwise the solver searches the targets of the last
# hidden layer, whose depth is -1. The budget is counted in steps, so equal seeds give equal networks.


# %%
budget = tpsolve.Budget(steps=20)


def fit(model: nn.Module, solver: str | None, epochs: int = 5) -> tuple[nn.Module, list[float]]:
    """Train a copy of `model`; return it and the share of right test digits after each epoch."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    accuracies = []
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train), generator=generator)].split(64):
            x, y = inputs[batch], labels[batch]
            optimizer.zero_grad()
            if solver is None:
                cross_entropy(model(x), y).backward()
            else:
                target_backward(model, x, y, cross_entropy, solver={-1: solver}, budget=budget)
            optimizer.step()
        with torch.no_grad():
            accuracies.append((model(inputs[test]).argmax(1) == labels[test]).double().mean().item())
    return model, accuracies


by_backward, backward_curve = fit(model, None)
by_search, search_curve = fit(model, "hill-climb")
for name, curve in {"loss.backward()": backward_curve, "hill-climb": search_curve}.items():
    print(f"{name:16} test accuracy after each epoch: {[round(value, 3) for value in curve]}")
    assert curve[-1] > 0.8

# %% [markdown]
# Both learn to read the digits. Do not expect a search to read them better: the objective of one layer is not the
# loss of the network. "Does search help?" in the documentation measures where it pays.
#
# ## What the search did
#
# The report of `target_backward` has one result for each threshold, and `report.problem` is the problem that was
# searched. The solver `keep` keeps the activations, so its objective is that before the search.

# %%
report = target_backward(by_search, inputs[first], labels[first], cross_entropy, solver="hill-climb", budget=budget)
for name, result in report.items():
    before = tpsolve.solve(report.problem(name), "keep", budget=budget).objective
    print(f"threshold {name}: mean objective {before.mean():.4f} before, {result.objective.mean():.4f} after")
    assert (result.objective <= before).all()

# %%
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
epochs = range(1, len(backward_curve) + 1)
axes.plot(epochs, backward_curve, marker="o", label="loss.backward()")
axes.plot(epochs, search_curve, marker="o", label="target_backward, hill-climb")
axes.set_xticks(epochs)
axes.set_xlabel("epoch")
axes.set_ylabel("test accuracy")
axes.legend(frameon=False)
figure.savefig("train-with-targets.png", dpi=100)
