"""What `fuse` did to a network, what it left alone and why, and what that is worth: before and after, side by side."""

import statistics
import textwrap
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from reducenet.deploy.fuse import rewritten
from reducenet.deploy.proof import Proof, prove
from reducenet.deploy.trace import Step
from reducenet.learn.measure import latency, macs, parameters

DONE = {"drop": "dropped", "fold": "folded", "merge": "merged", "add": "added", "unused": "never called in eval mode and gone"}
ROUNDS = 7  # turns of each side at the clock
SHOWN = 6  # names or reasons of one kind in the text; all of them are in `steps` and `left`


@dataclass(frozen=True)
class FusionReport:
    """A network before and after `fuse`: `print(report)` is a table, and a notebook shows one.

    `before` and `after` hold layers, parameters, MACs of one image, and the latency in seconds: the median forward pass of `batch` images
    on one thread, over rounds in which both had their turn, and the quartiles of the rounds. `proof` says how far the outputs of both are
    apart, and how that was found. `steps` and `left` are what was done, and what was not and why, by dotted names.
    """

    before: dict[str, float]
    after: dict[str, float]
    batch: int
    proof: Proof
    steps: list[Step]
    left: dict[tuple[str, ...], str]

    @property
    def difference(self) -> float:
        """The largest difference of an output."""
        return self.proof.difference

    @property
    def largest(self) -> float:
        """The largest output, to compare `difference` with."""
        return self.proof.largest

    def rows(self) -> list[tuple[str, str, str]]:
        """(what, before, after), as text."""
        sides = (self.before, self.after)
        counts = [(what, *(f"{side[what]:,}" for side in sides)) for what in self.before if what not in ("latency", "quartiles")]
        images = "1 image" if self.batch == 1 else f"{self.batch} images"
        return [*counts, (f"latency of {images}", *map(_time, sides))]

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
        dtype = str(self.proof.dtype).removeprefix("torch.")
        passes = f"over {self.proof.passes} passes in {dtype}" + ("" if dtype == "float64" else ", since it runs in nothing finer")
        return [*lines, f"largest difference of an output {passes}: {self.difference:.1e}, of outputs up to {self.largest:.2g}"]

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
    """`Fused(fuse(net, example=example), report)`: what was done, and parameters, MACs and latency before and after.

    `example` is a batch of images [N, C, H, W] or the shape (C, H, W) of one. The sides take turns at the clock, `seconds` each at least.
    Raises what `fuse` raises, and `ValueError` for another kind of example.
    """
    shape = tuple(example.shape) if isinstance(example, Tensor) else (1, *example) if isinstance(example, tuple | list) else ()
    if len(shape) != 4:
        found = tuple(example) if isinstance(example, tuple | list) else shape or type(example).__name__
        raise ValueError(f"fuse_report: the example is a batch of images [N, C, H, W] or a shape (C, H, W), not {found}")
    after, changes = rewritten(net, strict, dearer)
    proof = prove(net, lambda exact: rewritten(exact, strict, dearer), example)
    sides = (net, after)
    rounds = [[latency(side, shape[1:], batch=shape[0], seconds=seconds / ROUNDS)["median"] for side in sides] for _ in range(ROUNDS)]
    measured = [_counted(side, shape[1:]) | _timed(times) for side, times in zip(sides, zip(*rounds, strict=True), strict=True)]
    return Fused(after, FusionReport(*measured, shape[0], proof, *changes))


def _counted(net: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    norms = sum(isinstance(m, _BatchNorm) or "running_mean" in m._buffers for m in net.modules())
    layers = {"convolutions": sum(isinstance(m, _ConvNd) for m in net.modules()), "BatchNorms": norms}
    return {**layers, "parameters": parameters(net), "MACs": macs(net, shape)}


def _timed(times: tuple[float, ...]) -> dict:
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return {"latency": middle, "quartiles": (low, high)}


def _time(side: dict) -> str:
    low, high = (1e3 * quartile for quartile in side["quartiles"])
    return f"{1e3 * side['latency']:.2f} ms ({low:.2f} to {high:.2f})"


def _shortened(items: list[str], separator: str) -> str:
    more = [f"and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return separator.join([*items[:SHOWN], *more])
