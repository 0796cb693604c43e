"""What may be trained: `freeze` holds parts still, `reinit` draws what is not held afresh."""

from fnmatch import fnmatch

import torch
from torch import jit, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reducenet.moves.surgery import chosen, copied, listed, replace
from reducenet.nets.layers import Still, still
from reducenet.nets.seeding import generator, initialise
from reducenet.words import MoveError, Names, move

# What `freeze` knows by name; anything else is a pattern over names of parameters and statistics.
MOVED = ("running_*", "*_u")  # buffers that a forward pass in train mode moves: statistics, and the vectors of spectral norm
PARTS = ("all", "classifier", "classifier.weight", "classifier.bias", "conv3", "bn.affine", "bn.statistics")


def _unknown_part(parts) -> str | None:
    """A part that is neither a switch nor a name or pattern; None where there is no such part."""
    named = [parts] if isinstance(parts, str) else parts
    wrong = [part for part in named if part not in PARTS and not set(part) & {"*", "."}]
    found = f"unknown part {wrong[0]!r}" if wrong else None if named else "nothing is named"
    return found and f"parts: {found}; known: {', '.join(PARTS)}, or a name or a pattern of names, as *.bn3.*"


@move(refuse=_unknown_part)
def freeze(net: nn.Module, parts: Names) -> nn.Module:
    """After any `fit`, the frozen parts are bit-identical, weight decay and momentum included.

    Parts are separate switches: "classifier.weight", "classifier.bias" ("classifier" is both), "conv3", "bn.affine" (weight and bias
    of every BN, of whatever class), "bn.statistics" (running mean and variance, which then also normalise in train mode), "all"; or a
    pattern over names of parameters and statistics: "stage1.*" is all of stage 1, "*.bn3.*" the article's bn3, "*.bn3.running_*" its
    statistics alone. What keeps no running statistics has none to freeze.
    Source: the article, "ReduceNet's training". Explained in notebook 03.
    """
    bns = {
        name: f"{name}." if name else "" for name in chosen(net, lambda _, module: isinstance(module, _BatchNorm) or _normalises(module))
    }
    affine = {f"{prefix}{p}" for prefix in bns.values() for p in ("weight", "bias")}
    moving = {name: _moved(name, module) for name, module in chosen(net, lambda name, module: bool(_moved(name, module))).items()}
    names = [name for name, _ in net.named_parameters()]
    frozen, stays = set(), set()
    patterns = {"all": "*", "classifier": "classifier.*", "conv3": "*conv3.*"}
    for part in listed(parts):
        pattern = patterns.get(part, part)
        weights = {name for name in names if (name in affine if part == "bn.affine" else fnmatch(name, pattern))}
        statistics = {
            name
            for name, buffers in moving.items()
            if (name in bns if part == "bn.statistics" else any(fnmatch(b, pattern) for b in buffers))
        }
        if part == "conv3":  # the convs; RepVGG calls a conv and its BN so
            weights, statistics = weights - affine, set()
        if not weights and not statistics:
            raise MoveError(f"freeze: nothing here is called {part!r}; parts: {', '.join(PARTS)}, or a pattern over names")
        frozen, stays = frozen | weights, stays | statistics
    net = replace(net, lambda name, _: name in stays, _stilled)
    for name in frozen:
        net.get_parameter(name).requires_grad_(False)
    return net


def _moved(name: str, module: nn.Module) -> list[str]:
    """The names of the buffers of `module`, called `name`, that its forward pass moves in train mode."""
    own = [key for key, buffer in module.named_buffers(recurse=False) if any(fnmatch(key, pattern) for pattern in MOVED)]
    return [f"{name}.{key}" if name else key for key in own]


def _normalises(module: nn.Module) -> bool:
    return "running_mean" in module._buffers


def _stilled(name: str, module: nn.Module) -> nn.Module:
    if isinstance(module, jit.ScriptModule):
        raise MoveError(f"freeze: {name or 'the network'} is TorchScript, which is finished; freeze the module that it was made of")
    module.__class__ = still(type(module))
    return module


@move
def reinit(net: nn.Module, at: Names = "*", orthogonal: bool = False, *, seed: int = 0) -> nn.Module:
    """Draw the modules whose names match `at` afresh, from (seed, "reinit", name); frozen parameters and statistics stay.

    The control for "the weights were inherited": the same arm, the same frozen parts, a new start for the rest. With `orthogonal` the new
    weight W of a conv or a classifier has rows at right angles that are as long as those of the old one, V: W W^T = diag(|v_i|^2), and the
    bias is 0.
    Source of the orthogonal rows: Hoffer, Hubara and Soudry 2018, "Fix your classifier" (arXiv:1801.04540).
    """
    net = copied(net)
    for name, module in chosen(net, _is_free, at, "reinit", "module with something to draw").items():
        if not isinstance(module, nn.Conv2d | nn.Linear | _BatchNorm):
            raise MoveError(f"reinit: {name} is a {type(module).__name__}, which has no fresh start; reinit before attach")
        kept = {key: p.detach().clone() for key, p in module.named_parameters(recurse=False) if not p.requires_grad}
        if isinstance(module, Still):
            kept |= {key: buffer.clone() for key, buffer in module.named_buffers(recurse=False)}
        rows = _orthogonal(name, module, seed) if orthogonal else None
        initialise(module, seed, "reinit", name)
        if rows is not None:
            kept = {"weight": rows} | kept
        module.load_state_dict(kept, strict=False)
    return net


def _orthogonal(name: str, module: nn.Module, seed: int) -> torch.Tensor:
    """Rows at right angles in the shape of the module's weight, each as long as the row that it replaces."""
    if isinstance(module, _BatchNorm):
        raise MoveError(
            f"reinit: {name} is a {type(module).__name__}, which has no rows that could be orthogonal; name convs or the classifier"
        )
    old = module.weight.detach().flatten(1)
    count, length = old.shape
    if count > length:
        raise MoveError(f"reinit: the {count} rows of {name} have {length} numbers each; no more than {length} can be orthogonal")
    drawn = nn.init.orthogonal_(torch.empty(count, length, dtype=torch.float64), generator=generator(seed, "reinit", name))
    return (drawn.to(old) * old.norm(dim=1, keepdim=True)).view_as(module.weight)


def _is_free(_: str, module: nn.Module) -> bool:
    moving = isinstance(module, _BatchNorm) and not isinstance(module, Still)
    return moving or any(p.requires_grad for p in module.parameters(recurse=False))
