"""Page 06: what a comparison allows to say; how long the plain student may train."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats

from reducenet.course.exercises.judge import Answer, Task, Wrong, judge
from reducenet.study.report.statistics import LEVEL, RESULT, Reading, t_interval

MARGIN = 0.5
# (mean difference, its t value, seeds, how much the pair moves together from seed to seed): each is near a line that a slip would move
PAIRS = [
    (0.6, 2.05, 5, 1.0), (0.6, 2.3, 5, 1.0), (0.6, 2.52, 5, 1.0), (-0.6, 2.65, 5, 1.0), (0.6, 3.5, 5, 0.05), (-1.9, 8.0, 5, 3.0),
    (0.9, 6.0, 7, 3.0), (0.25, 10.0, 5, 1.0), (0.1, 0.6, 5, 1.0), (0.1, 0.25, 5, 2.0), (0.05, 1.0, 6, 2.0), (0.01, 0.0, 9, 0.3),
    (0.7, 1.2, 9, 0.3), (0.4, 4.0, 9, 2.0), (3.1, 20.0, 4, 0.5), (0.05, 1.0, 3, 0.5),
]  # fmt: skip
SAID = [str(reading) for reading in Reading]


def _pairs() -> list[tuple]:
    """(arm, against, margin): accuracies in per cent, a seed at each place."""
    return [(*_pair(*given), MARGIN) for given in PAIRS]


def _pair(mean: float, t: float, n: int, together: float) -> tuple[list[float], list[float]]:
    shape = np.sin(1.7 * np.arange(n) + 0.5)
    shape = (shape - shape.mean()) / shape.std(ddof=1)
    spread = abs(mean) * n**0.5 / t if t else 0.4
    against = 80 + together * np.cos(2.4 * np.arange(n))
    return (against + mean + spread * shape).tolist(), against.tolist()


def _reads(difference=None, equivalent=None, least=RESULT, order=("difference", "equivalent")):
    """The answer of who tests the difference or the equivalence in another way; each is told (differences, arm, against, margin)."""

    def read(arm, against, margin):
        d, n = np.subtract(arm, against), len(arm)
        given = (d, np.array(arm), np.array(against), margin)
        if n < least:
            return "no result"
        said = {
            "difference": (difference or _sure)(*given) and ("higher" if d.mean() > 0 else "lower"),
            "equivalent": (equivalent or _within)(*given) and "equivalent",
        }
        return next((said[which] for which in order if said[which]), "undecided")

    return read


def _sure(d, arm, against, margin, level=1 - LEVEL):
    _, low, high = t_interval(d, level)
    return low > 0 or high < 0


def _within(d, arm, against, margin, level=1 - 2 * LEVEL):
    _, low, high = t_interval(d, level)
    return -margin < low and high < margin


def _z(d, arm, against, margin):
    return abs(d.mean()) > stats.norm.ppf(1 - LEVEL / 2) * d.std(ddof=1) / len(d) ** 0.5


def _beyond(d, arm, against, margin):
    _, low, high = t_interval(d)
    return low > margin or high < -margin


def _turned(arm, against, margin):
    return _reads()(against, arm, margin)


def _said(answer, *case):
    if not isinstance(answer, str) or str(answer) not in SAID:
        raise Wrong(f"expected one of {', '.join(SAID)}; got {answer!r}")
    return torch.tensor([float(answer == word) for word in SAID])


READING = Task(
    _pairs,
    _reads(),  # the package's rule for one comparison; a test holds it against `compare`
    {
        "the arm stands where `against` should: higher and lower are swapped": _turned,
        "the seeds are not paired: their common ups and downs are in the interval": _reads(
            lambda d, a, b, m: stats.ttest_ind(a, b).pvalue < LEVEL
        ),
        "this is the normal interval (1.96): with so few seeds the spread itself is uncertain, which is what t is for": _reads(_z),
        "the test is one-sided: 5 % on the side that the data chose are 10 % in all": _reads(
            lambda *given: _sure(*given, level=1 - 2 * LEVEL)
        ),
        "this asks for 99 %": _reads(lambda *given: _sure(*given, level=0.99)),
        "this spread divides by n; that of a sample divides by n − 1": _reads(
            lambda d, *_: abs(d.mean()) > stats.t.ppf(1 - LEVEL / 2, len(d) - 1) * d.std() / len(d) ** 0.5
        ),
        "t has n − 1 degrees of freedom, not n": _reads(
            lambda d, *_: abs(d.mean()) > stats.t.ppf(1 - LEVEL / 2, len(d)) * d.std(ddof=1) / len(d) ** 0.5
        ),
        "this is the spread of the seeds, not of their mean: the square root of n is missing": _reads(
            lambda d, *_: abs(d.mean()) > stats.t.ppf(1 - LEVEL / 2, len(d) - 1) * d.std(ddof=1)
        ),
        "no test at all: the sign of the mean is no reading": _reads(lambda *_: True),
        "it takes a mean beyond the margin for a difference": _reads(lambda d, a, b, m: abs(d.mean()) > m),
        "a difference is sure where 0 is outside of the interval; that it is beyond the margin is not asked": _reads(_beyond),
        "it wants every seed on the same side": _reads(lambda d, *_: bool((d > 0).all() or (d < 0).all())),
        "not shown to differ is not shown to be equal": _reads(equivalent=lambda *_: True),
        "a mean within the margin is not equivalence: the interval has to be": _reads(equivalent=lambda d, a, b, m: abs(d.mean()) < m),
        "two one-sided tests at 5 % are the 90 % interval, not the 95 % one": _reads(equivalent=lambda *given: _within(*given, level=0.95)),
        "nothing is ever equivalent here": _reads(equivalent=lambda *_: False),
        "a sure difference goes first, however small it is": _reads(order=("equivalent", "difference")),
        "fewer than 5 paired seeds are no result": _reads(least=0),
        "fewer than 5 paired seeds are no result, and 5 are one": _reads(least=6),
        "a claim needs 8 paired seeds; a result needs 5": _reads(least=8),
    },
    read=_said,
    right="every pair reads as the reports read it",
)


def reading(mine: Callable) -> Answer:
    """Is `mine(arm, against, margin)` the package's reading of these paired seeds, in a family of one?"""
    return judge(mine, READING)


def _budgets() -> list[tuple]:
    """(teacher, student, answers, stages): multiply-adds of an epoch; `answers` are the teacher's own, forward only, 0 without KD."""
    return [
        (53.4, 19.2, 0.0, (3, 3)), (53.4, 19.2, 17.8, (3, 3)), (87.5, 19.2, 29.2, (4, 2)), (27.8, 19.2, 9.3, (1, 6)),
        (30.0, 20.0, 10.0, (5, 7)), (53.4, 19.2, 17.8, (0, 4)), (53.4, 400.0, 17.8, (2, 0)), (61.0, 20.0, 0.0, (3, 1)),
    ]  # fmt: skip


def _affordable(teacher, student, answers, stages):
    """As `cost_of` counts it: the whole cost of both stages, in epochs of the plain student, at least one."""
    return max(1, round((stages[0] * teacher + stages[1] * (student + answers)) / student))


def _spends(cost, whole=round):
    return lambda t, s, a, stages: max(1, whole(cost(t, s, a, *stages) / s))


def _fair(t, s, a, one, two):
    return one * t + two * (s + a)


BUDGET = Task(
    _budgets,
    _affordable,
    {
        "the teacher's training is forgotten: it is part of what its student costs": _spends(lambda t, s, a, one, two: two * (s + a)),
        "only the first stage is paid back; the second trained too": _spends(lambda t, s, a, one, two: one * t),
        "the plain student gets the same epochs, not the same cost": _spends(lambda t, s, a, one, two: (one + two) * s),
        "the plain student gets the second stage's epochs, not the whole cost": _spends(lambda t, s, a, one, two: two * s),
        "the teacher's answers are forgotten: with KD it runs in every step of the second stage": _spends(
            lambda t, s, a, one, two: one * t + two * s
        ),
        "the teacher answers in the second stage, it does not train there": _spends(lambda t, s, a, one, two: one * t + two * (s + t)),
        "the teacher answers in every epoch of the second stage, not once": _spends(lambda t, s, a, one, two: one * t + two * s + a),
        "the teacher answers in the second stage alone; in the first it trains": _spends(
            lambda t, s, a, one, two: one * (t + a) + two * (s + a)
        ),
        "the answers are forward only already: they are not three times as dear": _spends(
            lambda t, s, a, one, two: one * t + two * (s + 3 * a)
        ),
        "training is counted forward only": _spends(lambda t, s, a, one, two: one * a + two * (s / 3 + a)),
        "the teacher's training is counted forward only: its gradients cost too": _spends(
            lambda t, s, a, one, two: one * t / 3 + two * (s + a)
        ),
        "the stages are swapped": _spends(lambda t, s, a, one, two: two * t + one * (s + a)),
        "counted in epochs of the teacher; the plain student spends": lambda t, s, a, stages: max(1, round(_fair(t, s, a, *stages) / t)),
        "both nets are divided by together": lambda t, s, a, stages: max(1, round(_fair(t, s, a, *stages) / (s + a))),
        "rounded up: the control would get more than it is owed": _spends(_fair, math.ceil),
        "rounded down; it is the nearest whole number": _spends(_fair, math.floor),
        "epochs are whole, the nearest": lambda t, s, a, stages: max(1.0, _fair(t, s, a, *stages) / s),
        "nothing is no training: at least one epoch": lambda t, s, a, stages: round(_fair(t, s, a, *stages) / s),
        "these are multiply-adds; divide by what an epoch of the plain student costs": lambda t, s, a, stages: _fair(t, s, a, *stages),
        "these are the epochs on top of what it has": lambda t, s, a, stages: _affordable(t, s, a, stages) - stages[1],
    },
    right="as many epochs as both stages cost, the teacher's answers included",
)  # fmt: skip


def affordable(mine: Callable) -> Answer:
    """Is `mine(teacher, student, answers, stages)` how many epochs of the plain student both stages cost, as `cost_of` counts?"""
    return judge(mine, BUDGET)
