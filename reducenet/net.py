"""ReduceNet: a stem, three stages of blocks, a classifier. Nothing about training."""

from torch import Tensor, nn

from reducenet.blocks import BLOCKS, conv3x3
from reducenet.seeding import initialise


class ReduceNet(nn.Module):
    """A CIFAR-style ResNet of `depth == 6 n + 2` whose blocks are `block(in_planes, planes, stride)`.

    `features(x)` are the pooled features [N, 4 width], `forward(x) == classifier(features(x))` the logits [N, num_classes].
    The stages have width, 2 width and 4 width planes; stages two and three halve the image, and so does the stem at `stem_stride` 2.
    """

    def __init__(self, block, *, depth=8, width=8, num_classes=10, in_channels=1, stem_stride=1):
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), not {depth}")
        self.stem = nn.Sequential(conv3x3(in_channels, width, stem_stride), nn.BatchNorm2d(width), nn.ReLU())
        self.stage1, planes = self._stage(block, width, width, 1, depth)
        self.stage2, planes = self._stage(block, planes, 2 * width, 2, depth)
        self.stage3, planes = self._stage(block, planes, 4 * width, 2, depth)
        self.classifier = nn.Linear(planes, num_classes)

    @staticmethod
    def _stage(block, in_planes: int, planes: int, stride: int, depth: int):
        blocks = [block(in_planes if i == 0 else planes, planes, stride if i == 0 else 1) for i in range((depth - 2) // 6)]
        return nn.Sequential(*blocks), planes

    def features(self, x: Tensor) -> Tensor:
        out = self.stage3(self.stage2(self.stage1(self.stem(x))))  # [N, 4 width, H/4, W/4]
        return out.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def build(
    block: str = "scaler",
    *,
    depth: int = 8,
    width: int = 8,
    expansion: int = 4,
    scaler: float = 1.0,
    lam: float = 0.0,
    post_relu: bool = True,
    num_classes: int = 10,
    in_channels: int = 1,
    stem_stride: int = 1,
    seed: int = 0,
) -> ReduceNet:
    """A fresh network, every submodule initialised from (seed, its name): the first word of every sentence of moves.

    `block` is "scaler" (expansion, scaler), "plain" (the student), "lambda" (expansion, lam) or "published" (expansion).
    `expansion` is branch1's inner width over planes. Two nets of one seed start alike wherever they share a part.

    >>> sum(p.numel() for p in build("plain").parameters()) < sum(p.numel() for p in build("scaler").parameters())
    True
    """
    if block not in BLOCKS:
        raise ValueError(f"unknown block {block!r}; known: {', '.join(BLOCKS)}")
    for name, value in {"width": width, "expansion": expansion, "stem_stride": stem_stride, "num_classes": num_classes}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if not 0 <= lam <= 1:
        raise ValueError(f"lam must be in [0, 1], not {lam}")
    own = {"scaler": dict(expansion=expansion, scaler=scaler), "plain": {},
           "lambda": dict(expansion=expansion, lam=lam), "published": dict(expansion=expansion)}[block]  # fmt: skip

    def make(in_planes, planes, stride):
        return BLOCKS[block](in_planes, planes, stride, **own, post_relu=post_relu)

    net = ReduceNet(make, depth=depth, width=width, num_classes=num_classes, in_channels=in_channels, stem_stride=stem_stride)
    initialise(net, seed)
    return net
