"""Checks of exercises. An untouched stub is "not tried yet", a wrong answer is told what is wrong, and nothing ever stops Run All."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from reducenet.moves.branch import drop_branch
from reducenet.nets.blocks import ScalerBlock
from reducenet.nets.seeding import generator, initialise


@dataclass(frozen=True)
class Answer:
    """`mark`: ☐ not tried yet, ✗ wrong, ✓ right."""

    mark: str
    text: str

    def __repr__(self) -> str:
        return f"{self.mark} {self.text}"


def _example() -> tuple[ScalerBlock, torch.Tensor]:
    """A block with statistics far from fresh, and an input, in float64: a forgotten BN or ReLU cannot hide."""
    block = ScalerBlock(4, 8, stride=2, expansion=2)
    initialise(block, "exercise")
    draw = generator("exercise", "bn")
    block = block.double().eval()
    for module in block.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1, generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
    return block, torch.randn(3, 4, 9, 9, dtype=torch.float64, generator=draw)


def student_forward(mine: Callable) -> Answer:
    """Is `mine(block, x)` what the block gives once branch1 is dropped? Compared in float64 with `drop_branch`."""
    block, x = _example()
    try:
        with torch.no_grad():
            found = mine(block, x)
    except Exception as error:  # any mistake of the reader's is an answer to talk about
        return Answer("✗", f"it stops with {type(error).__name__}: {error}")
    if found is ... or found is None:
        return Answer("☐", "not tried yet")
    with torch.no_grad():
        expected = drop_branch(torch.nn.Sequential(block))[0](x)
        teacher = block(x)
    if not isinstance(found, torch.Tensor) or found.shape != expected.shape:
        got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        return Answer("✗", f"expected a tensor of shape {tuple(expected.shape)}, got {got}")
    gap = (found - expected).abs().max().item()
    if gap < 1e-10:
        return Answer("✓", "equal to the package everywhere, to 1e-10 in float64")
    causes = {
        "this is still the teacher: branch1 is in it": teacher,
        "the shortcut is missing": block.post(block.bn3(block.conv3(block.branch2(x)))),
        "the final ReLU is missing": block.bn3(block.conv3(block.branch2(x))) + block.shortcut(x),
        "bn3 is missing": block.post(block.conv3(block.branch2(x)) + block.shortcut(x)),
    }
    close = [text for text, wrong in causes.items() if (found - wrong).abs().max() < 1e-10]
    return Answer("✗", f"differs by up to {gap:.2g}" + (f": {close[0]}" if close else ""))
