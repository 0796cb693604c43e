"""A module's forward pass as a graph of torch.fx, and nothing in the process is patched that another thread would notice.

torch.fx itself puts wrappers around `nn.Module.__call__` and `__getattr__` while it traces: whatever runs beside it is traced too. Here the
modules of the copy that is traced carry their wrappers themselves, in the slot that torch keeps for a compiled call.
"""

import builtins
import copy
import inspect
import math
import operator
import threading
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import torch
from torch import fx, nn
from torch.fx import _symbolic_trace as symbolic
from torch.nn.modules import module as every
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_flatten_with_path

from reducenet.algebra.plain import NotExact, more
from reducenet.nets.activation import LambdaReLU

ONE_AT_A_TIME = threading.RLock()  # functions that are marked with `fx.wrap` are replaced where they stand while one traces
INTERNAL = vars(nn.Module()).keys() - {"training"}
NUMBERS = ("size", "dim", "numel", "stride", "ndimension", "item", "__len__")  # methods that lead from a tensor to numbers


class NotTraceable(NotExact):
    """The network cannot be followed. The message names the innermost module that was reached, and why it ended there."""


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
    """Goes down to the layers of torch.nn and to ours. An error on the way names the module it was met in.

    What hooks do, and what a module without children does that cannot be followed, stays a call of that module.
    """

    prefix = ""

    def trace(self, root: nn.Module, concrete_args: dict | None = None) -> fx.Graph:
        """The graph of `root`, a module that is nobody else's."""
        self.root, self.graph = root, fx.Graph(tracer_cls=type(self))
        self.root_module_name = root._get_name()
        self.submodule_paths = {module: name for name, module in root.named_modules()}
        tensors = [*root.named_parameters(), *root.named_buffers()]
        self.names = {id(tensor): name for name, tensor in reversed(tensors)}
        self.tensor_attrs = {
            value: f"{name}.{key}" if name else key
            for module, name in self.submodule_paths.items() for key, value in vars(module).items() if isinstance(value, torch.Tensor)
        }  # fmt: skip
        self.nodes: dict[str, fx.Node] = {}
        self.open: set[nn.Module] = set()  # modules that were found to be no leaves
        function, args = self.create_args_for_root(type(root).forward, True, concrete_args)
        with self._watched(), torch.enable_grad():
            self.modes = _modes()
            self.create_node("output", "output", (self.create_arg(function(*args)),), {})
        for node in self.nodes.values():
            if not node.users:
                self.graph.erase_node(node)
        return self.graph

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Calls of modules come to us, and their parameters and buffers are values of the graph."""
        before = {module: (dict(vars(module)), _state(module)) for module in self.submodule_paths}
        values = {name: Value(self._named(name), self) for name in self.names.values()}
        with ONE_AT_A_TIME, symbolic._Patcher() as self.patcher:
            symbolic._patch_wrapped_functions(self.patcher)
            symbolic._autowrap_check(self.patcher, math.__dict__, self._autowrap_function_ids)
            self.patcher.patch(torch.__dict__, "is_tensor", partial(_is_instance, kinds=torch.Tensor))
            self._prepare(type(self.root).forward)
            try:
                for module in self.submodule_paths:
                    own = {**module._parameters, **module._buffers}
                    vars(module).update({key: values[self.names[id(tensor)]] for key, tensor in own.items() if tensor is not None})
                    vars(module)["_compiled_call_impl"] = partial(self._called, module)
                yield
                read = {node.target for node in self.graph.find_nodes(op="get_attr")}
                changed = [module for module, kept in before.items() if self._has_changed(module, *kept, read)]
            finally:
                constants = {key: value for key, value in vars(self.root).items() if key in self.tensor_attrs.values()}
                for module, (attributes, _) in before.items():
                    vars(module).clear()
                    vars(module).update(attributes)
                vars(self.root).update(constants)
        if changed:
            raise NotTraceable(
                self._refusal(changed[0], "a pass changes what it keeps (a counter, a flag, a state), so that the next is another")
            )

    def _has_changed(self, module: nn.Module, attributes: dict, state: dict, read: set[str]) -> bool:
        """Whether the pass has changed a number that `module` keeps, or a tensor that it read as well."""
        name = self.submodule_paths[module]
        kept = [key for key, value in attributes.items() if isinstance(value, torch.Tensor) and full(name, key) in read]
        return state != _state(module) or any(vars(module).get(key) is not attributes[key] for key in kept)

    def _called(self, module: nn.Module, *args, **kwargs):
        self._prepare(getattr(type(module), "forward", None))
        return self.call_module(module, module._call_impl, args, kwargs)

    def _prepare(self, function) -> None:
        """What fx does for `math.sqrt(x)`; and `isinstance(x, Tensor)` is true of what will be one."""
        names = getattr(inspect.unwrap(function), "__globals__", {}) if function else {}
        if names and not names.get("__name__", "").startswith("torch."):
            symbolic._autowrap_check(self.patcher, names, self._autowrap_function_ids)
            self.patcher.patch(names, "isinstance", _is_instance)

    def call_module(self, module: nn.Module, forward, args, kwargs):
        if self.is_leaf_module(module, ""):
            if not args and [*kwargs] == [*inspect.signature(type(module).forward).parameters][1:2]:  # `conv(input=x)` is `conv(x)`
                args, kwargs = tuple(kwargs.values()), {}
            return super().call_module(module, forward, args, kwargs)
        small = not any(module.children()) or isinstance(module, _BatchNorm)
        last, stack, calls = self._last(), self.module_stack.copy(), dict(self.num_calls)
        kept, state = (_attributes(module), _state(module)) if small else ({}, {})
        self.open.add(module)
        if isinstance(module, _BatchNorm):  # a class of somebody else's that goes on to torch's forward: what it asks for is not known yet
            vars(module)["_check_input_dim"] = lambda x: None
        try:
            result = super().call_module(module, forward, args, kwargs)
            if not small or state == _state(module):
                return result
        except Exception as error:
            if not small:
                raise error if isinstance(error, NotTraceable) else NotTraceable(self._refusal(module, error)) from error
        while (node := self._last()) is not last:
            self.graph.erase_node(node)
        vars(module).update(kept)
        self.module_stack, self.num_calls = stack, calls
        return self.create_proxy("call_module", self.submodule_paths[module], args, kwargs)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return module not in self.open and (is_layer(module) or bool(more(module)))

    def create_node(self, kind, target, args, kwargs, name=None, type_expr=None) -> fx.Node:
        if kind != "placeholder" and hasattr(self, "modes") and _modes() != self.modes:
            raise NotTraceable("torch.no_grad, inference_mode or autocast inside of a forward pass, which a graph does not keep")
        return super().create_node(kind, target, args, kwargs, name, type_expr)

    def create_arg(self, a):
        if isinstance(a, fx.Proxy):
            return a.node
        if type(a) is OrderedDict:  # fx makes a dict of it
            return self.create_node("call_function", OrderedDict, ([(key, self.create_arg(value)) for key, value in a.items()],), {})
        if isinstance(a, torch.Tensor) and id(a) in self.names:
            return self._named(self.names[id(a)])
        return super().create_arg(a)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Value(node, self)

    def _named(self, name: str) -> fx.Node:
        """The one node that reads this parameter or buffer."""
        if name not in self.nodes:
            self.nodes[name] = super().create_node("get_attr", name, (), {})
        return self.nodes[name]

    def _last(self) -> fx.Node | None:
        return next(iter(reversed(self.graph.nodes)), None)

    def _refusal(self, module: nn.Module, why) -> str:
        return refusal(full(self.prefix, self.submodule_paths.get(module, "?")), module, why)


def is_layer(module: nn.Module) -> bool:
    """Whether `module` is one of torch.nn's layers or of ours, whatever class of somebody else's inherits its forward."""
    home = getattr(type(module).forward, "__module__", None) or ""
    of_torch = home.startswith(("torch.nn.", "torch.ao.nn.")) and not isinstance(module, nn.Sequential)
    return of_torch or isinstance(module, LambdaReLU)


def traced(name: str, root: nn.Module) -> fx.Graph:
    """The graph of `root`, which is called `name` in its network ("" for the network itself), and which nobody else uses."""
    if every._global_forward_hooks or every._global_forward_pre_hooks:
        raise NotTraceable("fuse: there are forward hooks on all modules of the process (register_module_forward_hook); remove them")
    if more(root):
        raise NotTraceable(f"fuse: {name or 'the network'} ({type(root).__name__}) has {more(root)}; remove them")
    # Python may branch on an optional argument (`if mask is None`): it is fixed at its default, and calls with another value are refused.
    optional = list(inspect.signature(root.forward).parameters.values())[1:]
    fixed = {p.name: p.default for p in optional if p.default is None or isinstance(p.default, bool)}
    tracer = Tracer()
    tracer.prefix = name
    try:
        graph = tracer.trace(root, fixed or None)
    except NotTraceable as error:
        raise error if str(error).startswith("fuse: ") else NotTraceable(refusal(name, root, error)) from error
    except Exception as error:
        raise NotTraceable(refusal(name, root, error)) from error
    for node in graph.find_nodes(op="placeholder"):  # fx numbers the fixed ones
        if node.target.removesuffix("_1") in fixed:
            node.target = node.target.removesuffix("_1")
    return graph


def refusal(name: str, module: nn.Module, why: Exception | str) -> str:
    """One line: which module cannot be traced, where in its source, and why."""
    machinery = (str(Path(torch.__file__).parent), __file__)
    trail = traceback.extract_tb(why.__traceback__) if isinstance(why, Exception) else []
    frames = [frame for frame in trail if not frame.filename.startswith(machinery)]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno} `{frames[-1].line}`" if frames else ""
    reason = (str(why).splitlines() or [type(why).__name__])[0].split(". ")[0]
    return f"fuse: cannot trace {name or 'the network'} ({type(module).__name__}){where}: {reason}"


def full(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _modes() -> tuple[bool, ...]:
    autocast = (torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    return (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast)


def _is_instance(value, kinds) -> bool:
    """What `isinstance` will say when the network runs: a value of the graph is a tensor, unless it is made of sizes."""
    if type(value) is Value and value.node.op == "get_attr":
        owner, _, key = value.node.target.rpartition(".")
        value = (module := value.tracer.root.get_submodule(owner))._parameters.get(key, module._buffers.get(key))
    elif type(value) is Value and not _is_number(value.node):
        value = torch.empty(0)
    return builtins.isinstance(value, kinds)


def _is_number(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in NUMBERS
    if node.op != "call_function" or not node.all_input_nodes:
        return False
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    return getattr(node.target, "__module__", "") in ("_operator", "math") and all(map(_is_number, node.all_input_nodes))


def _attributes(module: nn.Module) -> dict:
    """What a module keeps in its attributes, apart from its layers and tensors."""
    own = {key: value for key, value in vars(module).items() if key not in INTERNAL and not isinstance(value, Value)}
    return {key: copy.copy(value) if isinstance(value, list | dict | set) else value for key, value in own.items()}


def _state(module: nn.Module) -> dict:
    """The numbers, texts and flags among these, by where they are."""
    found = {}
    for key, value in _attributes(module).items():
        with suppress(ValueError):  # of a class that does not tell where its parts are
            found |= {(key, *path): leaf for path, leaf in tree_flatten_with_path(value)[0] if isinstance(leaf, int | float | str)}
    return found
