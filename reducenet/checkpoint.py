"""A checkpoint is a sentence of moves and the tensors it leads to, in one safetensors file. Nothing is unpickled.

`load` plays the moves again on a fresh network, so any shape that moves can reach comes back, and then fills in the tensors.
"""

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from reducenet.activation import slide
from reducenet.moves import MOVES, SEEDED
from reducenet.net import build


class CheckpointError(ValueError):
    """The file is no checkpoint of this project, or is damaged; one line."""


def perform(net: nn.Module | None, move: dict, seed: int = 0) -> nn.Module:
    """One move of a chain, written as in a study file: `{"build": {...}}`, `{"freeze": {"parts": [...]}}`, `{"fold": {}}`."""
    ((name, arguments),) = move.items()
    if name == "build":
        return build(**arguments, seed=seed)
    if name not in MOVES:
        raise ValueError(f"unknown move {name!r}; known: build, fit, {', '.join(MOVES)}")
    return MOVES[name](net, **arguments, **({"seed": seed} if name in SEEDED else {}))


def save(net: nn.Module, path: str | Path, chain: list[dict], seed: int = 0) -> None:
    """Write `net`, which `chain` led to. The file appears whole or not at all."""
    path = Path(path)
    about = json.dumps({"format": 1, "chain": chain, "seed": seed, "training": net.training})
    # One key: several would be written in an order that changes from process to process, and equal networks in different bytes.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: t.detach().contiguous().cpu() for name, t in net.state_dict().items()}, partial, {"reducenet": about})
    partial.replace(path)


def chain_of(path: str | Path) -> list[dict]:
    """The sentence of moves that led to the network in the file."""
    return _read(path)[1]


def load(path: str | Path) -> nn.Module:
    """The network in the file: `load(path)(x) == net(x)` for the `net` that was saved. `CheckpointError` where it cannot be read."""
    tensors, chain, seed, training = _read(path)
    try:
        net = None
        for move in chain:
            if "fit" not in move:
                net = perform(net if net is None else net.eval(), move, seed)
            elif move["fit"].get("lam"):
                slide()(net, 1.0)  # where such a fit ends; a fuse may follow
        net.load_state_dict(tensors)
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: the tensors do not fit the moves in the file: {str(error).splitlines()[0]}") from error
    return net.train(training)


def _read(path):
    try:
        with safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get("reducenet")
            if about is None:
                raise CheckpointError(f"{path}: not a checkpoint of reducenet")
            about = json.loads(about)
            if about["format"] != 1:
                raise CheckpointError(f"{path}: a checkpoint of format {about['format']!r}; this version reads format 1")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, about["chain"], about["seed"], about["training"]
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint: {error}") from error
