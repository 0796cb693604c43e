"""ReduceNet: a stem, three stages of blocks, a classifier. Nothing about training."""

from torch import Tensor, nn

from reducenet.blocks import BLOCKS, conv3x3
from reducenet.names import READS
from reducenet.seeding import initialise


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
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), not {depth}")
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

    `block` is "scaler" (expansion, scaler), "plain" (the student), "lambda" (expansion, lam), "published" (expansion), "inverted"
    (expansion, lam) or "repvgg". `expansion` is the inner width of branch1, or of the pair, over planes. Two nets of one seed start alike
    wherever they share a part.

    >>> sum(p.numel() for p in build("plain").parameters()) < sum(p.numel() for p in build("scaler").parameters())
    True
    """
    if block not in BLOCKS:
        raise ValueError(f"unknown block {block!r}; known: {', '.join(BLOCKS)}")
    for name, value in {"width": width, "expansion": expansion, "stem_stride": stem_stride, "num_classes": num_classes}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    for name, value in {"lam": lam, "scaler": scaler}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], not {value}")
    given = {"expansion": expansion, "scaler": scaler, "lam": lam, "post_relu": post_relu}
    own = {name: given[name] for name in READS[block]}

    def make(in_planes, planes, stride):
        return BLOCKS[block](in_planes, planes, stride, **own)

    net = ReduceNet(make, depth=depth, width=width, num_classes=num_classes, in_channels=in_channels, stem_stride=stem_stride)
    initialise(net, seed)
    return net
