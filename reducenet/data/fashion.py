"""Fashion-MNIST: grey images of clothes, 28x28. Source: Xiao et al. 2017."""

import numpy as np

from reducenet.data.tensors import from_torchvision, split
from reducenet.words import dataset

CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IDX = ("FashionMNIST/raw/train-images-idx3-ubyte", "FashionMNIST/raw/train-labels-idx1-ubyte",
       "FashionMNIST/raw/t10k-images-idx3-ubyte", "FashionMNIST/raw/t10k-labels-idx1-ubyte")  # fmt: skip


@dataset("fashion-mini", classes=CLOTHES, files=("fashion_mini/fashion-mini.npz",), packaged=True)
def fashion_mini(paths):
    """10,000 + 2,000 + 5,000 images of Fashion-MNIST, inside the package."""
    with np.load(paths[0]) as arrays:
        return tuple(split(arrays[f"{part}_images"][:, None], arrays[f"{part}_labels"]) for part in ("train", "val", "test"))


@dataset("fashion-mnist", classes=CLOTHES, files=IDX, validation=500, fetch="FashionMNIST")
def fashion_mnist(paths):
    """All of Fashion-MNIST: 55,000 + 5,000 + 10,000 images."""
    return from_torchvision("fashion-mnist")
