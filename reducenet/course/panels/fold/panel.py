"""The panel of page 04, for the shipped networks or the reader's own."""

from torch import nn

from reducenet.course.live.shown import Live
from reducenet.course.panels.fold import picture
from reducenet.course.panels.fold.bench import Bench
from reducenet.course.panels.fold.material import material
from reducenet.course.panels.fold.material import shipped as shipped_bench
from reducenet.data.tensors import Data

TITLE = "Fold the branch"


def live(
    data: Data,
    teacher: nn.Module,
    side: nn.Module,
    control: nn.Module | None = None,
    rank: int = 32,
    temperature: float = 4.0,
    images: int = 500,
) -> Live:
    """`side` is the student with its trained branch, `control` the same convs trained without; `rank` and `temperature` are the start."""
    bench = Bench(teacher, side, control, data, images)
    return Live("fold", TITLE, material(bench, rank, temperature), *picture.drawn(bench, temperature))


def shipped() -> Live:
    bench = shipped_bench()
    return live(bench.data, bench.teacher, bench.side, bench.control)
