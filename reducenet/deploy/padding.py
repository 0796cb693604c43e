"""Padding inside a linear run goes to its first conv, so that the run will merge: `pad_first`."""

from contextlib import suppress

from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from reducenet.algebra import borders
from reducenet.algebra.exact import NotExact, check_pair, ring
from reducenet.deploy.fuse import parts
from reducenet.deploy.trace import BN2D, Changes, Rewriting
from reducenet.moves.surgery import copied
from reducenet.nets.activation import LambdaReLU
from reducenet.words import MoveError, move


@move
def pad_first(net: nn.Module) -> nn.Module:
    """The first conv of every linear run has all the padding, p1 + p2 s1 + ..., the others none: after training, `fuse` merges the run.

    A run is linear if nothing but BN, Identity, Dropout and LambdaReLU stands between its convs, at whatever lam: it is going to be linear.
    Values change on the ring, and only there, so this comes before the training that makes up for it. Raises `MoveError` where every run
    merges as it is. Source: Kim et al. 2023; `borders.padded_first` for a single pair.
    """
    net = copied(net)
    graphs = [Rewriting(name, part, True, Changes([], {})) for name, part in parts(net)]
    if not sum([_pad_pair(graph, node) for graph in graphs for node in reversed(graph.graph.nodes)]):
        raise MoveError("pad_first: every linear run of convs here merges exactly as it is, or there is none")
    return net


def _pad_pair(net: Rewriting, node: fx.Node) -> bool:
    """The padding of the conv at `node` goes to the conv before it, if they would not merge otherwise."""
    second, before, bias = net.own(node, nn.Conv2d), node, False
    while second is not None and len((before := before.args[0]).users) == 1:
        first = net.called(before)
        if net.own(before, nn.Conv2d):
            with suppress(NotExact):
                check_pair("pad_first", first, second)
                if ring(first, second) in ("pixels", "bias") or (bias and any(second.padding)):
                    first.padding, second.padding = (conv.padding for conv in borders.padded_first(first, second))
                    return True
            return False
        if type(first) not in (nn.Identity, LambdaReLU, *BN2D) and not isinstance(first, _DropoutNd):
            return False
        bias |= type(first) in BN2D
    return False
