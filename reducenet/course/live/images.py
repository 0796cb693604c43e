"""The images that a panel is handed."""

import base64
from collections.abc import Iterable

import torch
from torch import Tensor

from reducenet.data.tensors import Data, Split

EACH = 6  # held-out images of each class to pick from


def held_out(data: Data, images: int = 500) -> Split:
    """Validation images, evenly from all of them: those that accuracies in panels speak of."""
    pick = torch.arange(len(data.val.labels)) % max(1, len(data.val.labels) // images) == 0
    return Split(data.val.images[pick][:images], data.val.labels[pick][:images])


def picked(held: Split, classes: int, each: int = EACH) -> Split:
    """The first `each` images of every class, class by class."""
    rows = torch.cat([(held.labels == label).nonzero()[:each, 0] for label in range(classes)])
    return Split(held.images[rows], held.labels[rows])


def handed(data: Data, held: Split, some: Split) -> dict:
    """What common.js and picker.js read: how images look, `some` of the `held` ones to pick from, and how many those are."""
    return {**looks(data), "held": {"pixels": pixels(some.images), "labels": some.labels.tolist(), "of": len(held.labels)}}


def limits(logits: Iterable[Tensor]) -> list[float]:
    """The ends of a scale for these logits, 0 between them."""
    every = torch.cat([part.flatten() for part in logits])
    return [min(0.0, every.min().item()), max(0.0, every.max().item())]


def looks(data: Data) -> dict:
    """What common.js reads of images: their shape (C, H, W), mean and std; and the names of their classes."""
    mean, std = data.mean.flatten().tolist(), data.std.flatten().tolist()
    return {"shape": tuple(data.val.images.shape[1:]), "mean": mean, "std": std, "classes": data.classes}


def pixels(images: Tensor) -> str:
    """uint8 images as text, for `images(...)` in common.js."""
    return base64.b64encode(images.numpy().tobytes()).decode()
