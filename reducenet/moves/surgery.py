"""What every move does: choose modules of a network by kind and by name, put others in their place, or refuse."""

import copy
from collections.abc import Callable
from fnmatch import fnmatch
from types import UnionType

from torch import nn

from reducenet.words import MoveError, Names

Found = type | UnionType | Callable[[str, nn.Module], bool]  # kinds of modules, or what says of a name and its module whether it is meant
Make = Callable[[str, nn.Module], nn.Module]


def replace(net: nn.Module, found: Found, make: Make, at: Names | None = None, move: str = "", kind: str = "") -> nn.Module:
    """`replace(net, found, make).get_submodule(name) == make(name, module)` for every module that is `chosen`; all else is a copy.

    `module` is the copy's, so what is made may hold it; what is chosen inside of it has been replaced by then. A module with two names is
    made once, by its first, and stands in both places. Where `net` itself is chosen, what is made of it is the network.
    """
    net = copy.deepcopy(net)
    names = {module: name for name, module in chosen(net, found, at, move, kind).items()}
    done: dict[nn.Module, nn.Module] = {}

    def replaced(module: nn.Module) -> nn.Module:
        if module not in done:
            for key, child in list(module._modules.items()):
                if child is not None and (new := replaced(child)) is not child:
                    setattr(module, key, new)
            done[module] = make(names[module], module) if module in names else module
        return done[module]

    return replaced(net)


def chosen(net: nn.Module, found: Found, at: Names | None = None, move: str = "", kind: str = "") -> dict[str, nn.Module]:
    """`{name: module}` of all that is `found` in `net` and matches a pattern in `at`, in the order of the patterns; without `at`, of all.

    `MoveError`, in the name of `move`, for a pattern that matches none; it names the modules of this `kind` that there are.
    """
    fits = (lambda _, module: isinstance(module, found)) if isinstance(found, type | UnionType) else found
    there = {name: module for name, module in net.named_modules() if fits(name, module)}
    if at is None:
        return there
    matching = []
    for pattern in listed(at):
        names = [name for name in there if fnmatch(name, pattern)]
        if not names:
            known = ", ".join(name or "the network itself" for name in there) or "none"
            raise MoveError(f"{move}: no {kind} matches {pattern!r}; there are: {known}")
        matching += names
    return {name: there[name] for name in matching}


def listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
