"""The building blocks: the article's, with its names, and two that it is compared with (MobileNetV2's, RepVGG's).

The article's have a front (branch1, branch2 or a pair), then conv3, bn3, shortcut:

    out = post(bn3(conv3(front(x))) + shortcut(x))

`post` is a ReLU by default. The article's listing has none; without it nothing but BN and the addition stands between conv3 and the
first convs of the next block, so half of the convs are linearly adjacent, and the student is no ResNet. `post_relu=False` gives the
block as printed. `reports/tail` compares the two.
"""

from torch import Tensor, nn

from reducenet.nets.activation import LambdaReLU
from reducenet.nets.layers import conv1x1, conv3x3
from reducenet.words import Positive, Share, block


class Residual(nn.Module):
    """`post(body(x) + shortcut(x))`: the frame of a residual block. Subclasses say what the body is."""

    def __init__(self, in_planes: int, planes: int, stride: int = 1, *, post_relu: bool = True):
        super().__init__()
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(conv1x1(in_planes, planes, stride), nn.BatchNorm2d(planes))
        self.post = nn.ReLU() if post_relu else nn.Identity()

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.post(self.body(x) + self.shortcut(x))


class Block(Residual):
    """What the article's blocks share: `body == bn3(conv3(front(x)))`. Subclasses say what stands in front."""

    def __init__(self, in_planes: int, planes: int, stride: int = 1, *, post_relu: bool = True):
        super().__init__(in_planes, planes, stride, post_relu=post_relu)
        self.conv3 = conv3x3(planes, planes)
        self.bn3 = nn.BatchNorm2d(planes)

    def front(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def body(self, x: Tensor) -> Tensor:
        return self.bn3(self.conv3(self.front(x)))


@block("plain")
class PlainBlock(Block):
    """The student: `front == branch2`, one conv3-BN-ReLU. With the final ReLU it is the basic block of ResNet."""

    def __init__(self, in_planes: int, planes: int, stride: int = 1, *, post_relu: bool = True):
        super().__init__(in_planes, planes, stride, post_relu=post_relu)
        self.branch2 = nn.Sequential(conv3x3(in_planes, planes, stride), nn.BatchNorm2d(planes), nn.ReLU())

    def front(self, x: Tensor) -> Tensor:
        return self.branch2(x)


@block("scaler")
class ScalerBlock(Block):
    """The teacher: `front == scaler * branch1 + branch2`, scaler a real factor.

    branch1 is the bottleneck conv3(expand)-BN-ReLU-conv1(reduce)-BN-ReLU of inner width `expansion * planes`; at scaler 0 the block
    is the student bitwise. Source: the article, "Further evolution: the scaler branch". Explained in notebook 03.
    """

    def __init__(self, in_planes, planes, stride=1, *, expansion: Positive = 4, scaler: Share = 1.0, post_relu: bool = True):
        super().__init__(in_planes, planes, stride, post_relu=post_relu)
        self.scaler = scaler
        wide = expansion * planes
        self.branch1 = nn.Sequential(
            conv3x3(in_planes, wide, stride), nn.BatchNorm2d(wide), nn.ReLU(),
            conv1x1(wide, planes), nn.BatchNorm2d(planes), nn.ReLU())  # fmt: skip
        self.branch2 = nn.Sequential(conv3x3(in_planes, planes, stride), nn.BatchNorm2d(planes), nn.ReLU())

    def front(self, x: Tensor) -> Tensor:
        return self.scaler * self.branch1(x) + self.branch2(x)

    def extra_repr(self) -> str:
        return f"scaler={self.scaler:g}"


@block("published")
class PublishedBlock(Block):
    """The block of the article's repository, which is not the article's: `front == act(branch1 + branch2)`, act a shared BN-ReLU.

    branch1 ends without ReLU, branch2 is a bare conv3. There the scaler was a gate (1 keeps branch1, anything else drops it), so it
    has none here: `drop_branch` is the gate. Source: repository ohmydroid/reducenet.
    """

    def __init__(self, in_planes, planes, stride=1, *, expansion: Positive = 4, post_relu: bool = True):
        super().__init__(in_planes, planes, stride, post_relu=post_relu)
        wide = expansion * planes
        self.branch1 = nn.Sequential(
            conv3x3(in_planes, wide, stride), nn.BatchNorm2d(wide), nn.ReLU(),
            conv1x1(wide, planes), nn.BatchNorm2d(planes))  # fmt: skip
        self.branch2 = conv3x3(in_planes, planes, stride)
        self.act = nn.Sequential(nn.BatchNorm2d(planes), nn.ReLU())

    def front(self, x: Tensor) -> Tensor:
        return self.act(self.branch1(x) + self.branch2(x))


@block("lambda")
class LambdaBlock(Block):
    """The first ReduceNet: `front == relu(pair)`, pair = conv3(expand)-BN-LambdaReLU-conv1(reduce)-BN.

    At lam 1 the pair is linear and `fuse` turns it into one conv3. Source: the article, "ReduceNet, corrected".
    """

    def __init__(self, in_planes, planes, stride=1, *, expansion: Positive = 4, lam: Share = 0.0, post_relu: bool = True):
        super().__init__(in_planes, planes, stride, post_relu=post_relu)
        wide = expansion * planes
        self.pair = nn.Sequential(
            conv3x3(in_planes, wide, stride), nn.BatchNorm2d(wide), LambdaReLU(lam),
            conv1x1(wide, planes), nn.BatchNorm2d(planes))  # fmt: skip
        self.act = nn.ReLU()

    def front(self, x: Tensor) -> Tensor:
        return self.act(self.pair(x))


@block("inverted")
class InvertedBlock(nn.Module):
    """MobileNetV2's: conv1(expand)-BN-act-depthwise conv3-BN-act-conv1(reduce)-BN, plus x where shapes agree; act a LambdaReLU.

    MobileNetV2 has no ReLU behind the sum: take `post_relu=False` for it. With both activations at lam 1 the body is linear; its BN shifts
    stand before the depthwise conv's padding, so it becomes one conv3 only after `pad_first`. Source: Sandler et al. 2018; DepthShrinker.
    """

    def __init__(self, in_planes, planes, stride=1, *, expansion: Positive = 4, lam: Share = 0.0, post_relu: bool = True):
        super().__init__()
        wide = expansion * in_planes
        self.inverted = nn.Sequential(
            conv1x1(in_planes, wide), nn.BatchNorm2d(wide), LambdaReLU(lam),
            nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), LambdaReLU(lam),
            conv1x1(wide, planes), nn.BatchNorm2d(planes))  # fmt: skip
        self.residual = stride == 1 and in_planes == planes
        self.post = nn.ReLU() if post_relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.inverted(x)
        return self.post(out + x if self.residual else out)


class RepVGGLayer(nn.Module):
    """`relu(conv3(x) + conv1(x) + identity(x))`, each branch with a BN of its own; identity only where shapes agree.

    In eval mode the three are one conv3, which `fuse` makes of them. Source: Ding et al. 2021, RepVGG.
    """

    def __init__(self, in_planes: int, planes: int, stride: int = 1):
        super().__init__()
        self.conv3 = nn.Sequential(conv3x3(in_planes, planes, stride), nn.BatchNorm2d(planes))
        self.conv1 = nn.Sequential(conv1x1(in_planes, planes, stride), nn.BatchNorm2d(planes))
        self.identity = nn.BatchNorm2d(planes) if stride == 1 and in_planes == planes else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv3(x) + self.conv1(x)
        return self.relu(out if self.identity is None else out + self.identity(x))


@block("repvgg")
class RepVGGBlock(nn.Sequential):
    """Two RepVGG layers, as deep as every other block: deployed, two conv3 and no shortcut."""

    def __init__(self, in_planes: int, planes: int, stride: int = 1):
        super().__init__(RepVGGLayer(in_planes, planes, stride), RepVGGLayer(planes, planes))


def is_block(module: nn.Module) -> bool:
    """Whether the class of `module` is a block that a sentence can name."""
    return vars(type(module)).get("word", ("",))[0] == "block"
