"""The rules that leave a node without a layer of its own: what does nothing is dropped, a BatchNorm is folded into the layer before it."""

import copy

import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.fusion import fuse_linear_bn_eval

from reducenet.algebra.exact import NotExact, fold_bn
from reducenet.algebra.plain import CONVS, is_batch_norm, more
from reducenet.deploy.norms import batch_norm, drop_check
from reducenet.deploy.trace import Rewriting, Step, operands
from reducenet.nets.activation import LambdaReLU


def drop(net: Rewriting, node: fx.Node) -> bool:
    """Identity, Dropout in eval mode, LambdaReLU at lam 1, the 0 that `sum` starts from, a check that holds: gone."""
    if node.target is torch._assert:
        return drop_check(net, node)
    module, summands = net.called(node), operands(node)
    value = summands[1] if summands else node.args[0] if module else None
    same = type(module) is nn.Identity or isinstance(module, _DropoutNd)
    equal = (type(module) is LambdaReLU and module.lam == 1) or (summands and summands[0] == 0 and net.called(value))
    if not same and not (equal and (net.is_new(value) or not {node, value} & net.written())):  # who writes into a copy spares others
        return False
    if module:
        net.changes.steps.append(Step("drop", net.name(node)))
    net.bypass(node, value)
    return True


def fold_after(net: Rewriting, node: fx.Node) -> bool:
    """conv -> BatchNorm, Linear -> BatchNorm1d: folded into the layer before."""
    before = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
    layer = before and net.own(before, nn.Linear, *CONVS)
    try:
        bn = batch_norm(net, node, CONVS.get(type(layer), nn.BatchNorm1d))
        if bn is None:
            return False
        if layer is None or len(before.users) > 1:
            raise NotExact(f"fold: {_before(net, before)}")
        folded = _fold_linear(net, before, layer, bn) if type(layer) is nn.Linear else fold_bn(layer, bn)
    except NotExact as reason:
        net.leave(node, why=str(reason))
        return False
    net.replace("fold", before, folded, [node])
    return True


def _before(net: Rewriting, node: fx.Node | None) -> str:
    """What stands before a BatchNorm and is no layer that it could be folded into."""
    module = net.root.get_submodule(node.target) if node and node.op == "call_module" else None
    if isinstance(module, nn.Linear | _ConvNd):
        what = f"{net.name(node)}, a {type(module).__name__},"
        if more(module):
            return f"{what} has {more(module)}"
        if len(node.users) > 1:
            return f"{what} is read by others too"
        if type(module) in (nn.Linear, *CONVS):
            return f"{what} is called more than once, or its weights are read elsewhere"
    called = getattr(node and node.target, "__name__", str(node and node.target))
    what = type(module).__name__ if module else "an input" if node and node.op == "placeholder" else called
    return f"right before it stands {what}, and no conv or Linear"


def _fold_linear(net: Rewriting, node: fx.Node, linear: nn.Linear, bn: nn.BatchNorm1d) -> nn.Linear:
    if not isinstance(bn, nn.BatchNorm1d):
        raise NotExact(f"fold: a BatchNorm1d is needed behind a Linear, not {type(bn).__name__}")
    if not is_batch_norm(bn) or bn.running_mean is None or bn.num_features != linear.out_features:
        raise NotExact("fold: the BatchNorm keeps no running statistics, or not those of the outputs of the Linear")
    if not _is_flat(net, node.args[0]):
        raise NotExact("fold: of maps [N, C, L] a Linear makes L and a BatchNorm1d normalises C; behind a Flatten there is no L")
    exact, exact_bn = (copy.deepcopy(module).cpu().double() for module in (linear, bn))
    for name, neutral in (("weight", torch.ones_like), ("bias", torch.zeros_like)):
        if getattr(bn, name) is None:
            setattr(exact_bn, name, nn.Parameter(neutral(exact_bn.running_mean)))
    trainable = all(p.requires_grad for module in (linear, bn) for p in module.parameters())
    return fuse_linear_bn_eval(exact, exact_bn).to(linear.weight).requires_grad_(trainable)


def _is_flat(net: Rewriting, node: fx.Node) -> bool:
    """Whether the value is [N, C] for sure."""
    module = net.called(node)
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    if module is not None and type(module).__module__.rpartition(".")[2] in ("activation", "batchnorm", "dropout", "linear"):
        return _is_flat(net, node.args[0])  # these keep the number of dimensions
    return node.target in (torch.flatten, "flatten") and node.args[1:] == (1,) and not node.kwargs
