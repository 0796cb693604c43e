"""The panel of page 03, for the shipped teachers or the reader's own."""

from torch import nn

from reducenet.course import nets
from reducenet.course.live.shown import Live
from reducenet.course.panels.fade import picture
from reducenet.course.panels.fade.bench import Bench
from reducenet.course.panels.fade.material import material
from reducenet.data.tensors import Data, load


def live(data: Data, teachers: dict[int, nn.Module], scaler: float = 1.0, expansion: int = 4, images: int = 500) -> Live:
    """`teachers` by their expansion; `scaler` and `expansion` are where it starts; `images` validation images are spoken of."""
    bench = Bench(teachers, data, images)
    return Live("fade", "Fade the branch", material(bench, scaler, expansion), *picture.drawn(bench, expansion))


def shipped() -> Live:
    return live(load("fashion-mini"), nets.teachers())
