"""DepthShrinker: which blocks lose the activations inside them, so that what is linear then merges into one dense conv.

    build -> fit -> search_mask(keep = k) -> fit(loss = "kd") -> fuse

The published code searches and finetunes but never merges: its latency is that of fresh convs without bias. Here the moves that a search
decides on lead to a network that `fuse(net, dearer=True)` merges exactly.
Source: Fu et al. 2022, "DepthShrinker: A New Compression Paradigm Towards Boosting Real-Hardware Efficiency of Compact Neural Networks".
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from reducenet.data.tensors import Data
from reducenet.learn.device import device_for
from reducenet.learn.evaluate import logits
from reducenet.learn.losses import cross_entropy
from reducenet.learn.train import fit
from reducenet.methods.removal import accuracy_without, deployed, groups, input_shapes, measured, merges, resolved, without
from reducenet.moves.surgery import copied, replace
from reducenet.nets.seeding import generator
from reducenet.words import Above0, AtLeast0, Count, Literal, MoveError, Positive, search


@search
def search_mask(
    net: nn.Module,
    data: Data,
    *,
    keep: Count,
    by: Literal["learned", "random", "greedy", "magnitude"] = "learned",
    epochs: Positive = 1,
    lr: Above0 = 0.05,
    explore: AtLeast0 = 0.0,
    cost_weight: AtLeast0 = 0.0,
    cost: Literal["macs", "latency"] = "macs",
    gradual: bool = False,
    final_relu: bool = False,
    seed: int = 0,
    device: str = "cpu",
) -> list[dict]:
    """The moves after which exactly `keep` blocks have the activations inside them, as ReLUs, and the other blocks have none.

    A block with LambdaReLUs inside (at lam 0, not behind the sum) is one group, kept or removed as a whole. `by` says who chooses:

    learned    each block has a score, trained with the weights on a copy for `epochs` at the peak rate `lr`; the highest are kept. At every
               step the network is hard, only the top `keep` have their ReLUs; the gradient of a score is that of a soft mask.
               `explore` is the temperature, falling to 0, of Gumbel noise on the ranking. The loss has
               `cost_weight * sum saving * p(keep)` added: a block that saves much goes first. A saving is the share of the `cost` of the
               net ("macs", or "latency", which no two runs measure alike) that merging this block saves; below 0 where it adds.
    random     drawn from `seed`.
    greedy     one at a time goes the block whose removal leaves the best validation accuracy, BN statistics estimated anew; of equals
               the first.
    magnitude  the blocks with the smallest mean |x - act(x)| on the training images go.

    `gradual` leaves the removed ones LambdaReLUs, for a `fit(slide=...)` to slide; `final_relu` adds a ReLU behind every removed block that
    ends without. `pad_first` is among the moves where the removed blocks would not merge exactly without it.
    Decides on training and validation images; `net` stays as it is.
    Raises `MoveError` for a `keep` that is not from 0 to one below the number of groups, for names and values that make no sense, and
    where there is nothing to choose, or no block to give a final ReLU.
    Source: Fu et al. 2022, whose code adds the saving with the sign that keeps the blocks that save most.
    """
    found = groups(net, "search_mask")
    if keep >= len(found):
        raise MoveError(f"search_mask: keep must be from 0 to {len(found) - 1}, not {keep}; the groups are: {', '.join(found)}")
    open_ended = [name for name in found if isinstance(getattr(net.get_submodule(name), "post", None), nn.Identity)]
    if final_relu and not open_ended:
        raise MoveError("search_mask: final_relu has nothing to add; every block with a LambdaReLU ends in a ReLU")
    searched = copied(net).to(device_for(device)).eval()
    count = len(found) - keep
    if idle := [name for name, acts in found.items() if not merges(searched, name, acts)]:
        raise MoveError(f"search_mask: nothing would merge in {', '.join(idle)}, whichever activation is removed; settle what is not to go")
    if by == "learned":
        savings = list(_savings(searched, found, cost, data)) if cost_weight else []
        gated = with_gates(searched, found, keep, seed)
        loss = _with_savings(savings, cost_weight) if savings else cross_entropy
        trained = fit(gated, data, epochs=epochs, lr=lr, loss=loss, hooks=[choose(keep, explore, seed)], seed=seed, device=device).net
        gone = _lowest(found, [gate.score.item() for gate in _gates(trained)], count)
    elif by == "magnitude":
        gone = _lowest(found, _magnitudes(searched, found, data), count)
    elif by == "greedy":
        gone = _greedy(searched, found, count, data, seed, device)
    else:
        gone = _lowest(found, torch.rand(len(found), generator=generator(seed, "search_mask", "random")).tolist(), count)
    removed = [name for name in found if name in gone]
    final = [name for name in removed if name in open_ended] if final_relu else []
    return resolved(net, _acts(found, removed), gradual=gradual, final=final)


def _savings(net: nn.Module, found: dict, cost: str, data: Data) -> Iterable[float]:
    """The share of the cost of the whole net that goes with each group."""
    shapes, whole = input_shapes(net, found, data), without(net, [])
    total = measured(deployed(whole), cost, data.train.images.shape[1:])
    for block, acts in found.items():
        before, after = (measured(deployed(n.get_submodule(block)), cost, shapes[block]) for n in (whole, without(net, acts)))
        yield (before - after) / total


class Gate(nn.Module):
    """The mask of one group: a score to learn, p(keep) = sigmoid(score), and whether the group is kept at this step."""

    def __init__(self, score: float, kept: bool):
        super().__init__()
        self.score, self.kept = nn.Parameter(torch.tensor(score)), kept

    def forward(self) -> Tensor:
        return torch.sigmoid(self.score)


class Gated(nn.Module):
    """`gated(x) == (act(x) if kept else x)` for finite x, with the gradient `<dL/dout, act(x) - x>` for p(keep): straight through.

    No clamp stands before p: torch 2.14 gives it no gradient at its ends, and a mask that starts there would never move.
    """

    def __init__(self, act: nn.Module, gate: Gate):
        super().__init__()
        self.act, self.gate = act, gate

    def forward(self, x: Tensor) -> Tensor:
        on, p = self.act(x), self.gate()
        return (on if self.gate.kept else x) + (p - p.detach()) * (on - x).detach()


def with_gates(net: nn.Module, found: dict[str, list[str]], keep: int, seed: int = 0) -> nn.Module:
    """The hard network as the search trains it: a gate for each group, the top `keep` of them kept.

    All start at p(keep) = 1/2, but for a thousandth drawn from `seed`: who is first among equals is luck, not a matter of position.
    """
    starts = 1e-3 * torch.randn(len(found), generator=generator(seed, "search_mask", "start"))
    kept = starts.argsort(descending=True)[:keep].tolist()
    made = [Gate(start, i in kept).to(next(net.parameters())) for i, start in enumerate(starts.tolist())]
    gates = {act: gate for acts, gate in zip(found.values(), made, strict=True) for act in acts}
    return replace(net, lambda name, _: name in gates, lambda name, act: Gated(act, gates[name]))


def choose(keep: int, explore: float = 0.0, seed: int = 0) -> Callable:
    """A hook for `fit`: before every step the `keep` groups with the highest `score + T * Gumbel noise` are kept.

    That is drawing groups from softmax(scores / T), one after the other without putting back. T falls from `explore` to 0 with progress.
    """
    draw = generator(seed, "search_mask", "explore")

    def hook(net: nn.Module, progress: float) -> None:
        gates = _gates(net)
        scores = torch.tensor([gate.score.item() for gate in gates])
        noise = -torch.empty(len(gates)).exponential_(generator=draw).log()
        kept = (scores + explore * (1 - progress) * noise).argsort(descending=True)[:keep].tolist()
        for i, gate in enumerate(gates):
            gate.kept = i in kept

    return hook


def _gates(net: nn.Module) -> list[Gate]:
    return [m for m in net.modules() if isinstance(m, Gate)]


def _with_savings(savings: list[float], cost_weight: float) -> Callable:
    def loss(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        value, out = cross_entropy(net, x, y)
        return value + cost_weight * sum(saving * gate() for saving, gate in zip(savings, _gates(net), strict=True)), out

    return loss


def _greedy(net: nn.Module, found: dict, count: int, data: Data, seed: int, device: str) -> list[str]:
    gone: list[str] = []
    for _ in range(count):
        left = [name for name in found if name not in gone]
        worth = [accuracy_without(net, _acts(found, [*gone, name]), data, seed, device) for name in left]
        gone.append(left[worth.index(max(worth))])
    return gone


def _magnitudes(net: nn.Module, found: dict, data: Data) -> list[float]:
    """Mean |x - act(x)| over the training images and all that enters the activations of each group."""
    net, sums, sizes = copied(net), dict.fromkeys(found, 0.0), dict.fromkeys(found, 0)
    for block, acts in found.items():

        def note(_, inputs, out, block=block):
            sums[block] += (inputs[0] - out).abs().sum(dtype=torch.float64).item()
            sizes[block] += out.numel()

        for act in acts:
            net.get_submodule(act).register_forward_hook(note)
    logits(net, data, data.train)
    return [sums[block] / sizes[block] for block in found]


def _lowest(found: dict, worth: list[float], count: int) -> list[str]:
    return sorted(found, key=dict(zip(found, worth, strict=True)).get)[:count]


def _acts(found: dict[str, list[str]], blocks: Iterable[str]) -> list[str]:
    return [act for block in blocks for act in found[block]]
