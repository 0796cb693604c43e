"""Out of Python: the fused network as a `torch.export` program or as an ONNX file, for any batch size."""

import importlib.util
from pathlib import Path

import torch
from torch import nn

from reducenet.deploy.fuse import fuse
from reducenet.store import whole

BATCH = {0: torch.export.Dim("batch", min=1)}


class MissingExtra(ImportError):
    """A package is not installed that only this needs; the message says how to get it."""


def to_program(net: nn.Module, shape: tuple[int, int, int]) -> torch.export.ExportedProgram:
    """`to_program(net, shape).module()(x) == net(x)` for a batch x of any size N >= 1, [N, *shape], up to rounding.

    The network is fused first, not strictly: a LambdaReLU below lam 1 is exported as one. `shape` is (C, H, W) of an image, and the program
    takes no other. Raises what `fuse` raises: `NotExact` in train mode, `NotTraceable`.
    """
    net = fuse(net, strict=False, example=tuple(shape))
    like = next(net.parameters())
    images = torch.zeros(2, *shape, dtype=like.dtype, device=like.device)  # a batch of 1 would be taken for a constant
    return torch.export.export(net, (images,), dynamic_shapes=(BATCH,))


def to_onnx(net: nn.Module, shape: tuple[int, int, int], path: str | Path) -> Path:
    """`path`, where an ONNX model of `fuse(net)` now is: "images" [batch, *shape] to "logits", for every batch size.

    One file, weights included; it appears whole or not at all. Raises what `to_program` raises, and `MissingExtra` without onnx.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(f'to_onnx needs {" and ".join(missing)}: pip install "reducenet[export]"')
    program = to_program(net, shape)
    outputs = ["logits"] if len(program.graph_signature.user_outputs) == 1 else None
    model = torch.onnx.export(program, dynamo=True, dynamic_shapes=(BATCH,), verbose=False, input_names=["images"], output_names=outputs)
    path = Path(path)
    with whole(path) as partial:
        model.save(partial, external_data=False)
    return path
