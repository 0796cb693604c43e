"""A checkpoint is a sentence of moves and the tensors it leads to, in one safetensors file. Nothing is unpickled.

`load` plays the moves again on a fresh network, so any shape that moves can reach comes back, and then fills in the tensors.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from reducenet.play.play import play
from reducenet.store import whole
from reducenet.words import split


class CheckpointError(ValueError):
    """The file is no checkpoint of this project, or is damaged; one line."""


def save(net: nn.Module, path: str | Path, chain: list[str | dict], seed: int = 0, large: nn.Module | None = None) -> None:
    """Write `net`, which `chain` led to. The file appears whole or not at all.

    The chain is spelled as in a study file, build, fits and all, since `load` plays it again: `CheckpointError`, and no file, where it
    leads to another network. With `large`, the network that stood before the last structural moves of the chain, both are in the one
    file: a tensor that they share by name must be the same (frozen, not trained on), and is stored once.

    >>> import tempfile
    >>> from reducenet import build, drop_branch, load
    >>> student = drop_branch(build("scaler", width=4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(student, f"{folder}/student", [{"build": {"block": "scaler", "width": 4}}, {"fit": {"epochs": 8}}, "drop_branch"])
    ...     type(load(f"{folder}/student").stage1[0]).__name__
    'PlainBlock'
    """
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        there = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}; make it first"
        raise CheckpointError(f"{path}: not written; {there}")
    try:
        _check_shapes(_shapes(play(chain, seed=seed).net), _shapes(net))
        written = [{name: given} for name, given in map(split, chain)]
    except PLAYING as error:
        raise CheckpointError(f"{path}: not written; the chain does not lead to this network: {_one_line(error)}") from error
    tensors = _tensors(net)
    about = {"format": 1, "chain": written, "seed": seed, "training": net.training}
    if large is not None:
        both = _tensors(large)
        changed = [name for name in tensors if name in both and not torch.equal(tensors[name], both[name])]
        if changed:
            raise CheckpointError(f"{path}: one file holds both networks only where they share tensors; {changed[0]} differs")
        about["large"] = _length_of(large, chain, seed)
        tensors = {**both, **tensors}
    # One key: several would be written in an order that changes from process to process, and equal networks in different bytes.
    with whole(path) as partial:
        save_file(tensors, partial, {"reducenet": json.dumps(about)})


PLAYING = (ValueError, RuntimeError, TypeError, AttributeError, KeyError, NotImplementedError)  # what a chain that fits nothing can raise


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in net.state_dict().items()}


def _check_shapes(expected: dict, found: dict) -> None:
    """`ValueError` that names the first tensor which is not there, not expected, or of another shape."""
    for name in [*expected, *found]:
        if name not in found:
            raise ValueError(f"{name} is missing")
        if name not in expected:
            raise ValueError(f"by the moves there is no {name}")
        if expected[name] != found[name]:
            raise ValueError(f"{name} is of shape {found[name]}, by the moves of {expected[name]}")


def _tensors(net: nn.Module) -> dict:
    """Every tensor by its name; one that has two names, or is part of another, is written for each of them."""
    found, places = {}, set()
    for name, t in net.state_dict().items():
        tensor = t.detach().contiguous().cpu()
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return found


def _length_of(large: nn.Module, chain: list, seed: int) -> int:
    """How many moves of the chain lead to the large network: the longest beginning with its tensors."""
    for length in range(len(chain) - 1, 0, -1):
        if _shapes(play(chain[:length], seed=seed).net) == _shapes(large):
            return length
    raise CheckpointError("no beginning of the chain leads to the large network")


def digest(net: nn.Module) -> str:
    """16 hex digits that two networks share if, and only if, all their tensors agree bitwise, by name."""
    found = hashlib.sha256()
    for name, tensor in sorted(_tensors(net).items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def chain_of(path: str | Path) -> list[dict]:
    """The sentence of moves that led to the network in the file."""
    return _read(path)[1]["chain"]


def load(path: str | Path, large: bool = False) -> nn.Module:
    """The network in the file: `load(path)(x) == net(x)` for the `net` that was saved; the large one where both are in the file and it is
    asked for. `CheckpointError` where it cannot be read."""
    tensors, about = _read(path)
    if large and "large" not in about:
        raise CheckpointError(f"{path}: holds one network, not a large and a small one")
    chain = about["chain"][: about["large"]] if large else about["chain"]
    try:
        net = play(chain, seed=about["seed"]).net
        expected = _shapes(net)
        own = {name: t for name, t in tensors.items() if name in expected} if "large" in about else tensors
        _check_shapes(expected, {name: tuple(t.shape) for name, t in own.items()})
        dtypes = [t.dtype for t in own.values() if t.is_floating_point()]
        net = net.to(dtypes[0])  # as it was saved
        net.load_state_dict(own)
    except PLAYING as error:
        raise CheckpointError(f"{path}: the tensors do not fit the moves in the file: {_one_line(error)}") from error
    return net.train(about["training"])


def _read(path) -> tuple[dict, dict]:
    """Tensors by name, and what is known about them."""
    try:
        with safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get("reducenet")
            if about is None:
                raise CheckpointError(f"{path}: not a checkpoint of reducenet")
            about = json.loads(about)
            if about["format"] != 1:
                raise CheckpointError(f"{path}: a checkpoint of format {about['format']!r}; this version reads format 1")
            _ = about["chain"], about["seed"], about["training"]
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint: {error}") from error
