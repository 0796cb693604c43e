"""ReduceNet: a stem, three stages of blocks, a classifier. Nothing about training."""

from functools import partial

from torch import Tensor, nn

from reducenet.nets.layers import conv3x3
from reducenet.nets.seeding import initialise
from reducenet.words import Block, Positive, find, function
from reducenet.words import build as word


class Network(nn.Module):
    """`forward(x) == classifier(features(x))`, the logits [N, classes]; `features(x)` are the maps of the last stage, pooled.

    `trunk` names the parts that an image passes through, in order; `neck` stands between them and the pooling, empty unless a projector
    is put there.
    """

    trunk: tuple[str, ...] = ()
    neck: nn.Module
    classifier: nn.Module

    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """The maps [N, C, H, W] behind every part of the trunk."""
        maps = []
        for part in self.trunk:
            x = getattr(self, part)(x)
            maps.append(x)
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        """Maps of the last stage to features [N, C]."""
        return self.neck(maps).mean((2, 3))

    def features(self, x: Tensor) -> Tensor:
        return self.pooled(self.stage_maps(x)[-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class ReduceNet(Network):
    """A CIFAR-style ResNet of `depth == 6 n + 2` whose blocks are `block(in_planes, planes, stride)`.

    The stages have width, 2 width and 4 width planes; stages two and three halve the image, and so does the stem at `stem_stride` 2.
    """

    trunk = ("stem", "stage1", "stage2", "stage3")

    def __init__(self, block, *, depth=8, width=8, num_classes=10, in_channels=1, stem_stride=1):
        super().__init__()
        self.stem = nn.Sequential(conv3x3(in_channels, width, stem_stride), nn.BatchNorm2d(width), nn.ReLU())
        self.stage1, planes = self._stage(block, width, width, 1, depth)
        self.stage2, planes = self._stage(block, planes, 2 * width, 2, depth)
        self.stage3, planes = self._stage(block, planes, 4 * width, 2, depth)
        self.neck = nn.Sequential()
        self.classifier = nn.Linear(planes, num_classes)

    @staticmethod
    def _stage(block, in_planes: int, planes: int, stride: int, depth: int):
        blocks = [block(in_planes if i == 0 else planes, planes, stride if i == 0 else 1) for i in range((depth - 2) // 6)]
        return nn.Sequential(*blocks), planes


def at_least_1(**sizes: int) -> None:
    """`ValueError` where one of these is below 1: what no sentence says, the data does."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")


def _depth(depth, **_) -> str | None:
    """Why a ReduceNet cannot have this depth; None where it can."""
    return None if depth >= 8 and (depth - 2) % 6 == 0 else f"depth must be 6n + 2 (8, 14, 20, ...), not {depth}"


@word(refuse=_depth)
def build(
    block: Block = "scaler",
    *,
    depth: Positive = 8,
    width: Positive = 8,
    stem_stride: Positive = 1,
    num_classes: int = 10,
    in_channels: int = 1,
    seed: int = 0,
    **own,
) -> ReduceNet:
    """A fresh network, every submodule initialised from (seed, its name): the first word of most sentences of moves.

    `block` is the name of a block, "scaler" (the teacher), "plain" (the student), "lambda" (the first ReduceNet) and others, or a class
    whose instances are `block(in_planes, planes, stride)`; `own` are the block's own parameters, as `expansion`: the inner width of
    branch1, or of the pair, over planes. Two nets of one seed start alike wherever they share a part.

    >>> sum(p.numel() for p in build("plain").parameters()) < sum(p.numel() for p in build("scaler").parameters())
    True
    """
    at_least_1(num_classes=num_classes, in_channels=in_channels)
    made = function(find("block", block)) if isinstance(block, str) else block
    shape = dict(depth=depth, width=width, num_classes=num_classes, in_channels=in_channels, stem_stride=stem_stride)
    net = ReduceNet(partial(made, **own), **shape)
    initialise(net, seed)
    return net
