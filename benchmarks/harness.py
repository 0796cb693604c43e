"""Two sides measured in one run, in turn, several times: what is compared met the same machine.

row.ratio == median over rounds of ours / reference
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

Turn = Callable[[], float]


class CannotRun(RuntimeError):
    """A figure cannot be measured here; the message is one line and says what it would need."""


class Size(NamedTuple):
    """How much is measured."""

    rounds: int = 5  # turns of each side
    images: int = 7_680  # that a process trains on in a turn: 60 steps
    seconds: float = 0.3  # of a turn that repeats one forward pass, or one convolution
    data: str = "fashion-mini"
    whole: str = "fashion-mnist"  # the data set whose memory is measured
    study: str = "quick"


FULL = Size()
QUICK = Size(rounds=2, images=128, seconds=0.01, data="synthetic", whole="synthetic", study="benchmarks/smoke.toml")


class Reach(NamedTuple):
    """What a ratio ought to be."""

    direction: str  # "at least" | "at most"
    bound: float

    def met(self, ratio: float) -> bool:
        return ratio >= self.bound if self.direction == "at least" else ratio <= self.bound


def at_least(bound: float) -> Reach:
    return Reach("at least", bound)


def at_most(bound: float) -> Reach:
    return Reach("at most", bound)


@dataclass(frozen=True)
class Row:
    """One line of the table. `ours` and `reference` are medians; `spread` is the lowest and the highest of the rounds' ratios."""

    figure: str
    unit: str
    ours: float
    reference: float
    ratio: float
    reach: float | None
    met: bool | None
    runs: int
    spread: tuple[float, float]
    direction: str = ""  # of the reach
    ours_is: str = ""
    reference_is: str = ""
    agrees: str = ""  # how nearly both sides compute the same, and the test that says so
    holds_back: str = ""  # said where the reach is not met
    by: str = ""  # the name that measures it again: --only
    machine: str = ""
    versions: str = ""


def interleave(sides: dict[str, Turn], rounds: int) -> dict[str, list[float]]:
    """What every side gave in every round: all have a turn in each, every other round backwards; a first turn of each is thrown away."""
    for turn in sides.values():
        turn()
    given: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else reversed(sides):
            given[name].append(sides[name]())
    return given


def row(
    figure: str, unit: str, ours: list[float], reference: list[float], *, reach: Reach | None = None, holds_back: str = "", **words
) -> Row:
    """The row of two sides that were interleaved, 4 digits of every number; `words` are the texts of a `Row`."""
    ratios = [one / other for one, other in zip(ours, reference, strict=True)]
    ratio = _rounded(statistics.median(ratios))
    met = reach.met(ratio) if reach else None
    return Row(
        figure, unit, _rounded(statistics.median(ours)), _rounded(statistics.median(reference)), ratio, reach.bound if reach else None, met,
        len(ratios), (_rounded(min(ratios)), _rounded(max(ratios))), direction=reach.direction if reach else "",
        holds_back=holds_back if met is False else "", **words,
    )  # fmt: skip


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")
