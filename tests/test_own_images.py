"""Images of one's own: what is read is what is there, split the same always, and what is wrong is refused in one line."""

import io
import shutil
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from studies import TINY, make

from reducenet.data import sources
from reducenet.data.sources import DataError, fingerprint
from reducenet.data.tensors import about, load
from reducenet.study.plan import plan
from reducenet.study.read import read
from reducenet.words import add

DRAW = np.random.default_rng(0)


def drawn(count, *shape, classes=3):
    """Images that differ from each other, and labels class by class, as in a folder."""
    return DRAW.integers(0, 256, (count, *shape), dtype=np.uint8), np.sort(np.arange(count) % classes)


def write(folder, **arrays):
    np.savez_compressed(folder / "mine.npz", **arrays)
    return str(folder / "mine.npz")


def png(file, pixels, **how):
    file.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)).save(file, **how)


def folder_of(folder, count=30, shape=(8, 8), classes=("cat", "dog", "eel")):
    images, labels = drawn(count, *shape, classes=len(classes))
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        png(folder / classes[label] / f"{i:03}.png", image)
    return images, labels


def as_set(split):
    return {(image.numpy().tobytes(), label) for image, label in zip(split.images, split.labels.tolist(), strict=True)}


# ---- what is read


def test_every_image_is_in_one_part_with_its_label_and_classes_are_split_alike(tmp_path):
    images, labels = drawn(60, 8, 9)
    data = load(write(tmp_path, images=images, labels=labels))
    parts = [as_set(split) for split in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [42, 6, 12]
    assert set().union(*parts) == {(image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)}
    for split, each in ((data.train, 14), (data.val, 2), (data.test, 4)):
        assert split.labels.bincount().tolist() == [each] * 3
        assert split.images.shape[1:] == (1, 8, 9)
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
    assert data.train.labels[:14].unique().numel() > 1  # mixed: a beginning of it is no class alone
    assert data.classes == ("0", "1", "2")
    images, labels = drawn(200, 8, 8, classes=2)  # a tenth of all, not of what is left
    assert load(write(tmp_path, images=images, labels=labels)).val.labels.bincount().tolist() == [10, 10]


def test_the_split_is_the_same_always_and_mean_and_deviation_are_those_of_its_training_images(tmp_path):
    images, labels = drawn(50, 8, 8, 3, classes=2)
    torch.manual_seed(1)
    one = load(write(tmp_path, images=images, labels=labels, classes=np.array(["no", "yes"])))
    torch.manual_seed(2)
    two = load(write(tmp_path, images=images.transpose(0, 3, 1, 2), labels=labels[:, None].astype(np.uint8)))  # other forms, one data set
    for a, b in zip((*one.train, *one.val, *one.test), (*two.train, *two.val, *two.test), strict=True):
        assert torch.equal(a, b)
    said, x = about(one), one.train.images.double() / 255
    assert said["classes"] == ["no", "yes"]
    assert said["images"] == {"train": 36, "val": 4, "test": 10}
    assert said["shape"] == [3, 8, 8]
    assert said["name"] == "mine.npz"
    assert said["split"] == "20% of each class for testing and 10% of each class for validation, the same always"
    assert said["mean"] == pytest.approx(x.mean((0, 2, 3)).tolist())
    assert said["std"] == pytest.approx(x.transpose(0, 1).flatten(1).std(1).tolist(), rel=1e-5)
    for c in range(3):
        mine = one.normalise(one.train.images)[:, c]
        assert abs(mine.mean()) < 1e-5
        assert abs(mine.std() - 1) < 1e-5


def test_parts_of_their_own_stay_as_they_are_and_val_is_taken_from_train(tmp_path):
    (a, la), (b, lb), (c, lc) = drawn(40, 8, 8, classes=2), drawn(12, 8, 8, classes=2), drawn(10, 8, 8, classes=2)
    three = load(write(tmp_path, train_images=a, train_labels=la, val_images=b, val_labels=lb, test_images=c, test_labels=lc))
    for split, images, labels in ((three.train, a, la), (three.val, b, lb), (three.test, c, lc)):
        assert np.array_equal(split.images[:, 0].numpy(), images)
        assert np.array_equal(split.labels.numpy(), labels)
    assert three.how == "train, val and test as they came"
    two = load(write(tmp_path, train_images=a, train_labels=la, test_images=c, test_labels=lc))
    assert as_set(two.test) == as_set(three.test)
    assert as_set(two.train) | as_set(two.val) == as_set(three.train)
    assert (len(two.train.labels), two.val.labels.bincount().tolist()) == (36, [2, 2])
    assert two.how == "train and test as they came; 10% of each class for validation, the same always"


def test_a_folder_gives_what_an_npz_gives(tmp_path):
    images, labels = folder_of(tmp_path / "pets")
    (tmp_path / "pets" / "about.txt").write_text("no picture")
    (tmp_path / "pets" / ".hidden").mkdir()
    folder, file = load(f"{tmp_path}/pets/"), load(write(tmp_path, images=images, labels=labels))
    assert folder.classes == ("cat", "dog", "eel")
    assert about(folder)["name"] == "pets"
    for a, b in zip((*folder.train, *folder.test), (*file.train, *file.test), strict=True):
        assert torch.equal(a, b)


def test_a_folder_of_parts_and_every_kind_of_picture_that_loses_nothing(tmp_path):
    grey, colour = drawn(1, 6, 6)[0][0], drawn(1, 6, 6, 3)[0][0]
    opaque, palette = np.dstack([colour, np.full((6, 6), 255, np.uint8)]), PIL.Image.fromarray(colour).quantize(4)
    pixels = {
        "grey.png": grey,
        "colour.bmp": colour,
        "opaque.png": opaque,
        "palette.png": palette,
        "bits.png": grey > 127,
        "x.webp": colour,
    }
    for part in ("train", "test"):
        for name in ("a", "b"):
            for file, image in pixels.items():
                png(tmp_path / "pics" / part / name / file, image, **({"lossless": True} if file.endswith("webp") else {}))
    data = load(f"{tmp_path}/pics/")
    assert (len(data.train.labels), len(data.val.labels), len(data.test.labels)) == (10, 2, 12)
    wanted = [np.stack([grey > 127] * 3) * 255, colour.transpose(2, 0, 1), np.stack([grey] * 3), colour.transpose(2, 0, 1),
              np.array(palette.convert("RGB")).transpose(2, 0, 1), colour.transpose(2, 0, 1)]  # fmt: skip
    assert sorted(pixels) == ["bits.png", "colour.bmp", "grey.png", "opaque.png", "palette.png", "x.webp"]
    assert np.array_equal(data.test.images[:6].numpy(), wanted)


def test_crops_reach_as_far_as_the_size_says(tmp_path):
    assert [
        load(write(tmp_path, **dict(zip(("images", "labels"), drawn(15, side, side), strict=True)))).pad for side in (8, 28, 32, 60)
    ] == [1, 2, 2, 4]


# ---- what is the same data


def test_the_fingerprint_is_of_what_is_there_and_not_of_where(tmp_path):
    images, labels = folder_of(tmp_path / "pets")
    place, file = f"{tmp_path}/pets/", write(tmp_path, images=images, labels=labels)
    known, of_file = fingerprint(place), fingerprint(file)
    assert known != of_file
    shutil.copytree(tmp_path / "pets", tmp_path / "elsewhere" / "animals")
    assert fingerprint(f"{tmp_path}/elsewhere/animals/") == known
    shutil.copy(file, tmp_path / "other.npz")
    assert fingerprint(str(tmp_path / "other.npz")) == of_file
    one = tmp_path / "pets" / "cat" / "000.png"
    one.rename(one.with_name("a.png"))  # another order, another split
    assert fingerprint(place) != known
    one.with_name("a.png").rename(one)
    assert fingerprint(place) == known
    (tmp_path / "pets" / "eel").rename(tmp_path / "pets" / "eft")  # the same pictures in the same order, of another class
    assert fingerprint(place) != known
    (tmp_path / "pets" / "eft").rename(tmp_path / "pets" / "eel")
    (tmp_path / "pets" / ".DS_Store").write_text("")
    assert fingerprint(place) == known
    png(one, images[1])  # edited in the same process
    assert fingerprint(place) != known
    images[0, 0, 0] ^= 1
    assert fingerprint(write(tmp_path, images=images, labels=labels)) != of_file


def test_a_study_says_where_from_its_own_file_and_its_keys_follow_the_images(tmp_path, monkeypatch):
    images, labels = drawn(40, 12, 12)
    file = make(tmp_path / "one", TINY.replace('data = "synthetic"', 'data = "mine.npz"'))
    write(file.parent, images=images, labels=labels)
    made = plan(file, device="cpu")
    assert made.study.data == "mine.npz"
    folder_of(file.parent / "pets")
    for said in ("pets", "pets/", f"{file.parent}/pets"):
        study = read(make(tmp_path / "one", TINY.replace('data = "synthetic"', f'data = "{said}"'), "other"))
        assert study.images == f"{file.parent}/pets/"
    assert {run.parameters["data"] for run in made.runs.values()} == {str(file.parent / "mine.npz")}
    again = make(tmp_path / "two" / "deep", TINY.replace('data = "synthetic"', 'data = "mine.npz"'))
    write(again.parent, images=images, labels=labels)
    monkeypatch.chdir(again.parent)
    assert plan("tiny.toml", device="cpu").ends == made.ends
    write(again.parent, images=255 - images, labels=labels)
    assert not {*plan("tiny.toml", device="cpu").ends.values()} & {*made.ends.values()}
    (again.parent / "mine.npz").unlink()
    with pytest.raises(DataError, match="mine.npz: there is no such file; a study looks from where its own file is"):
        plan("tiny.toml", device="cpu")


# ---- what is refused

GOOD, LABELS = drawn(30, 8, 8)
BARE = "needed are images and labels, or train_images, train_labels, test_images, test_labels and, if there are"
WRONG = {
    "float": (dict(images=GOOD / 255, labels=LABELS), "images are float64; they must be uint8, from 0 to 255"),
    "int64": (dict(images=GOOD.astype(int), labels=LABELS), "images are int64; they must be uint8"),
    "objects": (dict(images=GOOD, labels=np.array([*"abc"] * 10, dtype=object)), "cannot be read, it holds objects, or is no .npz"),
    "ragged": (dict(images=np.array([*GOOD[:2], GOOD[0, 1:]], dtype=object), labels=LABELS[:3]), "cannot be read, it holds objects"),
    "flat": (dict(images=GOOD.reshape(30, 64), labels=LABELS), r"of shape \(30, 64\); they must be \[N, H, W\]"),
    "four channels": (dict(images=drawn(30, 8, 8, 4)[0], labels=LABELS), "with C 1 or 3"),
    "which axis": (dict(images=drawn(30, 3, 8, 3)[0], labels=LABELS), r"which may be \[N, H, W, C\] or \[N, C, H, W\]"),
    "empty": (dict(images=GOOD[:0], labels=LABELS[:0]), "they must be|and some"),
    "no pixels": (dict(images=GOOD[:, :0], labels=LABELS), "they must be"),
    "too few labels": (dict(images=GOOD, labels=LABELS[1:]), r"30 images and labels of shape \(29,\); there must be as many"),
    "one-hot": (dict(images=GOOD, labels=np.eye(3, dtype=int)[LABELS]), r"labels of shape \(30, 3\)"),
    "float labels": (dict(images=GOOD, labels=LABELS / 1), "labels are float64; they must be whole numbers from 0"),
    "text labels": (dict(images=GOOD, labels=LABELS.astype(str)), "names go into an array called classes"),
    "negative": (dict(images=GOOD, labels=LABELS - 1), "label -1 is out of range; labels go from 0 to one below"),
    "from 1": (dict(images=GOOD, labels=LABELS + 1), "no training image has class 0; labels go from 0"),
    "far above": (dict(images=GOOD, labels=LABELS * 10**12), "label 2000000000000 of 30 images is out of range"),
    "a gap": (dict(images=GOOD, labels=LABELS * 2), "no training image has class 1, 3"),
    "above": (dict(images=GOOD, labels=LABELS, classes=np.array([*"ab"])),
              "label 2 is out of range; labels go from 0 to 1, since classes names 2"),
    "unused": (dict(images=GOOD, labels=LABELS, classes=np.array([*"abcd"])), "no training image has class d"),
    "same names": (dict(images=GOOD, labels=LABELS, classes=np.array([*"aba"])), "classes must be a list of different texts"),
    "numbers": (dict(images=GOOD, labels=LABELS, classes=np.arange(3)), "classes must be a list of different texts"),
    "one class": (dict(images=GOOD, labels=LABELS * 0), r"one class alone \(0\)"),
    "few": (dict(images=GOOD, labels=np.array([0] * 13 + [1] * 13 + [2] * 4)), "4 images of class '2' cannot be split; 5 are needed"),
    "black": (dict(images=GOOD * 0 + 7, labels=LABELS), "channel 0 is the same number in all training images"),
    "other names": (dict(x=GOOD, y=LABELS), f"holds x, y; {BARE}"),
    "one more": (dict(images=GOOD, labels=LABELS, weights=LABELS), f"holds images, labels, weights; {BARE}"),
    "no test": (dict(train_images=GOOD, train_labels=LABELS, val_images=GOOD, val_labels=LABELS), BARE),
    "both": (dict(images=GOOD, labels=LABELS, test_images=GOOD, test_labels=LABELS), BARE),
    "no labels": (dict(train_images=GOOD, train_labels=LABELS, test_images=GOOD), BARE),
    "sizes": (dict(train_images=GOOD, train_labels=LABELS, test_images=GOOD[:, 1:], test_labels=LABELS),
              r"test has images of 1x7x8 \(C, H, W\), train of 1x8x8 \(C, H, W\); they must agree"),
    "only tested": (
        dict(train_images=GOOD, train_labels=LABELS.clip(0, 1), test_images=GOOD, test_labels=LABELS),
        "no training image has class 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_in_one_line(name, tmp_path):
    arrays, why = WRONG[name]
    with pytest.raises(DataError, match=why) as error:
        load(write(tmp_path, **arrays))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "mine.npz"))


def npy(images):
    file = io.BytesIO()
    np.save(file, images)
    return file.getvalue()


def packed(images):
    file = io.BytesIO()
    np.savez(file, images=images, labels=images)
    return file.getvalue()


DAMAGED = packed(GOOD)[:300] + b"x" * 40 + packed(GOOD)[340:]


@pytest.mark.parametrize("content", [b"", b"no zip", b"\x80\x04K\x01.", npy(GOOD), packed(GOOD)[:-200], DAMAGED],
                         ids=["empty", "text", "pickle", "npy", "cut", "damaged"])  # fmt: skip
def test_what_is_no_npz_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(DataError, match="mine.npz: cannot be read") as error:
        load(str(tmp_path / "mine.npz"))
    assert "\n" not in str(error.value)


def _cut(file):
    file.write_bytes(file.read_bytes()[:-40])


def _in_parts(pets, *parts):
    whole = pets.rename(pets.parent / "whole")
    for part in parts:
        shutil.copytree(whole, pets / part)


PICTURES = {
    "larger": (lambda pets: png(pets / "dog" / "x.png", GOOD[0].repeat(2, 0)),
               "cat/000.png is 8x8 and dog/x.png is 8x16; make all pictures one size"),
    "cut": (lambda pets: _cut(pets / "dog" / "010.png"), "dog/010.png: cannot be read as a picture"),
    "text": (lambda pets: (pets / "dog" / "x.jpg").write_text("no picture"), "dog/x.jpg: cannot be read as a picture"),
    "16 bits": (lambda pets: png(pets / "dog" / "x.png", GOOD[0].astype(np.uint16) * 100), "dog/x.png: is of mode I;16"),
    "print": (lambda pets: png(pets / "dog" / "x.jpg", PIL.Image.fromarray(GOOD[0]).convert("CMYK")),
              "dog/x.jpg: is of mode CMYK; save it with 8 bits"),
    "clear": (lambda pets: png(pets / "dog" / "x.png", PIL.Image.fromarray(GOOD[0]).convert("RGBA").resize((8, 8)).rotate(45)),
              "dog/x.png: parts of it are transparent"),
    "no picture": (lambda pets: (pets / "fox").mkdir(), "no picture of class fox; endings: .jpg"),
    "one class": (lambda pets: [shutil.rmtree(pets / name) for name in ("cat", "eel")], r"one class alone \(dog\)"),
    "no class": (lambda pets: [shutil.rmtree(pets / name) for name in ("cat", "dog", "eel")], "has no folder for a class in it"),
    "train beside": (lambda pets: (pets / "train").mkdir(), "has the folders cat, dog, eel, train; a data set is either whole"),
    "no test": (lambda pets: _in_parts(pets, "train", "val"), "has the folders train, val; a data set is either whole"),
    "other classes": (lambda pets: [_in_parts(pets, "train", "test"), (pets / "test" / "eel").rename(pets / "test" / "fox")],
                      "have different classes .eel, fox."),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_a_wrong_folder_is_refused_in_one_line(name, tmp_path):
    damage, why = PICTURES[name]
    folder_of(tmp_path / "pets")
    damage(tmp_path / "pets")
    with pytest.raises(DataError, match=why) as error:
        load(f"{tmp_path}/pets/")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "why"), [
    ("none.npz", "none.npz: there is no such file"), ("none/", "none/: there is no such folder"),
    ("*.npz", "stands for a place of that form"),
    ("none.npy", "unknown data set 'none.npy'.*known: .*npz"), ("mine.npz/", "there is no such folder"),
])  # fmt: skip
def test_what_is_not_there_is_said(name, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, images=GOOD, labels=LABELS)
    for asked in (load, fingerprint):
        with pytest.raises(DataError, match=why) as error:
            asked(name)
        assert "\n" not in str(error.value)


def test_a_kind_of_data_says_how_it_is_used(tmp_path, monkeypatch):
    file = write(tmp_path, images=GOOD, labels=LABELS)
    known, given = fingerprint(file), sources.source(file)
    monkeypatch.setattr(sources, "source", lambda name: replace(given, pad=3))
    assert fingerprint(file) != known


def test_a_kind_of_file_of_ones_own_is_a_word_with_a_star(tmp_path, anew):
    (tmp_path / "words.py").write_text(
        "import numpy as np\nfrom reducenet.data.own import in_three\nfrom reducenet.words import dataset\n\n\n"
        '@dataset("*.raw")\ndef raw(paths):\n    """Bytes of 8x8."""\n'
        "    pixels = np.fromfile(paths[0], np.uint8).reshape(-1, 1, 8, 8)\n"
        '    return in_three(paths[0], {"": (pixels, np.arange(len(pixels)) % 2)}, ())\n'
    )
    GOOD.tofile(tmp_path / "mine.raw")
    with pytest.raises(DataError, match="unknown data set"):
        load(str(tmp_path / "mine.raw"))
    add(tmp_path / "words.py")
    data = load(str(tmp_path / "mine.raw"))
    assert {image.tobytes() for image in GOOD} == {image for split in (data.train, data.val, data.test) for image, _ in as_set(split)}
    assert data.classes == ("0", "1")
