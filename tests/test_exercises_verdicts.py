"""Page 06's exercises: the rule that they teach is the package's, right answers in several hands, wrong ones with their cause."""

import math
import statistics
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from reducenet.course.evidence import Evidence
from reducenet.course.exercises import verdicts
from reducenet.course.exercises.judge import judge
from reducenet.study.report.statistics import Reading, compare


def test_the_rule_is_the_one_of_the_reports():
    seen = set()
    for arm, against, margin in verdicts.READING.cases():
        (found,) = compare(pd.DataFrame({"arm": arm, "against": against}), "against", margin)
        assert verdicts.READING.solve(arm, against, margin) == found.reading
        seen.add(found.reading)
    assert seen == set(Reading)


def by_p_values(arm, against, margin):
    a, b = np.array(arm), np.array(against)
    if len(a) < 5:
        return "no result"
    if stats.ttest_rel(a, b).pvalue < 0.05:
        return "higher" if a.mean() > b.mean() else "lower"
    return "equivalent" if ttost_paired(a, b, -margin, margin)[0] < 0.05 else "undecided"


def by_hand(arm, against, margin):
    """In place, without numpy; the spread by the standard library."""
    for i, value in enumerate(against):
        arm[i] -= value
    n = len(arm)
    if n <= 4:
        return "no" + " result"
    error, mean = statistics.stdev(arm) / math.sqrt(n), statistics.fmean(arm)
    if abs(mean) > stats.t.isf(0.025, n - 1) * error:
        return {True: "higher", False: "lower"}[mean > 0]
    return "undecided" if abs(mean) + stats.t.isf(0.05, n - 1) * error >= margin else "equivalent"


def as_a_reading(arm, against, margin):
    return Reading(by_p_values(arm, against, margin))


@pytest.mark.parametrize("answer", [by_p_values, by_hand, as_a_reading])
def test_a_reading_in_several_hands(answer):
    assert str(verdicts.reading(answer)).startswith("✓"), verdicts.reading(answer)


def decided_by(p):
    def read(arm, against, margin):
        a, b = np.array(arm), np.array(against)
        if len(a) < 5:
            return "no result"
        if p(a, b) < 0.05:
            return "higher" if a.mean() > b.mean() else "lower"
        return "equivalent" if ttost_paired(a, b, -margin, margin)[0] < 0.05 else "undecided"

    return read


def z(a, b):
    d = a - b
    return 2 * stats.norm.sf(abs(d.mean()) / (d.std(ddof=1) / len(d) ** 0.5))


def population(a, b):
    d = a - b
    return 2 * stats.t.sf(abs(d.mean()) / (d.std() / len(d) ** 0.5), len(d) - 1)


def never_equal(a, b, m):
    said = by_p_values(a, b, m)
    return "undecided" if said == "equivalent" else said


def equal_unless_shown(a, b, m):
    said = by_p_values(a, b, m)
    return "equivalent" if said == "undecided" else said


WRONG_READINGS = [
    ("not tried yet", lambda a, b, m: ...),
    ("not paired", decided_by(lambda a, b: stats.ttest_ind(a, b).pvalue)),
    ("not paired", decided_by(lambda a, b: stats.ttest_ind(a, b, equal_var=False).pvalue)),
    ("1.96", decided_by(z)),
    ("one-sided", decided_by(lambda a, b: stats.ttest_rel(a, b, alternative="greater" if a.mean() > b.mean() else "less").pvalue)),
    ("fewer than 5 paired seeds are no result", lambda a, b, m: by_p_values(a * 3, b * 3, m) if len(a) < 5 and not a else _any_n(a, b, m)),
    ("not shown to differ is not shown to be equal", equal_unless_shown),
    ("nothing is ever equivalent", never_equal),
    ("swapped", lambda a, b, m: by_p_values(b, a, m)),
    ("the sign of the mean is no reading", lambda a, b, m: "no result" if len(a) < 5 else "higher" if sum(a) > sum(b) else "lower"),
    ("not the 95 % one", lambda a, b, m: _equivalent_at(a, b, m, 0.975)),
    ("this spread divides by n", decided_by(population)),
    ("expected one of higher", lambda a, b, m: "better"),
    ("expected one of higher", lambda a, b, m: 1),
    ("stops with IndexError", lambda a, b, m: a[50]),
]  # fmt: skip


def _any_n(a, b, m):
    if stats.ttest_rel(a, b).pvalue < 0.05:
        return "higher" if np.mean(a) > np.mean(b) else "lower"
    return "equivalent" if ttost_paired(np.array(a), np.array(b), -m, m)[0] < 0.05 else "undecided"


def _equivalent_at(a, b, m, level):
    said, d = by_p_values(a, b, m), np.subtract(a, b)
    if said != "equivalent":
        return said
    half = stats.t.ppf(level, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
    return "equivalent" if abs(d.mean()) + half < m else "undecided"


@pytest.mark.parametrize(("says", "answer"), WRONG_READINGS)
def test_a_wrong_reading_hears_its_cause(says, answer):
    said = str(verdicts.reading(answer))
    assert not said.startswith("✓")
    assert says in said, said


@pytest.mark.parametrize("task", [verdicts.READING, verdicts.BUDGET], ids=["reading", "budget"])
def test_every_slip_is_told_apart(task):
    for cause, slip in task.slips.items():
        assert cause in str(judge(slip, task))


def exactly(teacher, student, answers, stages):
    cost = sum(Fraction(x) * n for x, n in ((teacher, stages[0]), (student, stages[1]), (answers, stages[1])))
    return max(round(cost / Fraction(student)), 1)


def epoch_by_epoch(teacher, student, answers, stages):
    spent = 0.0
    for _ in range(stages[0]):
        spent += teacher
    for _ in range(stages[1]):
        spent += student + answers
    return float(max(1, math.floor(spent / student + 0.5)))


def by_numpy(teacher, student, answers, stages):
    return np.maximum(1, np.rint(np.dot(stages, [teacher, student + answers]) / student)).item()


@pytest.mark.parametrize("answer", [exactly, epoch_by_epoch, by_numpy])
def test_a_budget_in_several_hands(answer):
    assert str(verdicts.affordable(answer)).startswith("✓"), verdicts.affordable(answer)


WRONG_BUDGETS = [
    ("not tried yet", lambda *given: None),
    ("the teacher's training is forgotten", lambda t, s, a, n: max(1, round(n[1] * (s + a) / s))),
    ("rounded up", lambda t, s, a, n: max(1, math.ceil((n[0] * t + n[1] * (s + a)) / s))),
    ("rounded down", lambda t, s, a, n: max(1, int((n[0] * t + n[1] * (s + a)) / s))),
    ("forward only", lambda t, s, a, n: max(1, round((n[0] * t / 3 + n[1] * (s + a)) / s))),
    ("answers are forgotten", lambda t, s, a, n: max(1, round((n[0] * t + n[1] * s) / s))),
    ("it does not train there", lambda t, s, a, n: max(1, round((n[0] * t + n[1] * (s + t)) / s))),
    ("not once", lambda t, s, a, n: max(1, round((n[0] * t + n[1] * s + a) / s))),
    ("same epochs, not the same cost", lambda t, s, a, n: max(1, sum(n))),
    ("the nearest", lambda t, s, a, n: max(1.0, (n[0] * t + n[1] * (s + a)) / s)),
    ("at least one epoch", lambda t, s, a, n: round((n[0] * t + n[1] * (s + a)) / s)),
    ("swapped", lambda t, s, a, n: max(1, round((n[1] * t + n[0] * (s + a)) / s))),
    ("expected a tensor, got str", lambda *given: "eleven"),
    ("stops with KeyError", lambda t, s, a, n: {}["epochs"]),
]


@pytest.mark.parametrize(("says", "answer"), WRONG_BUDGETS)
def test_a_wrong_budget_hears_its_cause(says, answer):
    said = str(verdicts.affordable(answer))
    assert not said.startswith("✓")
    assert says in said, said


def test_the_budget_is_what_cost_of_gave_the_recorded_control():
    """The plain student of study quick was granted these epochs by the package."""
    rows = Evidence("quick").report.ok.groupby("arm")[["ledger_macs", "epochs"]].mean()
    epochs = 3
    teacher, student = rows.ledger_macs["teacher"] / epochs, rows.ledger_macs["plain"] / epochs
    assert exactly(teacher, student, 0.0, (epochs, epochs)) == rows.epochs["plain-long"]
    answers = (rows.ledger_macs["drop-kd"] - rows.ledger_macs["drop-ce"]) / epochs
    assert answers / teacher == pytest.approx(1 / 3, abs=0.02)  # forward only
