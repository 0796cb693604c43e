"""The panel of page 02, for the shipped network or the reader's own."""

from torch import nn

from reducenet.course.live.shown import Live
from reducenet.course.panels.mask import material, picture
from reducenet.course.panels.mask.bench import Bench
from reducenet.data.tensors import Data


def live(data: Data, net: nn.Module, keep: int = 3, images: int = 500) -> Live:
    """`net` has a LambdaReLU at lam 0 in every block; the picture shows masks that `keep` so many; `images` are spoken of."""
    return _live(Bench(net, data, images), keep)


def shipped() -> Live:
    return _live(material.shipped(), 3)


def _live(bench: Bench, keep: int) -> Live:
    return Live("mask", "Which ReLUs can go?", material.material(bench), *picture.drawn(bench, keep))
