"""CIFAR-10 and CIFAR-100: colour images, 32x32. Source: Krizhevsky 2009."""

from reducenet.data.tensors import from_torchvision
from reducenet.words import dataset

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = ("cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/data_batch_2", "cifar-10-batches-py/data_batch_3",
           "cifar-10-batches-py/data_batch_4", "cifar-10-batches-py/data_batch_5", "cifar-10-batches-py/test_batch")  # fmt: skip


@dataset("cifar10", classes=TEN, files=BATCHES, validation=500, pad=4, licence="not stated by its authors", fetch="CIFAR10")
def cifar10(paths):
    """CIFAR-10: 45,000 + 5,000 + 10,000 images."""
    return from_torchvision("cifar10")


@dataset("cifar100", classes=tuple(str(i) for i in range(100)), files=("cifar-100-python/train", "cifar-100-python/test"), validation=50,
         pad=4, licence="not stated by its authors", fetch="CIFAR100")  # fmt: skip
def cifar100(paths):
    """CIFAR-100: 45,000 + 5,000 + 10,000 images."""
    return from_torchvision("cifar100")
