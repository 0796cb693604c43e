"""What the scaler panel shows, as plain functions: one state in, one reading out. Nothing here knows of widgets."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from reducenet.data.tensors import Data, Split
from reducenet.deploy.fuse import fuse
from reducenet.learn import evaluate, measure
from reducenet.moves.branch import drop_branch, set_scaler


@dataclass(frozen=True)
class ReadOut:
    """One state of the panel. `dropped`: at scaler 0 the branch is deleted, not multiplied by nothing;
    `as_trained`: the scaler is the one that the teacher was trained with."""

    scaler: float
    expansion: int
    dropped: bool
    as_trained: bool
    accuracy: float  # share of the held-out images
    images: int  # how many those are
    logits: tuple[float, ...]  # of the chosen image
    label: int
    parameters: int  # as deployed
    macs: int  # as deployed, one image
    latency: float  # as deployed, seconds for one image


class Bench:
    """Trained teachers and held-out images, ready to be read at any (scaler, expansion, image). The teachers stay as they are."""

    def __init__(self, teachers: dict[int, nn.Module], data: Data, images: int = 500):
        self.teachers, self.data = teachers, data
        pick = torch.arange(len(data.val.labels)) % max(1, len(data.val.labels) // images) == 0
        self.held = Split(data.val.images[pick][:images], data.val.labels[pick][:images])
        self.shape = tuple(data.val.images.shape[1:])
        self.size = cache(self._size)
        self.network = cache(self._network)

    def _network(self, scaler: float, expansion: int) -> nn.Module:
        teacher = self.teachers[expansion]
        return fuse((drop_branch(teacher) if scaler == 0 else set_scaler(teacher, scaler)).eval())  # as deployed: the same, faster

    def _size(self, dropped: bool, expansion: int) -> tuple[int, int, float]:
        deployed = self.network(0.0 if dropped else 1.0, expansion)
        timed = measure.latency(deployed, self.shape, threads=torch.get_num_threads(), seconds=0.05)
        return measure.parameters(deployed), measure.macs(deployed, self.shape), timed["median"]

    def logits(self, scaler: float, expansion: int) -> torch.Tensor:
        """Of every held-out image, [N, classes]."""
        return evaluate.logits(self.network(scaler, expansion), self.data, self.held)

    def read(self, scaler: float, expansion: int, image: int = 0) -> ReadOut:
        """The reading of one state; `image` counts the held-out images."""
        logits = self.logits(scaler, expansion)
        accuracy = (logits.argmax(1) == self.held.labels).double().mean().item()
        dropped, as_trained = scaler == 0, any(scaler == getattr(m, "scaler", None) for m in self.teachers[expansion].modules())
        return ReadOut(scaler, expansion, dropped, as_trained, accuracy, len(self.held.labels), tuple(logits[image].tolist()),
                       self.held.labels[image].item(), *self.size(dropped, expansion))  # fmt: skip
