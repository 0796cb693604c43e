"""What the panel is about: a trained network with a LambdaReLU in every block, all its masks, and images that it never saw.

A mask is a number: bit i says whether block i keeps its ReLU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

from torch import nn

from reducenet.course.live.images import held_out
from reducenet.data.tensors import Data, Split
from reducenet.learn.batchnorm import recalibrate
from reducenet.learn.train import fit
from reducenet.methods.removal import groups, without

BATCH = 128  # training images, on which the statistics are measured anew


@dataclass(frozen=True)
class Bench:
    """The network, how many validation images speak about it, and how a masked one is trained on (`fit`'s options)."""

    net: nn.Module
    data: Data
    images: int = 500

    @cached_property
    def acts(self) -> dict[str, list[str]]:
        return groups(self.net, "the panel")

    @property
    def masks(self) -> range:
        return range(2 ** len(self.acts))

    @cached_property
    def held(self) -> Split:
        return held_out(self.data, self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.data.val.images.shape[1:])

    @cached_property
    def sample(self) -> Data:
        return self.data.subset(BATCH)

    @cached_property
    def masked(self) -> Callable[[int], nn.Module]:
        """`masked(mask)`: the network with the ReLUs of this mask, the others gone; no weight moved. Made once, so not to be changed."""
        return cache(self._masked)

    def _masked(self, mask: int) -> nn.Module:
        gone = [act for i, acts in enumerate(self.acts.values()) if not mask >> i & 1 for act in acts]
        return without(self.net, gone).eval()

    def anew(self, mask: int) -> nn.Module:
        """The same with the statistics of `BATCH` training images: what net.js measures, and torch too."""
        return recalibrate(self.masked(mask), self.sample, images=BATCH, batch=len(self.sample.train.labels))

    def trained(self, mask: int, **training) -> nn.Module:
        """The same, trained on."""
        return fit(self.masked(mask), self.data, nth_fit=1, **training).net
