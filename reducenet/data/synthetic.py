"""Images made here: four patterns under noise, learnable in seconds, for tests and for replaying every word of a sentence."""

import torch

from reducenet.data.tensors import Split
from reducenet.nets.seeding import generator
from reducenet.words import dataset


@dataset("synthetic", classes=("0", "1", "2", "3"), licence="made here")
def synthetic(paths):
    """Four classes, each a fixed random pattern under noise: 512 + 128 + 128 images of 12x12."""
    size, draw = 12, generator("synthetic")
    coarse = torch.randint(0, 256, (4, 1, 3, 3), generator=draw)
    patterns = coarse.repeat_interleave(size // 3, 2).repeat_interleave(size // 3, 3)
    splits = []
    for count in (512, 128, 128):
        labels = torch.arange(count) % 4
        noise = torch.randint(0, 256, (count, 1, size, size), generator=draw)
        splits.append(Split(((2 * patterns[labels] + noise) // 3).to(torch.uint8), labels))
    return tuple(splits)
