"""Page 01's exercises: what is right however it is written, and what every wrong answer hears."""

import re

import pytest
import torch
import torch.nn.functional as F
from studies import ROOT
from torch import nn

from reducenet import fold_bn, merge
from reducenet.course.exercises import lambda_relu as exercises
from reducenet.nets.activation import LambdaReLU
from reducenet.nets.blocks import LambdaBlock

PAGE = (ROOT / "notebooks" / "src" / "01_lambda_relu.py").read_text()


def in_place(x, lam):
    x[x < 0] *= lam
    return x


def by_loop(x, lam):
    return torch.stack([torch.stack([v if v > 0 else lam * v for v in row]) for row in x.flatten(1)]).view_as(x)


RIGHT = {
    "lambda_relu": [
        lambda x, lam: lam * x + (1 - lam) * F.relu(x), lambda x, lam: F.leaky_relu(x, lam), in_place, by_loop,
        lambda x, lam: ((1 - lam) * F.relu(x)).add_(lam * x), lambda x, lam: torch.maximum(x, lam * x),
        lambda x, lam: x.clamp(min=0) + lam * x.clamp(max=0), lambda x, lam: F.leaky_relu_(x, lam), lambda x, lam: LambdaReLU(lam)(x),
        lambda x, lam: x - (1 - lam) * x * (x < 0),
    ],
    "fixed": [
        lambda x, s: s * F.relu(x) + (1 - s) * x, lambda x, s: s * F.relu(x.clone(), inplace=True) + (1 - s) * x,
        lambda x, s: F.leaky_relu(x, 1 - s), lambda x, s: torch.where(x > 0, x, (1 - s) * x), lambda x, s: torch.lerp(x, F.relu(x), s),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, answers in RIGHT.items() for i in range(len(answers))])
def test_right_answers_are_right_however_they_are_written(name, number):
    assert getattr(exercises, name)(RIGHT[name][number]).mark == "✓"


WRONG = {
    "lambda_relu": [
        ("ReLU whatever lam is", lambda x, lam: F.relu(x)),
        ("ReLU whatever lam is", lambda x, lam: (1 - lam) * F.relu_(x) + lam * x),
        ("identity whatever", lambda x, lam: x),
        ("swapped", lambda x, lam: F.leaky_relu(x, 1 - lam)),
        (r"(1 + lam) x", lambda x, lam: lam * x + x.clamp(min=0)),
        (r"(2 - lam) x", lambda x, lam: x + F.relu((1 - lam) * x)),
        ("all of their weight", lambda x, lam: x + x * (x > 0)),
        ("both sides", lambda x, lam: lam * x),
        ("nothing comes from below 0", lambda x, lam: F.relu(lam * x)),
        ("the share lam of x is missing", lambda x, lam: F.relu(x) - lam * F.relu(x)),
        ("wrong side", lambda x, lam: lam * F.relu(x) - F.relu(-x)),
        ("constant lam", lambda x, lam: torch.where(x > 0, x, x * 0 + lam)),
        ("a sign is lost", lambda x, lam: F.relu(x) + lam * F.relu(-x)),
        ("switch at lam 1", lambda x, lam: x if lam >= 1 else F.relu(x)),
        ("switch in the middle", lambda x, lam: x if round(lam) else F.relu(x)),
        ("switch at lam 0", lambda x, lam: x if lam else F.relu(x)),
        ("of its own, 0.01", lambda x, lam: torch.where(x > 0, x, 0.01 * x)),
        ("counts twice", lambda x, lam: F.leaky_relu(x, lam**2)),
        ("no gradient comes back", lambda x, lam: torch.from_numpy(F.leaky_relu(x, lam).detach().numpy())),
        ("gradient of the linear part", lambda x, lam: lam * x.data + (1 - lam) * F.relu(x)),
        ("gradient of the ReLU", lambda x, lam: lam * x + (1 - lam) * F.relu(x.data)),
        ("expected a tensor, got LambdaReLU", lambda x, lam: LambdaReLU(lam)),
        ("expected the shape (2, 3, 4, 4), got (2, 48)", lambda x, lam: F.leaky_relu(x, lam).flatten(1)),
        ("stops with NameError", lambda x, lam: lam * x + relu(x)),  # noqa: F821
        ("rounding", lambda x, lam: F.leaky_relu(x.float(), lam)),
    ],
    "fixed": [
        ("still ReLU at every scaler", lambda x, s: s * F.relu(x, inplace=True) + (1 - s) * x),
        ("still ReLU at every scaler", lambda x, s: (lambda y: s * F.relu_(x) + (1 - s) * y)(x.view_as(x))),
        ("still ReLU at every scaler", lambda x, s: s * F.relu_(x) + (1 - s) * x.clone()),
        ("but x is still overwritten", lambda x, s: (1 - s) * x + s * F.relu_(x)),
        ("but x is still overwritten", lambda x, s: (lambda y: s * F.relu_(x) + (1 - s) * y)(x.clone())),
        ("detach() copies nothing", lambda x, s: (lambda y: s * F.relu_(x) + (1 - s) * y)(x.detach())),
        ("read for both terms", lambda x, s: (lambda y: s * F.relu_(y) + (1 - s) * y)(x.clone())),
        ("the ReLU is gone", lambda x, s: x),
        ("are swapped: in this code", lambda x, s: s * x + (1 - s) * F.relu(x)),
        ("and x is still overwritten", lambda x, s: s * x + (1 - s) * F.relu_(x)),
        ("not weighed", lambda x, s: x + F.relu(x)),
        ("weight 1 - scaler is missing", lambda x, s: s * F.relu(x) + x),
        ("weight scaler is missing", lambda x, s: F.relu(x) + (1 - s) * x),
        ("a switch", lambda x, s: F.relu(x) if s else x),
        ("switch, not a sum", lambda x, s: x if s < 1 else F.relu(x)),
        ("gradient of the linear part is cut", lambda x, s: (lambda y: s * F.relu(x) + (1 - s) * y)(x.detach().clone())),
        ("gradient of the ReLU is cut", lambda x, s: (lambda y: s * F.relu_(y) + (1 - s) * x)(x.detach().clone())),
        ("no gradient comes back", lambda x, s: (s * F.relu(x) + (1 - s) * x).detach()),
        ("gradient of its copy is cut", lambda x, s: (lambda y: s * F.relu_(x) + (1 - s) * y)(x.detach().clone())),
        ("written into x", lambda x, s: F.leaky_relu_(x, 1 - s)),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, answers in WRONG.items() for i in range(len(answers))])
def test_wrong_answers_hear_the_cause(name, number):
    cause, wrong = WRONG[name][number]
    verdict = getattr(exercises, name)(wrong)
    assert verdict.mark == "✗"
    assert cause in verdict.text


def parts(first, second):
    return first.weight, second.weight[:, :, 0, 0], first.bias, second.bias


def product(first, second):
    a, b, p, q = parts(first, second)
    return (b @ a.flatten(1)).view(-1, *a.shape[1:]), b @ p + q


def probed(first, second):
    """What the pair answers to a lit pixel, at any stride: the first conv at stride 1 is asked."""
    first.stride = (1, 1)
    size = first.in_channels
    lit = torch.zeros(size, size, 5, 5, dtype=torch.float64)
    lit[range(size), range(size), 2, 2] = 1
    dark = second(first(0 * lit[:1]))
    return (second(first(lit)) - dark)[..., 1:4, 1:4].flip(2, 3).transpose(0, 1), dark[0, :, 2, 2]


def whole(first, second):
    one = nn.Conv2d(first.in_channels, second.out_channels, 3, first.stride, 1).double()
    one.weight.data, one.bias.data = product(first, second)
    return one


def into_first(first, second):
    a, b, p, q = parts(first, second)
    first.weight.data, first.bias.data = torch.einsum("om,miyx->oiyx", b, a), q.addmv_(b, p)
    return [first.weight, first.bias]


@pytest.mark.parametrize("right", [product, probed, whole, into_first], ids=lambda f: f.__name__)
def test_a_right_merge_is_right_however_it_is_written(right):
    assert exercises.merge(right).mark == "✓"


def einsum(kernel, bias=lambda b, p, q: b @ p + q):
    def merged(first, second):
        a, b, p, q = parts(first, second)
        return torch.einsum(kernel, b, a), bias(b, p, q)

    return merged


RIGHT_EINSUM = "om,miyx->oiyx"
WRONG_MERGES = [
    ("conv1's matrix is transposed in the kernel", einsum("mo,miyx->oiyx")),
    ("transposed in the kernel and conv1's matrix is transposed in the bias", einsum("mo,miyx->oiyx", lambda b, p, q: b.T @ p + q)),
    ("conv1 comes first", einsum("mi,omyx->oiyx")),
    ("in and out are swapped", einsum("im,moyx->oiyx")),
    ("the wrong way round", einsum("om,imyx->oiyx")),
    ("rows and columns", einsum("om,mixy->oiyx")),
    ("conv3's bias is lost", einsum(RIGHT_EINSUM, lambda b, p, q: q)),
    ("conv1's bias is lost", einsum(RIGHT_EINSUM, lambda b, p, q: b @ p)),
    ("it goes through conv1", einsum(RIGHT_EINSUM, lambda b, p, q: p + q)),
    ("transposed in the bias", einsum(RIGHT_EINSUM, lambda b, p, q: p @ b + q)),
    ("the wrong bias", einsum(RIGHT_EINSUM, lambda b, p, q: b @ q + p)),
    ("both biases", einsum(RIGHT_EINSUM, lambda b, p, q: b @ (p + q))),
    ("the bias is 0", einsum(RIGHT_EINSUM, lambda b, p, q: torch.zeros_like(q))),
    ("averaged over the inner channels, not summed", einsum(RIGHT_EINSUM, lambda b, p, q: b @ p / len(p) + q)),
    ("flipped", lambda a, b: (product(a, b)[0].flip(2, 3), product(a, b)[1])),
    ("the kernel is conv3's alone", lambda a, b: (a.weight, product(a, b)[1])),
    ("number by number", lambda a, b: (a.weight * b.weight, product(a, b)[1])),
    ("are added", lambda a, b: (a.weight + F.pad(b.weight, (1, 1, 1, 1)), a.bias + b.bias)),
    ("are added", lambda a, b: (a.weight + b.weight, product(a, b)[1])),
    ("averaged over the inner channels", lambda a, b: (product(a, b)[0] / a.out_channels, product(a, b)[1])),
    ("only the middle", lambda a, b: (F.pad((b.weight[..., 0, 0] @ a.weight[..., 1, 1])[..., None, None], (1, 1, 1, 1)), product(a, b)[1])),
    ("expected the weight and the bias of one conv, got Sequential", lambda a, b: nn.Sequential(a, b)),
    ("expected the weight and the bias of one conv, got Tensor", lambda a, b: product(a, b)[0]),
    ("the bias is no tensor, but NoneType", lambda a, b: (product(a, b)[0], None)),
    ("expected a weight of shape (6, 6, 3, 3), out of the second and into the first, got (6, 54)",
     lambda a, b: (product(a, b)[0].flatten(1), product(a, b)[1])),
    ("the stride of the one conv is that of the first, (2, 2), not (1, 1)", lambda a, b: setattr(w := whole(a, b), "stride", (1, 1)) or w),
    ("the padding of the one conv", lambda a, b: setattr(w := whole(a, b), "padding", (0, 0)) or w),
    ("stops with RuntimeError", lambda a, b: (b.weight @ a.weight, b.bias)),
    ("expected a weight of shape (5, 3, 3, 3)", lambda a, b: (product(a, b)[0] if len(b.weight) == 6 else a.weight, product(a, b)[1])),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRONG_MERGES)))
def test_a_wrong_merge_hears_the_cause(number):
    cause, wrong = WRONG_MERGES[number]
    verdict = exercises.merge(wrong)
    assert verdict.mark == "✗"
    assert cause in verdict.text


@pytest.mark.parametrize("name", ["lambda_relu", "fixed", "merge"])
def test_an_untouched_stub_is_not_tried_yet(name):
    assert getattr(exercises, name)(lambda *_: ...).mark == "☐"
    assert getattr(exercises, name)(lambda *_: None).mark == "☐"


def test_the_solution_of_the_activation_is_the_packages():
    for x, lam in exercises.LAMBDA.cases():
        value, slope = exercises.LAMBDA.solve(x, lam)
        torch.testing.assert_close(value, LambdaReLU(lam)(x.detach()), rtol=0, atol=0)
        torch.testing.assert_close(slope, torch.where(x > 0, 1.0, lam).detach().double(), rtol=0, atol=0)


@pytest.mark.parametrize("task", [exercises.LAMBDA, exercises.FIXED, exercises.MERGE], ids=["lambda_relu", "fixed", "merge"])
def test_no_slip_is_right_and_no_two_are_the_same(task):
    with torch.set_grad_enabled(task.grads):
        seen = {"right": [task.read(task.solve(*case), *case) for case in task.cases()]}
        for cause, slip in task.slips.items():
            found = [task.read(slip(*case), *case) for case in task.cases()]
            same = [name for name, other in seen.items() if all(map(torch.allclose, found, other))]
            assert not same, (cause, same)
            seen[cause] = found


def test_the_solutions_on_the_page_are_right():
    names = {"torch": torch}
    for code in re.findall(r"# ```python\n(.*?)# ```", PAGE, re.DOTALL):
        exec("\n".join(line[2:] for line in code.splitlines()), names)
    for check, mine in (("lambda_relu", "lambda_relu"), ("merge", "my_merge"), ("fixed", "fixed")):
        assert getattr(exercises, check)(names[mine]).mark == "✓"


def test_the_bug_on_the_page_is_the_one_that_is_looked_for():
    (cell,) = [cell for cell in PAGE.split("# %%") if "def first_act" in cell]
    names = {}
    exec(cell.split("with torch.no_grad")[0], names)
    assert "still ReLU at every scaler" in exercises.fixed(names["first_act"]).text
    x = torch.linspace(-1, 1, 5)
    torch.testing.assert_close(names["first_act"](x.clone(), 0.0), F.relu(x))


@pytest.mark.parametrize("lam", [1.0, 0.5])
def test_what_the_page_derives_is_the_packages_at_lam_1_alone(randomised, lam):
    """The cell as it stands on the page: the kernel that a pair answers with, at the border too."""
    (cell,) = [cell for cell in PAGE.split("# %%") if "def ask(" in cell]
    names = {}
    exec(cell.split("\n", 1)[1], names)
    pair = randomised(LambdaBlock(4, 6, expansion=3, lam=lam)).double().pair
    one, theirs = names["ask"](pair, 4), merge(fold_bn(*pair[:2]), fold_bn(*pair[3:]))
    x = torch.randn(2, 4, 9, 9, dtype=torch.float64)
    found = [torch.allclose(one.weight, theirs.weight, atol=1e-10), torch.allclose(one(x), pair(x), atol=1e-10)]
    assert found == [lam == 1, lam == 1]
