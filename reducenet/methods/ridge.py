"""Imitation in closed form: the one linear layer that best predicts what the teacher's front makes of its input. Nothing is trained.

It answers how much of a two-layer bottleneck one linear layer can be, and gives a student that start for the price of a pass.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reducenet.data.tensors import Data
from reducenet.learn.device import device_for
from reducenet.moves.surgery import chosen, copied
from reducenet.nets.blocks import Block, PlainBlock
from reducenet.nets.seeding import generator
from reducenet.words import Above0, Arm, MoveError, Names, Positive, tune

CHUNK = 100  # images unfolded at a time: patches take k * k times the memory of their map


class Ridge(NamedTuple):
    weight: Tensor  # [out, in, k, k], float64
    bias: Tensor  # [out], float64
    r2: float


@torch.no_grad()
def ridge_kernel(inputs: Tensor, targets: Tensor, like: nn.Conv2d, strength: float) -> Ridge:
    """The kernel W and bias b that minimise `mean over pixels |W * x + b - y|^2 + strength |W|^2`, the bias free, in float64.

    `inputs` x are [N, in, H, W]; `targets` y [N, out, H', W'] are what a conv with the kernel size, stride and padding of `like` gives
    a shape for. `strength` > 0 is in squared units of x, per pixel, so it does not depend on N. Solved by normal equations, one chunk
    of unfolded patches after the other. `r2` is 1 - |residual|^2 / |y - mean of its channel|^2, on these same images (nan for a
    constant y).
    Raises `ValueError` for shapes that do not fit, groups, and padding other than zeros.
    """
    if strength <= 0:
        raise ValueError(f"strength must be above 0, not {strength}: a dead channel would leave its weights undetermined")
    if like.groups != 1 or like.padding_mode != "zeros" or isinstance(like.padding, str):
        raise ValueError("only a conv of one group, with zero padding given in numbers, can be fitted")
    geometry = dict(kernel_size=like.kernel_size, dilation=like.dilation, padding=like.padding, stride=like.stride)

    def tables() -> Iterator[tuple[Tensor, Tensor]]:  # rows are pixels: patches and a 1 for the bias, [n, in k k + 1], and y, [n, out]
        for x, y in zip(inputs.split(CHUNK), targets.split(CHUNK), strict=True):
            patches = F.unfold(x.cpu().double(), **geometry)  # [N, in k k, pixels]
            y = y.cpu().double().flatten(2)  # [N, out, pixels]
            if patches.shape[1] != like.weight[0].numel() or y.shape[1:] != (like.out_channels, patches.shape[2]):
                raise ValueError(f"{like} does not make {list(targets.shape)} of {list(inputs.shape)}")
            patches = F.pad(patches, (0, 0, 0, 1), value=1.0)
            yield patches.transpose(1, 2).flatten(0, 1), y.transpose(1, 2).flatten(0, 1)

    gram, cross, rows = 0, 0, 0
    for x, y in tables():
        gram, cross, rows = gram + x.T @ x, cross + x.T @ y, rows + len(x)
    penalty = torch.full((len(gram),), float(strength), dtype=torch.float64)
    penalty[-1] = 0
    solution = torch.linalg.solve(gram / rows + penalty.diag(), cross / rows)  # [in k k + 1, out]
    mean = cross[-1] / rows
    residual = total = 0.0
    for x, y in tables():
        residual += (x @ solution - y).square().sum().item()
        total += (y - mean).square().sum().item()
    r2 = 1 - residual / total if total else float("nan")
    return Ridge(solution[:-1].T.reshape(like.weight.shape), solution[-1], r2)


@tune
def ridge(
    net: nn.Module,
    data: Data,
    *,
    teacher: Arm,
    strength: Above0 = 1e-3,
    images: Positive = 2000,
    at: Names = "*branch2.0",
    seed: int = 0,
    device: str = "cpu",
) -> nn.Module:
    """In every student block at `at`, `bn(conv(x)) == W * x + b` in eval mode: the ridge prediction of the teacher's front from its input.

    The conv gets W. The BN behind it gets the mean and variance of W * x over the same images as its statistics, their root as its
    weight (eps included), and b + mean as its bias: so it passes the prediction on in eval mode, about so in train mode, and a later
    fit starts there. A ReLU follows; it brings every pixel closer or leaves it, for a target >= 0 (a front at scaler >= 0).
    `teacher` is a network. Input and target are the teacher's, in eval mode, on at most `images` training images without augmentation,
    chosen by (seed, "ridge"). What is frozen is set all the same, and stays frozen.
    Raises `MoveError` where a conv is no plain student's, or the teacher has no front there that fits.
    Source: ridge regression on unfolded patches; the targets are those of DNA (Li et al. 2020), one layer earlier.
    """
    net = copied(net)
    for name, inputs, found in _imitations(net, data, teacher, strength, images, at, seed, device):
        conv, bn = net.get_submodule(name)[:2]
        parts = inputs.cpu().double().split(CHUNK)
        out = torch.cat([F.conv2d(x, found.weight, None, conv.stride, conv.padding, conv.dilation) for x in parts])
        variance, mean = torch.var_mean(out, (0, 2, 3))
        with torch.no_grad():
            conv.weight.copy_(found.weight)
            bn.running_mean.copy_(mean)
            bn.running_var.copy_(variance)
            bn.weight.copy_((variance + bn.eps).sqrt())
            bn.bias.copy_(found.bias + mean)
    return net


def fit_quality(
    net: nn.Module,
    data: Data,
    *,
    teacher: nn.Module,
    strength: float = 1e-3,
    images: int = 2000,
    at: str | list[str] = "*branch2.0",
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, float]:
    """R^2 of the prediction that `ridge` would put into each block, by the block's name: 1 where one linear layer is enough.

    It is that of the linear prediction, before the ReLU, on the images it was fitted to.
    """
    found = _imitations(net, data, teacher, strength, images, at, seed, device)
    return {name.removesuffix(".branch2"): one.r2 for name, _, one in found}


def _imitations(net, data, teacher, strength, images, at, seed, device) -> Iterator[tuple[str, Tensor, Ridge]]:
    """For every chosen conv-BN-ReLU of the student: its name, the teacher's input there, and the best prediction of its front."""
    if images < 1:
        raise ValueError(f"ridge: images must be at least 1, not {images}")
    place = device_for(device)
    teacher = copied(teacher).to(place).eval()
    like = next(teacher.parameters())
    drawn = torch.randperm(len(data.train.images), generator=generator(seed, "ridge"))[:images]
    parts = [data.normalise(data.train.images[part]).to(like) for part in drawn.split(CHUNK)]
    blocks = {f"{name}.branch2.0": name for name, block in net.named_modules() if _is_plain(block)}
    convs = chosen(net, lambda name, _: name in blocks, at, "ridge", "conv of a student block (conv, BN, ReLU)")
    for name, conv in ((blocks[name], conv) for name, conv in convs.items()):
        inputs, targets = _inputs_and_targets(teacher, name, parts)
        try:
            found = ridge_kernel(inputs, targets, conv, strength)
        except ValueError as error:
            raise MoveError(f"ridge: {name}: {error}") from error
        yield f"{name}.branch2", inputs, found


def _is_plain(block: nn.Module) -> bool:
    return isinstance(block, PlainBlock) and type(block.branch2[0]) is nn.Conv2d and isinstance(block.branch2[1], nn.BatchNorm2d)


@torch.no_grad()
def _inputs_and_targets(teacher: nn.Module, name: str, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    block = dict(teacher.named_modules()).get(name)
    if not isinstance(block, Block):
        fronts = [other for other, module in teacher.named_modules() if isinstance(module, Block)]
        raise MoveError(f"ridge: the teacher has no front at {name!r}; it has at: {', '.join(fronts) or 'none'}")
    seen = []
    hook = block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for x in parts:
        teacher(x)
    hook.remove()
    return torch.cat(seen), torch.cat([block.front(x) for x in seen])
