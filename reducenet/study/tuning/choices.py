"""What a study says about tuning, what was chosen, and the rule between the two. The choices lie beside the study: `quick.tuned.json`.

A rate is as good as the mean validation accuracy over its seeds; one of which a seed diverged is worse than any accuracy, and of equal
rates the smallest is taken. Test images play no part in it. Where the best rate is the smallest or the largest that was tried, the grid is
widened by its own ratio, `WIDER` times at most.
"""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationError, model_validator

from reducenet.store import whole
from reducenet.words import Above0, Count, Positive, Share, Strict, complaint, split

WIDER = 3  # rates that are tried beyond the grid


def _ascending(rates: list[float]) -> list[float]:
    """From the smallest on; each at least 1 % above the one before, so that a step has a direction."""
    rates = sorted(rates)
    if any(above < 1.01 * below for below, above in pairwise(rates)):
        raise ValueError("rates must be at least 1 % apart")
    return rates


class Grid(Strict):
    """The learning rates that are tried."""

    lr: Annotated[list[Above0], Field(min_length=2), AfterValidator(_ascending)]


# What an arm says: its own grid, or false. The tags are pydantic's own words, which `complaint` keeps from the reader.
OwnGrid = Annotated[
    Annotated[bool, Tag("bool")] | Annotated[Grid, Tag("dict")],
    Discriminator(lambda given: "dict" if isinstance(given, dict | Grid) else "bool"),
]


class Tuning(Grid):
    """`[tune]` of a study: the grid of every arm that has none of its own, and the seeds to choose with, from `first_seed`."""

    seeds: Positive = 2
    first_seed: Count = 100

    @property
    def replicates(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)


class Variant(Strict):
    """One rate: its validation accuracy by seed, None where training diverged."""

    lr: Above0
    accuracy: Annotated[dict[str, Share | None], Field(min_length=1)]

    @property
    def mean(self) -> float:
        """As good as the rate is; minus infinity where a seed diverged."""
        known = [share for share in self.accuracy.values() if share is not None]
        return math.fsum(known) / len(known) if len(known) == len(self.accuracy) else -math.inf


class Choice(Strict):
    """`lr == best(tried)` of one arm, and what it cost. `of` is the key of what was tuned: another key, another choice."""

    of: str
    lr: Above0
    tried: Annotated[list[Variant], Field(min_length=2)]
    train_macs: Count  # of all that was trained for this choice; not of what was for the choices that it stands on

    @model_validator(mode="after")
    def _is_the_best(self):
        rates = [variant.lr for variant in self.tried]
        if rates != sorted(set(rates)) or len({frozenset(variant.accuracy) for variant in self.tried}) > 1:
            raise ValueError("every rate is tried once with the same seeds, the smallest first")
        if self.lr != best(self.tried):
            raise ValueError(f"lr {self.lr:g} is not the best of what was tried")
        return self

    @property
    def at_edge(self) -> bool:
        """On one side of the rate that was chosen, no worse one was seen."""
        return beyond(self.tried) is not None


def best(tried: list[Variant]) -> float:
    """The rate with the best mean; the smallest of equals."""
    return min(tried, key=lambda variant: (-variant.mean, variant.lr)).lr


def beyond(tried: list[Variant]) -> float | None:
    """The rate to try next: one more step of the grid, where the best one is at its edge; else None."""
    rates = sorted(variant.lr for variant in tried)
    steps = {rates[0]: rates[0] / rates[1], rates[-1]: rates[-1] / rates[-2]}
    found = best(tried)
    return _round(found * steps[found]) if found in steps else None


def _round(rate: float) -> float:
    """Without the last digits of a product: 0.3 * 3 is 0.9."""
    return float(f"{rate:.6g}")


def contradiction(tune: Tuning | None, arms: dict, tuned: list[str], seeds: set[int], limit: int) -> str | None:
    """Why what a study and its arms say of tuning makes no sense; None where it does. A rate is chosen or said, not both, and with seeds
    below `limit` that no result uses: not with `seeds`."""
    for name, arm in arms.items():
        if isinstance(arm.tune, Grid) and name not in tuned:
            why = "has no fit of its own to tune" if tune else "has a grid, but the study does not tune; say [tune]"
            return f"arms.{name}.tune: the arm {why}"
        if name in tuned and "lr" in split(arm.chain[arm.last_fit])[1]:
            return (f"arms.{name}.chain[{arm.last_fit}]: fit: lr is chosen by tuning and said here; leave one out "
                    "(`tune = false` in the arm keeps what is said)")  # fmt: skip
    if tune is None:
        return None
    if not tuned:
        return "tune: no arm has a fit to tune; leave it out"
    if tune.replicates.stop > limit:
        return f"tune.first_seed: seeds to choose with lie below {limit}, not up to {tune.replicates.stop - 1}"
    shared = sorted(seeds & set(tune.replicates))
    return (
        f"tune.first_seed: seed {shared[0]} is one of the study's own; rates are chosen with seeds that no result uses" if shared else None
    )


def with_rate(chain: list[dict], lr: float) -> list[dict]:
    """The chain, its last fit with this learning rate."""
    last = max(i for i, move in enumerate(chain) if "fit" in move)
    return [*chain[:last], {"fit": chain[last]["fit"] | {"lr": lr}}, *chain[last + 1 :]]


def file_of(study: Path) -> Path:
    """Where the choices of the study in this file lie."""
    return study.with_suffix(".tuned.json")


def read_choices(study: Path) -> dict[str, Choice]:
    """The choices beside the study by arm, none where there are none yet; a `ValueError`, one line, where they cannot be read."""
    file = file_of(study)
    cure = "delete it, `reducenet tune` makes it anew"
    if not file.exists():
        return {}
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return {arm: Choice.model_validate(choice) for arm, choice in told["arms"].items()}
    except ValidationError as error:
        raise ValueError(f"{file}: damaged: {complaint(error)}; {cure}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{file}: damaged, no readable choices; {cure}") from None


def as_text(choices: dict[str, Choice]) -> str:
    """What a file of choices says: the same choices give the same bytes."""
    return json.dumps({"arms": {arm: choice.model_dump() for arm, choice in choices.items()}}, indent=1) + "\n"


def write_choices(study: Path, choices: dict[str, Choice]) -> Path:
    file = file_of(study)
    with whole(file) as partial:
        partial.write_text(as_text(choices), "utf-8")
    return file
