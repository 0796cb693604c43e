"""The leaner pipeline: one new conv in place of a linear pair."""

from collections import OrderedDict

from torch import nn

from reducenet.algebra.exact import fold_bn, merge
from reducenet.moves.surgery import chosen, copied
from reducenet.nets.blocks import LambdaBlock
from reducenet.nets.layers import conv3x3
from reducenet.nets.seeding import initialise
from reducenet.words import Literal, MoveError, Names, move


@move
def renew(net: nn.Module, at: Names = "*", *, start: Literal["fresh", "merged"] = "fresh", seed: int = 0) -> nn.Module:
    """The leaner pipeline: one new conv3 in place of each block's linear pair, between the same layers; the pair's last BN stays.

    The new conv is trainable whatever else is frozen. `start` is "fresh", drawn from (seed, "renew", name), or "merged": the pair itself,
    its activation removed, so that in eval mode `renew(net, start="merged")(x) == linearise(net)(x)`. Large and small network have the
    names of all layers that they share in common. Source: the article, "A leaner pipeline".
    """
    net = copied(net)
    for name, block in chosen(net, _has_pair, at, "renew", "lambda block with its pair").items():
        expand, inner_bn, _, reduce, bn = block.pair
        if not isinstance(expand, nn.Conv2d):
            raise MoveError(f"renew: a {type(expand).__name__} stands in {name}.pair in place of its conv; fold first")
        new = conv3x3(expand.in_channels, reduce.out_channels, expand.stride[0]).to(expand.weight)
        if start == "merged":
            new = merge(fold_bn(expand, inner_bn), reduce)
        else:
            initialise(new, seed, "renew", name)
        block.pair = nn.Sequential(OrderedDict({"new": new.requires_grad_(True), "4": bn})).train(bn.training)
    return net


def _has_pair(_: str, module: nn.Module) -> bool:
    return isinstance(module, LambdaBlock) and len(module.pair) > 2
