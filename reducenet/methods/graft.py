"""Parts of another trained network: a control of "the teacher's classifier guides the student", which might be anybody's."""

from torch import nn

from reducenet.data.tensors import Data
from reducenet.moves.surgery import chosen, copied
from reducenet.words import Arm, MoveError, Names, tune


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
