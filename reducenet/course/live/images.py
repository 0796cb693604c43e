"""The images that a panel is handed."""

import base64

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


def looks(data: Data) -> dict:
    """What common.js reads of images: their shape (C, H, W), mean and std; and the names of their classes."""
    mean, std = data.mean.flatten().tolist(), data.std.flatten().tolist()
    return {"shape": tuple(data.val.images.shape[1:]), "mean": mean, "std": std, "classes": data.classes}


def pixels(images: Tensor) -> str:
    """uint8 images as text, for `images(...)` in common.js."""
    return base64.b64encode(images.numpy().tobytes()).decode()
