"""VanillaNet: no shortcut, every layer a linear pair at the end of training, and a series of shifted activations to make up for it.

Small enough for images of 28x28 and 32x32. Source: Chen et al. 2023, "VanillaNet: the Power of Minimalism in Deep Learning".
"""

from collections import OrderedDict

from torch import nn

from reducenet.nets.activation import LambdaReLU
from reducenet.nets.layers import conv1x1
from reducenet.nets.networks import Network, at_least_1
from reducenet.nets.seeding import initialise
from reducenet.words import Annotated, Count, Field, Positive, Share, build


def series_relu(channels: int, n: int = 1) -> nn.Sequential:
    """`series(x)[c, h, w] == bn(sum_{i, j = -n..n} a[c, i, j] relu(x)[c, h + i, w + j])`, zero outside of the image.

    A ReLU, a depthwise conv of size 2n + 1 and a BN, which `fuse` folds into the conv. At n = 0 it is a ReLU with a factor per channel: the
    control for the series. The paper has n = 3, on larger maps. Source: VanillaNet, section 3.2.
    """
    conv = nn.Conv2d(channels, channels, 2 * n + 1, padding=n, groups=channels, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels))


def linear_pair(first: nn.Conv2d, second: nn.Conv2d, lam: float) -> nn.Sequential:
    """`first`-BN-LambdaReLU-`second`: at lam 1 one conv."""
    return nn.Sequential(first, nn.BatchNorm2d(first.out_channels), LambdaReLU(lam), second)


def halvings(depth: int) -> list[bool]:
    """Which of the `depth - 2` stages halve the map and double the width, as in the paper: always three.

    >>> halvings(5), halvings(8)
    ([True, True, True], [False, True, True, False, True, False])
    """
    first, middle, last = [False] * (depth >= 7), [False] * (depth - 7), [False] * (depth >= 6)
    return [*first, True, True, *middle, True, *last]


class VanillaNet(Network):
    """A stem, `depth - 2` stages and a classifier, each one conv when deployed: these are the `depth` layers of VanillaNet-5, -6, ...

    The depthwise convs of the series do not count, nor does the pooling. Every layer is trained as a pair around a LambdaReLU:

        stem        conv(stem_stride, patchify)-BN-act-conv1-BN, series
        stage       conv1-BN-act-conv1-BN, [max-pool], series
        classifier  conv1-BN-act-conv1, on the pooled features

    A map of odd size is halved up: 7, 4, 2, 1, 1. So every depth works for every image that is at least one patch large.
    """

    def __init__(self, *, depth=5, width=8, n=1, lam=0.0, num_classes=10, in_channels=1, stem_stride=2):
        super().__init__()
        self.trunk = ("stem", *(f"stage{i}" for i in range(1, depth - 1)))
        patchify = nn.Conv2d(in_channels, width, stem_stride, stem_stride, bias=False)
        self.stem = self._layer(linear_pair(patchify, conv1x1(width, width), lam), False, n)
        for stage, halve in zip(self.trunk[1:], halvings(depth), strict=True):
            planes = 2 * width if halve else width
            self.add_module(stage, self._layer(linear_pair(conv1x1(width, width), conv1x1(width, planes), lam), halve, n))
            width = planes
        self.neck = nn.Sequential()
        head = linear_pair(conv1x1(width, num_classes), nn.Conv2d(num_classes, num_classes, 1), lam)
        self.classifier = nn.Sequential(OrderedDict(unflatten=nn.Unflatten(1, (-1, 1, 1)), pair=head, flatten=nn.Flatten()))

    @staticmethod
    def _layer(pair: nn.Sequential, halve: bool, n: int) -> nn.Sequential:
        planes = pair[-1].out_channels
        pool = OrderedDict(pool=nn.MaxPool2d(2, ceil_mode=True)) if halve else {}
        return nn.Sequential(OrderedDict(pair=pair.append(nn.BatchNorm2d(planes)), **pool, series=series_relu(planes, n)))


@build
def vanillanet(
    *,
    depth: Annotated[int, Field(ge=5)] = 5,
    width: Positive = 8,
    n: Count = 1,
    lam: Share = 0.0,
    stem_stride: Positive = 2,
    num_classes: int = 10,
    in_channels: int = 1,
    seed: int = 0,
) -> VanillaNet:
    """A fresh VanillaNet, every submodule initialised from (seed, its name).

    `depth` is the number of convs that are left when it is deployed, the series not counted, 5 or more. `width` is the number of planes
    behind the stem, an eighth of those behind the last stage. The series reads (2n + 1)^2 neighbours. `stem_stride` is the size of a patch
    and the stride in pixels: 2 for small images, 4 in the paper (of 224x224); pixels beyond the last whole patch are not seen.
    `lam` is that of every LambdaReLU; a slide to 1 and `fuse` give the deployed net.

    >>> vanillanet(depth=6).trunk
    ('stem', 'stage1', 'stage2', 'stage3', 'stage4')
    """
    at_least_1(num_classes=num_classes, in_channels=in_channels)
    shape = dict(depth=depth, width=width, num_classes=num_classes, in_channels=in_channels, stem_stride=stem_stride)
    net = VanillaNet(**shape, n=n, lam=lam)
    initialise(net, seed)
    return net
