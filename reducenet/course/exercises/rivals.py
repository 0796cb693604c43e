"""Page 05: the step of a RepOptimizer; what the best of k tickets is worth."""

import itertools
import statistics
from collections.abc import Callable

import torch
from torch import nn

from reducenet.course.exercises.judge import Answer, Task, Wrong, judge
from reducenet.methods.lottery import best_of, expected_gain
from reducenet.methods.repopt import repopt
from reducenet.nets.seeding import generator


def _kernels() -> list[tuple]:
    """(weight, gradient, conv3, conv1, identity, lr): convs that keep their channels and one that does not, no two scales alike."""
    cases = []
    for number, (out, inside, *scales) in enumerate(
        [(4, 4, 0.5, 2.0, 3.0), (6, 4, 1.5, 0.7, 0.0), (5, 5, 0.8, 1.3, 0.0), (6, 3, 2.0, 0.5, 1.4)]
    ):
        draw = generator("exercise", "repopt", number)
        weight, gradient = (torch.randn(out, inside, 3, 3, dtype=torch.float64, generator=draw) for _ in range(2))
        cases.append((weight, gradient, *scales, 0.1 * (number + 1)))
    return cases


def _by_the_package(weight, gradient, conv3, conv1, identity, lr):
    """One step of plain SGD on `repopt(conv)`, with a loss whose gradient is `gradient`."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False).double()
    conv.weight.data = weight
    keeps = weight.shape[0] == weight.shape[1]
    net = repopt(nn.Sequential(conv), at="0", conv3=conv3, conv1=conv1, identity=identity if keeps else 0.0)
    with torch.enable_grad():
        (net[0].weight * gradient).sum().backward()
    torch.optim.SGD(net.parameters(), lr=lr).step()
    return net[0].weight.detach()


def _multiplier(weight, three, one, same, *, taps="centre", channels="own", everywhere=False):
    made = torch.full_like(weight, three)
    where = (..., 1, 1) if taps == "centre" else (...,)
    made[where] += one
    if weight.shape[0] == weight.shape[1] or everywhere:
        for i in range(min(weight.shape[:2])):
            made[(i, i, 1, 1) if channels == "own" else (i, slice(None), 1, 1) if channels == "all" else (i, i)] += same
    return made


def _step(multiplier, sign=-1.0):
    """The answer of who multiplies the gradient by `multiplier(w, three, one, same)`."""
    return lambda w, g, three, one, same, lr: w + sign * lr * multiplier(w, three, one, same) * g


UPDATED = Task(
    _kernels,
    _by_the_package,
    {
        "this is plain SGD: no branch in sight": _step(lambda w, *s: torch.ones_like(w)),
        "the weight has not moved": lambda w, *rest: w,
        "the scales are not squared: once for the step of the branch, once for its share in the sum": _step(
            lambda w, a, b, c: _multiplier(w, a, b, c)
        ),
        "only conv3's scale is squared": _step(lambda w, a, b, c: _multiplier(w, a**2, b, c)),
        "the square is of the sum; it is the squares that add up": _step(
            lambda w, a, b, c: _multiplier(w, a**2, (a + b) ** 2 - a**2, (a + b + c) ** 2 - (a + b) ** 2)
        ),
        "the identity is missing": _step(lambda w, a, b, c: _multiplier(w, a**2, b**2, 0.0)),
        "the identity counts 1 whatever its scale: its factor is trained too, and scaled": _step(
            lambda w, a, b, c: _multiplier(w, a**2, b**2, float(c > 0))
        ),
        "the identity counts 1, even where there is none": _step(lambda w, a, b, c: _multiplier(w, a**2, b**2, 1.0)),
        "the identity's scale is not squared": _step(lambda w, a, b, c: _multiplier(w, a**2, b**2, c)),
        "the identity leads from a channel to itself, not to all of them": _step(
            lambda w, a, b, c: _multiplier(w, a**2, b**2, c**2, channels="all")
        ),
        "the identity touches the centre tap alone": _step(lambda w, a, b, c: _multiplier(w, a**2, b**2, c**2, channels="taps")),
        "an identity where the conv changes the number of channels": _step(
            lambda w, a, b, c: _multiplier(w, a**2, b**2, c**2, everywhere=True)
        ),
        "conv1 touches the centre tap alone, not all nine": _step(lambda w, a, b, c: _multiplier(w, a**2, b**2, c**2, taps="all")),
        "conv1 is missing": _step(lambda w, a, b, c: _multiplier(w, a**2, 0.0, c**2)),
        "conv3's scale is missing: its taps count 1": _step(lambda w, a, b, c: _multiplier(w, 1.0, b**2, c**2)),
        "conv3 is missing: the outer taps never learn": _step(lambda w, a, b, c: _multiplier(w, 0.0, b**2, c**2)),
        "uphill: the step goes against the gradient": _step(lambda w, a, b, c: _multiplier(w, a**2, b**2, c**2), sign=1.0),
        "the learning rate is missing": lambda w, g, a, b, c, lr: w - _multiplier(w, a**2, b**2, c**2) * g,
        "the learning rate is squared too": lambda w, g, a, b, c, lr: w - lr**2 * _multiplier(w, a**2, b**2, c**2) * g,
        "this is the multiplied gradient; the step is still to be taken": lambda w, g, a, b, c, lr: _multiplier(w, a**2, b**2, c**2) * g,
        "this is the step; it is still to be taken from the weight": lambda w, g, a, b, c, lr: (
            lr * _multiplier(w, a**2, b**2, c**2) * g
        ),
        "this is the step; it is still to be added to the weight": lambda w, g, a, b, c, lr: (
            -lr * _multiplier(w, a**2, b**2, c**2) * g
        ),
        "this is the multiplier": lambda w, g, a, b, c, lr: _multiplier(w, a**2, b**2, c**2),
        "it is the gradient that is multiplied, not the weight": lambda w, g, a, b, c, lr: (
            _multiplier(w, a**2, b**2, c**2) * (w - lr * g)
        ),
        "the weight is multiplied, the gradient is not": lambda w, g, a, b, c, lr: _multiplier(w, a**2, b**2, c**2) * w - lr * g,
    },
    right="what SGD does to the branches, without the branches",
)  # fmt: skip


def updated(mine: Callable) -> Answer:
    """Is `mine(weight, gradient, conv3, conv1, identity, lr)` the kernel after one SGD step on three parallel scaled branches?"""
    return judge(mine, UPDATED)


def _runs() -> list[tuple]:
    """(val, test, k): runs in no order, whose best on validation is not their best on test."""
    draw = generator("exercise", "tickets")
    cases = []
    for n, k in ((5, 1), (5, 2), (6, 3), (7, 5), (6, 6), (3, 2)):
        val = (80 + 2 * torch.randn(n, dtype=torch.float64, generator=draw)).tolist()
        test = [v - 1.5 + noise for v, noise in zip(val, (1.5 * torch.randn(n, dtype=torch.float64, generator=draw)).tolist(), strict=True)]
        cases.append((val, test, k))
    return cases


def _over_all(val, test, k, *, by=None, draws=itertools.combinations, told=None, best=lambda v: best_of(v, "plain", max(2, len(v)))):
    """Brute force: every draw of k runs, the best of each by the package's own choice, the mean of what they give."""
    by, told = val if by is None else by, test if told is None else told
    return statistics.fmean(told[c[best([by[i] for i in c])]] for c in draws(range(len(val)), k))


def _number(answer, *case):
    try:
        return torch.tensor(float(answer), dtype=torch.float64)
    except (TypeError, ValueError):
        raise Wrong(f"expected one number, got {type(answer).__name__}") from None


def _with_replacement(runs, k):
    return itertools.product(runs, repeat=k)


def _normal(val, test, k):
    return statistics.fmean(test) + (statistics.stdev(test) if len(test) > 1 else 0.0) * expected_gain(k)


BEST = Task(
    _runs,
    _over_all,
    {
        "the test images chose: choose on validation, then look": lambda v, t, k: _over_all(v, t, k, by=t),
        "this is the best test accuracy there is": lambda v, t, k: max(t),
        "this is its validation accuracy, which flatters what it chose; tell its test accuracy": lambda v, t, k: _over_all(v, t, k, told=v),
        "this is the best of all n runs, whatever k": lambda v, t, k: t[v.index(max(v))],
        "this is the best of the first k: in another order of the runs it is another number": lambda v, t, k: _over_all(v[:k], t[:k], k),
        "this is the best of the last k: in another order of the runs it is another number": lambda v, t, k: _over_all(v[-k:], t[-k:], k),
        "this is the plain mean: nothing was chosen": lambda v, t, k: statistics.fmean(t),
        "a run can be drawn twice here; tickets are k different runs": lambda v, t, k: _over_all(v, t, k, draws=_with_replacement),
        "one run can be drawn twice, and the test images chose": lambda v, t, k: _over_all(v, t, k, by=t, draws=_with_replacement),
        "this is for normal runs; these are the runs": _normal,
        "the worst on validation is kept": lambda v, t, k: _over_all(v, t, k, best=lambda x: x.index(min(x))),
        "one ticket too few": lambda v, t, k: _over_all(v, t, max(1, k - 1)),
        "one ticket too many": lambda v, t, k: _over_all(v, t, min(len(v), k + 1)),
        "this is the mean of the k best on validation": lambda v, t, k: statistics.fmean(
            t[i] for i in sorted(range(len(v)), key=v.__getitem__)[-k:]
        ),
        "this is the most that any draw gives; it is the mean over all draws": lambda v, t, k: max(
            _over_all([v[i] for i in c], [t[i] for i in c], k) for c in itertools.combinations(range(len(v)), k)
        ),
        "the sum over all draws is not divided by their number": lambda v, t, k: _over_all(v, t, k) * len(
            list(itertools.combinations(v, k))
        ),
        "this is the gain over one ticket; add what one ticket gives": lambda v, t, k: _over_all(v, t, k) - statistics.fmean(t),
    },
    read=_number,
    tolerance=1e-9,
    right="the mean over every draw of k of these runs",
)  # fmt: skip


def best_of_k(mine: Callable) -> Answer:
    """Is `mine(val, test, k)` the expected test accuracy of the best on validation among k of these runs?"""
    return judge(mine, BEST)
