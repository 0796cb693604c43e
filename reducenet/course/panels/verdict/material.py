"""What the panel of page 06 is handed: every claim with its rows, and for n = 2 to 32 seeds the interval and what would have been found.

Everything is computed here, once; the panel draws. Up to the seeds that there are, an interval is that of the first n; beyond them it is
the one to expect if the spread stays as it was measured.
"""

import numpy as np
from scipy import stats

from reducenet.course.evidence import Evidence, claims
from reducenet.study.claims.register import Claim
from reducenet.study.claims.verdict import Verdict, rows_of
from reducenet.study.report.figures import reach
from reducenet.study.report.prose import Report
from reducenet.study.report.statistics import CLAIM, LEVEL, RESULT, detectable, paired, t_interval

SEEDS = range(2, 33)


def material(claim: str = "") -> dict:
    """All that the panel shows, as JSON. `ValueError` for a claim that is not in the register."""
    found = claims()
    if claim and claim not in found:
        raise ValueError(f"no claim {claim!r}; there are {', '.join(found)}")
    told = {name: _told(one) for name, one in found.items()}
    with_rows = [name for name, one in told.items() if one["rows"] and one["rows"][0]["n"] >= RESULT]
    return {
        "start": claim or next(iter(with_rows), next(iter(told))),
        "seeds": [SEEDS[0], SEEDS[-1]], "result": RESULT, "claim": CLAIM,
        "claims": told,
    }  # fmt: skip


def _told(found: Verdict) -> dict:
    claim = found.claim
    said = {"wording": claim.wording, "chinese": claim.chinese, "mark": found.mark, "kind": found.kind, "text": found.text,
            "expects": " or ".join(claim.expects), "family": claim.family, "metric": claim.metric, "margin": claim.margin,
            "missing": list(claim.missing), "contrast": claim.study, "regime": "", "cost": "", "rows": [], "view": [0.0, 0.0],
            "detectable": []}  # fmt: skip
    if not claim.held:
        return said
    there = Evidence(claim.study)
    names = [f"{there.study.label(arm)} minus {there.study.label(against)}" for arm, against in claim.pairs]
    said |= {"contrast": f"study {claim.study}: {'; '.join(names)}", "regime": found.regime}
    report = there.report
    if report is None:
        return said
    rows, view = _rows(there, found)
    return said | {"cost": _cost(report, claim), "rows": rows, "view": view, "detectable": _detectable(there, found)}


def _cost(report: Report, claim: Claim) -> str:
    arm, against = claim.pairs[0]
    if not {arm, against} <= set(report.ledger.index):
        return ""
    costs = [f"{report.labels[one]} {report.ledger[one] / report.ledger[report.baseline]:.2f}" for one in (arm, against)]
    return f"training, teacher included, in units of {report.labels[report.baseline]}: {', '.join(costs)}"


def _rows(there: Evidence, found: Verdict) -> tuple[list[dict], list[float]]:
    """The contrasts, then every control against what the first contrast is against: seeds, intervals for every n, and the reading; and
    from where to where they are drawn, in points. What is further away is named or counted at the edge."""
    pairs = rows_of(found)
    rows = [_row(there, arm, against, number < len(found.contrasts)) for number, (arm, against) in enumerate(pairs)]
    low, high = reach([np.array(row["seeds"]) for row in rows if row["contrast"]])
    for row in rows:
        row["far"] = bool(row["n"]) and not low <= row["mean"] <= high
    return rows, [round(low, 4), round(high, 4)]


def _row(there: Evidence, arm: str, against: str, contrast: bool) -> dict:
    report, d = there.report, paired(there.behind(arm, against).values, arm, against)
    found = there.contrast(arm, against) if against in there.against(arm) else None
    return {
        "arm": report.labels[arm], "against": report.labels[against], "contrast": contrast, "n": len(d),
        "seeds": np.round(d, 4).tolist(), "mean": round(float(d.mean()), 4) if len(d) else None,
        "reading": found.reading.marked if found else "not tested", "intervals": intervals(d),
    }  # fmt: skip


def intervals(d: np.ndarray) -> list[list[float]]:
    """[mean, low, high] for every n of `SEEDS`; none for fewer than two seeds."""
    if len(d) < 2:
        return []
    expected = [stats.t.ppf(1 - LEVEL / 2, n - 1) * d.std(ddof=1) / n**0.5 for n in SEEDS]
    there = [
        t_interval(d[:n]) if n <= len(d) else (d.mean(), d.mean() - half, d.mean() + half) for n, half in zip(SEEDS, expected, strict=True)
    ]
    return [[round(float(value), 4) for value in one] for one in there]


def _detectable(there: Evidence, found: Verdict) -> list[float]:
    """Of the first contrast, for every n: the difference that is found with 80 % power, at the level of the worst place of the family."""
    first = found.contrasts[0]
    d, level = paired(there.behind(first.arm, first.against).values, first.arm, first.against), LEVEL / first.family
    return [round(float(detectable(n, level) * d.std(ddof=1)), 4) for n in SEEDS] if len(d) >= 2 else []
