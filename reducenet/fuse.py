"""Exact algebra of convolutions: `fold_bn`, `merge`, `add`. Each returns a new `Conv2d` equal to what it replaces, or refuses.

Equal means everywhere, borders included: at most 1e-10 apart in float64. Kernels are computed in float64 and cast back.
What was frozen stays frozen: the new conv is trainable only if everything that went into it was. Groups are not supported yet and refused.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NotExact(ValueError):
    """The replacement would not be the same function; the message says which rule is broken."""


def fold_bn(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    """`fold_bn(conv, bn)(x) == bn(conv(x))` in eval mode.

    W <- W * g / sqrt(var + eps), b <- beta + (b - mean) * g / sqrt(var + eps), with the BN's own eps.
    Raises `NotExact` in train mode (the statistics of a batch are no constant) or without running statistics.
    Source: Ioffe and Szegedy 2015; RepVGG, section 3.3.

    >>> conv, bn = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8).eval()
    >>> fold_bn(conv, bn).bias.shape
    torch.Size([8])
    """
    _check_conv(conv, "fold_bn")
    if not isinstance(bn, nn.BatchNorm2d):
        raise NotExact(f"fold_bn: a BatchNorm2d is needed, not {type(bn).__name__}")
    if bn.training:
        raise NotExact("fold_bn: the BatchNorm is in train mode and uses the statistics of its batch; call .eval() first")
    if bn.running_mean is None:
        raise NotExact("fold_bn: the BatchNorm keeps no running statistics")
    if bn.num_features != conv.out_channels:
        raise NotExact(f"fold_bn: the conv gives {conv.out_channels} channels, the BatchNorm takes {bn.num_features}")
    scale = (_exact(bn.running_var) + bn.eps).rsqrt()
    shift = -_exact(bn.running_mean) * scale
    if bn.affine:
        scale, shift = scale * _exact(bn.weight), shift * _exact(bn.weight) + _exact(bn.bias)
    weight, bias = _exact(conv.weight) * scale.view(-1, 1, 1, 1), _bias(conv) * scale + shift
    return _conv(weight, bias, conv.stride, conv.padding, conv, bn)


def merge(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """`merge(first, second)(x) == second(first(x))` for every x, borders included.

    Kernel k1 + (k2 - 1) s1, stride s1 s2, padding p1 + p2 s1; tap (u, v) of the second meets the whole first kernel:
    W[o, i, u s1 + a, v s1 + b] += sum_m W2[o, m, u, v] W1[m, i, a, b], and b = b2 + sum W2 b1.

    The catch is the padding between the two: the second conv sees zeros in its padding, the merged conv sees what the first
    would have computed there. These agree if the second has no padding, or if the first has no bias and size 1 wherever the second pads.
    Everything else raises `NotExact`: padding on the second conv behind a larger kernel (the outermost ring of pixels would be
    wrong) or behind a bias, dilation, groups, `padding_mode` other than zeros.
    Source: the article, "ReduceNet, corrected"; DepthShrinker, section 4.4.

    >>> merged = merge(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.Conv2d(32, 8, 1))
    >>> merged.kernel_size, merged.stride, merged.padding
    ((3, 3), (2, 2), (1, 1))
    """
    for conv in (first, second):
        _check_conv(conv, "merge")
    if first.out_channels != second.in_channels:
        raise NotExact(f"merge: the first conv gives {first.out_channels} channels, the second takes {second.in_channels}")
    if second.padding != (0, 0):
        if any(padding and size != 1 for padding, size in zip(second.padding, first.kernel_size, strict=True)):
            raise NotExact(f"merge: padding {second.padding} on the second conv behind a {first.kernel_size} kernel; the ring of "
                           "border pixels would be wrong (give the first conv all the padding, before training)")  # fmt: skip
        if _bias(first).any():
            raise NotExact("merge: bias before padding; the second conv pads with 0 where a merged conv would see the bias")
    (s_y, s_x), (k_y, k_x) = first.stride, first.kernel_size
    w1, w2 = _exact(first.weight), _exact(second.weight)
    taps = [k + (t - 1) * s for k, t, s in zip(first.kernel_size, second.kernel_size, first.stride, strict=True)]
    weight = w1.new_zeros(second.out_channels, first.in_channels, *taps)
    for u in range(second.kernel_size[0]):
        for v in range(second.kernel_size[1]):
            weight[:, :, u * s_y : u * s_y + k_y, v * s_x : v * s_x + k_x] += torch.einsum("om,miab->oiab", w2[:, :, u, v], w1)
    bias = _bias(second) + w2.sum((2, 3)) @ _bias(first)
    has_bias = first.bias is not None or second.bias is not None
    stride = tuple(a * b for a, b in zip(first.stride, second.stride, strict=True))
    padding = tuple(p + q * s for p, q, s in zip(first.padding, second.padding, first.stride, strict=True))
    return _conv(weight, bias if has_bias else None, stride, padding, first, second)


def add(a: nn.Conv2d, b: nn.Conv2d) -> nn.Conv2d:
    """`add(a, b)(x) == a(x) + b(x)`: two parallel convs into one, the smaller kernel centred in the larger.

    Raises `NotExact` unless stride and channels agree, kernels differ by an even number and paddings by half of it.
    Source: RepVGG, section 3.3.

    >>> add(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)).kernel_size
    (3, 3)
    """
    for conv in (a, b):
        _check_conv(conv, "add")
    for name in ("in_channels", "out_channels", "stride"):
        if getattr(a, name) != getattr(b, name):
            raise NotExact(f"add: {name} differ, {getattr(a, name)} and {getattr(b, name)}")
    size = tuple(max(pair) for pair in zip(a.kernel_size, b.kernel_size, strict=True))
    padding = tuple(max(pair) for pair in zip(a.padding, b.padding, strict=True))
    weight = sum(_centred(conv, size, padding) for conv in (a, b))
    has_bias = a.bias is not None or b.bias is not None
    return _conv(weight, _bias(a) + _bias(b) if has_bias else None, a.stride, padding, a, b)


def _centred(conv: nn.Conv2d, size, padding) -> Tensor:
    """The kernel of `conv`, in float64, zero-padded to `size` so that it reads the same pixels under `padding`."""
    margins = [(k - c, p - q) for k, c, p, q in zip(size, conv.kernel_size, padding, conv.padding, strict=True)]
    if any(2 * shift != extra for extra, shift in margins):
        raise NotExact(f"add: a {conv.kernel_size} kernel with padding {conv.padding} is not centred in {size} with {padding}")
    (_, y), (_, x) = margins
    return F.pad(_exact(conv.weight), (x, x, y, y))


def _check_conv(conv: nn.Module, move: str) -> None:
    if type(conv) is not nn.Conv2d:
        raise NotExact(f"{move}: a plain Conv2d is needed, not {type(conv).__name__}")
    rules = {
        "groups": conv.groups == 1,
        "dilation": conv.dilation == (1, 1),
        "padding_mode": conv.padding_mode == "zeros",
        "padding": not isinstance(conv.padding, str),
    }
    for name, holds in rules.items():
        if not holds:
            raise NotExact(f"{move}: {name}={getattr(conv, name)!r} is not supported")


def _exact(tensor: Tensor) -> Tensor:
    """In float64, on the CPU: not every device has float64."""
    return tensor.detach().cpu().double()


def _bias(conv: nn.Conv2d) -> Tensor:
    return torch.zeros(conv.out_channels, dtype=torch.float64) if conv.bias is None else _exact(conv.bias)


def _conv(weight: Tensor, bias: Tensor | None, stride, padding, *sources: nn.Module) -> nn.Conv2d:
    """A conv with this kernel, in the dtype, on the device and in the mode of the first source; frozen if any of the sources is."""
    out_channels, in_channels, *size = weight.shape
    like = sources[0].weight
    made = nn.Conv2d(in_channels, out_channels, size, stride, padding, bias=bias is not None, device="meta")
    made = made.to_empty(device=like.device).to(like.dtype).train(sources[0].training)
    with torch.no_grad():
        made.weight.copy_(weight)
        if bias is not None:
            made.bias.copy_(bias)
    return made.requires_grad_(all(p.requires_grad for source in sources for p in source.parameters()))
