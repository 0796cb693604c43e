"""What paired seeds allow to say. Every comparison is of the same seeds in two arms; where one of a pair is missing, the pair is dropped.

The interval is the paired t interval (over a handful of seeds a bootstrap interval covers far too little); p values are adjusted by Holm
over all comparisons of a family, a study's or the register's; "equivalent" is shown by two one-sided tests (TOST); everything else is
undecided, never "the same". The exact sign-flip test stands beside the t test and assumes less: it decides nothing by itself, since with n
seeds it cannot fall below 2 / 2^n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from scipy import special, stats
from statsmodels.stats.weightstats import ttost_paired

RESULT, CLAIM = 5, 8  # seeds before a number is a result, and before a claim of the article is decided
LEVEL = 0.05
FLIPPED = 40  # seeds up to which all 2^n signs are counted; beyond, a hundred thousand draws of them


class Reading(StrEnum):
    """How a comparison came out: the five ways, in the order in which reports tell them."""

    HIGHER = "higher"
    EQUIVALENT = "equivalent"
    LOWER = "lower"
    UNDECIDED = "undecided"
    NO_RESULT = "no result"  # too few seeds

    @property
    def marked(self) -> str:
        """The word behind a sign that can be told without colour."""
        return f"{dict(zip(Reading, '▲=▼?—', strict=True))[self]} {self}"


DECIDED = (Reading.HIGHER, Reading.EQUIVALENT, Reading.LOWER)


@dataclass(frozen=True)
class Contrast:
    """Arm minus `against`, in the unit of the values."""

    arm: str
    against: str
    n: int
    mean: float
    low: float
    high: float
    p: float  # Holm-adjusted, two-sided
    p_equivalent: float  # Holm-adjusted, TOST within the margin
    p_flip: float  # the exact sign-flip test of this pair alone, two-sided
    detectable: float  # found with 80 % power at this n and spread, in the worst place of the family (level 0.05 / family)
    family: int  # comparisons in it
    reading: Reading


def t_interval(values, level: float = 1 - LEVEL, least: int = 2) -> tuple[float, float, float]:
    """(mean, low, high): the Student t interval of the mean; nan bounds for fewer than `least` values (2 or more)."""
    values = np.asarray(values, float)
    mean = values.mean() if len(values) else np.nan
    if len(values) < least:
        return mean, np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return mean, mean - half, mean + half


def paired(values: pd.DataFrame, arm: str, baseline: str) -> np.ndarray:
    """The differences arm - baseline, one a seed that both have. `values`: a column an arm, a row a seed."""
    return (values[arm] - values[baseline]).dropna().to_numpy()


def compare(values: pd.DataFrame, baseline: str, margin: float, also: list[list[str]] | None = None) -> list[Contrast]:
    """Every other arm against `baseline`, and the pairs (arm, against) in `also`: one family for Holm."""
    pairs = [(arm, baseline) for arm in values if arm != baseline] + [tuple(pair) for pair in also or []]
    return family([(*pair, paired(values, *pair), margin) for pair in pairs])


def family(asked: Sequence[tuple[str, str, np.ndarray, float]], waiting: int = 0) -> list[Contrast]:
    """Holm over all of `asked`: (arm, against, the differences of their seeds, margin). A pair that is asked twice counts once.

    `waiting` comparisons belong to the family and have no rows yet. They count, so that no reading changes when theirs come.
    """
    tested = {(*pair, d.tobytes(), margin): (d, margin) for *pair, d, margin in asked if len(d) >= 2}
    size = len({(*pair, d.tobytes(), margin) for *pair, d, margin in asked}) + waiting
    p = dict(zip(tested, _holm([_p_value(d) for d, _ in tested.values()], size), strict=True))
    same = dict(zip(tested, _holm([_p_equivalent(*one) for one in tested.values()], size), strict=True))
    contrasts = []
    for arm, against, d, margin in asked:
        one = (arm, against, d.tobytes(), margin)
        adjusted = p.get(one, np.nan), same.get(one, np.nan)
        contrasts.append(Contrast(arm, against, len(d), *t_interval(d), *adjusted, sign_flip(d), _detectable(d, size), size,
                                  _reading(d, *adjusted)))  # fmt: skip
    return contrasts


def _reading(d: np.ndarray, p: float, same: float) -> Reading:
    if len(d) < RESULT:
        return Reading.NO_RESULT
    if p < LEVEL:
        return Reading.HIGHER if d.mean() > 0 else Reading.LOWER
    return Reading.EQUIVALENT if same < LEVEL else Reading.UNDECIDED


def _constant(d: np.ndarray) -> bool:
    """All differences are the same, but for what subtracting floats leaves behind."""
    return bool(np.ptp(d) < 1e-9)


def _p_value(d: np.ndarray) -> float:
    if _constant(d):
        return 1.0 if abs(d.mean()) < 1e-9 else 0.0
    return float(stats.ttest_1samp(d, 0).pvalue)


def _p_equivalent(d: np.ndarray, margin: float) -> float:
    if _constant(d):
        return float(abs(d.mean()) >= margin)
    return float(ttost_paired(d, np.zeros_like(d), -margin, margin)[0])


def sign_flip(d: np.ndarray) -> float:
    """Two-sided p of the mean under all 2^n signs of the differences: exact up to 40 seeds, never below 2 / 2^n; nan without a pair.

    Every signed sum is one of the first half of the seeds and one of the second: of 2^(n/2) each, those that reach far enough are counted.
    """
    if len(d) < 2:
        return np.nan
    if len(d) > FLIPPED:
        return float(stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=99_999, rng=0).pvalue)
    first, second = map(_signed_sums, np.array_split(d, 2))
    far = abs(d.sum()) - 1e-9 * np.abs(d).sum()  # sums that are equal but for their rounding are equal
    beyond = len(second) - np.searchsorted(np.sort(second), far - first)
    return float(min(1.0, 2 * beyond.sum() / 2 ** len(d)))


def _signed_sums(d: np.ndarray) -> np.ndarray:
    """The sums of `d` under all signs, [2^n]."""
    sums = np.zeros(1)
    for one in d:
        sums = np.concatenate([sums + one, sums - one])
    return sums


def _holm(p: list[float], size: int) -> np.ndarray:
    """Adjusted in a family of `size`: what has no p yet stands at 1. (That of statsmodels collects garbage at every call: 0.1 s each.)"""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.sort(p) * (size - np.arange(len(p)))))
    return adjusted


def _detectable(d: np.ndarray, comparisons: int) -> float:
    if len(d) < 2 or _constant(d):
        return np.nan
    return detectable(len(d), LEVEL / comparisons) * d.std(ddof=1)


def detectable(n: int, level: float, power: float = 0.8) -> float:
    """The mean, in standard deviations, that a two-sided t test of n differences at this level finds with this power.

    Exact, but for the chance of finding it on the wrong side, which is below 1e-5 where n is 5 or more.
    """
    beyond = stats.t.ppf(1 - level / 2, n - 1)
    return float(special.nctdtrinc(n - 1, 1 - power, beyond)) / n**0.5
