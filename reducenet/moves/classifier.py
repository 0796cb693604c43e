"""A classifier whose classes are exchanged, a control of "the teacher's classifier guides the student", and one without a bias."""

import torch
from torch import nn

from reducenet.moves.surgery import chosen, copied
from reducenet.nets.seeding import generator
from reducenet.words import MoveError, Names, move


@move
def permute_classes(net: nn.Module, at: Names = "classifier", *, seed: int = 0) -> nn.Module:
    """`permute_classes(net)(x) == net(x)[:, order]`: the rows of the classifier in another order, in which no class keeps its place.

    The geometry of the classes stays, what it has to do with them goes. `order` comes from (seed, "permute_classes"); what is frozen is
    permuted all the same, and stays frozen.
    """
    net = copied(net)
    for name, layer in chosen(net, nn.Linear, at, "permute_classes", "linear layer").items():
        if layer.out_features < 2:
            raise MoveError(f"permute_classes: {name} has one class, which cannot move")
        order = _derangement(layer.out_features, generator(seed, "permute_classes", name))
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(parameter[order])
    return net


@move
def drop_bias(net: nn.Module, at: Names = "classifier") -> nn.Module:
    """`drop_bias(net)(x) == net(x) - b`: the linear layers that match `at`, here the classifier, have no bias b, and learn none.

    Weights are kept, and stay frozen where they were. Raises `MoveError` where a layer that matches has no bias.
    """
    net = copied(net)
    for name, layer in chosen(net, nn.Linear, at, "drop_bias", "linear layer").items():
        if layer.bias is None:
            raise MoveError(f"drop_bias: {name} has no bias")
        layer.bias = None
    return net


def _derangement(count: int, draw: torch.Generator) -> torch.Tensor:
    """A random order of `count` places in which none is its own; one in three is drawn in vain less than twice on average."""
    places = torch.arange(count)
    order = torch.randperm(count, generator=draw)
    while (order == places).any():
        order = torch.randperm(count, generator=draw)
    return order
