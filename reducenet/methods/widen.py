"""The article's recipe for any network of convs: a branch to train with, beside convs that are there already, and to drop afterwards.

    my network -> widen -> fit -> drop_branch -> fit -> fuse

The network is traced to find where a branch may stand, and never rewritten: its own code runs, with the branch and without.
"""

from collections import Counter
from fnmatch import fnmatch
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import parametrize

from reducenet.algebra.plain import is_batch_norm
from reducenet.deploy.trace import NotTraceable, traced
from reducenet.moves.surgery import chosen, copied, listed
from reducenet.nets.activation import LambdaReLU
from reducenet.nets.blocks import PublishedBlock, ScalerBlock
from reducenet.nets.seeding import initialise
from reducenet.nets.widened import Widened, branch_beside
from reducenet.words import MoveError, Names, Positive, Share, move

ACTIVATIONS = (nn.CELU, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6,
               nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Tanh, LambdaReLU)  # fmt: skip
RELU = (F.relu, torch.relu, torch.relu_, "relu", "relu_")  # without a module
KIND = "conv with a BN and an activation behind it"


class Front(NamedTuple):
    """What a branch may stand beside, by name. `act` is None where a ReLU is called that has to stay where it is."""

    conv: str
    bn: str
    act: str | None


def _nothing(at, **_) -> str | None:
    return None if at else "at: nothing is named"


@move(refuse=_nothing)
def widen(net: nn.Module, at: Names = "*", expansion: Positive = 4, *, scaler: Share = 1.0, seed: int = 0) -> nn.Module:
    """`widen(net, scaler=0)(x) == drop_branch(widen(net))(x) == net(x)`: beside each conv-BN-activation whose conv matches `at` stands a
    branch, and the two give `scaler * branch1(x) + act(bn(conv(x)))`.

    branch1 is conv(expand)-BN-ReLU-conv1(reduce)-BN-ReLU of inner width `expansion * out_channels`, shaped as the conv beside it and drawn
    from (seed, its name). Equal is bitwise, in train mode too, as long as maps are finite. With the branch, conv, BN and activation are
    called `CONV.branch2.0`, `.1` and `.2`; without it every name is the network's own again, so a checkpoint of the one fits the other.
    Raises `MoveError` where nothing that matches can have a branch (it names what can), where torch.fx cannot follow the network, and where
    its code would go another way, since it looks at what its layers are.
    Source: the article, "Further evolution: the scaler branch".
    """
    found, others = fronts(net)
    try:
        names = chosen(net, lambda name, _: name in found, at, "widen", KIND)
    except MoveError as error:
        why = next((f"; {name}: {reason}" for name, reason in others.items() if any(fnmatch(name, p) for p in listed(at))), "")
        raise MoveError(f"{error}{why}") from None
    wide = copied(net)
    for name in names:
        _put_beside(wide, found[name], expansion, scaler, seed)
    if _steps(_graph(wide), [found[name] for name in names]) != _steps(_graph(net)):
        raise MoveError(
            f"widen: the code of the network looks at what its layers are, and would go another way; leave out {', '.join(names)}"
        )
    return wide


def _put_beside(net: nn.Module, front: Front, expansion: int, scaler: float, seed: int) -> None:
    moved = [name for name in front if name is not None]
    parts, places = [net.get_submodule(name) for name in moved], [nn.Identity() for _ in moved[1:]]
    branch1, relu = branch_beside(parts[0], expansion), [nn.ReLU()] if front.act is None else []
    initialise(branch1, seed, f"{front.conv}.branch1")
    branch2 = nn.Sequential(*parts, *relu)
    wide = Widened(branch1, branch2, places, float(scaler))
    for new in (wide, branch2, *branch1.modules(), *relu, *places):  # the others keep their own mode
        new.training = parts[0].training
    for name, module in zip(moved, (wide, *places), strict=True):
        net.set_submodule(name, module)


def fronts(net: nn.Module) -> tuple[dict[str, Front], dict[str, str]]:
    """Where a branch may stand, by the name of the conv; and of every other conv, why none may."""
    graph, names = _graph(net), Counter(module for _, module in net.named_modules(remove_duplicate=False))
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    read = {node.target.rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}  # whose tensors are used by themselves
    widened = [f"{name}." if name else "" for name, m in net.named_modules() if isinstance(m, Widened | ScalerBlock | PublishedBlock)]

    def alone(node: fx.Node) -> bool:
        return calls[node.target] == names[net.get_submodule(node.target)] == 1 and node.target not in read

    found, others = {}, {}
    for name, conv in net.named_modules():
        if isinstance(conv, nn.Conv2d):
            plain = parametrize.type_before_parametrizations(conv) is nn.Conv2d
            others[name] = "is never called" if plain else f"is a {type(conv).__name__}, and may compute anything"
    for node in graph.nodes:
        if node.op != "call_module" or others.get(node.target) != "is never called":
            continue
        name = node.target
        bn, act = _reader(node), _reader(_reader(node))
        if any(name.startswith(part) for part in widened):
            others[name] = "stands in a branch, or beside one"
        elif not alone(node):
            others[name] = "is called more than once, has two names, or its weights are read by something else"
        elif not is_batch_norm(_module(net, bn)) or not alone(bn):
            others[name] = "no BatchNorm reads it, alone, and is called by nothing else"
        elif type(_module(net, act)) in ACTIVATIONS and alone(act):
            found[name] = Front(name, bn.target, act.target)
        elif type(_module(net, act)) is nn.ReLU or (act is not None and act.op != "call_module" and act.target in RELU):
            found[name] = Front(name, bn.target, None)
        else:
            others[name] = f"no activation reads {bn.target}, alone"
    return found, {name: why for name, why in others.items() if name not in found}


def _steps(graph: fx.Graph, widened: list[Front] = ()) -> list[tuple]:
    """What is called with what, in order, as if no branch stood beside the `widened`."""
    names = {f"{front.conv}.branch2.{i}": name for front in widened for i, name in enumerate(front)}
    nothing = {name for front in widened for name in front[1:]} | {name for name, old in names.items() if old is None}
    branches, steps, value = tuple(f"{front.conv}.branch1." for front in widened), [], {}
    for node in graph.nodes:
        inputs = [value[other] for other in node.all_input_nodes]
        target = node.target if node.op == "call_module" else ""
        if (branches and target.startswith(branches)) or inputs == [None]:
            value[node] = None  # branch1, and what the scaler makes of it
        elif target in nothing or None in inputs:
            value[node] = inputs[-1]  # nothing happens here, or branch1 is added
        else:
            value[node] = len(steps)
            steps.append((node.op, names.get(target, node.target), inputs))
    return steps


def _graph(net: nn.Module) -> fx.Graph:
    try:
        return traced("", net)
    except NotTraceable as error:
        raise MoveError(f"widen: {str(error).removeprefix('fuse: ')}") from None


def _reader(node: fx.Node | None) -> fx.Node | None:
    """The one node that reads this one, as its only value."""
    readers = list(node.users) if node is not None else []
    return readers[0] if len(readers) == 1 and readers[0].all_input_nodes == [node] else None


def _module(net: nn.Module, node: fx.Node | None) -> nn.Module | None:
    """The module that the node calls, with one value and nothing else."""
    plain = node is not None and node.op == "call_module" and len(node.args) == 1 and not node.kwargs
    return net.get_submodule(node.target) if plain else None
