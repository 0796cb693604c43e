"""The exercises of page 03: right answers, however they are written, and wrong ones, each with its cause."""

import re

import pytest
import torch
import torch.nn.functional as F
from studies import ROOT
from torch import nn

from reducenet.course.exercises import scaler
from reducenet.course.exercises.judge import Task, Wrong, judge


def solutions():
    """The solutions as they stand on the page."""
    page = (ROOT / "notebooks" / "src" / "03_scaler_branch.py").read_text()
    names = {"torch": torch, "nn": nn}
    for code in re.findall(r"# ```python\n(.*?)# ```", page, re.DOTALL):
        exec("\n".join(line[2:] for line in code.splitlines()), names)
    return names


def in_place(block, x):
    y = block.bn3(block.conv3(block.branch2(x)))
    y += block.shortcut(x)
    return y.relu_()


def spoils_its_input(block, x):
    residual = block.shortcut(x).clone()
    x.zero_()
    block.scaler = 0.0
    del block.branch1
    return block.post(block.bn3(block.conv3(block.branch2(x + spoils_its_input.x[x.shape[1]]))) + residual)


def by_calls(block, x):
    def bn(module, h):
        shape = (1, -1, 1, 1)
        scale = module.weight / torch.sqrt(module.running_var + module.eps)
        return (h - module.running_mean.view(shape)) * scale.view(shape) + module.bias.view(shape)

    conv, norm, _ = block.branch2
    h = F.relu(bn(norm, F.conv2d(x, conv.weight, stride=conv.stride, padding=conv.padding)))
    h = bn(block.bn3, F.conv2d(h, block.conv3.weight, padding=1))
    for part in block.shortcut if isinstance(block.shortcut, nn.Sequential) else []:
        x = bn(part, x) if isinstance(part, nn.BatchNorm2d) else F.conv2d(x, part.weight, stride=part.stride)
    return F.relu(h + x)


RIGHT = [lambda b, x: solutions()["student_forward"](b, x), in_place, by_calls]
WRONG = {
    "branch1 is in it": lambda b, x: b(x),
    "it is branch2 that stays": lambda b, x: b.post(b.bn3(b.conv3(b.branch1(x))) + b.shortcut(x)),
    "the shortcut is missing": lambda b, x: torch.relu(b.bn3(b.conv3(b.branch2(x)))),
    "the final ReLU is missing": lambda b, x: b.bn3(b.conv3(b.branch2(x))) + b.shortcut(x),
    "bn3 is missing": lambda b, x: b.post(b.conv3(b.branch2(x)) + b.shortcut(x)),
    "the ReLU comes before the shortcut": lambda b, x: torch.relu(b.bn3(b.conv3(b.branch2(x)))) + b.shortcut(x),
    "conv3 is missing": lambda b, x: b.post(b.bn3(b.branch2(x)) + b.shortcut(x)),
    "conv3 and bn3 are missing": lambda b, x: b.post(b.branch2(x) + b.shortcut(x)),
    "branch2's BN and ReLU are missing": lambda b, x: b.post(b.bn3(b.conv3(b.branch2[0](x))) + b.shortcut(x)),
    "branch2's ReLU is missing": lambda b, x: b.post(b.bn3(b.conv3(b.branch2[1](b.branch2[0](x)))) + b.shortcut(x)),
    "the block is in train mode": lambda b, x: solutions()["student_forward"](b.train(), x),
    "compute in the precision": lambda b, x: solutions()["student_forward"](b.float(), x.float()),
    "expected the shape": lambda b, x: solutions()["student_forward"](b, x).mean((2, 3)),
    "expected a tensor, got str": lambda b, x: "relu",
    "it stops with AttributeError": lambda b, x: b.branch3(x),
    "it is 2 times": lambda b, x: 2 * solutions()["student_forward"](b, x),
    "not a finite number": lambda b, x: solutions()["student_forward"](b, x) / 0,
    "it is zero everywhere": lambda b, x: 0 * solutions()["student_forward"](b, x),
    "off by the same number everywhere": lambda b, x: solutions()["student_forward"](b, x) + 1,
    "wrong on the ring": lambda b, x: F.pad(solutions()["student_forward"](b, x)[..., 1:-1, 1:-1], (1, 1, 1, 1)),
}


@pytest.mark.parametrize("right", RIGHT)
def test_right_answers_pass(right):
    assert scaler.student_forward(right).mark == "✓"


def test_one_that_spoils_what_it_is_handed_passes():
    spoils_its_input.x = {x.shape[1]: x for _, x in scaler._blocks()}
    assert scaler.student_forward(spoils_its_input).mark == "✓"


@pytest.mark.parametrize("cause", WRONG)
def test_wrong_answers_hear_their_cause(cause):
    answer = scaler.student_forward(WRONG[cause])
    assert answer.mark == "✗"
    assert cause in answer.text


def test_what_is_asked_for_cannot_be_moved():
    """Neither statistics nor modes nor weights of what the check compares with are the reader's to change."""

    def zeroes(block, x):
        for bn in block.modules():
            if isinstance(bn, nn.BatchNorm2d):
                bn.running_mean.zero_()
                bn.weight.data.zero_()
        return block.post(block.bn3(block.conv3(block.branch2(x))) + block.shortcut(x))

    for _ in range(2):
        assert scaler.student_forward(zeroes).mark == "✗"
        assert scaler.student_forward(RIGHT[0]).mark == "✓"


def test_every_slip_is_told_from_every_other():
    for task in (scaler.STUDENT, scaler.STATISTICS):
        for cause, slip in task.slips.items():
            answer = judge(slip, task)
            assert answer.mark == "✗", cause
            assert cause in answer.text


def test_an_untouched_stub_is_not_tried_yet():
    for check in (scaler.student_forward, scaler.recalibrated):
        assert repr(check(lambda *_: ...)) == "☐ not tried yet"
        assert check(lambda *_: None).mark == "☐"


# ---- BN statistics


def by_one_batch(bn, batches):
    means, variances = [], []
    for x in batches:
        flat = x.transpose(0, 1).flatten(1)
        means.append(flat.mean(1))
        variances.append(((flat - flat.mean(1, keepdim=True)) ** 2).sum(1) / (flat.shape[1] - 1))
    bn.running_mean.copy_(sum(means) / len(means))
    bn.running_var.copy_(sum(variances) / len(variances))
    return bn


def by_torch(bn, batches):
    bn.reset_running_stats()
    bn.momentum = None
    bn.train()
    for x in batches:
        bn(x)
    return bn.eval()


def another_bn(bn, batches):
    new = nn.BatchNorm2d(bn.num_features).double()
    new.load_state_dict(bn.state_dict())
    while batches:
        x = batches.pop()
        new.running_mean = new.running_mean + x.mean((0, 2, 3)) if hasattr(new, "count") else x.mean((0, 2, 3))
        new.running_var = new.running_var + x.var((0, 2, 3)) if hasattr(new, "count") else x.var((0, 2, 3))
        new.count = getattr(new, "count", 0) + 1
    new.running_mean /= new.count
    new.running_var /= new.count
    return new


@pytest.mark.parametrize("right", [lambda *given: solutions()["recalibrated"](*given), by_one_batch, by_torch, another_bn])
def test_right_statistics_pass(right):
    assert scaler.recalibrated(right).mark == "✓"


WRONG_STATISTICS = {
    "those it came with": lambda bn, batches: bn,
    "divides by n": lambda bn, batches: set_to(bn, [x.mean((0, 2, 3)) for x in batches], [x.var((0, 2, 3), False) for x in batches]),
    "standard deviations": lambda bn, batches: set_to(bn, [x.mean((0, 2, 3)) for x in batches], [x.std((0, 2, 3)) for x in batches]),
    "the distance between their means": lambda bn, batches: by_one_batch(bn, [torch.cat(batches)]),
    "only the last batch": lambda bn, batches: by_one_batch(bn, batches[-1:]),
    "only the first batch": lambda bn, batches: by_one_batch(bn, batches[:1]),
    "the old statistics are still in it": lambda bn, batches: [bn.train()(x) for x in batches] and bn,
    "expected the BN, got Tensor": lambda bn, batches: bn.running_mean,
    "a weight has moved": lambda bn, batches: nn.init.zeros_(bn.bias) is None or by_one_batch(bn, batches),
    "another shape": lambda bn, batches: setattr(bn, "running_mean", torch.zeros(1)) or bn,
    "it stops with AttributeError": lambda bn, batches: batches.mean(0),
}


def set_to(bn, means, variances):
    bn.running_mean, bn.running_var = torch.stack(means).mean(0), torch.stack(variances).mean(0)
    return bn


@pytest.mark.parametrize("cause", WRONG_STATISTICS)
def test_wrong_statistics_hear_their_cause(cause):
    answer = scaler.recalibrated(WRONG_STATISTICS[cause])
    assert answer.mark == "✗"
    assert cause in answer.text


# ---- the judge itself


def test_an_answer_right_in_some_cases_hears_in_how_many():
    task = Task(lambda: [(torch.tensor(1.0),), (torch.tensor(2.0),), (torch.tensor(3.0),)], lambda x: x * x)
    assert "right in 1 of 3 cases" in judge(lambda x: x, task).text
    assert judge(lambda x: (x * x).item(), task).mark == "✓"
    assert judge(lambda x: x**2 + 1e-7, task).text.endswith("compute in the precision of what you are given")


def test_gradients_are_on_where_the_task_needs_them():
    def slope(function, x):
        y = x.clone().requires_grad_()
        return torch.autograd.grad(function(y).sum(), y)[0]

    task = Task(lambda: [(torch.ones(3),)], lambda x: x * x, read=lambda y, x: y, grads=True)
    assert judge(lambda x: slope(lambda z: z**3 / 3, x), task).mark == "✓"
    assert "RuntimeError" in judge(lambda x: slope(lambda z: z**3 / 3, x), Task(task.cases, task.solve)).text


def test_a_reader_of_answers_may_refuse_one():
    def read(answer, x):
        raise Wrong("no list, please")

    task = Task(lambda: [(1,)], lambda x: x, read=lambda answer, x: read(answer, x) if isinstance(answer, list) else answer)
    assert judge(lambda x: [x], task).text == "no list, please"


def test_the_line_of_a_mistake_is_named():
    names = {}
    exec(compile("def mine(block, x):\n    y = x\n    return y.nonsense\n", "<cell>", "exec"), names)
    assert "AttributeError" in scaler.student_forward(names["mine"]).text
    assert scaler.student_forward(names["mine"]).text.endswith("(line 3 of your cell)")
