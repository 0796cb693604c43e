"""Page 02's exercises: what is right however it is written, and what every wrong answer hears."""

import re

import pytest
import torch
from studies import ROOT
from torch import nn

from reducenet.algebra import borders
from reducenet.algebra.exact import merge
from reducenet.course.exercises import depth as exercises
from reducenet.course.exercises.judge import judge

PAGE = (ROOT / "notebooks" / "src" / "02_depth_shrinker.py").read_text()


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, k):
        return hard(scores, k)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def hard(scores, k):
    return torch.zeros_like(scores).scatter(0, scores.topk(k).indices, 1.0)


def in_place(scores, k):
    mask = torch.zeros_like(scores)
    mask[scores.topk(k).indices] = 1
    mask += scores - scores.detach()
    return mask


def by_loop(scores, k):
    kept = sorted(range(len(scores)), key=lambda i: -scores[i].item())[:k]
    return torch.stack([score - score.detach() + float(i in kept) for i, score in enumerate(scores)])


def adds_in_place(scores, k):
    return scores.clone().sub_(scores.detach()).add_(hard(scores.detach(), k))


def pads_what_it_is_given(first, second):
    for axis in (0, 1):
        paddings = [list(conv.padding) for conv in (first, second)]
        paddings[0][axis] += paddings[1][axis] * first.stride[axis]
        paddings[1][axis] = 0
        first.padding, second.padding = map(tuple, paddings)
    return [first, second]


def anew(first, second):
    made = []
    paddings = [tuple(p + q * s for p, q, s in zip(first.padding, second.padding, first.stride, strict=True)), 0]
    for conv, padding in zip((first, second), paddings, strict=True):
        like = dict(stride=conv.stride, bias=conv.bias is not None, dtype=conv.weight.dtype)
        made.append(nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=padding, **like))
        made[-1].load_state_dict(conv.state_dict())
    return nn.Sequential(*made)


RIGHT = {
    "top_k": [
        in_place, by_loop, adds_in_place, Straight.apply, lambda s, k: (hard(s, k) - s).detach() + s,
        lambda s, k: hard(s, k).detach() + s - s.detach(), lambda s, k: ((s.argsort(descending=True).argsort() < k).to(s) - s).detach() + s,
        lambda s, k: Straight.apply(s.clone(), k),
    ],
    "pad_first": [pads_what_it_is_given, anew, borders.padded_first, lambda a, b: borders.repair(a, b, "pad-first").pair
                  if any(b.padding) else (a, b)],
}  # fmt: skip


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, answers in RIGHT.items() for i in range(len(answers))])
def test_right_answers_are_right_however_they_are_written(name, number):
    assert getattr(exercises, name)(RIGHT[name][number]).mark == "✓"


def steals(scores, k):
    with torch.no_grad():
        scores.fill_(0)
    return (hard(scores, k) - scores).detach() + scores


def merged(first, second):
    return merge(*borders.padded_first(first, second))


def scaled(first, second):
    first, second = borders.padded_first(first, second)
    with torch.no_grad():
        first.weight *= 2
    return first, second


def through(soft):
    return lambda s, k: hard(s, k) + soft(s) - soft(s).detach()


WRONG = {
    "top_k": [
        ("no gradient reaches", hard),
        ("no gradient reaches", lambda s, k: ((hard(s, k) - s) + s).detach()),
        ("no gradient reaches", lambda s, k: hard(s, k).bool()),
        ("no gradient reaches", lambda s, k: hard(s, k).requires_grad_()),
        ("gradient is that of a sigmoid", through(torch.sigmoid)),
        ("gradient is that of a clamp", through(lambda s: s.clamp(0, 1))),
        ("gradient is that of a softmax", through(lambda s: s.softmax(0))),
        ("only those that are kept", lambda s, k: hard(s, k) * (1 + s - s.detach())),
        ("wrong sign", lambda s, k: hard(s, k) - s + s.detach()),
        ("comes twice", lambda s, k: hard(s, k) + 2 * s - (2 * s).detach()),
        ("what carries it cancels|0 everywhere", lambda s, k: hard(s, k) + s - s),
        ("one 1 too many", lambda s, k: in_place(s, min(k + 1, len(s)))),
        ("one 1 too few", lambda s, k: in_place(s, max(k - 1, 0))),
        ("the smallest are kept", lambda s, k: in_place(-s, k)),
        ("to be kept", lambda s, k: 1 - in_place(s, k)),
        ("which rank each has", lambda s, k: (s.argsort(descending=True) < k).to(s)),
        ("equal scores", lambda s, k: (s >= s.sort(descending=True).values[max(k - 1, 0)]).to(s)),
        ("missing", lambda s, k: (s > s.sort(descending=True).values[max(k - 1, 0)]).to(s)),
        ("absolute value", lambda s, k: in_place(s.abs(), k)),
        ("one half", lambda s, k: (s > 0.5).to(s)),
        ("soft: the scores are added", lambda s, k: hard(s, k) + s),
        ("soft: these are the kept scores", lambda s, k: hard(s, k) * s),
        ("soft: a sigmoid", lambda s, k: s.sigmoid()),
        ("soft: these are the scores", lambda s, k: s),
        ("indices or values", lambda s, k: s.topk(k).indices),
        ("indices or values", lambda s, k: s.topk(k).values),
        ("scores themselves are changed", steals),
        ("leaf Variable", lambda s, k: s.fill_(0)),
        ("expected a tensor, got tuple", lambda s, k: s.topk(k)[:]),
        ("expected a tensor, got list", lambda s, k: s.tolist()),
        ("stops with AttributeError", lambda s, k: s.top(k)),
    ],
    "pad_first": [
        ("both pad as before", lambda a, b: (a, b)),
        ("stride is forgotten", exercises._padded(lambda p, q, s, t, k, m: (p + q, 0))),
        ("second conv's stride", exercises._padded(lambda p, q, s, t, k, m: (p + q * t, 0))),
        ("counts s1 times", exercises._padded(lambda p, q, s, t, k, m: (p * s + q, 0))),
        ("pads still", exercises._padded(lambda p, q, s, t, k, m: (p + q * s, q))),
        ("nobody pads in its place", exercises._padded(lambda p, q, s, t, k, m: (p, 0))),
        ("own padding is gone", exercises._padded(lambda p, q, s, t, k, m: (q * s, 0))),
        ("on the second", exercises._padded(lambda p, q, s, t, k, m: (0, p + q))),
        ("merged kernel", exercises._padded(lambda p, q, s, t, k, m: ((k + (m - 1) * s) // 2, 0))),
        ("vertical axis", lambda a, b: exercises._one_axis(a, b, 0)),
        ("horizontal axis", lambda a, b: exercises._one_axis(a, b, 1)),
        ("merging comes after", merged),
        ("weight or a bias of the first conv has changed", scaled),
        ("expected a pair", lambda a, b: a.padding),
        ("expected a pair", lambda a, b: None.__class__),
        ("swapped", lambda a, b: (b, a)),
        ("stops with TypeError", lambda a, b: a.padding + b.padding * a.stride),
    ],
}


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, answers in WRONG.items() for i in range(len(answers))])
def test_wrong_answers_hear_their_cause(name, number):
    cause, answer = WRONG[name][number]
    said = getattr(exercises, name)(answer)
    assert said.mark == "✗"
    assert re.search(cause, said.text), said.text


@pytest.mark.parametrize("task", [exercises.MASK, exercises.GRADIENT, exercises.PAD_FIRST], ids=["mask", "gradient", "pad-first"])
def test_every_slip_is_told_from_every_other_and_from_what_is_right(task):
    assert judge(task.solve, task).mark == "✓"
    for cause, slip in task.slips.items():
        assert cause in judge(slip, task).text


@pytest.mark.parametrize("name", ["top_k", "pad_first"])
def test_the_stub_is_not_tried_yet_and_the_printed_solution_is_right(name):
    check = getattr(exercises, name)
    assert check(lambda *_: ...).mark == "☐"
    printed = next(text for text in re.findall(r"# ```python\n(.*?)# ```", PAGE, re.DOTALL) if f"def {name}(" in text)
    names = {"torch": torch, "nn": nn}
    exec(re.sub(r"^# ?", "", printed, flags=re.MULTILINE), names)
    assert check(names[name]).mark == "✓"


def test_a_right_pair_is_one_conv_everywhere():
    """What the exercise calls right, against merge itself, borders included."""
    for first, second in exercises._pairs():
        x = torch.randn(2, 2, 11, 9, dtype=torch.float64)
        pair = pads_what_it_is_given(first, second)
        torch.testing.assert_close(merge(*pair)(x), pair[1](pair[0](x)), rtol=0, atol=1e-10)
