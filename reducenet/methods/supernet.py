"""The scaler net as a super-network: every block holds its narrower selves, branch1 with the first `e * planes` inner channels.

`sandwich` trains all of them in one net, `netaug` trains the student with wider nets as help, `search_width` picks one of them.
"""

import math
from collections import OrderedDict
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from reducenet.data.tensors import Data
from reducenet.learn import measure
from reducenet.learn.batchnorm import recalibrate
from reducenet.learn.device import device_for
from reducenet.learn.evaluate import accuracy
from reducenet.methods.pruning import resize
from reducenet.moves.branch import without_branch1, without_branches
from reducenet.moves.surgery import chosen, copied, replace
from reducenet.nets.blocks import ScalerBlock
from reducenet.nets.seeding import generator
from reducenet.nets.widened import Widened
from reducenet.words import AtLeast0, AtLeast2, Count, MoveError, Part, Positive, loss, move, search


@move
def narrow(net: nn.Module, expansion: Count | list[Count]) -> nn.Module:
    """The sub-network of this expansion: every scaler block keeps the first `expansion * planes` inner channels of branch1.

    `narrow(net, E)(x) == net(x)` for the expansion E that it has, `narrow(net, 0)(x) == drop_branch(net)(x)`: at 0 a block loses its
    branch1. A list gives an expansion to each scaler block, in order. Raises `MoveError` outside 0 to E.
    """
    widest = _widest("narrow", net)
    chosen = list(expansion) if isinstance(expansion, list | tuple) else [expansion] * len(widest)
    if len(chosen) != len(widest):
        raise MoveError(f"narrow: {len(chosen)} expansions for {len(widest)} scaler blocks: {', '.join(widest)}")
    keep, bare = {}, []
    for (name, most), one in zip(widest.items(), chosen, strict=True):
        if one > most:
            raise MoveError(f"narrow: the expansion of {name} must be a whole number from 0 to {most}, not {one}")
        if one == 0:
            bare.append(name)
            continue
        inner = list(range(one * _planes(net.get_submodule(name))))
        keep |= {f"{name}.branch1.0": {"out": inner}, f"{name}.branch1.1": {"out": inner}, f"{name}.branch1.3": {"in": inner}}
    net = resize(net, keep)
    of_blocks = {name for name in bare if isinstance(net.get_submodule(name), ScalerBlock)}
    net = replace(net, lambda name, _: name in of_blocks, lambda _, block: without_branch1(block)) if of_blocks else net
    return without_branches(net, set(bare) - of_blocks)


def _planes(block: ScalerBlock | Widened) -> int:
    return block.branch1[3].out_channels


def _widest(move: str, net: nn.Module) -> dict[str, int]:
    """The expansion of every scaler block, by name."""
    blocks = chosen(net, ScalerBlock | Widened)
    if not blocks:
        raise MoveError(f"{move}: no scaler block here, no widened conv; only these hold their narrower selves, until drop_branch")
    for name, block in blocks.items():
        if block.branch1[3].in_channels % _planes(block):
            raise MoveError(
                f"{move}: {name} has {block.branch1[3].in_channels} inner channels for {_planes(block)} planes, no whole expansion"
            )
    return {name: block.branch1[3].in_channels // _planes(block) for name, block in blocks.items()}


def _skeleton(net: nn.Module, expansion: tuple[int, ...]) -> nn.Module:
    """The sub-network without numbers of its own; all that is left is called as in `net`."""
    asked = dict(zip(_widest("narrow", net), expansion, strict=True))
    bare = {name for name, one in asked.items() if one == 0 and isinstance(net.get_submodule(name), Widened)}
    if bare:  # narrow would put conv, BN and activation back into their own places
        net = replace(net, lambda name, _: name in bare, lambda _, wide: nn.Sequential(OrderedDict(branch2=wide.branch2)))
    left = [one for name, one in asked.items() if name not in bare]
    return (narrow(net, left) if left else net).to("meta")


def _through(net: nn.Module, skeleton: nn.Module, x: Tensor, statistics) -> Tensor:
    """`skeleton(x)` with the tensors of `net`: leading slices, so that gradients reach `net`. `statistics` takes those of its BNs."""
    skeleton.train(net.training)
    tensors = {name: net.get_parameter(name)[tuple(map(slice, p.shape))] for name, p in skeleton.named_parameters()}
    tensors |= {name: statistics(net.get_buffer(name)[tuple(map(slice, b.shape))]) for name, b in skeleton.named_buffers()}
    return functional_call(skeleton, tensors, (x,))


def _in_place(statistics: Tensor) -> Tensor:
    return statistics


@loss("sandwich", steps=32)
def sandwich(subnets: AtLeast2 = 4, *, seed: int = 0):
    """The loss `CE(z, y) + sum_i CE(z_i, softmax(z))` over `subnets - 1` sub-networks: the student and `subnets - 2` random ones.

    z are the logits of the whole net, detached where they teach; sub-networks see no labels. Each block of a random one has its own
    expansion, uniform from 1 to E - 1, afresh at every step from (seed, "sandwich"). BNs of sub-networks use the statistics of their
    batch and move no running ones: `recalibrate` after `narrow`. The logits are z. Source: Yu and Huang 2019, US-Nets, section 3.
    """
    draw, skeleton = generator(seed, "sandwich"), lru_cache(32)(_skeleton)

    def objective(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        widest = _widest("sandwich", net).values()
        if subnets > 2 and min(widest) < 2:
            raise MoveError("sandwich: nothing lies between expansion 0 and 1; build with at least 2, or take subnets = 2")
        logits = net(x)
        total, taught = F.cross_entropy(logits, y), logits.detach().softmax(1)
        random = [tuple(_drawn(1, most - 1, draw) for most in widest) for _ in range(subnets - 2)]
        for expansion in [(0,) * len(widest), *random]:
            total = total + F.cross_entropy(_through(net, skeleton(net, expansion), x, torch.clone), taught)
        return total, logits

    return objective


@loss("netaug", steps=32)
def netaug(aug_weight: AtLeast0 = 1.0, *, seed: int = 0):
    """The loss `CE(z, y) + aug_weight * CE(z_wide, y)`: z is the student's, z_wide that of a random wider net around it.

    Each block of the wider net has its own expansion, uniform from 1 to E, afresh at every step from (seed, "netaug"). The logits, and
    the running statistics that move, are the student's; `drop_branch` gives the net that was trained for, and the validation accuracy
    that `fit` reports, of the whole net, says nothing. Source: Cai et al. 2022, NetAug, section 3; its wider nets go on to the end here.
    """
    draw, skeleton = generator(seed, "netaug"), lru_cache(32)(_skeleton)

    def objective(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        widest = _widest("netaug", net).values()
        logits = _through(net, skeleton(net, (0,) * len(widest)), x, _in_place)
        wider = tuple(_drawn(1, most, draw) for most in widest)
        wide = _through(net, skeleton(net, wider), x, torch.clone)
        return F.cross_entropy(logits, y) + aug_weight * F.cross_entropy(wide, y), logits

    return objective


@search
def search_width(
    net: nn.Module, data: Data, *, budget: Part, tries: Positive = 16, images: Positive = 2000, seed: int = 0, device: str = "cpu"
) -> list[dict]:
    """`[{"narrow": {"expansion": [...]}}]`: of `tries` random sub-networks within `budget`, the best on validation.

    `budget` is the most MACs that it may have, a share of those of `net` in (0, 1]. The student is always tried. For the others, from
    (seed, "search_width"), blocks come in random order, each with an expansion that is uniform over what the budget still allows; what
    is drawn twice is tried once. BN statistics are estimated anew on `images` training images; weights stay. Of equals the cheapest wins.
    Raises `MoveError` for a budget below the share of the student, naming that share. Source: Yu and Huang 2019; once-for-all.
    """
    widest, shape = list(_widest("search_width", net).values()), tuple(data.train.images.shape[1:])
    least, whole = (0,) * len(widest), measure.macs(net, shape)

    def cost(expansion: tuple[int, ...]) -> int:
        return measure.macs(narrow(net, list(expansion)), shape)

    room = budget * whole - cost(least)
    if room < 0:
        raise MoveError(f"search_width: the smallest share of the MACs is {math.ceil(1e4 * cost(least) / whole) / 1e4}, not {budget}")
    prices = [cost(tuple(int(i == block) for i in range(len(widest)))) - cost(least) for block in range(len(widest))]  # of one expansion
    draw, candidates = generator(seed, "search_width"), {least}
    for _ in range(tries - 1):
        candidates.add(_affordable(widest, prices, room, draw))
    place = device_for(device)
    net, data = copied(net).eval().to(place), data.to(place)

    def worth(expansion: tuple[int, ...]) -> float:
        return accuracy(recalibrate(narrow(net, list(expansion)), data, images=images, seed=seed, device=device), data, data.val)

    return [{"narrow": {"expansion": list(max(sorted(candidates, key=lambda e: (cost(e), e)), key=worth))}}]


def _affordable(widest: list[int], prices: list[int], room: float, draw: torch.Generator) -> tuple[int, ...]:
    """An expansion for every block, `sum(price * expansion) <= room`."""
    expansion = [0] * len(widest)
    for block in torch.randperm(len(widest), generator=draw).tolist():
        expansion[block] = _drawn(0, min(widest[block], int(room // prices[block])), draw)
        room -= expansion[block] * prices[block]
    return tuple(expansion)


def _drawn(low: int, high: int, draw: torch.Generator) -> int:
    return torch.randint(low, high + 1, (), generator=draw).item()
