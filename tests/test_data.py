import gzip
import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reducenet.data import sources
from reducenet.data.tensors import Split, augment, batches, hold_out, load
from reducenet.nets.seeding import generator


def test_fashion_mini_is_balanced_and_split():
    data = load("fashion-mini")
    assert data.train.images.shape == (10_000, 1, 28, 28)
    assert data.train.images.dtype == torch.uint8
    for split, each in ((data.train, 1000), (data.val, 200), (data.test, 500)):
        assert split.labels.bincount().tolist() == [each] * 10
    seen = {image.numpy().tobytes() for image in data.train.images}
    assert len(seen & {image.numpy().tobytes() for image in data.val.images}) < 5  # Fashion-MNIST repeats a few images itself


@pytest.mark.skipif(not sources.DEBIAN.is_dir(), reason="needs Debian's dataset-fashion-mnist: apt install dataset-fashion-mnist")
def test_fashion_mini_is_what_its_script_makes(tmp_path, monkeypatch):
    from reducenet.data.fashion_mini.make import select

    monkeypatch.setenv("REDUCENET_DATA", str(tmp_path))
    with np.load(sources.files("fashion-mini")[0]) as packaged:
        for name, array in select().items():
            assert np.array_equal(array, packaged[name]), name
    full = load("fashion-mnist")  # unpacked from Debian's package by now
    assert [len(split.labels) for split in (full.train, full.val, full.test)] == [55_000, 5_000, 10_000]
    assert full.val.labels.bincount().tolist() == [500] * 10


def test_normalised_training_images_have_mean_0_and_deviation_1():
    data = load("fashion-mini")
    x = data.normalise(data.train.images)
    assert x.mean().abs() < 1e-4
    assert (x.std() - 1).abs() < 1e-4


def test_augment_crops_and_flips_each_image_by_itself():
    """Brute force: every view is one of the 2 x 25 crops of its own image, and not all use the same one."""
    images = torch.randint(0, 256, (40, 2, 9, 7), dtype=torch.uint8)
    views = augment(images, 2, generator("test"))
    padded, used = F.pad(images, (2, 2, 2, 2)), set()
    for image, view in zip(padded, views, strict=True):
        crops = {}
        for y in range(5):
            for x in range(5):
                crop = image[:, y : y + 9, x : x + 7]
                crops[y, x, False], crops[y, x, True] = crop, crop.flip(2)
        found = [key for key, crop in crops.items() if torch.equal(crop, view)]
        assert found
        used.add(found[0])
    assert len(used) > 20
    assert views.stride() == (126, 63, 7, 1)  # plain contiguous: torch 2.14 breaks on narrow nets in channels_last


def test_batches_visit_every_image_once_and_depend_on_their_key_alone():
    data = load("synthetic")
    torch.manual_seed(1)
    first = list(batches(data, 100, 0, 1, 2))
    torch.manual_seed(2)
    again = list(batches(data, 100, 0, 1, 2))
    other = list(batches(data, 100, 0, 1, 3))
    assert [len(y) for _, y in first] == [100] * 5 + [12]
    assert torch.cat([y for _, y in first]).bincount().tolist() == data.train.labels.bincount().tolist()
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])


def write_cifar(folder, per_class, classes, coarse=False):
    """Files in CIFAR's own format: pickled dictionaries with bytes-like rows of 3 x 32 x 32."""
    rng = np.random.default_rng(0)

    def dump(path, count, key):
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = [i % classes for i in range(count)]
        content = {"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8), key: labels}
        path.write_bytes(pickle.dumps(content))

    key = "fine_labels" if coarse else "labels"
    for file in folder:
        dump(file, per_class * classes, key)


@pytest.mark.parametrize(("name", "per_class", "classes"), [("cifar10", 120, 10), ("cifar100", 60, 100)])
def test_cifar_from_files_in_its_own_format(name, per_class, classes, tmp_path, monkeypatch):
    from torchvision import datasets as tv

    monkeypatch.setenv("REDUCENET_DATA", str(tmp_path))
    files = [tmp_path / file for file in sources.source(name).files]
    write_cifar(files, per_class, classes, coarse=name == "cifar100")
    meta = {"cifar10": ("batches.meta", "label_names"), "cifar100": ("meta", "fine_label_names")}[name]
    (files[0].parent / meta[0]).write_bytes(pickle.dumps({meta[1]: [str(i) for i in range(classes)]}))
    maker = {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}[name]  # expects the checksums of the real files: give it ours

    def md5(file):
        return hashlib.md5(file.read_bytes()).hexdigest()

    monkeypatch.setattr(maker, "train_list", [[file.name, md5(file)] for file in files[:-1]])
    monkeypatch.setattr(maker, "test_list", [[files[-1].name, md5(files[-1])]])
    monkeypatch.setattr(maker, "meta", {"filename": meta[0], "key": meta[1], "md5": md5(files[0].parent / meta[0])})
    data = load(name)
    held = sources.source(name).validation
    trained = (5 if name == "cifar10" else 1) * per_class - held
    assert data.train.labels.bincount().tolist() == [trained] * classes
    assert data.val.labels.bincount().tolist() == [held] * classes
    assert data.test.images.shape == (per_class * classes, 3, 32, 32)
    first = pickle.loads(files[-1].read_bytes())["data"][0].reshape(3, 32, 32)
    assert np.array_equal(data.test.images[0].numpy(), first)
    assert data.mean.shape == (3, 1, 1)
    assert (len(data.classes), data.pad) == (classes, 4)


def test_absent_data_says_which_command_gets_it(tmp_path, monkeypatch):
    monkeypatch.setenv("REDUCENET_DATA", str(tmp_path))
    with pytest.raises(sources.DataError, match="reducenet data cifar10") as error:
        load("cifar10")
    assert "\n" not in str(error.value)


def test_unknown_and_damaged_data(tmp_path, monkeypatch):
    with pytest.raises(sources.DataError, match="unknown data set 'mnist'; known: cifar10, cifar100, fashion-mini"):
        load("mnist")
    monkeypatch.setenv("REDUCENET_DATA", str(tmp_path))
    monkeypatch.setattr(sources, "DEBIAN", tmp_path / "none")
    for file in sources.source("fashion-mnist").files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"damaged")
    with pytest.raises(sources.DataError, match="fashion-mnist.*cannot be read"):
        load("fashion-mnist")


def test_debian_files_are_unpacked(tmp_path, monkeypatch):
    packed = tmp_path / "debian"
    packed.mkdir()
    for file in sources.source("fashion-mnist").files:
        with gzip.open(packed / f"{file.split('/')[-1]}.gz", "wb") as target:
            target.write(b"content")
    monkeypatch.setenv("REDUCENET_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "DEBIAN", packed)
    assert [file.read_bytes() for file in sources.files("fashion-mnist")] == [b"content"] * 4


def test_held_out_are_the_last_images_of_every_class():
    split = Split(torch.arange(12), torch.arange(12) % 3)
    rest, held = hold_out(split, 2)
    assert held.images.tolist() == [6, 7, 8, 9, 10, 11]
    assert rest.images.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_fingerprint_holds_files_split_and_crop(monkeypatch):
    known = {name: sources.fingerprint(name) for name in ("fashion-mini", "synthetic")}
    assert len(set(known.values())) == 2
    given = sources.source("synthetic")
    for change in ({"pad": 0}, {"validation": 7}):
        changed = replace(given, **change)
        monkeypatch.setattr(sources, "source", lambda name, changed=changed: changed)
        assert sources.fingerprint("synthetic") != known["synthetic"]
