"""What `fuse` did to a network, what it left alone and why, and what that is worth: before and after, side by side."""

import copy
import textwrap
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from reducenet.deploy.fuse import fused
from reducenet.deploy.trace import Step
from reducenet.learn.measure import latency, macs, parameters
from reducenet.nets.seeding import generator

DONE = {"drop": "dropped", "fold": "folded", "merge": "merged", "add": "added"}
SHOWN = 6  # names or reasons of one kind in the text; all of them are in `steps` and `left`


@dataclass(frozen=True)
class FusionReport:
    """A network before and after `fuse`: `print(report)` is a table, and a notebook shows one.

    `before` and `after` hold layers, parameters, MACs of one image, and the latency in seconds: the median forward pass of `batch` images
    on one thread. `difference` is the largest change of an output on random images, both networks in float64, and `largest` the largest
    output, to compare it with. `steps` and `left` are what was done, and what was not and why, by dotted names.
    """

    before: dict[str, float]
    after: dict[str, float]
    batch: int
    difference: float
    largest: float
    steps: list[Step]
    left: dict[tuple[str, ...], str]

    def rows(self) -> list[tuple[str, str, str]]:
        """(what, before, after), as text."""
        sides = (self.before, self.after)
        counts = [(what, *(f"{side[what]:,}" for side in sides)) for what in self.before if what != "latency"]
        images = "1 image" if self.batch == 1 else f"{self.batch} images"
        return [*counts, (f"latency of {images}", *(f"{1e3 * side['latency']:.2f} ms" for side in sides))]

    def sentences(self, mark: str = "") -> list[str]:
        """What was done, what was left and what it changed, a line each; `mark` goes around names."""
        done, left = defaultdict(list), defaultdict(list)
        for rule, what, into in self.steps:
            done[rule].append(f"{mark}{what}{mark}" + (f" into {mark}{into}{mark}" if into else ""))
        for names, why in self.left.items():
            left[why].append(" and ".join(f"{mark}{name}{mark}" for name in names))
        lines = [f"{DONE[rule]} {len(names)}: {_shortened(names, ', ')}" for rule, names in done.items()] or ["nothing to fuse"]
        if left:
            lines.append(
                f"left {len(self.left)}: " + _shortened([f"{_shortened(names, ', ')} ({why})" for why, names in left.items()], "; ")
            )
        return [*lines, f"largest difference of an output: {self.difference:.1e} in float64, of outputs up to {self.largest:.2g}"]

    def __str__(self) -> str:
        table = [("", "before", "after"), *self.rows()]
        wide, *widths = (max(len(row[column]) for row in table) for column in range(3))
        lines = [f"{what:{wide}}  {a:>{widths[0]}}  {b:>{widths[1]}}" for what, a, b in table]
        return "\n".join([*lines, "", *(textwrap.fill(line, 110, subsequent_indent="    ") for line in self.sentences())])

    def _repr_markdown_(self) -> str:
        table = ["| | before | after |", "|:--|--:|--:|", *(f"| {' | '.join(row)} |" for row in self.rows())]
        return "\n".join([*table, "", *(f"- {line}" for line in self.sentences("`"))])


class Fused(NamedTuple):
    """The network as deployed, and how it came about."""

    net: nn.Module
    report: FusionReport


def fuse_report(
    net: nn.Module, example: Tensor | tuple[int, int, int], *, strict: bool = True, dearer: bool = False, seconds: float = 0.5
) -> Fused:
    """`Fused(fuse(net), report)`: what was done, and parameters, MACs and latency before and after.

    `example` is a batch of images [N, C, H, W] or the shape (C, H, W) of one; only its shape is read. Latency takes at least `seconds`
    for each side. Raises what `fuse` raises, and `ValueError` for another kind of example.
    """
    shape = tuple(example.shape) if isinstance(example, Tensor) else (1, *example) if isinstance(example, tuple | list) else ()
    if len(shape) != 4:
        found = tuple(example) if isinstance(example, tuple | list) else shape or type(example).__name__
        raise ValueError(f"fuse_report: the example is a batch of images [N, C, H, W] or a shape (C, H, W), not {found}")
    after, changes = fused(net, strict, dearer)
    sides = [_measured(side, shape, seconds) for side in (net, after)]
    return Fused(after, FusionReport(*sides, shape[0], *_difference(net, shape, strict, dearer), *changes))


def _measured(net: nn.Module, shape: tuple[int, ...], seconds: float) -> dict[str, float]:
    count = {
        what: sum(isinstance(m, kind) for m in net.modules()) for what, kind in (("convolutions", nn.Conv2d), ("BatchNorms", _BatchNorm))
    }
    timed = latency(net, shape[1:], batch=shape[0], seconds=seconds)
    return {**count, "parameters": parameters(net), "MACs": macs(net, shape[1:]), "latency": timed["median"]}


@torch.no_grad()
def _difference(net: nn.Module, shape: tuple[int, ...], strict: bool, dearer: bool) -> tuple[float, float]:
    """The largest difference of an output, and the largest output: `fuse` on the network in float64, on random images."""
    net = copy.deepcopy(net).cpu().double()
    x = torch.randn(shape, dtype=torch.float64, generator=generator("fuse_report", shape))
    expected, found = (tree_leaves(side(x)) for side in (net, fused(net, strict, dearer)[0]))
    differences = [(a - b).abs().max().item() for a, b in zip(expected, found, strict=True)]
    return max(differences), max(leaf.abs().max().item() for leaf in expected)


def _shortened(items: list[str], separator: str) -> str:
    more = [f"and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return separator.join([*items[:SHOWN], *more])
