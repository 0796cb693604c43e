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
    `validation` images per class are split off the training images; `fetch` is its class in torchvision.datasets. Images of one's own have
    their classes and their parts from what is read, and their crops reach as far as their size says."""

    name: str
    classes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    validation: int = 0
    pad: int | None = 2  # pixels of zero padding before the random crop
    licence: str = "MIT"
    fetch: str = ""
    packaged: bool = False


def source(name: str) -> Source:
    """The source called `name`, or a one-line `DataError` that lists the known ones. Of images of one's own, which are called by their
    place, it is the kind (`*.npz`), wherever they lie."""
    try:
        word = find("dataset", name)
    except MoveError:
        raise DataError(unknown("data set", name, words("dataset"))) from None
    if "*" in name:
        raise DataError(f"{name} stands for a place of that form, where images of your own lie: data = {name.replace('*', 'mine')!r}")
    return Source(word.name, **word.options)


def is_own(name: str) -> bool:
    """Whether `name` is a place, and what lies there one's own."""
    return source(name).name != name


def located(name: str, folder: Path) -> str:
    """How `name`, said in a file of `folder`, is said anywhere: places are absolute, and a folder ends in "/"."""
    place = folder / Path(name).expanduser()
    try:
        own = is_own(name)
    except DataError:  # a folder, or nothing; that is said in time, by whoever needs the data
        own = place.is_dir()
    return f"{place.absolute()}{'/' if name.endswith('/') or place.is_dir() else ''}" if own else name


def cache_folder() -> Path:
    """`$REDUCENET_DATA`, or the platform's cache folder."""
    return Path(os.environ.get("REDUCENET_DATA") or platformdirs.user_cache_dir("reducenet"))


def files(name: str) -> list[Path]:
    """The files that hold data set `name`, or the one place where one's own lie; `DataError` with the command that gets them where one is
    missing.

    Fashion-MNIST is unpacked from Debian's package `dataset-fashion-mnist` when that is installed.
    """
    given = source(name)
    if given.name != name:
        place = Path(name)
        if not (place.is_dir() if name.endswith("/") else place.is_file()):
            raise DataError(
                f"{name}: there is no such {'folder' if name.endswith('/') else 'file'}; a study looks from where its own file is"
            )
        return [place]
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


def fingerprint(name: str) -> str:
    """A hash of the files behind `name` and of how they are used: what "the same data" means in a study's keys, wherever they lie."""
    places = files(name)
    inside = {file: (file.relative_to(place).as_posix() if place.is_dir() else "") for place in places for file in _contents(place)}
    return _fingerprint(repr(source(name)), tuple((file, name, _stamp(file)) for file, name in inside.items()))


@cache
def _fingerprint(used: str, found: tuple[tuple[Path, str, tuple], ...]) -> str:
    digest = hashlib.sha256(used.encode())  # what is held out and how far crops reach are part of the data
    for file, name, _ in found:
        digest.update(name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _stamp(file: Path) -> tuple[int, int]:
    """What changes with the file, without reading it: a hash is asked for once a run."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _contents(place: Path) -> list[Path]:
    """All files there; what is hidden is nobody's picture."""
    if not place.is_dir():
        return [place]
    walked = [Path(root) / file for root, _, inside in os.walk(place, followlinks=True) for file in inside]
    return sorted(file for file in walked if not any(part.startswith(".") for part in file.relative_to(place).parts))


def download(name: str) -> Path:
    """Fetch `name` into the cache folder through torchvision, and return the folder where it is. Needs the network, once."""
    given = source(name)
    if given.name != name:
        return files(name)[0]
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
