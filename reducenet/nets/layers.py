"""Layers that many blocks and moves use: the two convs of the article, and norms whose statistics stay."""

import functools

from torch import nn


def conv3x3(in_planes: int, planes: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_planes, planes, 3, stride, padding=1, bias=False)


def conv1x1(in_planes: int, planes: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_planes, planes, 1, stride, bias=False)


class Still:
    """A layer that computes in train mode what it computes in eval mode: whatever it would keep count of stays as it is."""

    training = property(lambda self: False, lambda self, mode: None)


class FrozenBatchNorm1d(Still, nn.BatchNorm1d):
    """A BatchNorm that normalises with its stored statistics in train mode too, and never moves them."""


class FrozenBatchNorm2d(Still, nn.BatchNorm2d):
    """A BatchNorm that normalises with its stored statistics in train mode too, and never moves them."""


class FrozenBatchNorm3d(Still, nn.BatchNorm3d):
    """A BatchNorm that normalises with its stored statistics in train mode too, and never moves them."""


@functools.cache
def still(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of layers that compute what `kind` does in eval mode, and keep to it."""
    known = {nn.BatchNorm1d: FrozenBatchNorm1d, nn.BatchNorm2d: FrozenBatchNorm2d, nn.BatchNorm3d: FrozenBatchNorm3d}
    return (
        kind
        if issubclass(kind, Still)
        else known.get(kind) or type(f"Frozen{kind.__name__}", (Still, kind), {"__module__": kind.__module__})
    )
