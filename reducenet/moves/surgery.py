"""What every move does: copy a network, choose modules of it by kind and by name, put others in their place, or refuse."""

import copy
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from types import FunctionType, MethodType, UnionType

from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin
from torch.utils._pytree import tree_leaves

from reducenet.words import MoveError, Names

Found = type | UnionType | Callable[[str, nn.Module], bool]  # kinds of modules, or what says of a name and its module whether it is meant
Make = Callable[[str, nn.Module], nn.Module]


def copied(net: nn.Module) -> nn.Module:
    """`copied(net)(x) == net(x)`, and the two share nothing.

    Values that a forward pass left behind on a module are copied without what they were computed from. `MoveError` where Python would make
    a copy that still calls the original, as of a function kept on a module that holds the module itself, or can make none.
    """
    parts, memo = {id(part) for part in (*net.modules(), *net.parameters(), *net.buffers())}, {}
    for name, module in net.named_modules():
        if any(isinstance(t, UninitializedTensorMixin) for t in (*module._parameters.values(), *module._buffers.values())):
            raise MoveError(f"{name or 'the network'} ({type(module).__name__}) has no weights yet; run the network once, on an example")
        for key, kept in vars(module).items():
            for value in tree_leaves(kept) if key not in ("_parameters", "_modules") else ():
                if isinstance(value, Tensor) and value.grad_fn is not None:
                    memo[id(value)] = value.detach().clone()
                if any(id(held) in parts for held in _held(value)):
                    where = f"{name or 'the network'} ({type(module).__name__}): a function in `{key.strip('_')}`"
                    raise MoveError(f"{where} holds a part of the network, and a copy's would call the original; make it a method")
    try:
        return copy.deepcopy(net, memo)
    except (TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise MoveError(f"the network ({type(net).__name__}) cannot be copied: {' '.join(str(error).split())[:200]}") from error


def _held(value, closed: bool = False, seen: frozenset = frozenset()) -> Iterator:
    """What a copy of this function would share with it: what it closes over or has for a default, and so on inside. Python copies the owner
    of a method and the arguments of a `partial`, unless they are `closed` over."""
    if id(value) in seen:
        return
    seen |= {id(value)}
    if closed:
        yield value
    if isinstance(value, FunctionType):
        inside = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        for held in tree_leaves([*inside, value.__defaults__, value.__kwdefaults__]):
            yield from _held(held, True, seen)
    elif isinstance(value, MethodType):
        yield from _held(value.__self__, closed, seen) if closed else ()
    elif isinstance(value, partial):
        for held in (value.func, *value.args, *value.keywords.values()):
            yield from _held(held, closed, seen)


def _is_filled(cell) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a name that has no value yet
        return False


def replace(net: nn.Module, found: Found, make: Make, at: Names | None = None, move: str = "", kind: str = "") -> nn.Module:
    """`replace(net, found, make).get_submodule(name) == make(name, module)` for every module that is `chosen`; all else is a copy.

    `module` is the copy's, so what is made may hold it; what is chosen inside of it has been replaced by then. A module with two names is
    made once, by its first, and stands in both places. Where `net` itself is chosen, what is made of it is the network.
    """
    net = copied(net)
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
