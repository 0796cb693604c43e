"""What the panel is about: trained teachers, and the images that they never saw."""

from dataclasses import dataclass
from functools import cached_property

from torch import nn

from reducenet.course.live.images import held_out
from reducenet.data.tensors import Data, Split


@dataclass(frozen=True)
class Bench:
    """Teachers by their expansion, and how many validation images speak about them."""

    teachers: dict[int, nn.Module]
    data: Data
    images: int = 500

    @cached_property
    def held(self) -> Split:
        return held_out(self.data, self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.data.val.images.shape[1:])
