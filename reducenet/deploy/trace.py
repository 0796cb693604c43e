"""A module as a graph that can be rewritten: traced by torch.fx, with what one has to know before a node may be touched.

A module may be replaced only if it is called exactly once and nobody reads its parameters, a value taken away only if it has exactly one
reader, and a copy made or spared only where nothing writes in place.
"""

import operator
from collections import Counter
from collections.abc import Collection
from itertools import accumulate, chain
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from reducenet.algebra.plain import CONVS, more
from reducenet.deploy.graph import NotTraceable, Tracer, full, in_place, traced
from reducenet.nets.layers import FrozenBatchNorm2d

__all__ = ["BN2D", "Changes", "NotTraceable", "Rewriting", "Step", "Tracer", "in_place", "operands", "traced"]


BN2D = (nn.BatchNorm2d, FrozenBatchNorm2d)


class Step(NamedTuple):
    """One rewriting: the module `what`, by dotted name, went `into` another; a dropped one goes into nothing."""

    rule: str  # "drop", "fold", "merge" or "add"; "unused" for what no pass in eval mode calls
    what: str
    into: str = ""


class Changes(NamedTuple):
    """What was done, in order, and what was left alone: the modules by dotted name, and the reason."""

    steps: list[Step]
    left: dict[tuple[str, ...], str]


FRESH = (operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.mul, torch.cat, "add", "mul")  # never a view


class Rewriting:
    """A traced module on its way to its fused form: what the rules read and write. `root` is used up."""

    def __init__(self, name: str, root: nn.Module, dearer: bool, changes: Changes, shared: Collection[str] = ()):
        """`shared` names modules that others use too: they stay as they are."""
        self.prefix, self.root, self.dearer, self.changes = name, root, dearer, changes
        self.graph = traced(name, root)
        calls = Counter(node.target for node in self.graph.nodes if node.op == "call_module")
        readers = {node.target.rpartition(".")[0] for node in self.graph.nodes if node.op == "get_attr"}
        self.fixed = readers | set(shared) | {target for target, times in calls.items() if times > 1}
        self._written: set[fx.Node] | None = None
        changes.steps.extend(Step("unused", self.full(name)) for name in self._unused())
        self.left: dict[tuple[str, ...], str] = {}

    def run(self, rules) -> fx.GraphModule:
        """The module after every rule was applied at every node, until none finds anything."""
        changed = True
        while changed:
            changed, self._written = False, None
            self.left.clear()
            for node in self.graph.nodes:
                changed |= any(rule(self, node) for rule in rules)
        self.changes.left.update(self.left)
        for idle in [node for node in self.graph.find_nodes(op="get_attr") if not node.users]:
            self.graph.erase_node(idle)
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph).eval()

    def called(self, node) -> nn.Module | None:
        """The module that `node` calls with one value and nothing else."""
        plain = isinstance(node, fx.Node) and node.op == "call_module" and [type(a) for a in node.args] == [fx.Node] and not node.kwargs
        module = self.root.get_submodule(node.target) if plain else None
        return None if module is None or more(module) else module

    def own(self, node, *kinds: type) -> nn.Module | None:
        """The module of one of these very types that `node` alone calls, and whose parameters nobody else reads: it may be replaced."""
        module = self.called(node)
        return module if type(module) in kinds and node.target not in self.fixed else None

    def is_new(self, value: fx.Node) -> bool:
        """Whether a layer has made this value for one reader alone."""
        return len(value.users) == 1 and type(self.called(value)) in (*CONVS, *BN2D)

    def written(self, but: Collection[fx.Node] = ()) -> set[fx.Node]:
        """The values that change after they were computed: a node, `but` these, writes into them or into what may share their memory."""
        if any(self._writes(node, value) for node in but for value in node.all_input_nodes):
            return self._find_written(but)
        if self._written is None:
            self._written = self._find_written(())
        return self._written

    def _find_written(self, but: Collection[fx.Node]) -> set[fx.Node]:
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

    def _unused(self) -> list[str]:
        """The modules, outermost first, that no pass in eval mode calls or reads, and that hold numbers: they are not deployed."""
        used = {node.target for node in self.graph.nodes if node.op in ("call_module", "get_attr")}
        around = {outer for name in used for outer in outers(name)}
        gone: list[str] = []
        for name, module in self.root.named_modules():
            inside = name == "" or name in around or any(outer in used or outer in gone[-1:] for outer in outers(name))
            if not inside and any(True for _ in chain(module.parameters(), module.buffers())):
                gone.append(name)
        return gone

    def full(self, name: str) -> str:
        """A name in the module as one in the network."""
        return full(self.prefix, name)

    def name(self, node: fx.Node) -> str:
        read = [value.target.rpartition(".")[0] for value in node.all_input_nodes if value.op == "get_attr"]
        owner = read[0] if node.target is F.batch_norm and read else ""
        return self.full(owner or (node.target if node.op == "call_module" else node.name))

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
        if node in (self._written or ()) and isinstance(value, fx.Node):  # who wrote into the one writes into the other
            self._written.add(value)
        node.replace_all_uses_with(value)
        self.graph.erase_node(node)


def outers(name: str) -> list[str]:
    """`name` and all that it stands in: "a.b.c", "a.b", "a"."""
    return list(accumulate(name.split("."), "{}.{}".format))


def operands(node: fx.Node) -> tuple:
    """The two values that `node` adds, and nothing for any other node."""
    adds = node.target in {"call_function": (operator.add, torch.add), "call_method": ("add", "add_")}.get(node.op, ())
    if adds and len(node.args) == 2 and not node.kwargs:
        return node.args
    return node.args[:2] if node.target is in_place and node.args[2] == "iadd" else ()
