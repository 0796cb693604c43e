"""What the panel is about: two networks with a LambdaReLU in every block, and the images that they never saw."""

import copy
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from reducenet.algebra.exact import fold_bn
from reducenet.course.live.images import held_out
from reducenet.data.tensors import Data, Split
from reducenet.nets.activation import slide
from reducenet.nets.blocks import LambdaBlock


def at_lam(net: nn.Module, lam: float) -> nn.Module:
    """A copy of the network with every LambdaReLU at this `lam`."""
    net = copy.deepcopy(net)
    slide()(net, lam)
    return net


def first_pair(net: nn.Module) -> tuple[str, nn.Conv2d, nn.Conv2d]:
    """The name of the first pair in the network, and its two convs with their BNs folded."""
    name, block = next((name, block) for name, block in net.named_modules() if isinstance(block, LambdaBlock))
    conv3, bn3, _, conv1, bn1 = block.pair
    return f"{name}.pair", fold_bn(conv3, bn3), fold_bn(conv1, bn1)


@dataclass(frozen=True)
class Bench:
    """Networks by how they were trained, "relu" and "slide", and how many validation images speak about them."""

    nets: dict[str, nn.Module]
    data: Data
    images: int = 500

    @cached_property
    def held(self) -> Split:
        return held_out(self.data, self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.data.val.images.shape[1:])
