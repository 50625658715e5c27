# %% [markdown]
"""# The fewest errors of a small network, with a proof.

You have a small table, and a network of a few hard-threshold units. How few training errors can the network make,
whatever its weights? This example finds such a network for a classic table, proves that no weights do better, saves the
proof, checks it, and draws the network.

Run it from any folder: `python exact_small_network.py`. It takes about ten seconds and writes two files.
"""

# %%
import tpsolve
from tpsolve.pictures import draw_network
from tpsolve.problems import make_table
from tpsolve.search import Circuits, load_proof, make_proof, verify_proof

# %% [markdown]
# ## The table
#
# Fisher's iris: the length and the width of the petals of two species, 50 flowers each. They were measured in tenths of
# a centimetre. The table is taken in millimetres, so that all numbers are whole. Most decimals, such as 4.9, are no
# float64 numbers, and rounding them can move a point to the other side of a line through two others. A proof holds for
# the numbers that it gets.

# %%
measured, species = make_table("iris-two")
X = (10 * measured[:, 2:]).round()
y = ["versicolor" if kind == 1 else "virginica" for kind in species]
names = ("petal length in mm", "petal width in mm")
print(len(y), "flowers")

# %% [markdown]
# ## One, two and three hidden units
#
# `widths=[k]` is a network of one hidden layer of k units and an output unit. `Circuits` searches the targets of all
# units on all flowers. `objective` is the number of errors of the best network it found, and `bound` is proved: no
# weights make fewer errors. Where both are equal, the status is `optimal`.

# %%
problems, results = {}, {}
for units in (1, 2, 3):
    problems[units] = tpsolve.NetworkProblem(X, y, widths=[units])
    results[units] = tpsolve.solve(problems[units], Circuits(), budget=tpsolve.Budget(seconds=60))
    errors, bound, status = results[units].objective.item(), results[units].bound.item(), results[units].status.value
    print(f"hidden units: {units}, errors: {errors:g}, no weights make fewer than {bound:g}: {status}")

assert [result.status for result in results.values()] == [tpsolve.Status.OPTIMAL] * 3
assert [result.objective.item() for result in results.values()] == [3, 2, 1]

# %% [markdown]
# One hidden unit is a single line through the plane, and the best line makes three errors. Every further unit corrects
# one. The last error stays however many units there are: two flowers of different species have equal petals.
#
# ## The network
#
# `problem.network` gives the network as a PyTorch module, with weights in float64. Here it has two hidden units.

# %%
problem, result = problems[2], results[2]
network = problem.network(result.targets)
named = problem.predict(network(problem.samples))
wrong = [flower for flower, (given, true) in enumerate(zip(named, y, strict=True)) if given != true]
print(network)
print("wrong:", wrong, "of", len(y))
assert len(wrong) == 2

# %% [markdown]
# ## The proof
#
# A proof holds the weights, the conflicts that the search met, and a hash of the data. It can be saved, sent and
# checked without the search. `verify_proof` counts the errors of the weights in exact arithmetic, checks every
# conflict in whole numbers, and has another engine refute that any weights make fewer errors.

# %%
make_proof(problem, result).save("iris-proof.npz")
findings = verify_proof(load_proof("iris-proof.npz"), X, y)
for finding in findings:
    print(f"{finding.part:9} {'holds' if finding.holds else 'DOES NOT HOLD'}: {finding.words}")
assert all(finding.holds for finding in findings)

# %% [markdown]
# The check fails on any other table. Here one flower has another name:

# %%
forged = [*y[:-1], y[0]]
assert not all(finding.holds for finding in verify_proof(load_proof("iris-proof.npz"), X, forged))

# %% [markdown]
# ## The picture
#
# The regions have the colour of the species that the network names there. The lines are those of the hidden units, and
# rings mark the errors.

# %%
draw_network(problem, network, names).savefig("iris-network.png", dpi=100)
