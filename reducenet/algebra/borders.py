"""What to do where `merge` refuses: five repairs of a pair of convs whose second pads with zeros, and what each costs.

`ring(first, second)` says what a merged conv would see there. If it is "bias", every repair works. If it is "pixels", no single
zero-padded conv is the pair (its ring takes another kernel at each edge and corner), and only pad-first is left.

    strategy       the pair to train                               the single module
    pad-first      all the padding before the first conv           a conv
    bias-pad       the second pads with the first's bias           a conv
    no-bias        the bias moves behind the second conv           a conv
    ones-channel   as it is                                        a conv that also reads a channel of ones
    bias-map       as it is                                        a conv without bias, and a bias for each pixel: one image size only

The first three change the function on the ring and nowhere else, so they come before the training that has to make up for it.
"""

import copy
from math import gcd
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reducenet.algebra.exact import NotExact, check_pair, make_conv, merge, ring


class Repair(NamedTuple):
    """`one(x) == pair(x)` everywhere; `pair(x) == second(first(x))` at every image size if and only if `same_function`.

    `pair` is two convs in a row, to be trained; `one` a single conv (ones-channel, bias-map: with its input or output prepared).
    Neither shares anything with the convs handed in. `one` is made of the weights of now: repair again after training.
    """

    pair: nn.Sequential
    one: nn.Module
    same_function: bool


STRATEGIES = ("pad-first", "bias-pad", "no-bias", "ones-channel", "bias-map")


def repair(first: nn.Conv2d, second: nn.Conv2d, strategy: str, size: tuple[int, int] | None = None) -> Repair:
    """A pair of convs and the single module equal to it, borders included, for a pair that `merge` refuses.

    `strategy` is one of `STRATEGIES`; `size` = (H, W), the size of the images in pixels, is needed by bias-map alone.
    Raises `ValueError` for another strategy, and `NotExact` where there is nothing to repair, or not by this strategy.
    "Same function" is said of the structure: with a bias that happens to be 0 the changed pairs are the old ones too.
    Source: ExpandNets and Kim et al. 2023 for pad-first; DBB for bias-pad, whose layer pads with what the running statistics say, in
    train mode too, and sends that no gradient. Here the BN is folded first: the ring is the bias itself, in both modes, gradient included.

    >>> pair, one, same_function = repair(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 3, padding=1), "bias-pad")
    >>> one.kernel_size, one.padding, same_function
    ((3, 3), (1, 1), False)
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}; known: {', '.join(STRATEGIES)}")
    check_pair("repair", first, second)
    on_ring = ring(first, second)
    if on_ring in ("nothing", "zeros"):
        raise NotExact("repair: there is nothing to repair; merge is exact for this pair as it is")
    if on_ring == "pixels" and strategy != "pad-first":
        raise NotExact(f"repair: {strategy} helps where a bias alone lies on the ring; behind a {first.kernel_size} kernel with padding "
                       f"{first.padding} the image does too, and only pad-first is left")  # fmt: skip
    pair = nn.Sequential(copy.deepcopy(first), copy.deepcopy(second))
    match strategy:
        # Where a bias alone lies on the ring, a first conv that computes the ring puts its bias there: pad-first is bias-pad.
        case "pad-first" | "bias-pad":
            pair = nn.Sequential(*padded_first(first, second))
            one = merge(*pair)
        case "no-bias":
            pair = nn.Sequential(*_bias_behind(first, second))
            one = merge(*pair)
        case "ones-channel":
            one = OnesChannel(*pair)
        case "bias-map":
            one = BiasMap(*pair, size)
    return Repair(pair.train(first.training), one.train(first.training), strategy in ("ones-channel", "bias-map"))


def padded_first(first: nn.Conv2d, second: nn.Conv2d) -> tuple[nn.Conv2d, nn.Conv2d]:
    """`merge(*padded_first(first, second))` is never refused: the first conv gets all the padding, p1 + p2 s1, the second none.

    Outputs keep their size. Away from the ring they keep their values; on it the second conv now reads what the first computes there
    instead of zeros, so this belongs before training. New convs; the ones handed in stay as they are.
    Source: ExpandNets; Kim et al. 2023.

    >>> [conv.padding for conv in padded_first(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 4, 3, padding=1))]
    [(3, 3), (0, 0)]
    """
    check_pair("padded_first", first, second)
    padding = tuple(p + q * s for p, q, s in zip(first.padding, second.padding, first.stride, strict=True))
    first, second = copy.deepcopy(first), copy.deepcopy(second)
    first.padding, second.padding = padding, (0, 0)
    return first, second


class OnesChannel(nn.Module):
    """`OnesChannel(first, second)(x) == second(first(x))` at every image size: one conv on x and a channel of ones.

    Zero-padding keeps its meaning: the ones end where the first conv's output does, so the first's bias, now a weight on them, ends
    there too. Each group has its own ones, its last channel: groups stay groups. Costs the MACs of one more input channel in each.
    """

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d):
        super().__init__()
        groups = gcd(first.groups, second.groups)
        self.padding, self.kernel_size = first.padding, first.kernel_size
        (p_y, p_x), (k_y, k_x) = self.padding, self.kernel_size
        images = merge(_without_bias(first), second)
        bias = first.bias.view(-1, 1, 1, 1)  # the bias as a weight on ones: a 1x1 conv of the first's stride
        ones = merge(make_conv(bias, None, first.stride, (0, 0), groups, first), second)
        weight = torch.cat([images.weight, F.pad(ones.weight, (0, k_x - 1, 0, k_y - 1))], 1)
        padding = (images.padding[0] - p_y, images.padding[1] - p_x)
        self.conv = make_conv(weight, images.bias, images.stride, padding, groups, first, second)

    def forward(self, x: Tensor) -> Tensor:
        (p_y, p_x), (k_y, k_x) = self.padding, self.kernel_size
        x = F.pad(x, (p_x, p_x, p_y, p_y)).unflatten(-3, (self.conv.groups, -1))  # [N, groups, C / groups, H + 2 p, W + 2 p]
        ones = torch.zeros_like(x[..., :1, :, :])
        ones[..., : x.shape[-2] - k_y + 1, : x.shape[-1] - k_x + 1] = 1  # where the first kernel has room to start
        return self.conv(torch.cat([x, ones], -3).flatten(-4, -3))


class BiasMap(nn.Module):
    """`BiasMap(first, second, size)(x) == second(first(x))` for images of `size` = (H, W): one conv without bias, plus a map.

    The map is the pair's answer to a black image, [C, H', W'], and what differs from pixel to pixel lies on the ring. Trainable.
    """

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, size: tuple[int, int] | None):
        super().__init__()
        if size is None:
            raise NotExact("repair: bias-map needs the size of the images, (H, W), and is exact at that size only")
        self.conv = merge(_without_bias(first), _without_bias(second))
        if any(n + 2 * p < k for n, p, k in zip(size, self.conv.padding, self.conv.kernel_size, strict=True)):
            raise NotExact(f"repair: images of {tuple(size)} pixels are too small for these convs")
        self.size = tuple(size)
        pair = copy.deepcopy(nn.Sequential(first, second)).cpu().double()
        with torch.no_grad():
            black = pair(torch.zeros(first.in_channels, *size, dtype=torch.float64))
        self.map = nn.Parameter(black.to(self.conv.weight), requires_grad=all(p.requires_grad for p in pair.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != self.size:
            raise ValueError(f"this bias map is for images of {self.size}, not {tuple(x.shape[-2:])}")
        return self.conv(x) + self.map


def _without_bias(conv: nn.Conv2d) -> nn.Conv2d:
    conv = copy.deepcopy(conv)
    conv.bias = None
    return conv


def _bias_behind(first: nn.Conv2d, second: nn.Conv2d) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The pair without a bias between: off the ring it adds sum W2 b1 to every output, which the second's bias can do."""
    learns = (first if second.bias is None else second).bias.requires_grad
    second, bias = copy.deepcopy(second), merge(*padded_first(first, second)).bias
    second.bias = nn.Parameter(bias.detach(), requires_grad=learns)
    return _without_bias(first), second
