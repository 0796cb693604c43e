"""Page 04's exercises: right answers written differently pass, every slip is refused with its cause, and nothing is ever raised."""

import re

import pytest
import torch
import torch.nn.functional as F
from studies import ROOT
from torch import nn

from reducenet.course.exercises import lora
from reducenet.course.exercises.judge import judge
from reducenet.learn.losses import kd
from reducenet.moves.side import attach
from reducenet.moves.side import fold as fold_net


def _solution(weight, bias, first, second, scale):
    return weight + scale * torch.einsum("om,mikl->oikl", second[:, :, 0, 0], first), bias


def _in_place(weight, bias, first, second, scale):
    weight += scale * (second.flatten(1) @ first.flatten(1)).view_as(weight)
    return weight, bias


def _mutating(weight, bias, first, second, scale):
    first.mul_(scale)
    for o in range(len(weight)):
        for m in range(len(first)):
            weight[o] += second[o, m, 0, 0] * first[m]
    second.zero_()
    return [weight, bias]


def _functional(weight, bias, first, second, scale):
    """The kernel is what the branch makes of impulses: every input channel a 1 in the middle of zeros."""
    inside, size = weight.shape[1], weight.shape[2]
    impulse = torch.zeros(inside, inside, 2 * size - 1, 2 * size - 1, dtype=weight.dtype)
    impulse[range(inside), range(inside), size - 1, size - 1] = 1
    change = F.conv2d(F.conv2d(impulse, first), scale * second).flip(2, 3).transpose(0, 1)
    return weight + change, bias


def _as_a_conv(weight, bias, first, second, scale):
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=weight.shape[2] // 2).double()
    conv.weight.data, conv.bias.data = _solution(weight, bias, first, second, scale)
    return conv


@pytest.mark.parametrize("right", [_solution, _in_place, _mutating, _functional, _as_a_conv])
def test_a_right_fold_is_right(right):
    assert lora.fold(right).mark == "✓"


def test_the_fold_that_is_asked_for_is_that_of_the_network(images):
    """The task's own solution against `attach`, trained weights and `fold` of the package."""
    conv = nn.Conv2d(4, 6, 3, padding=1).double()
    with_branch = attach(nn.Sequential(conv), expansion=2, at="0")
    nn.init.normal_(with_branch[0].parametrizations.weight[0].second)
    side, folded = with_branch[0].parametrizations.weight[0], fold_net(with_branch)
    weight, bias = lora.FOLD.solve(conv.weight.data, conv.bias.data, side.first.data, side.second.data[..., None, None], 1.0)
    torch.testing.assert_close(weight, folded[0].weight.data, rtol=0, atol=1e-12)
    torch.testing.assert_close(bias, folded[0].bias.data, rtol=0, atol=0)


@pytest.mark.parametrize("cause", lora.FOLD.slips)
def test_every_slip_of_the_fold_is_named(cause):
    answer = lora.fold(lora.FOLD.slips[cause])
    assert answer.mark == "✗"
    assert answer.text.endswith(cause)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda w, b, f, s, scale: _solution(w, b, f, s, scale)[0], "the bias is lost"),
        (lambda w, b, f, s, scale: (_solution(w, b, f, s, scale)[0], None), "the bias is lost"),
        (lambda w, b, f, s, scale: _solution(w, b, f, s, scale)[::-1], "first the kernel, then the bias"),
        (lambda w, b, f, s, scale: (_solution(w, b, f, s, scale)[0].flatten(1), b), r"has the shape \[4, 4, 3, 3\], yours \[4, 36\]"),
        (lambda w, b, f, s, scale: (w, b, f), "expected two tensors"),
        (lambda w, b, f, s, scale: 0.0, "expected two tensors"),
        (lambda w, b, f, s, scale: (w, 0.0), "expected two tensors"),
        (lambda w, b, f, s, scale: (w + torch.nan, b), "not a finite number"),
        (lambda w, b, f, s, scale: tuple(part.float() for part in _solution(w, b, f, s, scale)), "right but for rounding"),
        (lambda w, b, f, s, scale: (w + scale * (s.reshape(s.shape[0], -1) @ f), b), "stops with|differs"),
        (lambda w, b, f, s, scale: w @ nothing, "stops with NameError"),  # noqa: F821
        (
            lambda w, b, f, s, scale: (w + scale * torch.einsum("om,mikl->oikl", s[:, : len(w), 0, 0], f[: len(w)]), b),
            "elsewhere: differs by up to",
        ),
    ],
)
def test_other_wrong_folds_hear_why(wrong, says):
    answer = lora.fold(wrong)
    assert answer.mark == "✗"
    assert re.search(says, answer.text), answer.text


def _loss(student, teacher, labels, temperature, weight):
    soft = F.kl_div(F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1), reduction="batchmean")
    return (1 - weight) * F.cross_entropy(student, labels) + weight * temperature**2 * soft


def _loss_in_place(student, teacher, labels, temperature, weight):
    hard = nn.CrossEntropyLoss()(student.clone(), labels)
    student /= temperature
    teacher /= temperature
    soft = nn.KLDivLoss(reduction="batchmean", log_target=True)(student.log_softmax(1), teacher.log_softmax(1))
    hard *= 1 - weight
    hard += weight * temperature * temperature * soft
    teacher.zero_()
    return hard


def _loss_by_hand(student, teacher, labels, temperature, weight):
    p, q = torch.softmax(teacher / temperature, -1), torch.softmax(student / temperature, -1)
    hard = -student.log_softmax(-1)[torch.arange(len(labels)), labels].mean()
    return torch.lerp(hard, temperature**2 * (p * (p / q).log()).sum(-1).mean(), torch.tensor(weight, dtype=p.dtype))


def _loss_by_entropy(student, teacher, labels, temperature, weight):
    p = (teacher / temperature).softmax(1)
    soft = F.cross_entropy(student / temperature, p) + (p * p.log()).sum(1).mean()
    return ((1 - weight) * F.cross_entropy(student, labels) + weight * temperature**2 * soft)[None]


@pytest.mark.parametrize("right", [_loss, _loss_in_place, _loss_by_hand, _loss_by_entropy])
def test_a_right_loss_is_right(right):
    assert lora.distil(right).mark == "✓"


def test_the_loss_that_is_asked_for_is_that_of_the_package():
    """`kd` itself, on a network that gives its input back: value and gradient."""
    for student, teacher, labels, temperature, weight in lora.KD.cases():
        expected = lora.KD.solve(student.clone(), teacher, labels, temperature, weight)
        fixed = nn.Linear(teacher.shape[1], teacher.shape[1]).double()
        fixed.forward = lambda x, teacher=teacher: teacher
        student = student.requires_grad_()
        value, _ = kd(fixed, kd_weight=weight, temperature=temperature)(lambda x: x, student, labels)
        grad = torch.autograd.grad(value, student)[0]
        torch.testing.assert_close(expected, torch.cat([value[None], grad.flatten()]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cause", lora.KD.slips)
def test_every_slip_of_the_loss_is_named(cause):
    answer = judge(lora.KD.slips[cause], lora.KD)
    assert answer.mark == "✗"
    assert answer.text.endswith(cause)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda *a: _loss(*a).item(), "can be trained on, got float"),
        (lambda *a: _loss(*a).detach(), "it carries no gradient"),
        (lambda s, t, y, T, w: _loss(s.detach(), t, y, T, w), "it carries no gradient"),
        (lambda s, t, y, T, w: F.cross_entropy(s, y, reduction="none"), r"one number for the batch, got the shape \[6\]"),
        (lambda s, t, y, T, w: 0 * _loss(s, t, y, T, w), "zero everywhere"),
        (lambda s, t, y, T, w: 2 * _loss(s, t, y, T, w), "2 times what it should be"),
        (lambda s, t, y, T, w: _loss(s, t, y, T, w) + torch.inf, "not a finite number"),
        (lambda s, t, y, T, w: F.kl_div(s, y), "stops with"),
        (lambda s, t, y, T, w: F.kl_div(s.log_softmax(1), t.log_softmax(1), reduction="batchmean"), "needs log_target=True"),
        (lambda s, t, y, T, w: torch.zeros(1, requires_grad=True), "does not reach the student's logits"),
    ],
)
def test_other_wrong_losses_hear_why(wrong, says):
    answer = lora.distil(wrong)
    assert answer.mark == "✗"
    assert re.search(says, answer.text), answer.text


PAGE = (ROOT / "notebooks" / "src" / "04_lora_distillation.py").read_text(encoding="utf-8")


def test_the_solutions_of_the_page_are_right():
    told = re.findall(r"# ```python\n(.*?)# ```", PAGE, re.DOTALL)
    names = {"torch": torch, "F": F}
    for solution in told:
        exec(re.sub("^# ?", "", solution, flags=re.MULTILINE), names)
    assert (lora.fold(names["folded"]).mark, lora.distil(names["distillation"]).mark) == ("✓", "✓")
    for stub, check in (("folded", lora.fold), ("distillation", lora.distil)):
        exec(re.search(rf"^def {stub}\(.*?\n    return \.\.\.$", PAGE, re.MULTILINE | re.DOTALL)[0], names)
        assert check(names[stub]).mark == "☐"


@pytest.mark.parametrize("stride", [1, 2])
def test_the_fold_that_the_page_derives_is_the_packages(stride):
    """The cell as it stands on the page."""
    (cell,) = [cell for cell in PAGE.split("# %%") if "def my_fold" in cell]
    names = {"nn": nn, "torch": torch, "F": F}
    exec(cell.partition("\n")[2], names)
    net = attach(nn.Sequential(nn.Conv2d(4, 6, 3, stride, 1, bias=False)).double(), expansion=2, at="0")
    nn.init.normal_(net[0].parametrizations.weight[0].second)
    mine, theirs = names["my_fold"](net[0]), fold_net(net)[0]
    torch.testing.assert_close(mine.weight, theirs.weight, rtol=0, atol=1e-12)
    x = torch.randn(2, 4, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(mine(x), net(x), rtol=0, atol=1e-12)


def test_with_both_factors_at_zero_neither_ever_learns():
    """Question 2 of the page; with one at zero the other side learns."""
    for zero, learns in ((("second",), [False, True]), (("first", "second"), [False, False])):
        net = attach(nn.Sequential(nn.Conv2d(3, 4, 3)), expansion=2, at="0")
        pair = net[0].parametrizations.weight[0]
        for name in zero:
            nn.init.zeros_(getattr(pair, name))
        net(torch.randn(2, 3, 5, 5)).square().sum().backward()
        assert [bool(part.grad.any()) for part in (pair.first, pair.second)] == learns


@pytest.mark.parametrize("check", [lora.fold, lora.distil])
@pytest.mark.parametrize("stub", [lambda *a: ..., lambda *a: None])
def test_an_untouched_stub_is_not_tried_yet(check, stub):
    assert repr(check(stub)) == "☐ not tried yet"
