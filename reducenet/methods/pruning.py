"""Channel pruning to matched MACs, the classic rival: `prune` decides which channels stay, `resize` keeps them and nothing else.

Channels that are tied (through a sum, a BN, a depthwise conv) stand or fall together; the library torch-pruning finds these groups and
scores their channels. Source: Fang et al. 2023, DepGraph.
"""

import bisect
from collections import defaultdict
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize

from reducenet.data.tensors import Data
from reducenet.learn import measure
from reducenet.moves.branch import drop_branch
from reducenet.moves.surgery import copied
from reducenet.nets.networks import Network
from reducenet.nets.seeding import generator
from reducenet.words import Above0, Annotated, Field, Literal, MoveError, Positive, move, search

SIDES = ("out", "in")  # dimensions 0 and 1 of a weight


@move
def resize(net: nn.Module, keep: dict[str, dict[str, list[int]]]) -> nn.Module:
    """`net` with the channels in `keep` alone: `resize(net, keep)(x) == net(x)` where all others are zero, with zero shift, in every layer.

    `keep` says, by name of a layer, which outputs and which inputs stay, as ascending indices: `{"stem.0": {"out": [0, 2]}, "stem.1":
    {"out": [0, 2]}, "stage1.0.branch2.0": {"in": [0, 2]}}`. Layers are Conv2d without groups, Linear ("out", "in"), depthwise Conv2d and
    BatchNorm2d ("out" is both); what is not named stays whole. That neighbours fit is up to `keep`; `prune` sees to it.
    Weights that stay keep their values, type, device and frozen flags. Raises `MoveError` for what is not there or has no such side.
    """
    net = copied(net)
    layers = {name: sides for name, m in net.named_modules() if (sides := _widths(m))}
    for name, sides in keep.items():
        if name not in layers:
            raise MoveError(f"resize: {name!r} is no plain conv, BatchNorm2d or Linear; there are: {', '.join(layers) or 'none'}")
        module = net.get_submodule(name)
        for side, indices in sides.items():
            if side not in layers[name]:
                raise MoveError(f"resize: {name} has no side {side!r}; it has: {', '.join(layers[name])}")
            size = getattr(module, layers[name][side][0])
            if not indices or sorted(set(indices)) != list(indices) or not 0 <= indices[0] <= indices[-1] < size:
                raise MoveError(f"resize: {name} has the {side} channels 0 to {size - 1}; it keeps one or more, ascending, not {indices}")
        _keep_only(module, sides)
        for side, indices in sides.items():
            for attribute in layers[name][side]:
                setattr(module, attribute, len(indices))
    return net


def _widths(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """The sides of a layer that can be resized, and the attributes that say how wide each is; empty for everything else."""
    if type(module) is nn.Conv2d and module.groups == 1:
        return {"out": ("out_channels",), "in": ("in_channels",)}
    if type(module) is nn.Conv2d and module.groups == module.in_channels == module.out_channels:
        return {"out": ("out_channels", "in_channels", "groups")}
    if type(module) is nn.Linear:
        return {"out": ("out_features",), "in": ("in_features",)}
    return {"out": ("num_features",)} if isinstance(module, nn.BatchNorm2d) else {}


def _keep_only(module: nn.Module, sides: dict[str, list[int]]) -> None:
    for key, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        kept = tensor.detach()
        for dim, side in zip(range(tensor.dim()), SIDES, strict=False):
            if side in sides:
                kept = kept.index_select(dim, torch.tensor(sides[side], device=kept.device))
        setattr(module, key, nn.Parameter(kept, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else kept)


class Channel(NamedTuple):
    """One channel of one group: what it is worth, and the indices that go with it, by (layer, side)."""

    score: float
    tied: dict[tuple[str, str], set[int]]


@search
def prune(
    net: nn.Module,
    data: Data,
    *,
    macs: Positive | Annotated[float, Field(gt=0, lt=1)] | None = None,
    importance: Literal["group-magnitude", "bn-scale", "random"] = "group-magnitude",
    tolerance: Above0 = 0.01,
    seed: int = 0,
    device: str = "cpu",
) -> list[dict]:
    """`[{"resize": {"keep": ...}}]` that leaves `macs` multiply-adds an image, at most `tolerance` of them more or fewer.

    `macs` is a number, a share of those of `net` in (0, 1), or None: as many as the student inside has. The least important channels go
    first, over all groups at once; a channel whose loss would undershoot is passed over. Classes, and the last channel of a group, stay.
    `importance` is "group-magnitude" (squared norm of all weights of the channel, relative to its group), "bn-scale" (the same of its BN
    scales, absolute values) or "random" (from seed and group). Scores are of the net as it is, not of what is left after every removal.
    Layers that `resize` cannot cut keep all channels. Decided on the CPU, alike for every `device`; the images are not looked at.
    Raises `MoveError`, naming what can be reached, where no such net is found.
    """
    if not isinstance(net, Network):
        raise MoveError(f"prune: a network of this package is needed, a Network, not a {type(net).__name__}: its classes must stay")
    net, shape = copied(net).cpu().eval(), tuple(data.train.images.shape[1:])
    whole = measure.macs(net, shape)
    target = _target(net, shape, macs, whole)
    channels = _channels(net, shape, importance, seed)
    low, high = target * (1 - tolerance), target * (1 + tolerance)

    def left(removed: list[Channel]) -> int:
        return measure.macs(resize(net, _kept(net, removed)), shape)

    # Far from the target many at once: MACs fall with every channel, so the longest run of removals that stays above is a bisection.
    many = bisect.bisect_right(range(len(channels) + 1), -target, key=lambda n: -left(channels[:n])) - 1
    removed, reached = channels[:many], left(channels[:many])
    for channel in channels[many:]:
        if reached <= high:
            break
        if (fewer := left([*removed, channel])) >= low:
            removed, reached = [*removed, channel], fewer
    if reached > high:
        raise MoveError(f"prune: {target:.0f} MACs are out of reach from {whole}; the closest is {reached}, {reached / whole:.3f} of them")
    return [{"resize": {"keep": _kept(net, removed)}}]


def _target(net: nn.Module, shape, macs: int | float | None, whole: int) -> float:
    if macs is None:
        try:
            return measure.macs(drop_branch(net), shape)
        except MoveError as error:
            raise MoveError("prune: without a branch1 there is no student inside whose MACs to match; say how many macs") from error
    target = macs * whole if isinstance(macs, float) else macs
    if not 0 < target < whole:
        raise MoveError(f"prune: macs must be below the {whole} of the net, or a share of them in (0, 1), not {macs}")
    return target


def _kept(net: nn.Module, removed: list[Channel]) -> dict[str, dict[str, list[int]]]:
    """What `resize` is told when `removed` go."""
    gone = defaultdict(set)
    for channel in removed:
        for place, indices in channel.tied.items():
            gone[place] |= indices
    keep = defaultdict(dict)
    for (name, side), indices in gone.items():
        module = net.get_submodule(name)
        keep[name][side] = [i for i in range(getattr(module, _widths(module)[side][0])) if i not in indices]
    return dict(keep)


def _channels(net: nn.Module, shape, importance: str, seed: int) -> list[Channel]:
    """Every channel that may go, the least important first: all but the classes and the most important of every group."""
    import torch_pruning as tp  # not with the file: every checkpoint of a pruned net, and every narrowed one, needs `resize`

    if parametrized := [name for name, m in net.named_modules() if parametrize.is_parametrized(m)]:
        raise MoveError(f"prune: {parametrized[0]} has a side branch or another parametrisation; fold first")
    traced = copied(net).requires_grad_(True)  # the library follows gradients, and frozen layers would have none
    names = {m: name for name, m in traced.named_modules()}
    classes = [m for m in traced.classifier.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    example = torch.zeros(1, *shape, dtype=next(traced.parameters()).dtype)
    graph = tp.DependencyGraph().build_dependency(traced, (example,), verbose=False)
    scorers = {
        "group-magnitude": tp.importance.GroupMagnitudeImportance(),
        "bn-scale": tp.importance.BNScaleImportance(),
        "random": lambda group: torch.rand(len(group[0].idxs), generator=generator(seed, "prune", names[group[0].dep.target.module])),
    }
    channels = []
    for group in graph.get_all_groups(ignored_layers=[classes]):
        tied = _tied(group, graph, names)
        if tied is None:
            continue
        scores = scorers[importance](group)
        if scores is None:
            root = names[group[0].dep.target.module]
            raise MoveError(f"prune: no BN to score the channels of {root} by; choose another importance")
        scores = scores.nan_to_num().tolist()  # a group of zeros alone has no mean to be relative to
        own = [Channel(score, indices) for score, indices in zip(scores, tied, strict=True)]
        own.remove(max(own, key=lambda channel: channel.score))
        channels += own
    return sorted(channels, key=lambda channel: channel.score)


def _tied(group, graph, names: dict[nn.Module, str]) -> list[dict] | None:
    """For every channel of the group, the indices that go with it by (layer, side); None if one is in a layer that cannot be resized."""
    tied = [defaultdict(set) for _ in group[0].idxs]
    for item in group:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            return None
        if module not in names:
            continue  # the library's stand-in for a sum, a ReLU, a view: nothing to cut
        side = "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
        if side not in _widths(module):
            return None
        for index, channel in zip(item.idxs, item.root_idxs, strict=True):
            tied[channel][names[module], side].add(index)
    return tied
