"""A network as plain data that any language can run: `program(net, shape)`.

    {"ops": [...], "names": {...}, "knobs": {...}, "weights": base64 of little-endian float32}

Operation i makes value i, a map [C, H, W], out of earlier values; a vector is a map [C, 1, 1]. Operation 0 is the image. All there is:

    input                                    the image, normalised
    conv   weight bias kernel stride ...     a convolution; a Linear is one whose kernel covers the map
    bn     weight eps                        gamma (x - mean) / sqrt(var + eps) + beta, channel by channel
    relu   [knob]                            x where x > 0, else lam x; lam is the knob, or 0
    scale  knob                              the knob times x
    add                                      x + y
    max    kernel stride padding             the largest of each window
    mean                                     over the pixels of a map

`weight` and `bias` say where their numbers start; a knob is a number that the reader of a panel may move, `names` says which value a module
made. Nothing here knows of blocks: what is traced and is one of these can be told, anything else is refused in one line.
"""

import base64
import operator
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from reducenet.deploy.trace import Changes, Rewriting, operands
from reducenet.nets.activation import LambdaReLU
from reducenet.nets.layers import FrozenBatchNorm2d


class NotExpressible(ValueError):
    """The network does what no operation here does. One line: where, what, and why."""


@torch.no_grad()
def program(net: nn.Module, shape: tuple[int, int, int]) -> dict:
    """`run_program(program(net, shape), x)["logits"] == net(x)` for images x of `shape` (C, H, W) and a net in eval mode, fused or not."""
    training = [name or "the network" for name, module in net.named_modules() if module.training and list(module.parameters(recurse=False))]
    if training:
        raise NotExpressible(f"program: {training[0]} is in train mode; call .eval() first")
    net, image = deepcopy(net).float().cpu(), torch.zeros(1, *shape)
    try:
        net(image)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise NotExpressible(f"program: the network takes no images of {tuple(shape)} (C, H, W): {reason}") from error
    graph = Rewriting("", net, False, Changes([], {}))
    ShapeProp(fx.GraphModule(net, graph.graph)).propagate(image)
    return _Telling(graph, shape).told()


class _Value(NamedTuple):
    number: int
    shape: tuple[int, ...]  # C, H, W


class _Telling:
    """The graph told operation by operation."""

    def __init__(self, graph: Rewriting, shape: tuple[int, int, int]):
        self.graph, self.shape = graph, shape
        self.ops: list[dict] = []
        self.numbers: list[np.ndarray] = []
        self.names: dict[str, int] = {}
        self.knobs: dict[str, float] = {}
        self.values: dict[fx.Node, _Value] = {}

    def told(self) -> dict:
        for node in self.graph.written():
            if len(node.users) > 1:
                raise self._refuse(node, "it is written into, and read more than once")
        for node in self.graph.graph.nodes:
            if node.op == "output":
                self.names["logits"] = self._read(node, node.args[0]).number
                break
            if node.op == "placeholder" and not node.users:  # an argument that stays at its default
                continue
            self.values[node] = self._tell(node)
            self.names[self._name(node)] = self.values[node].number
        weights = np.concatenate([np.zeros(0, "<f4"), *self.numbers])
        return {"ops": self.ops, "names": self.names, "knobs": self.knobs, "weights": base64.b64encode(weights.tobytes()).decode()}

    def _tell(self, node: fx.Node) -> _Value:
        if node.op == "placeholder" and not self.ops:
            return self._add("input", (), self.shape)
        module = self.graph.called(node)
        if module is not None:
            rule = _MODULES.get(type(module))
            if rule is None:
                raise self._refuse(node, f"there is no operation for a {type(module).__name__}")
            return rule(self, node, module, self._read(node, node.args[0]))
        if operands(node):
            return self._sum(node)
        rule = _FUNCTIONS.get(node.target)
        if rule is None:
            called = node.op == "call_module"
            raise self._refuse(node, "it is called with more than one value, or hooked" if called else "there is no operation for it")
        return rule(self, node)

    def _add(self, op: str, inputs: tuple[_Value, ...], shape: tuple[int, ...], **more) -> _Value:
        self.ops.append({"op": op, "in": [value.number for value in inputs], "shape": list(shape)} | more)
        return _Value(len(self.ops) - 1, tuple(shape))

    def _store(self, *tensors: Tensor) -> int:
        """Where these numbers start."""
        start = sum(map(len, self.numbers))
        self.numbers += [tensor.detach().numpy().astype("<f4").ravel() for tensor in tensors]
        return start

    def _name(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return node.target
        inside = [path for path, _ in node.meta.get("nn_module_stack", {}).values() if path]
        return ".".join([*inside[-1:], node.name])

    def _refuse(self, node: fx.Node, why: str) -> NotExpressible:
        return NotExpressible(f"program: {self._name(node)}: {why}")

    def _read(self, node: fx.Node, value) -> _Value:
        if not isinstance(value, fx.Node):
            raise self._refuse(node, f"it reads {value!r}, which no operation makes")
        return self.values[value]

    def _made(self, node: fx.Node) -> tuple[int, ...]:
        """The shape torch gives the value, without the batch."""
        return tuple(node.meta["tensor_meta"].shape[1:])

    # --- modules -----------------------------------------------------------------------------------------------------------------------

    def _conv(self, node: fx.Node, conv: nn.Conv2d, x: _Value) -> _Value:
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str) or conv.dilation != (1, 1):
            raise self._refuse(node, "only convs without dilation, padded with zeros by a number")
        return self._add_conv(x, conv, self._made(node), conv.kernel_size, conv.stride, conv.padding, conv.groups)

    def _linear(self, node: fx.Node, linear: nn.Linear, x: _Value) -> _Value:
        if len(self._made(node)) != 1:
            raise self._refuse(node, "a Linear only of one vector an image")
        return self._add_conv(x, linear, (linear.out_features, 1, 1), x.shape[1:], (1, 1), (0, 0), 1)

    def _add_conv(self, x: _Value, layer: nn.Module, shape, kernel, stride, padding, groups: int) -> _Value:
        bias = torch.zeros(shape[0]) if layer.bias is None else layer.bias
        sizes = {"kernel": list(kernel), "stride": list(stride), "padding": list(padding), "groups": groups}
        return self._add("conv", (x,), shape, weight=self._store(layer.weight), bias=self._store(bias), **sizes)

    def _bn(self, node: fx.Node, bn: nn.BatchNorm2d | nn.BatchNorm1d, x: _Value) -> _Value:
        if bn.running_mean is None or bn.num_features != x.shape[0]:
            raise self._refuse(node, "it keeps no running statistics, or not those of the channels")
        gamma, beta = (torch.ones(x.shape[0]), torch.zeros(x.shape[0])) if bn.weight is None else (bn.weight, bn.bias)
        return self._add("bn", (x,), x.shape, weight=self._store(gamma, beta, bn.running_mean, bn.running_var), eps=bn.eps)

    def _relu(self, node: fx.Node, _: nn.Module | None, x: _Value) -> _Value:
        return self._add("relu", (x,), x.shape)

    def _lambda_relu(self, node: fx.Node, act: LambdaReLU, x: _Value) -> _Value:
        self.knobs[node.target] = act.lam.item()
        return self._add("relu", (x,), x.shape, knob=node.target)

    def _max(self, node: fx.Node, pool: nn.MaxPool2d, x: _Value) -> _Value:
        if pool.dilation not in (1, (1, 1)) or pool.return_indices:
            raise self._refuse(node, "only a MaxPool2d without dilation and indices")
        pairs = {name: [*(2 * (size,) if isinstance(size := getattr(pool, f), int) else size)] for name, f in _POOL.items()}
        return self._add("max", (x,), self._made(node), **pairs)

    def _adaptive(self, node: fx.Node, pool: nn.AdaptiveAvgPool2d, x: _Value) -> _Value:
        if self._made(node)[1:] != (1, 1):
            raise self._refuse(node, "only the mean over the whole map")
        return self._add("mean", (x,), (x.shape[0], 1, 1))

    def _same(self, node: fx.Node, _: nn.Module | None, x: _Value) -> _Value:
        """Another shape of the same numbers, if the map stays a map or becomes a vector."""
        if self._made(node) not in (x.shape, (int(np.prod(x.shape)),)):
            raise self._refuse(node, f"it makes {list(self._made(node))} of {list(x.shape)}")
        return x

    # --- functions ---------------------------------------------------------------------------------------------------------------------

    def _sum(self, node: fx.Node) -> _Value:
        one, two = (self._read(node, value) for value in operands(node))
        if one.shape != two.shape:
            raise self._refuse(node, f"it adds {list(one.shape)} and {list(two.shape)}")
        return self._add("add", (one, two), one.shape)

    def _product(self, node: fx.Node) -> _Value:
        factors = [a for a in node.args if isinstance(a, int | float)]
        values = [a for a in node.args if isinstance(a, fx.Node)]
        if len(factors) != 1 or len(values) != 1 or node.kwargs:
            raise self._refuse(node, "only a number times a value")
        x, knob = self._read(node, values[0]), self._name(values[0])
        self.knobs[knob] = float(factors[0])
        return self._add("scale", (x,), x.shape, knob=knob)

    def _mean(self, node: fx.Node) -> _Value:
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        x = self._read(node, node.args[0])
        if not isinstance(dims, tuple | list) or sorted(d % 4 for d in dims) != [2, 3] or len(node.args[0].meta["tensor_meta"].shape) != 4:
            raise self._refuse(node, "only the mean over the pixels of a map, dimensions 2 and 3")
        return self._add("mean", (x,), (x.shape[0], 1, 1))


def _alone(rule):
    """The rule of a module for the function that does the same."""
    return lambda telling, node: rule(telling, node, None, telling._read(node, node.args[0]))


_POOL = {"kernel": "kernel_size", "stride": "stride", "padding": "padding"}
_MODULES = {
    nn.Conv2d: _Telling._conv, nn.Linear: _Telling._linear, nn.MaxPool2d: _Telling._max, nn.AdaptiveAvgPool2d: _Telling._adaptive,
    **dict.fromkeys((nn.BatchNorm2d, nn.BatchNorm1d, FrozenBatchNorm2d), _Telling._bn),
    nn.ReLU: _Telling._relu, LambdaReLU: _Telling._lambda_relu,
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Unflatten), _Telling._same),
}  # fmt: skip
_FUNCTIONS = {
    **dict.fromkeys((operator.mul, torch.mul, "mul"), _Telling._product), **dict.fromkeys((torch.mean, "mean"), _Telling._mean),
    **dict.fromkeys((torch.relu, F.relu, "relu"), _alone(_Telling._relu)),
    **dict.fromkeys((torch.flatten, "flatten"), _alone(_Telling._same)),
}  # fmt: skip
