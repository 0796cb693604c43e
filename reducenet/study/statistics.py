"""What paired seeds allow to say. Every comparison is of the same seeds in two arms; where one of a pair is missing, the pair is dropped.

The interval is the paired t interval (over a handful of seeds a bootstrap interval covers far too little); p values are adjusted by Holm
over all comparisons of a study; "equivalent" is shown by two one-sided tests (TOST); everything else is undecided, never "the same".
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

RESULT, CLAIM = 5, 8  # seeds before a number is a result, and before a claim of the article is decided
LEVEL = 0.05


@dataclass(frozen=True)
class Contrast:
    """Arm minus `against`, in the unit of the values. `reading`: higher, lower, equivalent, undecided, or no result (too few seeds)."""

    arm: str
    against: str
    n: int
    mean: float
    low: float
    high: float
    p: float  # Holm-adjusted, two-sided
    p_equivalent: float  # Holm-adjusted, TOST within the margin
    detectable: float  # found with 80 % power at this n and spread, in the worst place of the family (level 0.05 / comparisons)
    reading: str


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
    differences = {pair: paired(values, *pair) for pair in pairs}
    known = [pair for pair in pairs if len(differences[pair]) >= 2]
    p = dict(zip(known, _holm([_p_value(differences[pair]) for pair in known]), strict=True))
    same = dict(zip(known, _holm([_p_equivalent(differences[pair], margin) for pair in known]), strict=True))
    contrasts = []
    for pair in pairs:
        d = differences[pair]
        mean, low, high = t_interval(d)
        contrasts.append(Contrast(*pair, len(d), mean, low, high, p.get(pair, np.nan), same.get(pair, np.nan),
                                  _detectable(d, len(known)), _reading(d, p.get(pair), same.get(pair))))  # fmt: skip
    return contrasts


def _reading(d: np.ndarray, p: float | None, same: float | None) -> str:
    if len(d) < RESULT:
        return "no result"
    if p < LEVEL:
        return "higher" if d.mean() > 0 else "lower"
    return "equivalent" if same < LEVEL else "undecided"


def _p_value(d: np.ndarray) -> float:
    if d.std() == 0:
        return 1.0 if d.mean() == 0 else 0.0
    return float(stats.ttest_1samp(d, 0).pvalue)


def _p_equivalent(d: np.ndarray, margin: float) -> float:
    if d.std() == 0:
        return float(abs(d.mean()) >= margin)
    return float(ttost_paired(d, np.zeros_like(d), -margin, margin)[0])


def _holm(p: list[float]) -> list[float]:
    return list(multipletests(p, alpha=LEVEL, method="holm")[1]) if p else []


def _detectable(d: np.ndarray, comparisons: int) -> float:
    if len(d) < 2 or d.std() == 0:
        return np.nan
    return float(TTestPower().solve_power(nobs=len(d), alpha=LEVEL / comparisons, power=0.8) * d.std(ddof=1))
