"""torchvision's ResNet-18 as a word: `reducenet plan examples/resnet18.toml --words examples/resnet18.py`."""

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from reducenet.nets.seeding import initialise
from reducenet.words import Positive, build


class Narrow(ResNet):
    """torchvision's own code, with `channels` in its first stage in place of 64, and the stem for small images: one conv3, no pooling."""

    def __init__(self, channels: int, num_classes: int, in_channels: int):
        self.channels = channels
        super().__init__(BasicBlock, [2, 2, 2, 2])
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.Identity()
        self.fc = nn.Linear(8 * channels, num_classes)

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        if planes == 64:
            self.inplanes = self.channels
        return super()._make_layer(block, planes * self.channels // 64, blocks, stride, dilate)


@build
def resnet18(channels: Positive = 64, *, num_classes: int = 10, in_channels: int = 3, seed: int = 0) -> nn.Module:
    """torchvision's ResNet-18 for small images, every submodule drawn from (seed, its name); with 64 channels as wide as there."""
    net = Narrow(channels, num_classes, in_channels)
    initialise(net, seed)
    return net
