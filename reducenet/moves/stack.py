"""Replicates that step together: S networks of one shape as one network whose convs are grouped.

    stack(nets)(x)[s] == nets[s](x[s])        x [S, N, C, H, W], its own images for each
    unstack(stack(nets)) == nets              bitwise, what is frozen included

Narrow networks leave most of a processor's lanes idle; two of them side by side cost little more than one. Nothing is shared: channels of
one replicate never meet those of another, so the sum of the losses has for each exactly its own gradient.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from reducenet.moves.side import SideBranch
from reducenet.moves.surgery import replace
from reducenet.nets.activation import LambdaReLU
from reducenet.nets.layers import FrozenBatchNorm2d
from reducenet.words import MoveError

# Channel by channel, or pixel by pixel: what these do to one replicate has nothing to do with the others.
APART = (nn.ReLU, nn.Identity, nn.Flatten, nn.Unflatten, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, LambdaReLU)


class Stacked(nn.Module):
    """S networks as one: images [S, N, C, H, W] to logits [S, N, classes]."""

    def __init__(self, net: nn.Module, count: int):
        super().__init__()
        self.net, self.count = net, count

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x.transpose(0, 1).flatten(1, 2))  # [N, S C, H, W] -> [N, S classes]
        return logits.unflatten(1, (self.count, -1)).transpose(0, 1)


class StackedLinear(nn.Module):
    """S linear layers side by side, [N, S in] to [N, S out]. `weight` [S, out, in], `bias` [S, out] or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("nsi,soi->nso", x.unflatten(1, (len(self.weight), -1)), self.weight)
        return (y if self.bias is None else y + self.bias).flatten(1)


class StackedSide(nn.Module):
    """The side branches of S convs in weight space, each beside its own kernel."""

    def __init__(self, branches: list[SideBranch]):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, weight: Tensor) -> Tensor:  # [S out, in, k, k]
        return torch.cat([branch(own) for branch, own in zip(self.branches, weight.chunk(len(self.branches)), strict=True)])


def stack(nets: list[nn.Module]) -> Stacked:
    """`stack(nets)(x)[s] == nets[s](x[s])`, to rounding, in train and in eval mode; the networks handed in stay as they are.

    Raises `MoveError`, one line, for networks that differ in more than their numbers, and for layers whose replicates would meet.
    """
    if not nets:
        raise MoveError("stack: no networks")
    first = nets[0]
    named = [dict(net.named_modules()) for net in nets]
    inside = {
        name for name, module in named[0].items() if any(name.startswith(f"{outer}.") for outer in named[0] if _side(named[0][outer]))
    }
    for number in range(1, len(nets)):
        _check_same(named[0], named[number], number)
    for name, module in named[0].items():
        if name not in inside and _kind(module) not in _RULES and type(module) not in APART and not _is_container(module):
            raise MoveError(f"stack: {name or 'the network'}: nobody knows whether a {type(module).__name__} keeps replicates apart")

    def stacked(name: str, module: nn.Module) -> nn.Module:
        made = _RULES[_kind(module)][0]([every[name] for every in named])
        return made.train(module.training)

    net = replace(first, lambda name, module: name not in inside and _kind(module) in _RULES, stacked)
    return Stacked(net, len(nets)).train(first.training)


def unstack(stacked: Stacked) -> list[nn.Module]:
    """`unstack(stack(nets)) == nets`, bitwise; what was trained in between is each network's own."""
    pieces = {name: _pieces(module, stacked.count) for name, module in stacked.net.named_modules() if _is_stacked(module)}

    def one(s: int) -> nn.Module:
        def piece(name: str, module: nn.Module) -> nn.Module:
            return pieces[name][s].train(module.training)

        net = replace(stacked.net, lambda name, module: name in pieces, piece)
        net.training = stacked.training
        return net

    return [one(s) for s in range(stacked.count)]


# ---- layer by layer: S layers to one, and back


def _conv(convs: list[nn.Conv2d]) -> nn.Conv2d:
    one, many = convs[0], len(convs)
    raw = [_raw(conv) for conv in convs]
    made = _like(one, raw[0], many * one.in_channels, many * one.out_channels, many * one.groups)
    _fill(made.weight, raw)
    if one.bias is not None:
        _fill(made.bias, [conv.bias for conv in convs])
    if _side(one):
        branches = [copy.deepcopy(conv.parametrizations.weight[0]) for conv in convs]
        parametrize.register_parametrization(made, "weight", StackedSide(branches), unsafe=True)
        made.parametrizations.weight.original.requires_grad_(raw[0].requires_grad)
    return made


def _unconv(made: nn.Conv2d, many: int) -> list[nn.Conv2d]:
    raw = _raw(made)
    convs = [_like(made, raw, made.in_channels // many, made.out_channels // many, made.groups // many) for _ in range(many)]
    _spread(raw, [conv.weight for conv in convs])
    if made.bias is not None:
        _spread(made.bias, [conv.bias for conv in convs])
    if _side(made):
        for conv, branch in zip(convs, made.parametrizations.weight[0].branches, strict=True):
            parametrize.register_parametrization(conv, "weight", copy.deepcopy(branch))
            conv.parametrizations.weight.original.requires_grad_(raw.requires_grad)
    return convs


def _bn(bns: list[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    one = bns[0]
    made = _bn_like(one, len(bns) * one.num_features)
    for name, tensor in made.state_dict(keep_vars=True).items():
        given = [getattr(bn, name) for bn in bns]
        _fill(tensor, given) if tensor.ndim else tensor.copy_(given[0])
    return made


def _unbn(made: nn.BatchNorm2d, many: int) -> list[nn.BatchNorm2d]:
    bns = [_bn_like(made, made.num_features // many) for _ in range(many)]
    for name, tensor in made.state_dict(keep_vars=True).items():
        to = [getattr(bn, name) for bn in bns]
        _spread(tensor, to) if tensor.ndim else [one.copy_(tensor) for one in to]
    return bns


def _linear(linears: list[nn.Linear]) -> StackedLinear:
    one = linears[0]
    made = StackedLinear(
        torch.stack([linear.weight.detach() for linear in linears]),
        None if one.bias is None else torch.stack([linear.bias.detach() for linear in linears]),
    )
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(getattr(one, name).requires_grad)
    return made


def _unlinear(made: StackedLinear, many: int) -> list[nn.Linear]:
    linears = []
    for s in range(many):
        out, into = made.weight.shape[1:]
        linear = nn.Linear(into, out, bias=made.bias is not None, device=made.weight.device, dtype=made.weight.dtype)
        for name, parameter in made.named_parameters():
            own = getattr(linear, name).requires_grad_(parameter.requires_grad)
            own.data.copy_(parameter.data[s])
        linears.append(linear)
    return linears


_RULES: dict[type, tuple[Callable, Callable]] = {
    nn.Conv2d: (_conv, _unconv), nn.BatchNorm2d: (_bn, _unbn), FrozenBatchNorm2d: (_bn, _unbn), nn.Linear: (_linear, _unlinear),
}  # fmt: skip


def _pieces(module: nn.Module, many: int) -> list[nn.Module]:
    return _unlinear(module, many) if isinstance(module, StackedLinear) else _RULES[_kind(module)][1](module, many)


def _is_stacked(module: nn.Module) -> bool:
    return isinstance(module, StackedLinear) or _kind(module) in (nn.Conv2d, nn.BatchNorm2d, FrozenBatchNorm2d)


def _like(conv: nn.Conv2d, raw: Tensor, inside: int, outside: int, groups: int) -> nn.Conv2d:
    """A conv with the kernel, stride and padding of this one."""
    return nn.Conv2d(inside, outside, conv.kernel_size, conv.stride, conv.padding, conv.dilation, groups, conv.bias is not None,
                     conv.padding_mode, raw.device, raw.dtype)  # fmt: skip


def _bn_like(bn: nn.BatchNorm2d, channels: int) -> nn.BatchNorm2d:
    first = next(iter(bn.state_dict().values()))
    return type(bn)(channels, bn.eps, bn.momentum, bn.affine, bn.track_running_stats, device=first.device, dtype=first.dtype)


@torch.no_grad()
def _fill(to: Tensor, given: list[Tensor]) -> None:
    to.copy_(torch.cat(given))
    if isinstance(to, nn.Parameter):
        to.requires_grad_(given[0].requires_grad)


@torch.no_grad()
def _spread(given: Tensor, to: list[Tensor]) -> None:
    for part, own in zip(given.chunk(len(to)), to, strict=True):
        own.copy_(part)
        if isinstance(own, nn.Parameter):
            own.requires_grad_(given.requires_grad)


# ---- what can be stacked


def _raw(conv: nn.Conv2d) -> Tensor:
    """The kernel itself, without a side branch."""
    return conv.parametrizations.weight.original if parametrize.is_parametrized(conv, "weight") else conv.weight


def _side(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and parametrize.is_parametrized(module, "weight")


def _kind(module: nn.Module) -> type:
    """The class, and of a conv with a side branch, which torch gives a class of its own, that of the conv."""
    return type(module).__mro__[1] if _side(module) else type(module)


def _is_container(module: nn.Module) -> bool:
    """A block or a network of this project, or a row of layers: it holds no number of its own, and adds and scales what its layers make."""
    ours = type(module).__module__.startswith("reducenet.") or type(module) in (nn.Sequential, nn.ModuleList)
    return ours and not [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _check_same(one: dict[str, nn.Module], other: dict[str, nn.Module], number: int) -> None:
    """`MoveError` unless both are the same but for numbers."""
    if list(one) != list(other):
        odd = sorted(set(one) ^ set(other))
        raise MoveError(f"stack: network {number} has other parts than the first: {', '.join(odd[:3])}")
    for name, module in one.items():
        twin = other[name]
        if type(module).__name__ != type(twin).__name__ or _settings(module) != _settings(twin):
            raise MoveError(f"stack: network {number} differs at {name or 'its top'}: {twin} is not {module}".split("\n")[0])


def _settings(module: nn.Module) -> dict:
    """All that is no number that training moves: sizes, modes, switches, what is frozen, a lam, how many batches a BN has seen."""
    plain = {key: value for key, value in vars(module).items() if isinstance(value, int | float | str | tuple) or value is None}
    tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    shapes = {key: (tuple(tensor.shape), tensor.dtype, tensor.requires_grad) for key, tensor in tensors.items()}
    still = {key: tensor.item() for key, tensor in tensors.items() if tensor.ndim == 0}
    return plain | shapes | {f"{key} itself": value for key, value in still.items()}
