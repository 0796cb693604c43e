"""An `.npz` of one's own: arrays of images and labels. Nothing in it is unpickled."""

import zipfile

import numpy as np

from reducenet.data.own import NEEDED, PARTS, Own, in_three
from reducenet.data.sources import DataError
from reducenet.words import dataset

CHANNELS = (1, 3)


@dataset("*.npz", pad=None)
def npz(paths) -> Own:
    """Images of your own, in a file beside the study file: `images` and `labels`, or `train_images`, `train_labels` and so on.

    Images are uint8, [N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3; labels whole numbers [N] from 0 on; an array `classes` of
    texts names them. Without parts, a fifth of each class is for testing and a tenth for validation; with train and test and without val, a
    tenth of train is. MedMNIST's files are of this kind.
    """
    file = paths[0]
    found = _arrays(file)
    names = _names(file, found.pop("classes", None))
    parts = {part: f"{part}_" for part in PARTS if f"{part}_images" in found} or {"": ""}
    wanted = {f"{prefix}{what}" for prefix in parts.values() for what in ("images", "labels")}
    if wanted != set(found) or not {*parts} & {"", "test"} or not {*parts} & {"", "train"}:
        raise DataError(f"{file}: holds {', '.join(found) or 'nothing'}; needed are images and labels, or train_images, train_labels, "
                        f"test_images, test_labels and, if there are, val_images and val_labels. {NEEDED.capitalize()}")  # fmt: skip
    given = {part: (_images(f"{file}: {prefix}images", found[f"{prefix}images"]), found[f"{prefix}labels"])
             for part, prefix in parts.items()}  # fmt: skip
    return in_three(file, given, names)


def _arrays(file) -> dict[str, np.ndarray]:
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.zlib.error, AttributeError, TypeError) as error:
        objects = "Object arrays" in str(error) or "pickle" in str(error)
        why = "it holds objects, or is no .npz, and nothing is unpickled here" if objects else "it is no .npz, or is damaged"
        raise DataError(f"{file}: cannot be read, {why}; np.savez_compressed(file, images=..., labels=...) writes one") from None


def _names(file, classes: np.ndarray | None) -> tuple[str, ...]:
    if classes is None:
        return ()
    if classes.ndim != 1 or classes.dtype.kind != "U" or len(set(classes.tolist())) != len(classes):
        raise DataError(f"{file}: classes must be a list of different texts, not {classes.dtype} of shape {classes.shape}")
    return tuple(classes.tolist())


def _images(where: str, images: np.ndarray) -> np.ndarray:
    """The images as uint8 [N, C, H, W]."""
    if images.dtype != np.uint8:
        raise DataError(f"{where} are {images.dtype}; they must be uint8, from 0 to 255")
    if images.ndim == 3 and 0 not in images.shape:
        return np.ascontiguousarray(images[:, None])
    first, last = (images.shape[axis] in CHANNELS for axis in (1, -1)) if images.ndim == 4 else (False, False)
    if images.ndim != 4 or not (first or last) or 0 in images.shape:
        raise DataError(f"{where} are of shape {images.shape}; they must be [N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3")
    if first and last:
        raise DataError(f"{where} are of shape {images.shape}, which may be [N, H, W, C] or [N, C, H, W]; make them larger than 3 pixels")
    return np.ascontiguousarray(images if first else images.transpose(0, 3, 1, 2))
