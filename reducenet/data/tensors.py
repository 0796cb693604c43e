"""A data set is tensors in memory: uint8 images, labels, and the mean and standard deviation of the training images.

A batch is gathered, cropped and flipped per image, and normalised in a few vectorised lines; there are no loader workers.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reducenet.data import sources
from reducenet.nets.seeding import generator
from reducenet.words import find, function

PAD = 14  # of one's own images this part of a side: 2 pixels of 28


class Split(NamedTuple):
    images: Tensor  # uint8 [N, C, H, W]
    labels: Tensor  # int64 [N]


@dataclass(frozen=True)
class Data:
    """`train` fits, `val` selects, `test` is touched once a run. `mean` and `std` are per channel, in units of 0..1."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    mean: Tensor  # [C, 1, 1]
    std: Tensor  # [C, 1, 1]
    pad: int  # pixels of zero padding before the random crop
    how: str = ""  # the splits came about, where that is not a word's own business

    @property
    def in_channels(self) -> int:
        return self.train.images.shape[1]

    def to(self, device) -> "Data":
        """The same data on `device`."""
        moved = {part: Split(*(t.to(device) for t in getattr(self, part))) for part in ("train", "val", "test")}
        return replace(self, **moved, mean=self.mean.to(device), std=self.std.to(device))

    def subset(self, count: int) -> "Data":
        """The same data with the first `count` training images only."""
        return replace(self, train=Split(self.train.images[:count], self.train.labels[:count]))

    def normalise(self, images: Tensor) -> Tensor:
        """`(images / 255 - mean) / std`, float32."""
        return (images.float() / 255 - self.mean) / self.std


def load(name: str) -> Data:
    """The data set called `name` (`reducenet words` lists them), or one's own at that place ("my_images.npz", "pictures/"); `DataError`,
    one line, where it is unknown, absent or damaged."""
    source = sources.source(name)
    paths = sources.files(name)
    try:
        train, val, test, *own = function(find("dataset", name))(paths)
    except sources.DataError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, AssertionError) as error:
        where = paths[0].parent if paths else name
        raise sources.DataError(f"data set {name!r} in {where} cannot be read: {error or type(error).__name__}") from error
    scaled = train.images.float() / 255
    mean, std = scaled.mean((0, 2, 3)).view(-1, 1, 1), scaled.std((0, 2, 3)).view(-1, 1, 1)
    classes, how = own or (source.classes, "")
    pad = max(1, min(train.images.shape[2:]) // PAD) if source.pad is None else source.pad
    return Data(name, classes, train, val, test, mean, std, pad, how)


def about(data: Data) -> dict:
    """What there is to know of a data set before any training: for records."""
    counts = {part: len(getattr(data, part).labels) for part in ("train", "val", "test")}
    return {"name": Path(data.name).name, "classes": list(data.classes), "images": counts, "shape": list(data.train.images.shape[1:]),
            "mean": data.mean.flatten().tolist(), "std": data.std.flatten().tolist(), "split": data.how}  # fmt: skip


def augment(images: Tensor, pad: int, draw: torch.Generator) -> Tensor:
    """Crop each image at its own place from its zero-padded self, and flip every other one. uint8 [N, C, H, W] -> same.

    The random numbers are drawn on the CPU, so every device sees the same views.
    """
    count, channels, height, width = images.shape
    down, right = torch.randint(0, 2 * pad + 1, (2, count), generator=draw)
    flip = torch.rand(count, generator=draw) < 0.5
    rows = down[:, None] + torch.arange(height)  # [N, H]
    columns = right[:, None] + torch.arange(width)  # [N, W]
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    padded = F.pad(images, (pad, pad, pad, pad))  # [N, C, H + 2 pad, W + 2 pad]
    image, channel = torch.arange(count).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1)
    index = (image, channel, rows.view(count, 1, height, 1), columns.view(count, 1, 1, width))
    return padded[tuple(i.to(images.device) for i in index)]


def batches(data: Data, size: int, *key):
    """One epoch of `(x, y)`: every training image once, in an order and in views that depend on `key` alone.

    `key` is (seed, fit, epoch): two arms with the same key see identical batches, so their difference can be paired.
    The last, incomplete batch is kept.
    """
    images, labels = data.train
    draw = generator("batches", *key)
    for chosen in torch.randperm(len(labels), generator=draw).split(size):
        chosen = chosen.to(labels.device)
        yield data.normalise(augment(images[chosen], data.pad, draw)), labels[chosen]


def split(images: np.ndarray, labels: np.ndarray) -> Split:
    """Arrays as tensors: images uint8 [N, C, H, W], labels int64 [N]."""
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)))


def hold_out(whole: Split, per_class: int) -> tuple[Split, Split]:
    """(the rest, the last `per_class` images of every class): balanced, the same every time, no random numbers."""
    held = torch.zeros(len(whole.labels), dtype=torch.bool)
    for label in whole.labels.unique():
        held[(whole.labels == label).nonzero()[-per_class:, 0]] = True
    return Split(*(t[~held] for t in whole)), Split(*(t[held] for t in whole))


def from_torchvision(name: str) -> tuple[Split, Split, Split]:
    """(train, validation, test) of a data set that torchvision reads from the cache folder."""
    from torchvision import datasets

    given, splits = sources.source(name), []
    for train in (True, False):
        part = getattr(datasets, given.fetch)(sources.cache_folder(), train=train)
        images = np.asarray(part.data)  # [N, H, W] or [N, H, W, C]
        images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        splits.append(split(images, np.asarray(part.targets)))
    return *hold_out(splits[0], given.validation), splits[1]
