"""The branch that goes: `drop_branch` takes branch1 out of every block, `set_scaler` sets the factor on it."""

import copy

from torch import nn

from reducenet.moves.surgery import replace
from reducenet.nets.blocks import PlainBlock, PublishedBlock, ScalerBlock, is_block
from reducenet.words import MoveError, Share, move


@move
def drop_branch(net: nn.Module) -> nn.Module:
    """The student inside the teacher: every block without branch1, all other weights kept. `drop_branch(net)(x) == net(x)` at scaler 0.

    Source: the article, "Further evolution: the scaler branch". Explained in notebook 03.
    """
    teaching = ScalerBlock | PublishedBlock
    if not any(isinstance(m, teaching) for m in net.modules()):
        kinds = sorted({type(m).__name__ for m in net.modules() if is_block(m)}) or [type(net).__name__]
        raise MoveError(f"drop_branch: no block has a branch1 (blocks here: {', '.join(kinds)}); it was dropped already, or never built")
    return replace(net, teaching, lambda _, block: without_branch1(block))


def without_branch1(block: ScalerBlock | PublishedBlock) -> PlainBlock:
    """The student inside one block, made of the block's own layers."""
    conv = block.branch2[0] if isinstance(block, ScalerBlock) else block.branch2
    if not isinstance(conv, nn.Conv2d):
        raise MoveError(f"drop_branch: a {type(conv).__name__} stands in branch2 in place of its conv; fold first")
    student = PlainBlock(conv.in_channels, conv.out_channels, conv.stride[0])
    student.post = block.post
    student.branch2 = block.branch2 if isinstance(block, ScalerBlock) else nn.Sequential(block.branch2, *block.act)
    student.conv3, student.bn3, student.shortcut = block.conv3, block.bn3, block.shortcut
    return student.train(block.training)


@move
def set_scaler(net: nn.Module, scaler: Share) -> nn.Module:
    """`front == scaler * branch1 + branch2` in every scaler block: 1 is the teacher, 0 computes the student (with branch1 still there).

    Source: the article, "Further evolution: the scaler branch". Explained in notebook 03.
    """
    net = copy.deepcopy(net)
    blocks = [block for block in net.modules() if isinstance(block, ScalerBlock)]
    if not blocks:
        raise MoveError("set_scaler: no block has a scaler; only scaler blocks do, until drop_branch")
    for block in blocks:
        block.scaler = float(scaler)
    return net
