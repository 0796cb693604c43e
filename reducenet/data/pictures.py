"""A folder of pictures of one's own: a folder for each class. torchvision finds them; a picture that is not what it seems is refused."""

from pathlib import Path

import numpy as np

from reducenet.data.own import NEEDED, PARTS, Own, in_three
from reducenet.data.sources import DataError
from reducenet.words import dataset

Picture = np.ndarray  # uint8 [C, H, W], C 1 or 3


@dataset("*/", pad=None)
def pictures(paths) -> Own:
    """Pictures of your own, in a folder beside the study file: FOLDER/CLASS/*.png, or FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png.

    The endings are those that torchvision's ImageFolder knows. Pictures are of one size, 8 bits a channel, grey or RGB; grey stays grey
    where all are. Without parts, a fifth of each class is for testing and a tenth for validation; with train and test and without val, a
    tenth of train is.
    """
    folder = paths[0]
    inside = _folders(folder)
    parts = {part: folder / part for part in PARTS if part in inside} or {"": folder}
    if "" not in parts and not ({"train", "test"} <= {*inside} <= {*PARTS}):
        raise DataError(f"{folder}: has the folders {', '.join(inside)}; {NEEDED}, and a class is called neither")
    names = _folders(next(iter(parts.values())))
    if not names:
        raise DataError(f"{folder}: has no folder for a class in it; pictures lie in {folder.name}/CLASS/")
    given = {part: _read(where, names) for part, where in parts.items()}
    channels = max(picture.shape[0] for pictures, _ in given.values() for picture in pictures)
    stacked = {
        part: (np.stack([np.repeat(p, channels // len(p), 0) for p in pictures]), labels) for part, (pictures, labels) in given.items()
    }
    return in_three(folder, stacked, tuple(names))


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def _read(folder: Path, names: list[str]) -> tuple[list[Picture], np.ndarray]:
    """The pictures of a part, all of one size, and their labels."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    other = sorted({*_folders(folder)} ^ {*names})
    if other:
        raise DataError(f"{folder}: the parts have different classes ({', '.join(other)}); each needs the same folders")
    try:
        found = make_dataset(folder, {name: label for label, name in enumerate(names)}, IMG_EXTENSIONS)
    except FileNotFoundError:
        empty = [name for name in names if not any(file.suffix.lower() in IMG_EXTENSIONS for file in (folder / name).rglob("*"))]
        raise DataError(f"{folder}: no picture of class {', '.join(empty)}; endings: {', '.join(IMG_EXTENSIONS)}") from None
    read = [_picture(Path(file)) for file, _ in found]
    for (file, _), picture in zip(found, read, strict=True):
        if picture.shape[1:] != read[0].shape[1:]:
            sizes = [
                f"{Path(name).relative_to(folder)} is {p.shape[2]}x{p.shape[1]}" for name, p in ((found[0][0], read[0]), (file, picture))
            ]
            raise DataError(f"{folder}: {' and '.join(sizes)}; make all pictures one size")
    return read, np.array([label for _, label in found])


def _picture(file: Path) -> Picture:
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.load()
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                if image.getchannel("A").getextrema() != (255, 255):
                    raise DataError(f"{file}: parts of it are transparent; put it on a background")
                image = image.convert("RGB")
            plain = image if image.mode in ("L", "RGB") else image.convert({"1": "L", "P": "RGB"}[image.mode])
            pixels = np.array(plain)
    except DataError:
        raise
    except KeyError:
        raise DataError(f"{file}: is of mode {image.mode}; save it with 8 bits a channel, grey or RGB") from None
    except Exception as error:  # a damaged picture can raise anything
        raise DataError(f"{file}: cannot be read as a picture ({type(error).__name__})") from None
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
