"""Make `fashion-mini.npz` from the full Fashion-MNIST: `python -m reducenet.data.fashion_mini.make`.

Balanced classes, by position in the original files, no random numbers:
the first 1,000 images a class of the training set train, the next 200 a class validate, the first 500 a class of the test set test.
"""

from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST

from reducenet.data import sources


def first_of_each_class(labels, start: int, count: int) -> np.ndarray:
    """Positions, ascending, of images number `start` to `start + count` of every class."""
    labels = np.asarray(labels)
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[start : start + count] for c in np.unique(labels)]))


def select() -> dict[str, np.ndarray]:
    """The six arrays of the file: `{train,val,test}_{images,labels}`, uint8, images `[N, 28, 28]`."""
    sources.files("fashion-mnist")
    train, test = (FashionMNIST(sources.cache_folder(), train=t) for t in (True, False))
    parts = {"train": (train, 0, 1000), "val": (train, 1000, 200), "test": (test, 0, 500)}
    arrays = {}
    for name, (split, start, count) in parts.items():
        chosen = first_of_each_class(split.targets, start, count)
        arrays[f"{name}_images"] = split.data.numpy()[chosen]
        arrays[f"{name}_labels"] = split.targets.numpy()[chosen].astype(np.uint8)
    return arrays


if __name__ == "__main__":
    file = Path(__file__).with_name("fashion-mini.npz")
    np.savez_compressed(file, **select())
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
