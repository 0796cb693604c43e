"""A data set is tensors in memory: uint8 images, labels, and the mean and standard deviation of the training images.

A batch is gathered, cropped and flipped per image, and normalised in a few vectorised lines; there are no loader workers.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reducenet import datasets
from reducenet.seeding import generator


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
    """The data set called `name` (see `datasets.SOURCES`); `DataError`, one line, where it is unknown, absent or damaged."""
    source = datasets.source(name)
    paths = datasets.files(name)
    readers = {"fashion-mini": _packaged, "synthetic": _synthetic}
    try:
        train, val, test = readers.get(name, _torchvision)(source, paths)
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, AssertionError) as error:
        where = paths[0].parent if paths else name
        raise datasets.DataError(f"data set {name!r} in {where} cannot be read: {error or type(error).__name__}") from error
    scaled = train.images.float() / 255
    mean, std = scaled.mean((0, 2, 3)).view(-1, 1, 1), scaled.std((0, 2, 3)).view(-1, 1, 1)
    return Data(name, source.classes, train, val, test, mean, std, source.pad)


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


def _packaged(source, paths):
    with np.load(paths[0]) as arrays:
        return tuple(_split(arrays[f"{part}_images"][:, None], arrays[f"{part}_labels"]) for part in ("train", "val", "test"))


def _torchvision(source, paths):
    from torchvision import datasets as tv

    maker = {"fashion-mnist": tv.FashionMNIST, "cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}[source.name]
    splits = []
    for train in (True, False):
        part = maker(datasets.cache_folder(), train=train)
        images = np.asarray(part.data)  # [N, H, W] or [N, H, W, C]
        images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        splits.append(_split(images, np.asarray(part.targets)))
    return *_hold_out(splits[0], source.validation), splits[1]


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)))


def _hold_out(split: Split, per_class: int) -> tuple[Split, Split]:
    """(the rest, the last `per_class` images of every class): balanced, the same every time, no random numbers."""
    held = torch.zeros(len(split.labels), dtype=torch.bool)
    for label in split.labels.unique():
        held[(split.labels == label).nonzero()[-per_class:, 0]] = True
    return Split(*(t[~held] for t in split)), Split(*(t[held] for t in split))


def _synthetic(source, paths, counts=(512, 128, 128), size=12) -> tuple[Split, ...]:
    """Four classes, each a fixed random pattern under noise: learnable in seconds, for tests."""
    draw = generator("synthetic")
    coarse = torch.randint(0, 256, (len(source.classes), 1, 3, 3), generator=draw)
    patterns = coarse.repeat_interleave(size // 3, 2).repeat_interleave(size // 3, 3)
    splits = []
    for count in counts:
        labels = torch.arange(count) % len(source.classes)
        noise = torch.randint(0, 256, (count, 1, size, size), generator=draw)
        splits.append(Split(((2 * patterns[labels] + noise) // 3).to(torch.uint8), labels))
    return tuple(splits)
