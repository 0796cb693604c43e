"""The panel of page 01, for the shipped networks or the reader's own."""

from torch import nn

from reducenet.course.live.shown import Live
from reducenet.course.panels.slide import material, picture
from reducenet.course.panels.slide.bench import Bench
from reducenet.data.tensors import Data


def live(data: Data, relu: nn.Module, slid: nn.Module, lam: float = 0.0, images: int = 500) -> Live:
    """`relu` was trained at lam 0, `slid` on the way to lam 1; `lam` is where it starts; `images` validation images are spoken of."""
    return _live(Bench({"relu": relu, "slide": slid}, data, images), lam)


def shipped() -> Live:
    return _live(material.shipped())


def _live(bench: Bench, lam: float = 0.0) -> Live:
    return Live("slide", "Slide the activation", material.material(bench, lam), *picture.drawn(bench))
