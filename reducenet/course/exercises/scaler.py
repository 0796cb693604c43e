"""Page 03: the block without branch1; BN statistics estimated anew."""

from collections.abc import Callable

import torch
from torch import nn

from reducenet.course.exercises.judge import Answer, Task, Wrong, judge
from reducenet.moves.branch import drop_branch
from reducenet.nets.blocks import ScalerBlock
from reducenet.nets.seeding import generator, initialise


def _blocks() -> list[tuple]:
    """A block with a conv on its shortcut and one without, statistics far from fresh: what is forgotten shows."""
    cases = []
    for number, (inside, stride) in enumerate(((4, 2), (8, 1))):
        block, draw = ScalerBlock(inside, 8, stride=stride, expansion=2), generator("exercise", "bn", number)
        initialise(block, "exercise")
        block = block.double().eval()
        for bn in block.modules():
            if isinstance(bn, nn.BatchNorm2d):
                bn.running_mean.uniform_(-1, 1, generator=draw)
                bn.running_var.uniform_(0.5, 2, generator=draw)
                nn.init.uniform_(bn.weight, 0.5, 1.5, generator=draw)
                nn.init.uniform_(bn.bias, -0.5, 0.5, generator=draw)
        cases.append((block, torch.randn(3, inside, 9, 9, dtype=torch.float64, generator=draw)))
    return cases


def _student(block, x):
    return drop_branch(nn.Sequential(block))[0](x)


def _with(block, front):
    """What the block gives behind this `front`."""
    return lambda x: block.post(block.bn3(block.conv3(front)) + block.shortcut(x))


def _in_train_mode(block, x):
    return _student(block.train(), x)


def _fresh_statistics(block, x):
    for bn in block.modules():
        if isinstance(bn, nn.BatchNorm2d):
            bn.reset_running_stats()
    return _student(block, x)


STUDENT = Task(
    _blocks,
    _student,
    {
        "this is still the teacher: branch1 is in it": lambda b, x: b(x),
        "this is branch1's part; it is branch2 that stays": lambda b, x: _with(b, b.branch1(x))(x),
        "branch1 is halved, not gone": lambda b, x: _with(b, 0.5 * b.branch1(x) + b.branch2(x))(x),
        "the shortcut is missing": lambda b, x: b.post(b.bn3(b.conv3(b.branch2(x)))),
        "the final ReLU is missing": lambda b, x: b.bn3(b.conv3(b.branch2(x))) + b.shortcut(x),
        "the ReLU comes before the shortcut is added": lambda b, x: b.post(b.bn3(b.conv3(b.branch2(x)))) + b.shortcut(x),
        "bn3 is missing": lambda b, x: b.post(b.conv3(b.branch2(x)) + b.shortcut(x)),
        "bn3 comes after the shortcut is added": lambda b, x: b.post(b.bn3(b.conv3(b.branch2(x)) + b.shortcut(x))),
        "conv3 and bn3 are missing": lambda b, x: b.post(b.branch2(x) + b.shortcut(x)),
        "conv3 is missing": lambda b, x: b.post(b.bn3(b.branch2(x)) + b.shortcut(x)),
        "branch2's BN and ReLU are missing": lambda b, x: _with(b, b.branch2[0](x))(x),
        "branch2's ReLU is missing": lambda b, x: _with(b, b.branch2[:2](x))(x),
        "the block is in train mode: its BNs normalise with this batch": _in_train_mode,
        "the BNs have lost their running statistics": _fresh_statistics,
    },
)


def student_forward(mine: Callable) -> Answer:
    """Is `mine(block, x)` what the block gives once branch1 is dropped?"""
    return judge(mine, STUDENT)


def _bn_and_batches() -> list[tuple]:
    """A BN that has seen other days, and three batches of what it is handed now."""
    draw = generator("exercise", "batches")
    bn = nn.BatchNorm2d(5).double().eval()
    bn.running_mean.uniform_(-1, 1, generator=draw)
    bn.running_var.uniform_(0.5, 2, generator=draw)
    nn.init.uniform_(bn.weight, 0.5, 1.5, generator=draw)
    nn.init.uniform_(bn.bias, -0.5, 0.5, generator=draw)
    batches = [torch.randn(6, 5, 4, 4, dtype=torch.float64, generator=draw) * (i + 1) + i for i in range(3)]
    return [(bn, batches), (bn, batches[1:2])]


def _estimated(bn, batches, mean=lambda x: x.mean((0, 2, 3)), var=lambda x: x.var((0, 2, 3), unbiased=True)):
    bn.running_mean, bn.running_var = torch.stack([mean(x) for x in batches]).mean(0), torch.stack([var(x) for x in batches]).mean(0)
    return bn


def _running(bn, batches):
    bn.train()
    for x in batches:
        bn(x)
    return bn


def _statistics(answer, bn, batches):
    if not isinstance(answer, nn.BatchNorm2d):
        raise Wrong(f"expected the BN, got {type(answer).__name__}")
    if answer.running_mean is None or answer.running_mean.shape != bn.running_mean.shape:
        raise Wrong("its running statistics have another shape")
    weights = torch.cat([answer.weight - bn.weight, answer.bias - bn.bias])
    if weights.abs().max() > 0:
        raise Wrong("a weight has moved: gamma and beta stay as they are, only the statistics are estimated")
    return torch.cat([answer.running_mean, answer.running_var])


STATISTICS = Task(
    _bn_and_batches,
    _estimated,
    {
        "the statistics are those it came with": lambda bn, batches: bn,
        "they were reset, and nothing was measured after": lambda bn, batches: bn.reset_running_stats() or bn,
        "this is the running average of training, which forgets slowly: the old statistics are still in it": _running,
        "this is the running average of training from fresh statistics": lambda bn, b: _running(bn.reset_running_stats() or bn, b),
        "the variance divides by n, running_var by n - 1": lambda bn, b: _estimated(bn, b, var=lambda x: x.var((0, 2, 3), unbiased=False)),
        "running_var holds standard deviations": lambda bn, b: _estimated(bn, b, var=lambda x: x.std((0, 2, 3))),
        "only the last batch counts": lambda bn, b: _estimated(bn, b[-1:]),
        "only the first batch counts": lambda bn, b: _estimated(bn, b[:1]),
        "only the mean is measured, the variance is the old one": lambda bn, b: _estimated(bn, b, var=lambda x: bn.running_var),
        "only the variance is measured, the mean is the old one": lambda bn, b: _estimated(bn, b, mean=lambda x: bn.running_mean),
        "the batches are summed, not averaged": lambda bn, b: _estimated(
            bn, b, mean=lambda x: len(b) * x.mean((0, 2, 3)), var=lambda x: len(b) * x.var((0, 2, 3))
        ),
        "all batches are poured together: the distance between their means is in the variance": lambda bn, b: _estimated(
            bn, [torch.cat(b)]
        ),
    },
    read=_statistics,
    right="mean and variance are those of the batches, and no weight has moved",
)


def recalibrated(mine: Callable) -> Answer:
    """Does `mine(bn, batches)` return the BN with the mean over batches of (batch mean, unbiased batch variance)?"""
    return judge(mine, STATISTICS)
