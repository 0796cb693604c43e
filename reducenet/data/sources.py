"""Which data sets there are, in which files they live, and how to get them. Imports no torch, so planning stays instant.

The tensors are made by the words themselves; this file only answers "is it here?" and "is it the same data as last time?".
"""

import gzip
import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from reducenet.store import whole
from reducenet.words import MoveError, find, unknown, words

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
HERE = Path(__file__).parent


class DataError(ValueError):
    """A data set is unknown, absent or damaged; the message is one line and says what to do."""


@dataclass(frozen=True)
class Source:
    """Where a data set comes from, as its decorator says. `files` are relative to the cache folder, or inside the package where `packaged`;
    `validation` images per class are split off the training images; `fetch` is its class in torchvision.datasets."""

    name: str
    classes: tuple[str, ...]
    files: tuple[str, ...] = ()
    validation: int = 0
    pad: int = 2  # pixels of zero padding before the random crop
    licence: str = "MIT"
    fetch: str = ""
    packaged: bool = False


def source(name: str) -> Source:
    """The source called `name`, or a one-line `DataError` that lists the known ones."""
    try:
        word = find("dataset", name)
    except MoveError:
        raise DataError(unknown("data set", name, words("dataset"))) from None
    return Source(name, **word.options)


def cache_folder() -> Path:
    """`$REDUCENET_DATA`, or the platform's cache folder."""
    return Path(os.environ.get("REDUCENET_DATA") or platformdirs.user_cache_dir("reducenet"))


def files(name: str) -> list[Path]:
    """The files that hold data set `name`; `DataError` with the command that gets them where one is missing.

    Fashion-MNIST is unpacked from Debian's package `dataset-fashion-mnist` when that is installed.
    """
    given = source(name)
    wanted = [(HERE if given.packaged else cache_folder()) / file for file in given.files]
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
            with whole(file) as partial, gzip.open(packed) as source, open(partial, "wb") as target:
                shutil.copyfileobj(source, target)


@cache
def fingerprint(name: str) -> str:
    """A hash of the files behind `name` and of how they are used: what "the same data" means in a study's keys."""
    digest = hashlib.sha256(repr(source(name)).encode())  # what is held out and how far crops reach are part of the data
    for file in files(name):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def download(name: str) -> Path:
    """Fetch `name` into the cache folder through torchvision, and return the folder where it is. Needs the network, once."""
    given = source(name)
    if given.fetch:
        try:
            files(name)  # already here, or unpacked from Debian's package
        except DataError:
            from torchvision import datasets

            try:
                getattr(datasets, given.fetch)(cache_folder(), download=True)
            except Exception as error:  # urllib, ssl and torchvision each raise their own
                why = " ".join(str(error).split()) or type(error).__name__
                raise DataError(f"could not fetch {name!r}: {why}; is there a network?") from error
    return cache_folder() if given.fetch or (not given.packaged and given.files) else HERE
