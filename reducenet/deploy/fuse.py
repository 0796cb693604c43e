"""Bring your own network: `fuse(net)` is any network that torch.fx can trace, as it would be deployed.

The four rules at the end of the file each look at one node of the graph and rewrite it, or leave it. What they do depends on structure,
never on weights: the same moves on another start lead to the same network.
"""

import copy
import operator
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import reduce
from itertools import product
from math import gcd, prod

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.fusion import fuse_linear_bn_eval

from reducenet.algebra.exact import NotExact, add, bn_as_conv, check_pair, fold_bn, identity_conv, merge, ring
from reducenet.algebra.plain import CONVS, is_batch_norm, more
from reducenet.deploy.graph import full, is_layer
from reducenet.deploy.norms import batch_norm, batch_norm_2d, drop_check, leave_unsaid
from reducenet.deploy.proof import made_up, prove
from reducenet.deploy.trace import Changes, Rewriting, Step, in_place, operands
from reducenet.deploy.wrapped import refuse_wrapped
from reducenet.moves.side import fold, has_side_branch
from reducenet.moves.surgery import replace
from reducenet.nets.activation import LambdaReLU, LearnedReLU
from reducenet.nets.layers import FrozenBatchNorm2d
from reducenet.nets.networks import Network
from reducenet.words import MoveError, move

BN2D = (nn.BatchNorm2d, FrozenBatchNorm2d)
MODAL = (_NormBase, _DropoutNd, nn.MultiheadAttention, nn.RNNBase, nn.RReLU, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


@move(exact=True)
def fuse(net: nn.Module, strict: bool = True, dearer: bool = False, *, example=None) -> nn.Module:
    """`fuse(net)(x) == net(x)` in eval mode, as it would be deployed: side branches and BNs folded, linear runs of convs merged to one,
    parallel convs (with a BN or nothing beside them, as in RepVGG) added to one.

    A `Network` stays one, its children fused one by one; any other module comes back as a `GraphModule`. What stays keeps its name,
    what was frozen stays frozen. What would not be exact stays as it is, and so does what would cost more MACs per output pixel as one
    conv, unless `dearer`: it may be depth that costs.

    With an `example` (one tensor, the shape of an image without its batch, or a tuple of all arguments) the equation is checked before
    anything is handed over: in float64, on the example, on another, at other sizes. Without one an image is made up for a network of
    anybody else's, by its first layer. Where none fits, the equation is not proved for what Python decides in a forward pass by asking
    what a value is, how often it was called, or what lies outside of the network; nor is it ever proved for inputs of other kinds.
    Raises `NotExact` in train mode, where the two differ, for what is around a network or has no weights (by name, with the remedy), and,
    if `strict`, where a LambdaReLU is not at lam 1, since its pair would stay a pair; `NotTraceable` where torch.fx cannot follow.
    `fuse_report` tells what was done and what it is worth.
    Source: the article; DepthShrinker, section 4.4; RepVGG, section 3.3.
    """
    return fused(net, strict, dearer, example)[0]


def fused(net: nn.Module, strict: bool = True, dearer: bool = False, example=None) -> tuple[nn.Module, Changes]:
    """`fuse(net)`, and what it did."""
    new, changes = rewritten(net, strict, dearer)
    if example is None and not all(map(_is_ours, net.modules())):
        example = made_up(net)
    if example is not None:
        prove(net, lambda exact: rewritten(exact, strict, dearer), example)
    return new, changes


def rewritten(net: nn.Module, strict: bool, dearer: bool) -> tuple[nn.Module, Changes]:
    """`fused(net)` without the proof."""
    refuse_wrapped("fuse", net)
    for name, module in net.named_modules():
        if module.training and (module is net or _changes_with_mode(module)):
            raise NotExact(f"fuse: {name or 'the network'} ({type(module).__name__}) is in train mode; call .eval() first")
        if strict and isinstance(module, LearnedReLU):
            raise NotExact(f"fuse: {name} learns its lam, and no value of it is for good; snap or settle first")
        if strict and isinstance(module, LambdaReLU) and module.lam != 1:
            raise NotExact(f"fuse: {name} is at lam = {module.lam.item():g}; a pair merges at lam = 1 only (slide it there, or linearise)")
    if any(map(has_side_branch, net.modules())):
        with suppress(MoveError):  # a LambdaReLU inside is not at lam 1, and we are not strict: the branch stays
            net = fold(net)
    traced, changes = dict(parts(net)), Changes([], {})
    shared = _shared(traced)

    def one(name: str, part: nn.Module) -> fx.GraphModule:
        return Rewriting(name, part, dearer, changes, shared[name]).run(RULES)

    new = replace(net, lambda name, _: name in traced, one)
    leave_unsaid(new, changes.left)
    return new, changes


def _is_ours(module: nn.Module) -> bool:
    """Whether the forward of `module` is torch's or this package's, where nothing is decided in Python."""
    home = getattr(type(module).forward, "__module__", None)  # none of what torch.fx wrote itself
    return home is None or home.startswith(("torch.nn.", "reducenet."))


def _changes_with_mode(module: nn.Module) -> bool:
    """Whether train mode may be another function: of torch's layers we know it, of others not."""
    known = is_layer(module) or type(module) is nn.Sequential or type(module).forward is nn.Module.forward
    return isinstance(module, MODAL) or not known


def _shared(parts: dict[str, nn.Module]) -> dict[str, set[str]]:
    """By part, the names of the modules in it that other parts hold too, or whose parameters they do: what one rewrites, all would."""
    used = Counter(thing for part in parts.values() for thing in {*part.modules(), *part.parameters()})
    return {
        name: {inner for inner, m in part.named_modules() if any(used[thing] > 1 for thing in (m, *m.parameters(recurse=False)))}
        for name, part in parts.items()
    }


def parts(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """What is traced: the network, or the children of a `Network` or a list, which are called from outside and stay where they are."""
    if isinstance(module, Network) or type(module).forward is nn.Module.forward:
        for key, child in module.named_children():
            yield from parts(child, full(name, key))
    elif any(module.children()) and not is_layer(module):
        yield name, module


def drop(net: Rewriting, node: fx.Node) -> bool:
    """Identity, Dropout in eval mode, LambdaReLU at lam 1, the 0 that `sum` starts from, a check that holds: gone."""
    if node.target is torch._assert:
        return drop_check(net, node)
    module, summands = net.called(node), operands(node)
    value = summands[1] if summands else node.args[0] if module else None
    same = type(module) is nn.Identity or isinstance(module, _DropoutNd)
    equal = (type(module) is LambdaReLU and module.lam == 1) or (summands and summands[0] == 0 and net.called(value))
    if not same and not (equal and (_is_new(net, value) or not {node, value} & net.written())):  # who writes into a copy spares others
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
    what = f"a {type(module).__name__}" if module else getattr(node and node.target, "__name__", str(node and node.target))
    return f"a conv or Linear has to stand right before it, not {what} (pre-activation, a sum, an input)"


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


def merge_run(net: Rewriting, node: fx.Node) -> bool:
    """conv -> conv, conv -> conv -> conv, ...: the shortest run that ends here and is one conv at no more MACs.

    Three may be cheap where two are dear: of conv1-depthwise conv3-conv1 the first two make a large dense conv3, all three a small one.
    """
    run, convs = [node], [net.own(node, nn.Conv2d)]
    while convs[0] is not None and len((before := run[0].args[0]).users) == 1 and net.own(before, nn.Conv2d) is not None:
        run, convs = [before, *run], [net.own(before, nn.Conv2d), *convs]
        try:
            check_pair("merge", *convs[:2])
            now, then = _macs(convs)
            if then <= now or net.dearer or ring(*convs[:2]) not in ("nothing", "zeros"):
                net.replace("merge", run[0], reduce(merge, convs), run[1:])
                return True
        except NotExact as reason:
            net.leave(*run[:2], why=str(reason))
            return False
        if len(run) == 2:
            net.leave(*run, why=f"merge: would raise the MACs per output pixel from {now:,} to {then:,}")
    return False


def _macs(convs: list[nn.Conv2d]) -> tuple[int, int]:
    """MACs for each pixel that a run of convs puts out: as it is, and as one conv."""
    now, pixels = 0, 1
    for conv in reversed(convs):
        now, pixels = now + conv.weight.numel() * pixels, pixels * prod(conv.stride)
    taps = 1
    for axis in (0, 1):
        size, stride = 1, 1
        for conv in convs:
            size, stride = size + (conv.kernel_size[axis] - 1) * stride, stride * conv.stride[axis]
        taps *= size
    return now, taps * convs[0].in_channels * convs[-1].out_channels // gcd(*(conv.groups for conv in convs))


def add_parallel(net: Rewriting, node: fx.Node) -> bool:
    """conv(x) + conv(x), conv(x) + bn(x), conv(x) + x, wherever they stand in one sum: one conv, if it costs no more MACs."""
    terms = _terms(net, node)
    for base, term in _beside_each_other(net, terms):
        conv, other = net.own(base, nn.Conv2d), _summand(net, term) if term is not base.args[0] else None
        now = conv.weight.numel() + (other.weight.numel() if type(other) is nn.Conv2d else 0)
        try:
            total = add(conv, identity_conv(conv) if other is None else other if type(other) is nn.Conv2d else bn_as_conv(other))
            if total.weight.numel() > now and not net.dearer:
                raise NotExact(f"add: would raise the MACs per output pixel from {now:,} to {total.weight.numel():,}")
        except NotExact as reason:
            net.leave(base, term, why=str(reason))
            continue
        for _, addition in terms:  # those in place write into what is theirs alone: out of place they do the same
            addition.args, addition.op, addition.target = operands(addition), "call_function", operator.add
        addition = next(addition for value, addition in terms if value is term)
        net.bypass(addition, next(value for value in addition.args if value is not term))
        net.replace("add", base, total, [] if other is None else [term])
        if other is None:
            net.changes.steps.append(Step("add", "the identity", net.name(base)))
        return True
    return False


def _summand(net: Rewriting, node: fx.Node) -> nn.Module | None:
    """The conv or the BN at `node`."""
    return net.own(node, nn.Conv2d) or batch_norm_2d(net, node)


def _terms(net: Rewriting, node: fx.Node) -> list[tuple]:
    """What is summed up at `node`, and with each term the addition that it enters: `(a + b) + c` has three terms."""
    if not _is_open(net, node):
        return []
    inside = [_terms(net, value) if isinstance(value, fx.Node) and len(value.users) == 1 else [] for value in operands(node)]
    return [pair for value, inner in zip(operands(node), inside, strict=True) for pair in inner or [(value, node)]]


def _is_open(net: Rewriting, node: fx.Node) -> bool:
    """Whether `node` adds, and writes at most into what a layer or another sum has made for it alone."""
    if node.target not in (in_place, "add_") or not operands(node):
        return bool(operands(node))
    into = node.args[0]
    return _is_new(net, into) or (len(into.users) == 1 and _is_open(net, into))


def _is_new(net: Rewriting, value: fx.Node) -> bool:
    """Whether a layer has made this value for one reader alone."""
    return len(value.users) == 1 and type(net.called(value)) in (nn.Conv2d, *BN2D)


def _beside_each_other(net: Rewriting, terms: list[tuple]) -> list[tuple[fx.Node, fx.Node]]:
    """Pairs of terms, larger kernels first: a conv, and another conv or a BN that reads the same value, or that value itself."""
    values, additions = [value for value, _ in terms], {addition for _, addition in terms}
    free = {value: addition for value, addition in terms if isinstance(value, fx.Node) and values.count(value) == 1}
    reads = {value: value.args[0] for value in free if len(value.users) == 1 and _summand(net, value)}
    convs = sorted((v for v in reads if net.own(v, nn.Conv2d)), key=lambda v: prod(net.own(v, nn.Conv2d).kernel_size), reverse=True)
    if not any(reads[base] in (other, reads.get(other)) for base in convs for other in free if other is not base):
        return []
    written = net.written(but=additions)

    def stays(value) -> bool:  # it may be read later than now
        return isinstance(value, fx.Node) and value not in written

    gone = [value for value, addition in free.items() if all(stays(v) for v in operands(addition) if v is not value)]
    pairs = [(base, other) for base, other in product(convs, gone) if other not in convs[: convs.index(base) + 1]]
    return [(base, other) for base, other in pairs if reads[base] in (other, reads.get(other)) and stays(reads[base])]


RULES = (drop, fold_after, merge_run, add_parallel)
