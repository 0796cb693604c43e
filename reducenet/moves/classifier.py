"""Other classifiers for a trained network: the controls of "the teacher's classifier guides the student"."""

import torch
from torch import nn

from reducenet.data.tensors import Data
from reducenet.moves.surgery import chosen, copied
from reducenet.nets.seeding import generator
from reducenet.words import Arm, MoveError, Names, move, tune


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


def _derangement(count: int, draw: torch.Generator) -> torch.Tensor:
    """A random order of `count` places in which none is its own; one in three is drawn in vain less than twice on average."""
    places = torch.arange(count)
    order = torch.randperm(count, generator=draw)
    while (order == places).any():
        order = torch.randperm(count, generator=draw)
    return order


@tune
def graft(net: nn.Module, data: Data, *, teacher: Arm, at: Names = "classifier", seed: int = 0, device: str = "cpu") -> nn.Module:
    """`graft(net, teacher=other).get_submodule(name) == other.get_submodule(name)`, bitwise, for every module that matches `at`.

    All else stays, and so does what is frozen: of another network only the numbers are taken. No image is looked at.
    Raises `MoveError` where nothing matches, or the other network has no such module of that shape.
    """
    net = copied(net)
    for name, module in chosen(net, _has_numbers, at, "graft", "module with numbers of its own").items():
        theirs = dict(teacher.named_modules()).get(name)
        if theirs is None or _shapes(theirs) != _shapes(module):
            there = "has none" if theirs is None else f"has {_said(theirs)}"
            raise MoveError(f"graft: {name} is {_said(module)}, the other network {there}")
        module.load_state_dict(theirs.state_dict())
    return net


def _has_numbers(_: str, module: nn.Module) -> bool:
    return bool(list(module.parameters(recurse=False)))


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _said(module: nn.Module) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in _shapes(module).items()) or "without numbers"
