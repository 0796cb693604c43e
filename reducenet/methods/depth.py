"""Which activations to give up for a smaller cost: an exact choice over all ways to cut every block into merged convs.

    build -> loosen -> fit -> search_depth(budget = b) -> fit -> fuse

Two tables are measured, what each merge does to the cost and what it does to validation accuracy, and a dynamic programme finds the cuts
with the best sum of the second under a bound on the sum of the first. That changes of accuracy add up is the method's assumption.
Source: Kim et al. 2023, "Efficient Latency-Aware CNN Depth Compression via Two-Stage Dynamic Programming".
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

from torch import nn

from reducenet.data.tensors import Data
from reducenet.learn.device import device_for
from reducenet.learn.evaluate import accuracy
from reducenet.learn.train import fit
from reducenet.methods.removal import accuracy_without, convs, deployed, groups, input_shapes, measured, resolved, without
from reducenet.moves.surgery import copied
from reducenet.words import Above0, Count, Literal, MoveError, Part, search

Table = Sequence[Sequence[float]]


def best_cuts(cost: Table, importance: Table, budget: float) -> tuple[tuple[int, ...], float]:
    """The cuts `0 < c1 < ... < cm < n` of layers 1 to n with the largest summed importance at a summed cost <= budget, and that sum.

    Segment (i, j] is layers i + 1 to j as one: it costs `cost[i][j]` (any unit, any sign, inf where it cannot be merged) and is worth
    `importance[i][j]`, 0 <= i < j <= n, in tables of (n + 1) x (n + 1). Exact: for every j, what is cheaper or worth more than all else up
    to j is kept, nothing is rounded. Of equally good cuts the cheapest. Raises `ValueError` naming the smallest possible cost where the
    budget cannot be met. Source: Kim et al. 2023, whose own programme rounds the costs to integers.

    >>> inf = float("inf")
    >>> best_cuts([[inf, 4, 5], [inf, inf, 4], [inf] * 3], [[0, 0, -1], [0, 0, 0], [0] * 3], budget=7)
    ((), -1)
    """
    front: list[list[tuple]] = [[(0, 0, ())]]  # up to each j: (cost, importance, cuts), dearer only where it is worth more
    for j in range(1, len(cost)):
        reached = [
            (spent + cost[i][j], worth + importance[i][j], (*cuts, i) if i else ())
            for i in range(j)
            if cost[i][j] < math.inf
            for spent, worth, cuts in front[i]
        ]
        kept: list[tuple] = []
        for way in sorted(reached, key=lambda way: (way[0], -way[1], way[2])):
            if not kept or way[1] > kept[-1][1]:
                kept.append(way)
        front.append(kept)
    affordable = [way for way in front[-1] if way[0] <= budget]
    if not affordable:
        least = front[-1][0][0] if front[-1] else math.inf
        raise ValueError(f"best_cuts: the budget of {budget:g} cannot be met; the smallest possible cost is {least:g}")
    _, worth, cuts = affordable[-1]
    return cuts, worth


@search
def search_depth(
    net: nn.Module,
    data: Data,
    *,
    budget: Part = 0.7,
    cost: Literal["macs", "latency"] = "macs",
    epochs: Count = 0,
    lr: Above0 = 0.05,
    seed: int = 0,
    device: str = "cpu",
) -> list[dict]:
    """The moves to a network that `fuse(net, dearer=True)` makes at most `budget` as dear as this one, at the least loss of accuracy.

    The LambdaReLUs inside a block (at lam 0) are where it may be cut: one that is no cut is removed, the others become ReLUs. `budget` is
    a share in (0, 1] of the `cost` of the whole net: "macs", or "latency", which no two runs measure alike. The loss is the sum of what
    each merge alone changes in validation accuracy, the net with and without it both trained for `epochs` at the peak rate `lr`, or
    with 0 epochs given new BN statistics only. `pad_first` is among the moves where what was removed would not merge exactly without.
    Decides on training and validation images; `net` stays as it is.
    Raises `MoveError` where nothing can be merged, and for a budget that cannot be met, naming the smallest that can.
    Source: Kim et al. 2023.
    """
    line = boundaries(net)
    net = copied(net).to(device_for(device)).eval()
    total = measured(deployed(without(net, [])), cost, data.train.images.shape[1:])
    changes = cost_table(net, data, cost)
    if all(change == math.inf for i, row in enumerate(changes) for change in row[i + 2 :]):
        raise MoveError(f"search_depth: nothing merges, whichever LambdaReLU is removed ({', '.join(filter(None, line))})")
    least = -best_cuts(changes, [[-change for change in row] for row in changes], math.inf)[1]
    if least > (budget - 1) * total:
        share = math.ceil(1e4 * (1 + least / total)) / 1e4
        raise MoveError(f"search_depth: a budget of {budget:g} cannot be met; the smallest possible cost is {share:g} of the whole net's")
    worth = importance_table(net, data, changes, epochs=epochs, lr=lr, seed=seed, device=device)
    cuts, _ = best_cuts(changes, worth, (budget - 1) * total)
    return resolved(net, [act for c, act in enumerate(line, 1) if act and c not in cuts])


def boundaries(net: nn.Module) -> list[str | None]:
    """What stands between layers 1, 2, ... of the programme: a LambdaReLU, by name, or `None` between two blocks, where nothing merges."""
    line: list[str | None] = []
    for acts in groups(net, "search_depth").values():
        line += [*([None] if line else []), *acts]
    return line


def cost_table(net: nn.Module, data: Data, cost: str) -> list[list[float]]:
    """`changes[i][j]`: by how much the cost of the deployed net rises when layers i + 1 to j really become one conv; inf if they do not.

    A block is measured with and without the activations between them (MACs of one image, or median seconds), so a shortcut that the merged
    conv takes in counts too. A single layer changes nothing.
    """
    found = groups(net, "search_depth")
    home = {act: block for block, acts in found.items() for act in acts}
    shapes, whole = input_shapes(net, found, data), without(net, [])
    before = {block: deployed(whole.get_submodule(block)) for block in found}
    spent = {block: measured(before[block], cost, shapes[block]) for block in found}
    changes = _table(net)
    for i, j, acts in segments(net):
        block = home[acts[0]]
        merged = deployed(without(net, acts).get_submodule(block))
        if convs(before[block]) - convs(merged) >= len(acts):
            changes[i][j] = measured(merged, cost, shapes[block]) - spent[block]
    return changes


def importance_table(
    net: nn.Module, data: Data, changes: Table, *, epochs: int = 0, lr: float = 0.05, seed: int = 0, device: str = "cpu"
) -> list[list[float]]:
    """`worth[i][j]`: the change of validation accuracy when layers i + 1 to j become one, in [-1, 1]; measured where `changes` is finite.

    Both sides get the same: `epochs` of training from the weights of `net`, or with 0 epochs BN statistics estimated anew.
    """

    def worth(acts: list[str]) -> float:
        if epochs == 0:
            return accuracy_without(net, acts, data, seed, device)
        return accuracy(fit(without(net, acts), data, epochs=epochs, lr=lr, seed=seed, device=device).net, data, data.val)

    table, whole = _table(net), worth([])
    for i, j, acts in segments(net):
        if changes[i][j] < math.inf:
            table[i][j] = worth(acts) - whole
    return table


def segments(net: nn.Module) -> Iterator[tuple[int, int, list[str]]]:
    """Every (i, j] of two layers or more within one block, and the LambdaReLUs between them."""
    line = boundaries(net)
    for i, j in combinations(range(len(line) + 2), 2):
        acts = line[i : j - 1]
        if acts and None not in acts:
            yield i, j, acts


def _table(net: nn.Module) -> list[list[float]]:
    size = len(boundaries(net)) + 2
    return [[0.0 if j == i + 1 else math.inf for j in range(size)] for i in range(size)]
