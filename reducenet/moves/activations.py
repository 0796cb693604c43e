"""Activations that change their kind: from ReLU to LambdaReLU and back, to the identity, and new ones behind blocks."""

import torch
from torch import nn

from reducenet.algebra.plain import more
from reducenet.moves.surgery import chosen, copied, replace
from reducenet.nets.activation import LambdaReLU, LearnedReLU
from reducenet.words import MoveError, Names, move


@move
def linearise(net: nn.Module, at: Names = "*") -> nn.Module:
    """Every LambdaReLU whose name matches a pattern in `at` becomes the identity: brute-force removal, lam = 1 for good.

    Source: the article, "ReduceNet, corrected", point 2; DepthShrinker.
    """
    return replace(net, LambdaReLU, lambda *_: nn.Identity(), at, "linearise", "LambdaReLU")


@move
def settle(net: nn.Module, at: Names = "*") -> nn.Module:
    """`settle(net)(x) == net(x)` where lam is 0: every LambdaReLU that matches `at` becomes a ReLU for good, and no slide moves it.

    A LearnedReLU settles from wherever it is, which changes the function by as much as its lam. Raises `MoveError` for a fixed lam above 0.
    """

    def settled(name: str, act: LambdaReLU) -> nn.ReLU:
        if act.lam != 0 and not isinstance(act, LearnedReLU):
            raise MoveError(f"settle: {name or 'the network'} is at lam = {act.lam.item():g}; only lam = 0 is a ReLU")
        return nn.ReLU()

    return replace(net, LambdaReLU, settled, at, "settle", "LambdaReLU")


@move
def loosen(net: nn.Module, at: Names = "*branch2.2") -> nn.Module:
    """`loosen(net)(x) == net(x)`: every ReLU that matches `at` becomes a LambdaReLU at lam 0, so that it may slide or be searched."""
    like = next(net.parameters(), torch.empty(()))
    return replace(net, lambda _, m: type(m) is nn.ReLU and not more(m), lambda *_: LambdaReLU().to(like), at, "loosen", "ReLU")


@move
def add_relu(net: nn.Module, at: Names = "*") -> nn.Module:
    """Every block that matches `at` ends in a ReLU: DepthShrinker's added activation, for blocks that lost the ones inside.

    Raises `MoveError` where no block that matches is without a final ReLU.
    """
    net = copied(net)
    for block in chosen(net, _is_open, at, "add_relu", "block without final ReLU").values():
        block.post = nn.ReLU()
    return net


def _is_open(_: str, block: nn.Module) -> bool:
    return isinstance(getattr(block, "post", None), nn.Identity)
