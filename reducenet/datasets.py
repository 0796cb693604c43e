"""Which data sets there are, in which files they live, and how to get them. Imports no torch, so planning stays instant.

The tensors are made in `data.py`; this file only answers "is it here?" and "is it the same data as last time?".
"""

import gzip
import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
PACKAGED = Path(__file__).parent / "fashion_mini" / "fashion-mini.npz"


class DataError(ValueError):
    """A data set is unknown, absent or damaged; the message is one line and says what to do."""


@dataclass(frozen=True)
class Source:
    """Where a data set comes from. `files` are relative to the cache folder; `validation` images per class are split off."""

    name: str
    classes: tuple[str, ...]
    files: tuple[str, ...] = ()
    validation: int = 0
    pad: int = 2  # pixels of zero padding before the random crop
    licence: str = "MIT"


CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IDX = tuple(f"FashionMNIST/raw/{part}-ubyte" for part in
            ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"))  # fmt: skip

SOURCES = {
    source.name: source
    for source in (
        Source("fashion-mini", CLOTHES),
        Source("fashion-mnist", CLOTHES, IDX, validation=500),
        Source(
            "cifar10",
            CIFAR10,
            tuple(f"cifar-10-batches-py/{f}" for f in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")),
            validation=500,
            pad=4,
            licence="not stated by its authors",
        ),
        Source(
            "cifar100",
            tuple(str(i) for i in range(100)),
            ("cifar-100-python/train", "cifar-100-python/test"),
            validation=50,
            pad=4,
            licence="not stated by its authors",
        ),
        Source("synthetic", tuple("0123"), licence="made here"),
    )
}


def source(name: str) -> Source:
    """The source called `name`, or a one-line `DataError` that lists the known ones."""
    if name not in SOURCES:
        raise DataError(f"unknown data set {name!r}; known: {', '.join(SOURCES)}")
    return SOURCES[name]


def cache_folder() -> Path:
    """`$REDUCENET_DATA`, or the platform's cache folder."""
    return Path(os.environ.get("REDUCENET_DATA") or platformdirs.user_cache_dir("reducenet"))


def files(name: str) -> list[Path]:
    """The files that hold data set `name`; `DataError` with the command that gets them where one is missing.

    Fashion-MNIST is unpacked from Debian's package `dataset-fashion-mnist` when that is installed.
    """
    if name == "fashion-mini":
        return [PACKAGED]
    wanted = [cache_folder() / file for file in source(name).files]
    if name == "fashion-mnist" and DEBIAN.is_dir():
        _unpack_debian(wanted)
    for file in wanted:
        if not file.is_file():
            raise DataError(f"data set {name!r} is not in {cache_folder()} ({file.name} is missing); "
                            f"get it with `reducenet data {name}`, or point REDUCENET_DATA at a folder that has it")  # fmt: skip
    return wanted


def _unpack_debian(wanted: list[Path]) -> None:
    for file in wanted:
        packed = DEBIAN / f"{file.name}.gz"
        if packed.is_file() and not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_name(f"{file.name}.{os.getpid()}")
            with gzip.open(packed) as source, open(partial, "wb") as target:
                shutil.copyfileobj(source, target)
            partial.replace(file)  # atomic: a reader sees the whole file or none


@cache
def fingerprint(name: str) -> str:
    """A hash of the files behind `name` and of how they are used: what "the same data" means in a study's keys."""
    digest = hashlib.sha256(repr(source(name)).encode())  # what is held out and how far crops reach are part of the data
    for file in files(name):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def download(name: str) -> Path:
    """Fetch `name` into the cache folder through torchvision, and return that folder. Needs the network, once."""
    from torchvision import datasets as tv

    makers = {"fashion-mnist": tv.FashionMNIST, "cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}
    source(name)
    if name in makers:
        try:
            files(name)  # already here, or unpacked from Debian's package
        except DataError:
            try:
                makers[name](cache_folder(), download=True)
            except Exception as error:  # urllib, ssl and torchvision each raise their own
                why = " ".join(str(error).split()) or type(error).__name__
                raise DataError(f"could not fetch {name!r}: {why}; is there a network?") from error
    return PACKAGED.parent if name in ("fashion-mini", "synthetic") else cache_folder()
