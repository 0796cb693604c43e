"""Activations on trial: which LambdaReLUs can go, the moves that remove them, and what a network without them costs and is worth.

What the searches for them share: DepthShrinker's masks, depth compression's cuts, Layer Folding's snap.
"""

from collections.abc import Iterable
from contextlib import suppress

from torch import nn

from reducenet.data.tensors import Data
from reducenet.deploy.fuse import fuse
from reducenet.deploy.padding import pad_first
from reducenet.learn.batchnorm import recalibrate
from reducenet.learn.evaluate import accuracy, logits
from reducenet.learn.measure import latency, macs
from reducenet.moves.activations import linearise, settle
from reducenet.moves.surgery import copied
from reducenet.nets.activation import LambdaReLU
from reducenet.nets.blocks import is_block
from reducenet.nets.widened import Widened
from reducenet.words import MoveError


def groups(net: nn.Module, move: str) -> dict[str, list[str]]:
    """The names of the LambdaReLUs inside each block of this package, by the block's name; one behind its sum (`post`) is not inside.

    A conv that `widen` put a branch beside is a block with that branch, unless it stands in one.

    Raises `MoveError`, in the name of `move`, where there are none or where one is not at lam 0.
    """
    whole = tuple(f"{name}." for name, m in net.named_modules() if is_block(m))
    blocks = [(name, m) for name, m in net.named_modules() if is_block(m) or (isinstance(m, Widened) and not name.startswith(whole))]
    acts = {name: [f"{name}.{i}" for i, m in b.named_modules() if isinstance(m, LambdaReLU) and i != "post"] for name, b in blocks}
    found = {name: inside for name, inside in acts.items() if inside}
    if not found:
        kinds = ", ".join(sorted({type(m).__name__ for _, m in blocks})) or "none"
        relus = ", ".join(name for name, m in net.named_modules() if type(m) is nn.ReLU) or "none"
        raise MoveError(f"{move}: no block has a LambdaReLU inside (blocks here: {kinds}); loosen makes them of ReLUs (here: {relus})")
    for name, act in net.named_modules():
        if isinstance(act, LambdaReLU) and act.lam != 0:
            raise MoveError(f"{move}: {name} is at lam = {act.lam.item():g}; a choice between a ReLU and nothing starts at lam = 0")
    return found


def resolved(
    net: nn.Module, removed: list[str], *, at: Iterable[str] | None = None, gradual: bool = False, final: Iterable[str] = ()
) -> list[dict]:
    """The moves that remove the LambdaReLUs called `removed` and make ReLUs of all others (in `at`), with the padding that merging needs.

    With `gradual` the removed ones are left for a slide; blocks in `final` get a ReLU at their end.
    """
    others = _others(net, removed, at)
    moves = [{"settle": {"at": others}}] if others else []
    moves += [{"linearise": {"at": list(removed)}}] if removed and not gradual else []
    moves += [{"add_relu": {"at": list(final)}}] if final else []
    with suppress(MoveError):  # all that is linear merges as it is
        pad_first(linearise(settle(net, others), removed))
        moves.append({"pad_first": {}})
    return moves


def _others(net: nn.Module, removed: list[str], at: Iterable[str] | None = None) -> list[str]:
    return [name for name, m in net.named_modules() if isinstance(m, LambdaReLU) and name not in removed and (at is None or name in at)]


def without(net: nn.Module, acts: list[str]) -> nn.Module:
    """The network after the moves that remove these LambdaReLUs: what `resolved` says, performed."""
    linear = linearise(settle(net, _others(net, acts)), acts)
    with suppress(MoveError):
        return pad_first(linear)
    return linear


def deployed(module: nn.Module) -> nn.Module:
    """`deployed(module)(x) == module(x)`: fused, and every linear run of convs one conv, whatever that costs."""
    return fuse(module, strict=False, dearer=True)


def merges(net: nn.Module, block: str, acts: list[str]) -> bool:
    """Whether the deployed block has fewer convs without these activations."""
    before, after = (deployed(side.get_submodule(block)) for side in (without(net, []), without(net, acts)))
    return convs(after) < convs(before)


def convs(module: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d) for m in module.modules())


def measured(module: nn.Module, cost: str, shape: tuple[int, ...]) -> float:
    """The cost of one image or map of `shape` (C, H, W): MACs, or median seconds."""
    if cost == "macs":
        return macs(module, shape)
    return latency(module, shape)["median"]


def input_shapes(net: nn.Module, names: Iterable[str], data: Data) -> dict[str, tuple[int, ...]]:
    """The shapes (C, H, W) of what the modules called `names` are given."""
    net, shapes = copied(net), {}
    for name in names:
        note = lambda _, inputs, name=name: shapes.update({name: tuple(inputs[0].shape[1:])})  # noqa: E731
        net.get_submodule(name).register_forward_pre_hook(note)
    logits(net, data, data.train._replace(images=data.train.images[:1]))
    return shapes


def accuracy_without(net: nn.Module, acts: list[str], data: Data, seed: int, device: str) -> float:
    """Validation accuracy without these activations, BN statistics estimated anew on training images."""
    return accuracy(recalibrate(without(net, acts), data, seed=seed, device=device), data, data.val)
