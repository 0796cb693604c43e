"""The moves: functions `net -> net`. Each returns a new network and leaves the one handed in untouched.

`fold` and `fuse` are exact. `drop_branch`, `linearise`, `reinit` and `attach` change the function or its parameters; `freeze` changes
what the next `fit` may move. A move that does not apply raises `MoveError`: the move, the reason, the valid choices, in one line.
"""

import contextlib
import copy
from collections import OrderedDict
from fnmatch import fnmatch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from reducenet.activation import LambdaReLU
from reducenet.blocks import Block, PlainBlock, PublishedBlock, ScalerBlock
from reducenet.fuse import NotExact, fold_bn, merge
from reducenet.seeding import generator, initialise


class MoveError(ValueError):
    """The move does not apply to this network."""


def drop_branch(net: nn.Module) -> nn.Module:
    """The student inside the teacher: every block without branch1, all other weights kept. `drop_branch(net)(x) == net(x)` at scaler 0.

    Source: the article, "Further evolution: the scaler branch". Explained in notebook 03.
    """
    net = copy.deepcopy(net)
    found = [(name, block) for name, block in net.named_modules() if isinstance(block, ScalerBlock | PublishedBlock)]
    if not found:
        kinds = sorted({type(m).__name__ for m in net.modules() if isinstance(m, Block)}) or [type(net).__name__]
        raise MoveError(f"drop_branch: no block has a branch1 (blocks here: {', '.join(kinds)}); it was dropped already, or never built")
    for name, block in found:
        net.set_submodule(name, _without_branch1(block))
    return net


def _without_branch1(block: ScalerBlock | PublishedBlock) -> PlainBlock:
    conv = block.branch2[0] if isinstance(block, ScalerBlock) else block.branch2
    student = PlainBlock(conv.in_channels, conv.out_channels, conv.stride[0], post_relu=isinstance(block.post, nn.ReLU))
    student.branch2 = block.branch2 if isinstance(block, ScalerBlock) else nn.Sequential(block.branch2, *block.act)
    student.conv3, student.bn3, student.shortcut = block.conv3, block.bn3, block.shortcut
    return student.train(block.training)


def set_scaler(net: nn.Module, scaler: float) -> nn.Module:
    """`front == scaler * branch1 + branch2` in every scaler block: 1 is the teacher, 0 computes the student (with branch1 still there).

    Source: the article, "Further evolution: the scaler branch". Explained in notebook 03.
    """
    net = copy.deepcopy(net)
    blocks = [block for block in net.modules() if isinstance(block, ScalerBlock)]
    if not blocks:
        raise MoveError("set_scaler: no block has a scaler; only scaler blocks do, until drop_branch")
    for block in blocks:
        block.scaler = float(scaler)
    return net


def linearise(net: nn.Module, at: str | list[str] = "*") -> nn.Module:
    """Every LambdaReLU whose name matches a pattern in `at` becomes the identity: brute-force removal, lam = 1 for good.

    Source: the article, "ReduceNet, corrected", point 2; DepthShrinker.
    """
    net = copy.deepcopy(net)
    found = {name: m for name, m in net.named_modules() if isinstance(m, LambdaReLU)}
    for name in _matching("linearise", found, at, "LambdaReLU"):
        net.set_submodule(name, nn.Identity())
    return net


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm that normalises with its stored statistics in train mode too, and never moves them."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps)


PARTS = ("all", "classifier", "classifier.weight", "classifier.bias", "conv3", "bn.affine", "bn.statistics")


def freeze(net: nn.Module, parts: str | list[str]) -> nn.Module:
    """After any `fit`, the frozen parts are bit-identical, weight decay and momentum included.

    Parts are separate switches: "classifier.weight", "classifier.bias" ("classifier" is both), "conv3", "bn.affine" (weight and bias
    of every BN), "bn.statistics" (running mean and variance, which then also normalise in train mode), "all"; or a pattern over names
    of parameters and statistics: "stage1.*" is all of stage 1, "*.bn3.*" the article's bn3, "*.bn3.running_*" its statistics alone.
    Source: the article, "ReduceNet's training". Explained in notebook 03.
    """
    net = copy.deepcopy(net)
    bns = {name: m for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    affine = {f"{name}.{p}" for name in bns for p in ("weight", "bias")}
    names = [name for name, _ in net.named_parameters()]
    patterns = {"all": "*", "classifier": "classifier.*", "conv3": "*conv3.*"}
    for part in _listed(parts):
        pattern = patterns.get(part, part)
        frozen = [name for name in names if (name in affine if part == "bn.affine" else fnmatch(name, pattern))]
        still = [name for name in bns if part == "bn.statistics" or fnmatch(f"{name}.running_mean", pattern)]
        if not frozen and not still:
            raise MoveError(f"freeze: nothing here is called {part!r}; parts: {', '.join(PARTS)}, or a pattern over names")
        for name in frozen:
            net.get_parameter(name).requires_grad_(False)
        for name in still:
            net.set_submodule(name, _frozen_statistics(bns[name]))
    return net


def _frozen_statistics(bn: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(bn.num_features, bn.eps, bn.momentum, bn.affine, bn.track_running_stats)
    frozen.weight, frozen.bias = bn.weight, bn.bias
    frozen.running_mean, frozen.running_var, frozen.num_batches_tracked = bn.running_mean, bn.running_var, bn.num_batches_tracked
    return frozen.train(bn.training)


def reinit(net: nn.Module, at: str | list[str] = "*", *, seed: int = 0) -> nn.Module:
    """Draw the modules whose names match `at` afresh, from (seed, "reinit", name); frozen parameters and statistics stay.

    The control for "the weights were inherited": the same arm, the same frozen parts, a new start for the rest.
    """
    net = copy.deepcopy(net)
    found = {name: m for name, m in net.named_modules() if _is_free(m)}
    for name in _matching("reinit", found, at, "module with something to draw"):
        module = found[name]
        if not isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            raise MoveError(f"reinit: {name} is a {type(module).__name__}, which has no fresh start; reinit before attach")
        kept = {key: p.detach().clone() for key, p in module.named_parameters(recurse=False) if not p.requires_grad}
        if isinstance(module, FrozenBatchNorm2d):
            kept |= {key: buffer.clone() for key, buffer in module.named_buffers(recurse=False)}
        initialise(module, seed, "reinit", name)
        module.load_state_dict(kept, strict=False)
    return net


def _is_free(module: nn.Module) -> bool:
    moving = isinstance(module, nn.BatchNorm2d) and not isinstance(module, FrozenBatchNorm2d)
    return moving or any(p.requires_grad for p in module.parameters(recurse=False))


class SideBranch(nn.Module):
    """The linear pair conv3(expand)-conv1(reduce) beside a conv, in weight space: `W -> W + reduce . expand`.

    No bias, BN or ReLU stands inside, so one conv with the summed kernel gives the outputs and gradients of the two branches, at the
    cost of one. `expand` is [m, in, k, k], Kaiming normal (fan in,
    linear); `reduce` is [out, m], zero at the start, so the branch starts as nothing.
    """

    def __init__(self, conv: nn.Conv2d, width: int, draw: torch.Generator):
        super().__init__()
        expand = torch.empty(width, *conv.weight.shape[1:])
        nn.init.kaiming_normal_(expand, nonlinearity="linear", generator=draw)
        self.expand = nn.Parameter(expand.to(conv.weight))
        self.reduce = nn.Parameter(conv.weight.new_zeros(conv.out_channels, width))

    def forward(self, weight: Tensor) -> Tensor:  # [out, in, k, k]
        return weight + torch.einsum("om,mikl->oikl", self.reduce, self.expand)


def attach(net: nn.Module, expansion: int = 2, at: str | list[str] = "*branch2.0", *, seed: int = 0) -> nn.Module:
    """`attach(net)(x) == net(x)`, and the convs that match `at` have a side branch of width `expansion * out_channels` to train.

    The branch joins before the BN and the ReLU of branch2. It is not frozen, whatever the rest of the network is. From expansion 1 on
    its kernel can be any kernel: it changes how the conv is trained, not what it can be.
    Source: the article, "ReduceNet embraces LoRA"; LoRA for convs (LoCon); ExpandNets.
    """
    if expansion < 1:
        raise MoveError(f"attach: expansion must be at least 1, not {expansion}")
    net = copy.deepcopy(net)
    found = {name: m for name, m in net.named_modules() if type(m) is nn.Conv2d and m.groups == 1}
    for name in _matching("attach", found, at, "plain conv without side branch"):
        conv = found[name]
        branch = SideBranch(conv, expansion * conv.out_channels, generator(seed, name, "side"))
        parametrize.register_parametrization(conv, "weight", branch)
    return net


def fold(net: nn.Module) -> nn.Module:
    """`fold(net)(x) == net(x)`, without side branches: each is summed into the kernel beside it.

    Source: the article, "ReduceNet embraces LoRA".
    """
    net = copy.deepcopy(net)
    found = {name: m for name, m in net.named_modules() if _has_side_branch(m)}
    if not found:
        raise MoveError("fold: no conv has a side branch; it was folded already, or never attached")
    for name, conv in found.items():
        base = conv.parametrizations.weight.original
        plain = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
                          conv.groups, conv.bias is not None, conv.padding_mode).to(base)  # fmt: skip
        plain.load_state_dict({"weight": conv.weight.detach(), **({} if conv.bias is None else {"bias": conv.bias.detach()})})
        for key, parameter in plain.named_parameters():
            parameter.requires_grad_(base.requires_grad if key == "weight" else conv.bias.requires_grad)
        net.set_submodule(name, plain.train(conv.training))
    return net


def _has_side_branch(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module, "weight") and isinstance(module.parametrizations.weight[0], SideBranch)


def fuse(net: nn.Module, strict: bool = True) -> nn.Module:
    """`fuse(net)(x) == net(x)` in eval mode, as it would be deployed: side branches and BNs folded, linear pairs merged to one conv.

    Works on every `nn.Sequential` and on the blocks of this package; neighbouring convs that do not merge exactly stay two. What stays
    keeps its name. Raises `NotExact` in train mode and, if `strict`, where a LambdaReLU is not at lam 1: its pair would stay a pair.
    Source: the article; DepthShrinker, section 4.4.
    """
    net = fold(net) if any(_has_side_branch(m) for m in net.modules()) else copy.deepcopy(net)
    for name, module in net.named_modules():
        if strict and isinstance(module, LambdaReLU) and module.lam != 1:
            raise NotExact(f"fuse: {name} is at lam = {module.lam.item():g}; a pair merges at lam = 1 only (slide it there, or linearise)")
    return _fused(net)


def _fused(module: nn.Module) -> nn.Module:
    """`module` with its parts fused, innermost first; `module` itself is changed."""
    for name, child in list(module.named_children()):
        setattr(module, name, _fused(child))
    if isinstance(module, Block) and isinstance(module.bn3, nn.BatchNorm2d):
        module.conv3, module.bn3 = fold_bn(module.conv3, module.bn3), nn.Identity()
    return _fused_sequence(module) if type(module) is nn.Sequential else module


def _fused_sequence(sequence: nn.Sequential) -> nn.Sequential:
    parts: dict[str, nn.Module] = {}
    last = ""  # name of the part before
    for name, module in sequence.named_children():
        behind_conv = bool(last) and type(parts[last]) is nn.Conv2d
        if isinstance(module, nn.Identity) or (isinstance(module, LambdaReLU) and module.lam == 1):
            continue
        if behind_conv and isinstance(module, nn.BatchNorm2d):
            parts[last] = fold_bn(parts[last], module)
            continue
        if behind_conv and type(module) is nn.Conv2d:
            with contextlib.suppress(NotExact):
                parts[last] = merge(parts[last], module)
                continue
        parts[name], last = module, name
    return nn.Sequential(OrderedDict(parts)).train(sequence.training)


MOVES = {move.__name__: move for move in (drop_branch, set_scaler, linearise, freeze, reinit, attach, fold, fuse)}
SEEDED = ("reinit", "attach")


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _matching(move: str, found: dict, at: str | list[str], kind: str) -> list[str]:
    chosen = []
    for pattern in _listed(at):
        names = [name for name in found if fnmatch(name, pattern)]
        if not names:
            raise MoveError(f"{move}: no {kind} matches {pattern!r}; there are: {', '.join(found) or 'none'}")
        chosen += [name for name in names if name not in chosen]
    return chosen
