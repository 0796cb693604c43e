"""Page 05's exercises: right answers in several hands, wrong ones with their cause, and nothing that a reader writes stops the page."""

import itertools
import random

import numpy as np
import pytest
import torch

from reducenet.course.exercises import rivals
from reducenet.course.exercises.judge import judge
from reducenet.course.tickets import expected_best


def centre(w, tap, own):
    m = torch.zeros_like(w)
    m[:, :, 1, 1] = tap + (own * torch.eye(len(w)).double() if w.shape[0] == w.shape[1] else 0)
    return m


def by_loops(weight, gradient, conv3, conv1, identity, lr):
    for o, i, y, x in itertools.product(*map(range, weight.shape)):
        m = conv3**2
        if (y, x) == (1, 1):
            m += conv1**2 + (identity**2 if o == i and weight.shape[0] == weight.shape[1] else 0)
        weight[o, i, y, x] -= lr * m * gradient[o, i, y, x]
    return weight


def by_branches(weight, gradient, conv3, conv1, identity, lr):
    """Three branches, each with a step of its own, added up: no multiplier anywhere."""
    moved = weight - lr * conv3 * (conv3 * gradient)
    moved[:, :, 1, 1] -= lr * conv1 * (conv1 * gradient[:, :, 1, 1])
    if weight.shape[0] == weight.shape[1]:
        moved[:, :, 1, 1] -= torch.diag(lr * identity * identity * gradient[:, :, 1, 1].diagonal())
    return moved


def spoiling(weight, gradient, conv3, conv1, identity, lr):
    """In place on the gradient, which it then spoils."""
    gradient *= conv3**2 + centre(gradient, conv1**2, identity**2)
    weight.sub_(lr * gradient)
    gradient.zero_()
    return weight


@pytest.mark.parametrize("answer", [by_loops, by_branches, spoiling])
def test_the_step_in_several_hands(answer):
    assert str(rivals.updated(answer)).startswith("✓"), rivals.updated(answer)


def multiplied(m):
    return lambda w, g, a, b, c, lr: w - lr * m(w, a, b, c) * g


WRONG_STEPS = [
    ("not tried yet", lambda *given: None),
    ("plain SGD", lambda w, g, a, b, c, lr: w - lr * g),
    ("not squared", multiplied(lambda w, a, b, c: a + centre(w, b, c))),
    ("counts 1 whatever its scale", multiplied(lambda w, a, b, c: a**2 + centre(w, b**2, float(c != 0)))),
    ("multiplied, not the weight", lambda w, g, a, b, c, lr: (a**2 + centre(w, b**2, c**2)) * (w - lr * g)),
    ("the weight is multiplied", lambda w, g, a, b, c, lr: (a**2 + centre(w, b**2, c**2)) * w - lr * g),
    ("uphill", lambda w, g, a, b, c, lr: w + lr * (a**2 + centre(w, b**2, c**2)) * g),
    ("the identity is missing", multiplied(lambda w, a, b, c: a**2 + centre(w, b**2, 0))),
    ("conv1 is missing", multiplied(lambda w, a, b, c: a**2 + centre(w, 0, c**2))),
    ("the centre tap alone, not all nine", multiplied(lambda w, a, b, c: a**2 + b**2 + centre(w, 0, c**2))),
    ("the learning rate is missing", lambda w, g, a, b, c, lr: w - (a**2 + centre(w, b**2, c**2)) * g),
    ("still to be taken", lambda w, g, a, b, c, lr: (a**2 + centre(w, b**2, c**2)) * g),
    ("the square is of the sum", multiplied(lambda w, a, b, c: a**2 + (a + b + c) ** 2 * (centre(w, 1, 0)) - a**2 * centre(w, 1, 0))),
    ("expected the shape", lambda w, g, a, b, c, lr: (w - g)[0]),
    ("expected a tensor, got str", lambda *given: "M"),
    ("stops with TypeError", lambda w, g: w),
    ("stops with ZeroDivisionError", lambda *given: 1 / 0),
]  # fmt: skip


@pytest.mark.parametrize(("says", "answer"), WRONG_STEPS, ids=[says for says, _ in WRONG_STEPS])
def test_a_wrong_step_hears_its_cause(says, answer):
    said = str(rivals.updated(answer))
    assert not said.startswith("✓")
    if says != "the square is of the sum":  # which of the two squares it is need not be told apart
        assert says in said, said


def by_ranks(val, test, k):
    """The closed form, in numpy, in place."""
    from math import comb

    order = np.argsort(val)
    weights = [comb(place, k - 1) for place in range(len(val))]
    return float(np.dot(weights, np.array(test)[order]) / comb(len(val), k))


def by_draws(val, test, k):
    drawn = list(itertools.combinations(zip(val, test, strict=True), k))
    return torch.tensor([max(one)[1] for one in drawn], dtype=torch.float64).mean()


def by_recursion(val, test, k):
    """The best of all is drawn, or it is not; the lists are taken apart on the way."""
    n = len(val)
    best = val.index(max(val))
    value = test.pop(best)
    val.pop(best)
    return value if k == n else value * k / n + (1 - k / n) * by_recursion(val, test, k)


@pytest.mark.parametrize("answer", [by_ranks, by_draws, by_recursion, expected_best])
def test_the_best_of_k_in_several_hands(answer):
    assert str(rivals.best_of_k(answer)).startswith("✓"), rivals.best_of_k(answer)


WRONG_BEST = [
    ("not tried yet", lambda val, test, k: ...),
    ("the best test accuracy there is", lambda val, test, k: max(test)),
    ("the best of all n runs", lambda val, test, k: test[max(range(len(val)), key=val.__getitem__)]),
    ("the best of the first k", lambda val, test, k: max(zip(val[:k], test[:k], strict=True))[1]),
    ("plain mean", lambda val, test, k: sum(test) / len(test)),
    ("the test images chose", lambda val, test, k: by_draws(test, test, k)),
    ("flatters", lambda val, test, k: by_draws(val, val, k)),
    ("drawn twice", lambda val, test, k: np.mean([max(c)[1] for c in itertools.product(zip(val, test, strict=True), repeat=k)])),
    ("the worst on validation", lambda val, test, k: np.mean([min(c)[1] for c in itertools.combinations(zip(val, test, strict=True), k)])),
    ("not divided by their number", lambda val, test, k: sum(max(c)[1] for c in itertools.combinations(zip(val, test, strict=True), k))),
    ("the k best on validation", lambda val, test, k: np.mean([t for _, t in sorted(zip(val, test, strict=True))[-k:]])),
    ("one ticket too few", lambda val, test, k: by_ranks(val, test, max(1, k - 1))),
    ("expected one number, got list", lambda val, test, k: [1.0, 2.0]),
    ("stops with IndexError", lambda val, test, k: test[99]),
]  # fmt: skip


@pytest.mark.parametrize(("says", "answer"), WRONG_BEST, ids=[says for says, _ in WRONG_BEST])
def test_a_wrong_best_hears_its_cause(says, answer):
    said = str(rivals.best_of_k(answer))
    assert not said.startswith("✓")
    assert says in said, said


@pytest.mark.parametrize("task", [rivals.UPDATED, rivals.BEST], ids=["step", "best"])
def test_every_slip_is_told_apart(task):
    for cause, slip in task.slips.items():
        assert cause in str(judge(slip, task))


def test_expected_best_is_the_mean_over_all_draws():
    draw = random.Random(0)
    for n in range(1, 8):
        val, test = [draw.randrange(4) for _ in range(n)], [draw.random() for _ in range(n)]  # with ties
        for k in range(1, n + 1):
            first = [max(c, key=lambda i: (val[i], -i)) for c in itertools.combinations(range(n), k)]
            assert expected_best(val, test, k) == pytest.approx(np.mean([test[i] for i in first]), abs=1e-12)
    for k in (0, 3):
        with pytest.raises(ValueError, match="between 1 and the number of runs"):
            expected_best([1.0, 2.0], [1.0, 2.0], k)
