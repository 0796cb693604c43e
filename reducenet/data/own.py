"""Images of one's own, whatever they come from: checked, split into three if they are not, and what is known of them afterwards.

What is not split is split by class: the same images always into the same parts, whatever the seed of a study.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reducenet.data.sources import DataError
from reducenet.data.tensors import Split
from reducenet.nets.seeding import generator

PARTS = ("train", "val", "test")
SHARE = {"test": 0.2, "val": 0.1}  # of each class
LEAST = 5  # images of a class, to have some for each part
NEEDED = (
    "a data set is either whole (it is split here) or has a part train and a part test (with a part val, or that is split off train here)"
)

Images = np.ndarray  # uint8 [N, C, H, W]
Labels = np.ndarray  # whole numbers [N]


class Own(NamedTuple):
    """What a reader of images of one's own gives: three splits, the names of the classes, and how the splits came about."""

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    how: str


def in_three(where: Path, given: dict[str, tuple[Images, Labels]], names: tuple[str, ...]) -> Own:
    """`given` by part, or as one part that is called "", in three. `names` of the classes, or none where they are numbers.

    `DataError`, one line, for labels that are no whole numbers from 0 to K - 1, classes without images, images of several sizes, and what
    cannot be normalised.
    """
    parts = {part: Split(torch.from_numpy(images), _labels(f"{where}: {part or 'labels'}", images, labels, names))
             for part, (images, labels) in given.items()}  # fmt: skip
    first = next(iter(parts.values()))
    for part, split in parts.items():
        if split.images.shape[1:] != first.images.shape[1:]:
            raise DataError(f"{where}: {part} has images of {_shape(split)}, {next(iter(parts))} of {_shape(first)}; they must agree")
    highest, count = max(int(split.labels.max()) for split in parts.values()), sum(len(split.labels) for split in parts.values())
    if highest >= count:
        raise DataError(f"{where}: label {highest} of {count} images is out of range; labels go from 0 to one below the number of classes")
    names = names or tuple(str(i) for i in range(1 + highest))
    if len(names) < 2:
        raise DataError(f"{where}: one class alone ({names[0]}); there is nothing to tell apart")
    if "" in parts:
        parts, how = _three_ways(where, parts[""], names), _said(("test", "val"), "")
    elif "val" not in parts:
        (parts["train"], parts["val"]), how = _aside(where, parts["train"], names, "val"), _said(("val",), "train and test as they came; ")
    else:
        how = "train, val and test as they came"
    _check_trainable(where, parts["train"], names)
    return Own(*(parts[part] for part in PARTS), names, how)


def _said(parts: tuple[str, ...], before: str) -> str:
    of = {"test": "for testing", "val": "for validation"}
    return f"{before}{' and '.join(f'{SHARE[part]:.0%} of each class {of[part]}' for part in parts)}, the same always"


def _three_ways(where: Path, whole: Split, names: tuple[str, ...]) -> dict[str, Split]:
    rest, test = _aside(where, whole, names, "test")
    train, val = _aside(where, rest, names, "val", of=len(whole.labels) / len(rest.labels))
    return {"train": train, "val": val, "test": test}


def _aside(where: Path, split: Split, names: tuple[str, ...], part: str, of: float = 1.0) -> tuple[Split, Split]:
    """What stays, and the share of each class that goes into `part`; which images these are depends on their order alone."""
    going = torch.zeros(len(split.labels), dtype=torch.bool)
    for label, name in enumerate(names):
        own = (split.labels == label).nonzero()[:, 0]
        if 0 < len(own) < LEAST - (of > 1):
            raise DataError(
                f"{where}: {len(own)} images of class {name!r} cannot be split; {LEAST} are needed at least. {NEEDED.capitalize()}"
            )
        drawn = own[torch.randperm(len(own), generator=generator("own images", part, label))]
        going[drawn[: max(1, round(SHARE[part] * of * len(own)))]] = True
    order = torch.randperm(len(going), generator=generator("own images", part, "order"))  # classes that came one by one are mixed
    return tuple(Split(*(tensor[order[chosen[order]]] for tensor in split)) for chosen in (~going, going))


def _labels(where: str, images: Images, labels: Labels, names: tuple[str, ...]) -> Tensor:
    """The labels as int64 [N]."""
    if labels.dtype.kind not in "iu":
        raise DataError(f"{where}: labels are {labels.dtype}; they must be whole numbers from 0, names go into an array called classes")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1] or not len(labels):
        raise DataError(f"{where}: {len(images)} images and labels of shape {labels.shape}; there must be as many, and some")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (names and high >= len(names)):
        of = f" {len(names) - 1}, since classes names {len(names)}" if names else " one below the number of classes"
        raise DataError(f"{where}: label {low if low < 0 else high} is out of range; labels go from 0 to{of}")
    return torch.from_numpy(labels.astype(np.int64))


def _check_trainable(where: Path, train: Split, names: tuple[str, ...]) -> None:
    there = set(train.labels.tolist())
    missing = [name for label, name in enumerate(names) if label not in there]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise DataError(f"{where}: no training image has class {shown}; labels go from 0 to one below the number of classes")
    flat = [c for c in range(train.images.shape[1]) if train.images[:, c].min() == train.images[:, c].max()]
    if flat:
        raise DataError(f"{where}: channel {flat[0]} is the same number in all training images; there is nothing to normalise by")


def _shape(split: Split) -> str:
    return "x".join(map(str, split.images.shape[1:])) + " (C, H, W)"
