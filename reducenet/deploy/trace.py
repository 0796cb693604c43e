"""A module as a graph that can be rewritten: traced by torch.fx, with what one has to know before a node may be touched.

A module may be replaced only if it is called exactly once and nobody reads its parameters, a value taken away only if it has exactly one
reader, and a copy made or spared only where nothing writes in place.
"""

import inspect
import operator
import traceback
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from reducenet.algebra.exact import NotExact
from reducenet.nets.activation import LambdaReLU


class NotTraceable(NotExact):
    """torch.fx cannot follow the network. The message names the innermost module that was reached, and why it ended there."""


class Step(NamedTuple):
    """One rewriting: the module `what`, by dotted name, went `into` another; a dropped one goes into nothing."""

    rule: str  # "drop", "fold", "merge" or "add"
    what: str
    into: str = ""


class Changes(NamedTuple):
    """What was done, in order, and what was left alone: the modules by dotted name, and the reason."""

    steps: list[Step]
    left: dict[tuple[str, ...], str]


FRESH = (operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.mul, torch.cat, "add", "mul")  # never a view


def in_place(value, other, name: str):
    """`value += other` and the like, `name` as in `operator`."""
    return getattr(operator, name)(value, other)


class Value(fx.Proxy):
    """fx takes `x += y` for `x + y`, which is another function where something else reads x. Here it stays what it is."""


def _written(name: str):
    return lambda self, other: self.tracer.create_proxy("call_function", in_place, (self, other, name), {})


for _name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor"):
    setattr(Value, f"__{_name}__", _written(_name))


class Tracer(fx.Tracer):
    """Goes down to the layers of torch.nn and to ours. An error on the way names the module it was met in."""

    prefix = ""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Value(node, self)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, LambdaReLU | _BatchNorm) or super().is_leaf_module(module, name)

    def call_module(self, module: nn.Module, forward, args, kwargs):
        try:
            return super().call_module(module, forward, args, kwargs)
        except NotTraceable:
            raise
        except Exception as error:
            raise NotTraceable(_why(_full(self.prefix, self.submodule_paths.get(module, "?")), module, error)) from error


def traced(name: str, root: nn.Module) -> fx.Graph:
    """The graph of `root`, which is called `name` in its network ("" for the network itself)."""
    if _does_more(root):
        raise NotTraceable(f"fuse: {name or 'the network'} ({type(root).__name__}) has forward hooks or a patched forward; remove them")
    # Python may branch on an optional argument (`if mask is None`): it is fixed at its default, and calls with another value are refused.
    optional = list(inspect.signature(root.forward).parameters.values())[1:]
    fixed = {p.name: p.default for p in optional if p.default is None or isinstance(p.default, bool)}
    tracer = Tracer()
    tracer.prefix = name
    try:
        graph = tracer.trace(root, fixed or None)
    except NotTraceable:
        raise
    except Exception as error:
        raise NotTraceable(_why(name, root, error)) from error
    for node in graph.find_nodes(op="placeholder"):  # fx numbers the fixed ones
        if node.target.removesuffix("_1") in fixed:
            node.target = node.target.removesuffix("_1")
    return graph


def _why(name: str, module: nn.Module, error: Exception) -> str:
    machinery = (str(Path(torch.__file__).parent), __file__)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(machinery)]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno} `{frames[-1].line}`" if frames else ""
    reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
    return f"fuse: cannot trace {name or 'the network'} ({type(module).__name__}){where}: {reason}"


def _full(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _does_more(module: nn.Module) -> bool:
    """Whether a call of `module` is more than the forward of its class."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


class Rewriting:
    """A traced module on its way to its fused form: what the rules read and write. `root` is used up."""

    def __init__(self, name: str, root: nn.Module, dearer: bool, changes: Changes):
        self.prefix, self.root, self.dearer, self.changes = name, root, dearer, changes
        self.graph = traced(name, root)
        calls = Counter(node.target for node in self.graph.nodes if node.op == "call_module")
        readers = {node.target.rpartition(".")[0] for node in self.graph.nodes if node.op == "get_attr"}
        self.fixed = readers | {target for target, times in calls.items() if times > 1}
        self.left: dict[tuple[str, ...], str] = {}

    def run(self, rules) -> fx.GraphModule:
        """The module after every rule was applied at every node, until none finds anything."""
        changed = True
        while changed:
            changed = False
            self.left.clear()
            for node in self.graph.nodes:
                changed |= any(rule(self, node) for rule in rules)
        self.changes.left.update(self.left)
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph).eval()

    def called(self, node) -> nn.Module | None:
        """The module that `node` calls with one value and nothing else."""
        plain = isinstance(node, fx.Node) and node.op == "call_module" and [type(a) for a in node.args] == [fx.Node] and not node.kwargs
        module = self.root.get_submodule(node.target) if plain else None
        return None if module is None or _does_more(module) else module

    def own(self, node, *kinds: type) -> nn.Module | None:
        """The module of one of these very types that `node` alone calls, and whose parameters nobody else reads: it may be replaced."""
        module = self.called(node)
        return module if type(module) in kinds and node.target not in self.fixed else None

    def written(self, but: Collection[fx.Node] = ()) -> set[fx.Node]:
        """The values that change after they were computed: a node, `but` these, writes into them or into what may share their memory."""
        memory, found = {}, set()
        for node in self.graph.nodes:  # in the order of execution
            written = [value for value in node.all_input_nodes if node not in but and self._writes(node, value)]
            found.update(*(memory[value] for value in written))
            memory[node] = {node}
            for value in {*written, *self._may_be_views(node)}:
                memory[value] |= memory[node]
                memory |= dict.fromkeys(memory[node], memory[value])
        return found

    def _writes(self, node: fx.Node, value: fx.Node) -> bool:
        if "out" in node.kwargs or node.args[:1] != (value,):
            return "out" in node.kwargs
        if node.op == "call_module":
            return getattr(self.root.get_submodule(node.target), "inplace", False)
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        may = "inplace" in getattr(getattr(node.target, "__code__", None), "co_varnames", ())
        return node.target is in_place or name.endswith("_") or (may and True in (*node.args, *node.kwargs.values()))

    def _may_be_views(self, node: fx.Node) -> list[fx.Node]:
        """What the result of `node` may be a view of, to be on the safe side."""
        if node.op == "call_module":
            safe = not isinstance(self.root.get_submodule(node.target), nn.Identity | nn.Flatten | nn.Unflatten | _DropoutNd)
        else:
            in_itself = node.target is in_place or (node.op == "call_method" and node.target.endswith("_"))  # see `_writes`
            safe = in_itself or node.op == "output" or node.target in FRESH
        return [] if safe else node.all_input_nodes

    def name(self, node: fx.Node) -> str:
        return _full(self.prefix, node.target if node.op == "call_module" else node.name)

    def leave(self, *nodes: fx.Node, why: str) -> None:
        self.left[tuple(map(self.name, nodes))] = why

    def replace(self, rule: str, node: fx.Node, module: nn.Module, gone: list[fx.Node]) -> None:
        """`node` calls `module` instead of its own, in place of all that is `gone`."""
        self.root.set_submodule(node.target, module)
        for old in gone:
            self.changes.steps.append(Step(rule, self.name(old), self.name(node)))
            self.bypass(old, node)

    def bypass(self, node: fx.Node, value: fx.Node) -> None:
        """Who read `node` reads `value`."""
        node.replace_all_uses_with(value)
        self.graph.erase_node(node)


def operands(node: fx.Node) -> tuple:
    """The two values that `node` adds, and nothing for any other node."""
    adds = node.target in {"call_function": (operator.add, torch.add), "call_method": ("add", "add_")}.get(node.op, ())
    if adds and len(node.args) == 2 and not node.kwargs:
        return node.args
    return node.args[:2] if node.target is in_place and node.args[2] == "iadd" else ()
