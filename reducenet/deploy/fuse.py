"""Bring your own network: `fuse(net)` is any network that torch.fx can trace, as it would be deployed.

Four rules, in `folding`, `merging` and `adding`, each look at one node of the graph and rewrite it, or leave it. What they do depends on
structure, never on weights: the same moves on another start lead to the same network.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from reducenet.algebra.exact import NotExact
from reducenet.deploy.adding import add_parallel
from reducenet.deploy.folding import drop, fold_after
from reducenet.deploy.graph import full, is_layer
from reducenet.deploy.merging import merge_run
from reducenet.deploy.norms import leave_unsaid
from reducenet.deploy.proof import made_up, prove
from reducenet.deploy.trace import Changes, Rewriting
from reducenet.deploy.wrapped import refuse_wrapped
from reducenet.moves.side import fold, has_side_branch
from reducenet.moves.surgery import replace
from reducenet.nets.activation import LambdaReLU, LearnedReLU
from reducenet.nets.networks import Network
from reducenet.words import MoveError, move

RULES = (drop, fold_after, merge_run, add_parallel)
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
