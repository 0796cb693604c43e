"""Layers that many blocks and moves use: the two convs of the article, and a BN whose statistics stay."""

import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(in_planes: int, planes: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_planes, planes, 3, stride, padding=1, bias=False)


def conv1x1(in_planes: int, planes: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_planes, planes, 1, stride, bias=False)


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm that normalises with its stored statistics in train mode too, and never moves them."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps)
