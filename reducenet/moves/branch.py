"""The branch that goes: `drop_branch` takes branch1 out of every block, `set_scaler` sets the factor on it."""

from collections.abc import Collection

from torch import nn

from reducenet.algebra.plain import more
from reducenet.moves.surgery import copied, replace
from reducenet.nets.blocks import PlainBlock, PublishedBlock, ScalerBlock, is_block
from reducenet.nets.widened import Widened
from reducenet.words import MoveError, Share, move


@move
def drop_branch(net: nn.Module) -> nn.Module:
    """The student inside the teacher: no branch1 anywhere, all other weights kept. `drop_branch(net)(x) == net(x)` at scaler 0.

    What `widen` has put beside the convs of a network goes too, and all names are that network's own again.
    Source: the article, "Further evolution: the scaler branch". Explained in notebook 03.
    """
    teaching = ScalerBlock | PublishedBlock
    if not any(isinstance(m, teaching | Widened) for m in net.modules()):
        kinds = sorted({type(m).__name__ for m in net.modules() if is_block(m)}) or [type(net).__name__]
        raise MoveError(f"drop_branch: no block has a branch1 (blocks here: {', '.join(kinds)}); it was dropped already, or never built")
    return without_branches(replace(net, teaching, lambda _, block: without_branch1(block)))


def without_branch1(block: ScalerBlock | PublishedBlock) -> PlainBlock:
    """The student inside one block, made of the block's own layers."""
    kind = ScalerBlock if isinstance(block, ScalerBlock) else PublishedBlock
    if any(getattr(type(block), part) is not getattr(kind, part) for part in ("forward", "body", "front")) or more(block):
        raise MoveError(f"drop_branch: a {type(block).__name__} computes something of its own, which a PlainBlock would not")
    conv = block.branch2[0] if isinstance(block, ScalerBlock) else block.branch2
    if not isinstance(conv, nn.Conv2d):
        raise MoveError(f"drop_branch: a {type(conv).__name__} stands in branch2 in place of its conv; fold first")
    student = PlainBlock(conv.in_channels, conv.out_channels, conv.stride[0])
    student.post = block.post
    student.branch2 = block.branch2 if isinstance(block, ScalerBlock) else nn.Sequential(block.branch2, *block.act)
    student.conv3, student.bn3, student.shortcut = block.conv3, block.bn3, block.shortcut
    return student.train(block.training)


def without_branches(net: nn.Module, at: Collection[str] | None = None) -> nn.Module:
    """`net` itself, where what stood beside a branch is back in its own places: beside every branch, or those of these names."""
    names = {module: name for name, module in net.named_modules()}
    for wide, name in names.items():
        if not isinstance(wide, Widened) or (at is not None and name not in at):
            continue
        conv, *behind = wide.branch2
        if len(behind) > len(wide.places) and type(behind.pop()) is not nn.ReLU:
            raise MoveError(f"drop_branch: {name}.branch2.2 is no ReLU any more, and the ReLU that stays behind it is; settle it first")
        if not all(place in names for place in wide.places):
            raise MoveError(
                f"drop_branch: the BN or the activation of {name or 'this conv'} belongs elsewhere; drop the branch of the whole network"
            )
        for place, module in zip((wide, *wide.places), (conv, *behind), strict=True):
            net.set_submodule(names[place], module)
    return net


@move
def set_scaler(net: nn.Module, scaler: Share) -> nn.Module:
    """`front == scaler * branch1 + branch2` wherever there is a scaler: 1 is the teacher, 0 computes the student, branch1 still there.

    Source: the article, "Further evolution: the scaler branch". Explained in notebook 03.
    """
    net = copied(net)
    blocks = [block for block in net.modules() if isinstance(block, ScalerBlock | Widened)]
    if not blocks:
        raise MoveError("set_scaler: no block has a scaler; only scaler blocks and widened convs do, until drop_branch")
    for block in blocks:
        block.scaler = float(scaler)
    return net
