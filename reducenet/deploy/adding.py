"""The rule that makes one conv of parallel ones, wherever they stand in one sum."""

import operator
from itertools import product
from math import prod

from torch import fx, nn

from reducenet.algebra.exact import NotExact, add, bn_as_conv, identity_conv
from reducenet.deploy.norms import batch_norm_2d
from reducenet.deploy.trace import Rewriting, Step, in_place, operands


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
    return net.is_new(into) or (len(into.users) == 1 and _is_open(net, into))


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
