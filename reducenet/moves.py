"""The moves: functions `net -> net`. Each returns a new network and leaves the one handed in untouched.

Here are those on blocks, activations and what may be trained; `side` has attach and fold, `deploy` has fuse. A move that does not apply
raises `MoveError`: the move, the reason, the valid choices, in one line.
"""

import copy
from collections import OrderedDict
from fnmatch import fnmatch

import torch.nn.functional as F
from torch import Tensor, nn

from reducenet.activation import LambdaReLU, LearnedReLU
from reducenet.algebra import fold_bn, merge
from reducenet.blocks import BLOCKS, LambdaBlock, PlainBlock, PublishedBlock, ScalerBlock, conv3x3
from reducenet.names import PARTS
from reducenet.seeding import initialise


class MoveError(ValueError):
    """The move does not apply to this network."""


def drop_branch(net: nn.Module) -> nn.Module:
    """The student inside the teacher: every block without branch1, all other weights kept. `drop_branch(net)(x) == net(x)` at scaler 0.

    Source: the article, "Further evolution: the scaler branch". Explained in notebook 03.
    """
    net = copy.deepcopy(net)
    found = [(name, block) for name, block in net.named_modules() if isinstance(block, ScalerBlock | PublishedBlock)]
    if not found:
        kinds = sorted({type(m).__name__ for m in net.modules() if type(m) in BLOCKS.values()}) or [type(net).__name__]
        raise MoveError(f"drop_branch: no block has a branch1 (blocks here: {', '.join(kinds)}); it was dropped already, or never built")
    for name, block in found:
        net.set_submodule(name, without_branch1(block))
    return net


def without_branch1(block: ScalerBlock | PublishedBlock) -> PlainBlock:
    """The student inside one block, made of the block's own layers."""
    conv = block.branch2[0] if isinstance(block, ScalerBlock) else block.branch2
    if not isinstance(conv, nn.Conv2d):
        raise MoveError(f"drop_branch: a {type(conv).__name__} stands in branch2 in place of its conv; fold first")
    student = PlainBlock(conv.in_channels, conv.out_channels, conv.stride[0])
    student.post = block.post
    student.branch2 = block.branch2 if isinstance(block, ScalerBlock) else nn.Sequential(block.branch2, *block.act)
    student.conv3, student.bn3, student.shortcut = block.conv3, block.bn3, block.shortcut
    return student.train(block.training)


def set_scaler(net: nn.Module, scaler: float) -> nn.Module:
    """`front == scaler * branch1 + branch2` in every scaler block: 1 is the teacher, 0 computes the student (with branch1 still there).

    Source: the article, "Further evolution: the scaler branch". Explained in notebook 03.
    """
    if not isinstance(scaler, int | float) or not 0 <= scaler <= 1:
        raise MoveError(f"set_scaler: the scaler must be in [0, 1], not {scaler!r}")
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
    for name in matching("linearise", found, at, "LambdaReLU"):
        net.set_submodule(name, nn.Identity())
    return net


def settle(net: nn.Module, at: str | list[str] = "*") -> nn.Module:
    """`settle(net)(x) == net(x)` where lam is 0: every LambdaReLU that matches `at` becomes a ReLU for good, and no slide moves it.

    A LearnedReLU settles from wherever it is, which changes the function by as much as its lam. Raises `MoveError` for a fixed lam above 0.
    """
    net = copy.deepcopy(net)
    found = {name: m for name, m in net.named_modules() if isinstance(m, LambdaReLU)}
    for name in matching("settle", found, at, "LambdaReLU"):
        if found[name].lam != 0 and not isinstance(found[name], LearnedReLU):
            raise MoveError(f"settle: {name} is at lam = {found[name].lam.item():g}; only lam = 0 is a ReLU")
        net.set_submodule(name, nn.ReLU())
    return net


def loosen(net: nn.Module, at: str | list[str] = "*branch2.2") -> nn.Module:
    """`loosen(net)(x) == net(x)`: every ReLU that matches `at` becomes a LambdaReLU at lam 0, so that it may slide or be searched."""
    net = copy.deepcopy(net)
    found = {name: m for name, m in net.named_modules() if type(m) is nn.ReLU}
    for name in matching("loosen", found, at, "ReLU"):
        net.set_submodule(name, LambdaReLU().to(next(net.parameters())))
    return net


def add_relu(net: nn.Module, at: str | list[str] = "*") -> nn.Module:
    """Every block that matches `at` ends in a ReLU: DepthShrinker's added activation, for blocks that lost the ones inside.

    Raises `MoveError` where no block that matches is without a final ReLU.
    """
    net = copy.deepcopy(net)
    found = {name: m for name, m in net.named_modules() if isinstance(getattr(m, "post", None), nn.Identity)}
    for name in matching("add_relu", found, at, "block without final ReLU"):
        found[name].post = nn.ReLU()
    return net


RENEWALS = ("fresh", "merged")


def renew(net: nn.Module, at: str | list[str] = "*", *, start: str = "fresh", seed: int = 0) -> nn.Module:
    """The leaner pipeline: one new conv3 in place of each block's linear pair, between the same layers; the pair's last BN stays.

    The new conv is trainable whatever else is frozen. `start` is "fresh", drawn from (seed, "renew", name), or "merged": the pair itself,
    its activation removed, so that in eval mode `renew(net, start="merged")(x) == linearise(net)(x)`. Large and small network have the
    names of all layers that they share in common. Source: the article, "A leaner pipeline".
    """
    if start not in RENEWALS:
        raise MoveError(f"renew: unknown start {start!r}; known: {', '.join(RENEWALS)}")
    net = copy.deepcopy(net)
    found = {name: m for name, m in net.named_modules() if isinstance(m, LambdaBlock) and len(m.pair) > 2}
    for name in matching("renew", found, at, "lambda block with its pair"):
        expand, inner_bn, _, reduce, bn = found[name].pair
        if not isinstance(expand, nn.Conv2d):
            raise MoveError(f"renew: a {type(expand).__name__} stands in {name}.pair in place of its conv; fold first")
        new = conv3x3(expand.in_channels, reduce.out_channels, expand.stride[0]).to(expand.weight)
        if start == "merged":
            new = merge(fold_bn(expand, inner_bn), reduce)
        else:
            initialise(new, seed, "renew", name)
        found[name].pair = nn.Sequential(OrderedDict({"new": new.requires_grad_(True), "4": bn})).train(bn.training)
    return net


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm that normalises with its stored statistics in train mode too, and never moves them."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps)


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
    if not parts:
        raise MoveError(f"freeze: nothing is named; parts: {', '.join(PARTS)}, or a pattern over names")
    for part in _listed(parts):
        pattern = patterns.get(part, part)
        frozen = [name for name in names if (name in affine if part == "bn.affine" else fnmatch(name, pattern))]
        still = [name for name in bns if part == "bn.statistics" or fnmatch(f"{name}.running_mean", pattern)]
        if part == "conv3":  # the convs; RepVGG calls a conv and its BN so
            frozen, still = [name for name in frozen if name not in affine], []
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
    for name in matching("reinit", found, at, "module with something to draw"):
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


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def matching(move: str, found: dict, at: str | list[str], kind: str) -> list[str]:
    """The names in `found` that match a pattern in `at`; `MoveError` naming what there is for a pattern that matches none."""
    chosen = []
    for pattern in _listed(at):
        names = [name for name in found if fnmatch(name, pattern)]
        if not names:
            raise MoveError(f"{move}: no {kind} matches {pattern!r}; there are: {', '.join(found) or 'none'}")
        chosen += [name for name in names if name not in chosen]
    return chosen
