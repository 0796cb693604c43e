"""Page 02: a mask of exactly k ones that can learn; two convs padded so that they merge."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from reducenet.algebra.borders import padded_first
from reducenet.course.exercises.judge import Answer, Task, Wrong, judge
from reducenet.nets.seeding import generator


def _scores() -> list[tuple]:
    """Scores below 0, above 1, at 0 and at 1, equal ones, and a mask without ones."""
    drawn = torch.randn(7, dtype=torch.float64, generator=generator("exercise", "scores"))
    given = [([0.3, -2.1, 0.9, 0.4, -0.2, 1.7], 2), ([1.0, 0.0, 0.0, 1.0, 1.0], 2), ([0.2, 0.7, 0.6], 1), ([-3.0, 0.1, -1.0, -2.0], 3)]
    cases = [(torch.tensor(scores, dtype=torch.float64), k) for scores, k in [*given, (drawn.tolist(), 4), (drawn.tolist(), 0)]]
    return [(scores.requires_grad_(), k) for scores, k in cases]


def _hard(scores, k, largest=True):
    return torch.zeros_like(scores).scatter(0, scores.detach().topk(max(0, min(k, len(scores))), largest=largest).indices, 1.0)


def _top_k(scores, k):
    return (_hard(scores, k) - scores).detach() + scores


def _checked(function: Callable) -> Callable:
    """The function, stopped with a cause where what it makes of its scores cannot be a mask."""

    def checked(scores, k):
        before = scores.detach().clone()
        mask = function(scores, k)
        if mask is None or mask is ...:
            return mask
        if not isinstance(mask, Tensor):
            raise Wrong(f"expected a tensor, got {type(mask).__name__}")
        if not torch.equal(scores.detach(), before):
            raise Wrong("the scores themselves are changed: they are what is learned, only the mask is new")
        if mask.shape != scores.shape:
            raise Wrong(f"expected a mask as long as the scores, {len(scores)}, got the shape {tuple(mask.shape)}: indices or values?")
        return mask

    return checked


def _by_score(mask, scores, k):
    """The mask by falling score; which of equals is kept is free."""
    pairs = sorted(zip(scores.tolist(), mask.tolist(), strict=True), reverse=True)
    return torch.tensor([float(value) for _, value in pairs], dtype=torch.float64)


MASK = Task(
    _scores,
    _top_k,
    {
        "it has one 1 too many": lambda s, k: _hard(s, k + 1),
        "it has one 1 too few": lambda s, k: _hard(s, k - 1),
        "equal scores are all kept, more than k of them": lambda s, k: (s >= s.topk(max(k, 1)).values[-1]).to(s) * min(k, 1),
        "equal scores are all kept, and one at k = 0": lambda s, k: (s >= s.topk(max(k, 1)).values[-1]).to(s),
        "the k-th itself is missing, and all that equal it": lambda s, k: (s > s.topk(max(k, 1)).values[-1]).to(s),
        "the smallest are kept": lambda s, k: _hard(s, k, largest=False),
        "the k largest are removed; they are to be kept": lambda s, k: 1 - _hard(s, k),
        "the k smallest are removed; k is how many are kept": lambda s, k: _hard(s, len(s) - k),
        "those with the largest absolute value are kept; below 0 is small": lambda s, k: _hard(s.abs(), k),
        "argsort says which comes first, not which rank each has": lambda s, k: (s.argsort(descending=True) < k).to(s),
        "argsort says which comes first, not which rank each has; and it rises": lambda s, k: (s.argsort() < k).to(s),
        "it is cut at a fixed score, one half, not at the k-th": lambda s, k: (s > 0.5).to(s),
        "it is cut at a fixed score, zero, not at the k-th": lambda s, k: (s > 0).to(s),
        "it is cut at the mean score, not at the k-th": lambda s, k: (s > s.mean()).to(s),
        "the first k are kept, whatever their scores": lambda s, k: (torch.arange(len(s)) < k).to(s),
        "everything is kept": lambda s, k: torch.ones_like(s),
        "nothing is kept": lambda s, k: torch.zeros_like(s),
        "the forward pass is soft: the scores are added, and never taken away": lambda s, k: _hard(s, k) + s,
        "the forward pass is soft: these are the kept scores": lambda s, k: _hard(s, k) * s,
        "the forward pass is soft: these are the scores, and no mask": lambda s, k: s,
        "the forward pass is soft: these are the scores, clamped": lambda s, k: s.clamp(0, 1),
        "the forward pass is soft: a sigmoid, and no mask": lambda s, k: s.sigmoid(),
        "the forward pass is soft: a softmax, and no mask": lambda s, k: s.softmax(0),
        "the forward pass is soft: the kept sigmoids": lambda s, k: _hard(s, k) * s.sigmoid(),
        "the forward pass is soft: the sigmoid is added, and never taken away": lambda s, k: _hard(s, k) + s.sigmoid(),
        "the scores are taken away from the mask, and never added again": lambda s, k: _hard(s, k) - s,
    },
    read=_by_score,
    grads=True,
)


def _gradient(function: Callable) -> Callable:
    """What comes back to the scores where 1, 2, 3, ... goes into the mask."""

    def gradient(scores, k):
        mask = function(scores, k)
        goes_in = torch.arange(1.0, len(scores) + 1)
        found = torch.autograd.grad((mask * goes_in).sum(), scores, allow_unused=True)[0] if mask.requires_grad else None
        if found is None:
            raise Wrong("the mask is right, but no gradient reaches the scores: topk and comparisons have none, nor has what is detached")
        return found

    return gradient


def _through(soft: Callable) -> Callable:
    """The gradient of `soft(scores, hard)` behind the right mask."""

    def function(scores, k):
        hard = _hard(scores, k)
        p = soft(scores, hard)
        return hard + (p - p.detach())

    return _gradient(function)


GRADIENT = Task(
    _scores,
    _gradient(_top_k),
    {
        "the gradient is that of a clamp, 0 at its ends and beyond: a score there never moves": _through(lambda s, hard: s.clamp(0, 1)),
        "the gradient is that of a sigmoid, not the one that came": _through(lambda s, hard: s.sigmoid()),
        "the gradient is that of a softmax, not the one that came": _through(lambda s, hard: s.softmax(0)),
        "the gradient is that of a tanh, not the one that came": _through(lambda s, hard: s.tanh()),
        "the gradient is that of a ReLU: below 0 there is none": _through(lambda s, hard: s.relu()),
        "the gradient is that of the absolute value: below 0 it is turned round": _through(lambda s, hard: s.abs()),
        "the gradient reaches only those that are kept: who is out never comes back": _through(lambda s, hard: hard * s),
        "the gradient reaches only those that are kept, through a softmax": _through(lambda s, hard: hard * s.softmax(0)),
        "the gradient reaches only those that are kept, through a sigmoid": _through(lambda s, hard: hard * s.sigmoid()),
        "the gradient reaches only those that are out": _through(lambda s, hard: (1 - hard) * s),
        "the gradient has the wrong sign": _through(lambda s, hard: -s),
        "the gradient comes twice": _through(lambda s, hard: 2 * s),
        "the gradient is shared out evenly, its mean to every score": _through(lambda s, hard: s.mean().expand_as(s)),
        "the gradient is summed over all scores": _through(lambda s, hard: s.sum().expand_as(s)),
        "the gradient is 0 everywhere: what should carry it cancels": _through(lambda s, hard: 0 * s),
    },
    grads=True,
    right="exactly k ones at the largest scores, and every score hears the gradient as it comes",
)


def top_k(mine: Callable) -> Answer:
    """Is `mine(scores, k)` a mask of k ones at the largest scores, whose gradient is handed to the scores as it comes?"""
    mask = judge(_checked(mine), MASK)
    return judge(_gradient(mine), GRADIENT) if mask.mark == "✓" else mask


def _pairs() -> list[tuple]:
    """Pairs in which the stride of either conv, a missing padding, and both axes matter."""
    shapes = [
        (dict(kernel_size=3, padding=1), dict(kernel_size=3, padding=1)),
        (dict(kernel_size=3, padding=1, stride=2), dict(kernel_size=3, padding=1)),
        (dict(kernel_size=3, padding=1), dict(kernel_size=3, padding=1, stride=2)),
        (dict(kernel_size=5, padding=2, stride=(3, 2)), dict(kernel_size=3, padding=1, stride=2)),
        (dict(kernel_size=3), dict(kernel_size=3, padding=(2, 1))),
        (dict(kernel_size=1), dict(kernel_size=3, padding=1, bias=False)),
        (dict(kernel_size=3, padding=1, stride=2), dict(kernel_size=1)),
    ]
    draw = generator("exercise", "pairs")
    cases = []
    for one, two in shapes:
        pair = (nn.Conv2d(2, 3, **one).double(), nn.Conv2d(3, 2, **two).double())
        for conv in pair:
            for parameter in conv.parameters():
                nn.init.normal_(parameter, generator=draw)
        cases.append(pair)
    return cases


def _both(padding) -> tuple[int, int]:
    return (padding, padding) if isinstance(padding, int) else tuple(padding)


def _paddings(answer, first, second):
    if isinstance(answer, nn.Conv2d):
        raise Wrong("expected the two convs, got one: merging comes after training")
    if not isinstance(answer, tuple | list | nn.Sequential) or len(answer) != 2:
        raise Wrong(f"expected a pair of convs, got {type(answer).__name__}")
    for place, mine, given in zip(("first", "second"), answer, (first, second), strict=True):
        if not isinstance(mine, nn.Conv2d):
            raise Wrong(f"expected a pair of convs, but the {place} is {type(mine).__name__}")
        if isinstance(mine.padding, str):
            raise Wrong(f"the {place} conv is padded by a word, {mine.padding!r}; say by how many pixels")
        if mine.weight.shape != given.weight.shape or mine.stride != given.stride or mine.groups != given.groups:
            raise Wrong(f"the {place} is another conv (or the two are swapped): kernel, stride and channels stay as they are")
        if (mine.bias is None) != (given.bias is None) or any(
            not torch.equal(a.double(), b) for a, b in zip(mine.parameters(), given.parameters(), strict=True)
        ):
            raise Wrong(f"a weight or a bias of the {place} conv has changed: only the padding moves")
    return torch.tensor([_both(conv.padding) for conv in answer], dtype=torch.float64)


def _padded(rule: Callable) -> Callable:
    """The pair with the paddings that `rule(p1, p2, s1, s2, k1, k2)` gives on each axis."""

    def function(first, second):
        first, second = copy.deepcopy(first), copy.deepcopy(second)
        parts = (first.padding, second.padding, first.stride, second.stride, first.kernel_size, second.kernel_size)
        axes = [rule(*axis) for axis in zip(*parts, strict=True)]
        first.padding, second.padding = tuple(a for a, _ in axes), tuple(b for _, b in axes)
        return first, second

    return function


def _one_axis(first, second, axis):
    first, second = copy.deepcopy(first), copy.deepcopy(second)
    first.padding, second.padding = (first.padding[axis] + second.padding[axis] * first.stride[axis],) * 2, (0, 0)
    return first, second


PAD_FIRST = Task(
    _pairs,
    padded_first,
    {
        "both pad as before: on the ring the second still sees zeros": lambda a, b: (a, b),
        "the first conv's stride is forgotten: one pixel between the two is s1 pixels of the image": _padded(
            lambda p, q, s, t, k, m: (p + q, 0)
        ),
        "the second conv's stride plays no part; the first's does": _padded(lambda p, q, s, t, k, m: (p + q * t, 0)),
        "both strides are in it; only the first's belongs there": _padded(lambda p, q, s, t, k, m: (p + q * s * t, 0)),
        "the stride stands with the wrong padding: it is the second's that counts s1 times": _padded(
            lambda p, q, s, t, k, m: (p * s + q, 0)
        ),
        "the first's own padding is already in pixels of the image": _padded(lambda p, q, s, t, k, m: ((p + q) * s, 0)),
        "the second pads still, and the images grow": _padded(lambda p, q, s, t, k, m: (p + q * s, q)),
        "the second pads still, and the images grow; the first's stride is forgotten": _padded(lambda p, q, s, t, k, m: (p + q, q)),
        "the second's padding is gone, and nobody pads in its place: the images shrink": _padded(lambda p, q, s, t, k, m: (p, 0)),
        "the first's own padding is gone": _padded(lambda p, q, s, t, k, m: (q * s, 0)),
        "the first's own padding is gone, and its stride": _padded(lambda p, q, s, t, k, m: (q, 0)),
        "the first's padding is doubled, whatever the second had": _padded(lambda p, q, s, t, k, m: (2 * p, 0)),
        "this is half of the merged kernel, right only where both were padded by half of theirs": _padded(
            lambda p, q, s, t, k, m: ((k + (m - 1) * s - 1) // 2, 0)
        ),
        "this is full padding, one less than the kernel": _padded(lambda p, q, s, t, k, m: (k - 1, 0)),
        "all the padding is on the second; it is between the two that nobody may pad": _padded(lambda p, q, s, t, k, m: (0, p + q)),
        "all the padding is on the second, and counts s1 times": _padded(lambda p, q, s, t, k, m: (0, p + q * s)),
        "nobody pads any more": _padded(lambda p, q, s, t, k, m: (0, 0)),
        "the two paddings are swapped": _padded(lambda p, q, s, t, k, m: (q, p)),
        "the vertical axis decides for both": lambda a, b: _one_axis(a, b, 0),
        "the horizontal axis decides for both": lambda a, b: _one_axis(a, b, 1),
        "always 2: right for two 3×3 without stride alone": _padded(lambda p, q, s, t, k, m: (2, 0)),
    },
    read=_paddings,
    right="the first conv pads for both, no weight has moved, and the pair merges exactly",
)


def pad_first(mine: Callable) -> Answer:
    """Does `mine(first, second)` return the pair with all the padding, p1 + p2 s1, on the first conv?"""
    return judge(mine, PAD_FIRST)
