"""Exact algebra of convolutions: `fold_bn`, `merge`, `add`. Each returns a new `Conv2d` equal to what it replaces, or refuses.

Equal means everywhere and at every image size, borders included: at most 1e-10 apart in float64. Kernels are computed in float64 and
cast back. Whether something is exact is decided by its structure (sizes, groups, whether there is a bias), never by its values: the
same moves replayed on other weights are taken or refused alike. What was frozen stays frozen: the new conv is trainable only if
everything that went into it was. Groups stay groups, as many as the structure allows. `borders` repairs what `merge` refuses.
"""

import copy
from itertools import chain, product
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reducenet.algebra.plain import NotExact, check, check_bn, check_pair, is_transposed

__all__ = ["NotExact", "add", "bn_as_conv", "check", "check_pair", "fold_bn", "identity_conv", "make_conv", "merge", "ring"]


def fold_bn(conv: nn.Module, bn: nn.Module) -> nn.Module:
    """`fold_bn(conv, bn)(x) == bn(conv(x))` in eval mode, for batches x.

    W <- W * g / sqrt(var + eps), b <- beta + (b - mean) * g / sqrt(var + eps), with the BN's own eps; groups stay. It holds whatever the
    conv does with its borders, so `conv` is any Conv1d, Conv2d, Conv3d or ConvTranspose, dilated or padded in whatever way, and `bn` the
    BatchNorm of as many dimensions, or a SyncBatchNorm.
    Raises `NotExact` in train mode (the statistics of a batch are no constant), without running statistics, for a class with a forward of
    its own, and where the folded kernel would overflow the dtype.
    Source: Ioffe and Szegedy 2015; RepVGG, section 3.3.

    >>> conv, bn = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8).eval()
    >>> fold_bn(conv, bn).bias.shape
    torch.Size([8])
    """
    check_bn("fold_bn", bn, conv)
    scale, shift = _scale_and_shift(bn)
    axis, kernel = int(is_transposed(conv)), _exact(conv.weight)
    if axis:  # [in, out / groups, ...]: group by group, the outputs of a group along axis 1
        by_group = scale.view(conv.groups, 1, -1, *[1] * (kernel.dim() - 2))
        weight = (kernel.unflatten(0, (conv.groups, -1)) * by_group).flatten(0, 1)
    else:
        weight = kernel * scale.view(-1, *[1] * (kernel.dim() - 1))
    made = copy.deepcopy(conv, {id(p): p for p in conv.parameters()})
    trains = all(p.requires_grad for source in (conv, bn) for p in source.parameters())
    made.weight, made.bias = (nn.Parameter(_cast(t, conv.weight), trains) for t in (weight, _bias(conv) * scale + shift))
    return made


def bn_as_conv(bn: nn.BatchNorm2d) -> nn.Conv2d:
    """`bn_as_conv(bn)(x) == bn(x)` in eval mode: a depthwise 1x1 conv with bias, in the dtype and on the device of the BN.

    `add` takes it as the identity branch of RepVGG, `merge` as a BN before a conv. Raises `NotExact` where `fold_bn` does.

    >>> conv, bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4).eval()
    >>> add(conv, bn_as_conv(bn)).kernel_size
    (3, 3)
    """
    check_bn("bn_as_conv", bn)
    scale, shift = _scale_and_shift(bn)
    return make_conv(scale.view(-1, 1, 1, 1), shift, (1, 1), (0, 0), bn.num_features, bn)


def identity_conv(like: nn.Conv2d) -> nn.Conv2d:
    """`identity_conv(conv)(x) == x` for every x that `conv` takes, so that `add(conv, identity_conv(conv))(x) == conv(x) + x`.

    A depthwise 1x1 conv of ones without bias, in the dtype, on the device and trainable as `like` is.
    Source: RepVGG, section 3.3.
    """
    check("identity_conv", like)
    ones = torch.ones(like.in_channels, 1, 1, 1)
    return make_conv(ones, None, (1, 1), (0, 0), like.in_channels, like)


def ring(first: nn.Conv2d, second: nn.Conv2d) -> str:
    """What the first conv would have computed where the second pads with 0: "nothing", "zeros", "bias" or "pixels".

    "nothing": the second has no padding. "pixels": some of the image, at some image size. Where p1 >= k1 - 1 (a 1x1 conv always) the
    first gives a value wherever it sees a pixel, so none are left for the ring: there would be its bias alone, or zeros without.
    """
    axes = [(p, k) for p, k, q in zip(first.padding, first.kernel_size, second.padding, strict=True) if q]
    if not axes:
        return "nothing"
    if any(p < k - 1 for p, k in axes):
        return "pixels"
    return "zeros" if first.bias is None else "bias"


def merge(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """`merge(first, second)(x) == second(first(x))` for every x, borders included.

    Kernel k1 + (k2 - 1) s1, stride s1 s2, padding p1 + p2 s1, gcd(g1, g2) groups; tap (u, v) of the second meets the whole first
    kernel: W[o, i, u s1 + a, v s1 + b] += sum_m W2[o, m, u, v] W1[m, i, a, b], and b = b2 + sum W2 b1.

    The catch is the padding between the two: the second conv sees zeros in its padding, the merged conv sees what the first
    would have computed there. These agree if the second has no padding, or if the first has no bias and, wherever the second pads,
    padding of its own of at least k1 - 1 (so any 1x1). Everything else raises `NotExact`: padding on the second conv behind a larger
    kernel (the outermost ring of pixels would be wrong) or behind a bias, even one that is 0 today; also dilation, `padding_mode`
    other than zeros, devices or dtypes that differ. `borders.repair` knows the ways out.
    Source: the article, "ReduceNet, corrected"; DepthShrinker, section 4.4.

    >>> merged = merge(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.Conv2d(32, 8, 1))
    >>> merged.kernel_size, merged.stride, merged.padding
    ((3, 3), (2, 2), (1, 1))
    """
    check_pair("merge", first, second)
    on_ring = ring(first, second)
    if on_ring == "pixels":
        raise NotExact(f"merge: padding {second.padding} on the second conv behind a {first.kernel_size} kernel; the ring of "
                       "border pixels would be wrong (give the first conv all the padding, before training)")  # fmt: skip
    if on_ring == "bias":
        raise NotExact("merge: bias before padding; the second conv pads with 0 where a merged conv would see the bias")
    (s_y, s_x), (k_y, k_x) = first.stride, first.kernel_size
    groups = gcd(first.groups, second.groups)
    w1, w2 = _blocks(first, groups), _blocks(second, groups)
    taps = [k + (t - 1) * s for k, t, s in zip(first.kernel_size, second.kernel_size, first.stride, strict=True)]
    weight = w1.new_zeros(groups, w2.shape[1], w1.shape[2], *taps)
    for u, v in product(*map(range, second.kernel_size)):
        weight[..., u * s_y : u * s_y + k_y, v * s_x : v * s_x + k_x] += torch.einsum("gom,gmiab->goiab", w2[..., u, v], w1)
    bias = _bias(second) + torch.einsum("gomuv,gm->go", w2, _bias(first).view(groups, -1)).flatten()
    has_bias = first.bias is not None or second.bias is not None
    stride = tuple(a * b for a, b in zip(first.stride, second.stride, strict=True))
    padding = tuple(p + q * s for p, q, s in zip(first.padding, second.padding, first.stride, strict=True))
    return make_conv(weight.flatten(0, 1), bias if has_bias else None, stride, padding, groups, first, second)


def add(a: nn.Conv2d, b: nn.Conv2d) -> nn.Conv2d:
    """`add(a, b)(x) == a(x) + b(x)`: two parallel convs into one, the smaller kernel centred in the larger, gcd of the groups.

    Raises `NotExact` unless stride and channels agree, kernels differ by an even number and paddings by half of it.
    Source: RepVGG, section 3.3; ACNet.

    >>> add(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)).kernel_size
    (3, 3)
    """
    check("add", a, b)
    for name in ("in_channels", "out_channels", "stride"):
        if getattr(a, name) != getattr(b, name):
            raise NotExact(f"add: {name} differ, {getattr(a, name)} and {getattr(b, name)}")
    size = tuple(map(max, a.kernel_size, b.kernel_size))
    padding = tuple(map(max, a.padding, b.padding))
    groups = gcd(a.groups, b.groups)
    weight = sum(_centred(conv, groups, size, padding) for conv in (a, b))
    has_bias = a.bias is not None or b.bias is not None
    return make_conv(weight.flatten(0, 1), _bias(a) + _bias(b) if has_bias else None, a.stride, padding, groups, a, b)


def _centred(conv: nn.Conv2d, groups: int, size, padding) -> Tensor:
    """The blocks of `conv` zero-padded to `size`, so that they read the same pixels under `padding`."""
    margins = [(k - c, p - q) for k, c, p, q in zip(size, conv.kernel_size, padding, conv.padding, strict=True)]
    if any(2 * shift != extra for extra, shift in margins):
        raise NotExact(f"add: a {conv.kernel_size} kernel with padding {conv.padding} is not centred in {size} with {padding}")
    (_, y), (_, x) = margins
    return F.pad(_blocks(conv, groups), (x, x, y, y))


def _scale_and_shift(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """`bn(x) == scale * x + shift` in eval mode, one number for each channel."""
    scale = (_exact(bn.running_var) + bn.eps).rsqrt()
    shift = -_exact(bn.running_mean) * scale
    if bn.weight is not None:
        scale, shift = scale * _exact(bn.weight), shift * _exact(bn.weight)
    return scale, shift if bn.bias is None else shift + _exact(bn.bias)


def _exact(tensor: Tensor) -> Tensor:
    """In float64, on the CPU: not every device has float64."""
    return tensor.detach().cpu().double()


def _cast(exact: Tensor, like: Tensor) -> Tensor:
    """In the dtype and on the device of `like`, or `NotExact` where that dtype does not reach so far."""
    cast = exact.to(like.dtype)
    if not cast.isfinite().all() and exact.isfinite().all():
        raise NotExact(f"the new conv would hold a {exact.abs().max():.3g}, beyond {like.dtype}; go on in float32 and cast the end")
    return cast.to(like.device).contiguous()


def _bias(conv: nn.Conv2d) -> Tensor:
    return torch.zeros(conv.out_channels, dtype=torch.float64) if conv.bias is None else _exact(conv.bias)


def _blocks(conv: nn.Conv2d, groups: int) -> Tensor:
    """The kernel in float64 as [groups, out / groups, in / groups, k, k], for `groups` a divisor of the conv's own."""
    kernel = _exact(conv.weight).unflatten(0, (groups, conv.groups // groups, -1))  # [groups, n, out, in, k, k], n small blocks in each
    return torch.diag_embed(kernel.movedim(1, -1), dim1=1, dim2=3).flatten(3, 4).flatten(1, 2)


def make_conv(weight: Tensor, bias: Tensor | None, stride, padding, groups: int, *sources: nn.Module) -> nn.Conv2d:
    """A conv with this kernel, in the dtype, on the device and in the mode of the first source; frozen if any of the sources is."""
    out_channels, in_channels, *size = weight.shape
    like = next(chain(sources[0].parameters(), sources[0].buffers()))
    made = nn.Conv2d(in_channels * groups, out_channels, size, stride, padding, groups=groups, bias=bias is not None, device="meta")
    made = made.to_empty(device=like.device).to(like.dtype).train(sources[0].training)
    with torch.no_grad():
        made.weight.copy_(_cast(weight, like))
        if bias is not None:
            made.bias.copy_(_cast(bias, like))
    return made.requires_grad_(all(p.requires_grad for source in sources for p in source.parameters()))
