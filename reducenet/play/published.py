"""The checkpoints that the article's repository published, as networks of this package."""

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reducenet.nets.networks import build
from reducenet.play.checkpoint import CheckpointError

# Their names, and ours. What a file holds and no pass reads: the two gates, which each block lists again, and the branch that was never on.
NAMES = {
    r"^conv1\.(?:0\.)?weight$": "stem.0.weight",
    r"^(?:conv1\.1|bn1)\.": "stem.1.",
    r"^layer(\d)\.": r"stage\1.",
    r"\.branch2\.0\.": ".branch2.",
    r"\.(?:fuse\.0|bn2)\.": ".act.0.",
    r"\.fuse\.2\.": ".conv3.",
    r"\.fuse\.3\.": ".bn3.",
    r"^linear\.": "classifier.",
}
IDLE = re.compile(r"^(?:.*\.)?(?:scaler|lora|lora_branch\..*)$")


class Published(NamedTuple):
    """The network, in eval mode, and the names of what its file holds and no pass through it reads."""

    net: nn.Module
    dropped: list[str]


def load_published(file: str | Path) -> Published:
    """`load_published(file).net(x) == their_network(x)` in eval mode, their scaler at 1, for images [N, 3, H, W] in [0, 1] as they are.

    The file is a state dict, read as weights only: nothing in it is run. Depth, width, expansion and classes are read off its shapes.
    Their student is the file of another training with the gate shut: `drop_branch` of what it holds. `CheckpointError`, in one line, for
    another layout, as of their earlier blocks, that leaves a tensor over or has one too few.
    Source: repository ohmydroid/reducenet, whose block is `published`.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{file}: not a file of weights: {' '.join(str(error).split())[:160]}") from error
    found = found.get("net", found) if isinstance(found, dict) else {}
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{file}: not a state dict, but {type(found).__name__}")
    found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    dropped = [name for name in found if IDLE.match(name)]
    tensors = {_ours(name): tensor for name, tensor in found.items() if name not in dropped}
    net = build(**_sizes(file, tensors))
    expected = net.state_dict()
    for name in [*expected, *tensors]:
        if name not in tensors or name not in expected or tensors[name].shape != expected[name].shape:
            what = "is missing" if name not in tensors else "has no place" if name not in expected else "is of another shape"
            raise CheckpointError(f"{file}: {name} {what}; it holds another network than the repository's last block")
    net.load_state_dict(tensors)
    return Published(net.eval(), dropped)


def _ours(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = re.sub(theirs, ours, name)
    return name


def _sizes(file, tensors: dict[str, Tensor]) -> dict:
    """What `build` needs to know, read off the shapes."""
    try:
        width, in_channels = tensors["stem.0.weight"].shape[:2]
        wide, classes = tensors["stage1.0.branch1.0.weight"].shape[0], tensors["classifier.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{file}: not the layout of the article's repository; {error} is missing") from error
    blocks = len({name.split(".")[1] for name in tensors if name.startswith("stage1.")})
    sizes = dict(depth=6 * blocks + 2, width=width, expansion=max(1, wide // width), num_classes=classes, in_channels=in_channels)
    return {"block": "published", **sizes}
