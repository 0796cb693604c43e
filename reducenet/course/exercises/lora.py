"""Page 04: a side branch folded into the conv beside it; the loss that soft labels make."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reducenet.algebra.exact import add, merge
from reducenet.course.exercises.judge import Answer, Task, Wrong, judge
from reducenet.learn.losses import kd_term
from reducenet.nets.seeding import generator

# --- fold ------------------------------------------------------------------------------------------------------------------------------


def _kernels(*shapes: tuple[int, int, int, int]) -> list[tuple]:
    """(weight, bias, first, second, scale) for every (out, in, width, kernel size)."""
    draw, cases = generator("exercise", "fold"), []
    for out, inside, width, size in shapes:
        parts = [(out, inside, size, size), (out,), (width, inside, size, size), (out, width, 1, 1)]
        cases.append((*(torch.randn(part, dtype=torch.float64, generator=draw) for part in parts), 0.5 + len(cases)))
    return cases


def _by_the_package(weight, bias, first, second, scale):
    """`add` and `merge` of convs that have these kernels."""

    def conv(kernel, padding=0, bias=None):
        made = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:], padding=padding, bias=bias is not None).double()
        made.load_state_dict({"weight": kernel} if bias is None else {"weight": kernel, "bias": bias})
        return made

    pad = weight.shape[2] // 2
    one = add(conv(weight, pad, bias), merge(conv(first, pad), conv(scale * second)))
    return one.weight, one.bias


def _pair(of: str = "om,mikl->oikl", weight_too: bool = True, scaled: Callable = lambda change, scale: scale * change):
    """A slip: another product `of` second and first, another scale, or no weight beside it."""

    def slip(weight, bias, first, second, scale):
        change = scaled(torch.einsum(of, second[..., 0, 0], first), scale)
        return (weight + change if weight_too else change), bias

    return slip


def _flipped(weight, bias, first, second, scale):
    return _pair()(weight, bias, first.flip(2, 3), second, scale)


def _other_order(weight, bias, first, second, scale):
    return weight + scale * torch.einsum("omkl,mi->oikl", first, second[..., 0, 0]), bias


def _with_bias(change: Callable):
    """A slip with the right kernel and another bias."""
    return lambda w, b, first, second, s: (_pair()(w, b, first, second, s)[0], change(b, second, s))


def _kernel_and_bias(answer, weight, bias, *_) -> Tensor:
    if isinstance(answer, nn.Conv2d):
        answer = (answer.weight, answer.bias)
    if isinstance(answer, Tensor) and answer.shape == weight.shape:
        raise Wrong("this is a kernel alone, and the bias is lost: return both, kernel and bias")
    if not isinstance(answer, tuple | list) or len(answer) != 2 or not isinstance(answer[0], Tensor):
        raise Wrong("expected two tensors, the kernel and the bias")
    if answer[1] is None:
        raise Wrong("the bias is lost: the conv beside the branch has one")
    if not isinstance(answer[1], Tensor):
        raise Wrong("expected two tensors, the kernel and the bias")
    if answer[0].shape == bias.shape and answer[1].shape == weight.shape:
        raise Wrong("first the kernel, then the bias")
    for name, found, like in (("kernel", answer[0], weight), ("bias", answer[1], bias)):
        if found.shape != like.shape:
            raise Wrong(f"the {name} of the conv has the shape {list(like.shape)}, yours {list(found.shape)}")
    return torch.cat([answer[0].double().flatten(), answer[1].double().flatten()])


FOLD = Task(
    lambda: _kernels((4, 4, 4, 3), (5, 5, 5, 3)),  # as wide as deep, so that a wrong order is a wrong number and no wrong shape
    _by_the_package,
    {
        "the branch is not in it": lambda w, b, first, second, s: (w, b),
        "the branch replaces the kernel beside it; they are added": _pair(weight_too=False),
        "the scale is forgotten": _pair(scaled=lambda change, s: change),
        "the scale and the kernel beside it are forgotten": _pair(weight_too=False, scaled=lambda change, s: change),
        "the scale divides; it multiplies": _pair(scaled=lambda change, s: change / s),
        "the scale is on both factors: once is enough": _pair(scaled=lambda change, s: s * s * change),
        "the scale is on the kernel beside the branch as well": lambda w, b, *rest: _pair()(rest[-1] * w, b, *rest),
        "the branch is subtracted": _pair(scaled=lambda change, s: -s * change),
        "it is divided by the width: the middle channels are summed, not averaged": lambda w, b, first, second, s: _pair()(
            w, b, first, second / len(first), s
        ),
        "the product is in the other order: the k x k conv comes first, the 1 x 1 reads what it makes": _other_order,
        "the second kernel is transposed: its first dimension is what comes out": _pair("mo,mikl->oikl"),
        "the first kernel's outputs and inputs are swapped": _pair("om,imkl->oikl"),
        "outputs and inputs of the branch's kernel are swapped": _pair("om,mikl->iokl"),
        "rows and columns of the kernel are swapped": _pair("om,mikl->oilk"),
        "the branch's kernel is flipped: a Conv2d does not flip, so nothing has to be flipped back": _flipped,
        "the kernel is flipped: a Conv2d does not flip, so nothing has to be flipped back": lambda w, b, *rest: (
            _pair()(w, b, *rest)[0].flip(2, 3), b),
        "the second conv has to read the first's outputs, and F.conv2d(first, second) reads its inputs: swap the two dimensions, and back":
            _pair("oi,mikl->mokl"),
        "the factors are multiplied number by number; the sum over the middle channels is missing": lambda w, b, first, second, s: (
            w + s * second * first, b),
        "the kernels are added; the two convs stand one behind the other, so they multiply": lambda w, b, first, second, s: (
            w + s * (first + second), b),
        "this treats the 1 x 1 as a branch of its own; it reads what the k x k makes": lambda w, b, first, second, s: (
            w + s * F.pad(second, 2 * [w.shape[2] // 2] + 2 * [w.shape[2] // 2]), b),
        "only the first conv of the branch is in it": lambda w, b, first, second, s: (w + s * first, b),
        "the bias is lost": _with_bias(lambda b, second, s: torch.zeros_like(b)),
        "the scale is on the bias as well": _with_bias(lambda b, second, s: s * b),
        "the bias is in it twice": _with_bias(lambda b, second, s: 2 * b),
        "the bias went through the branch; it belongs to the conv beside it": _with_bias(lambda b, second, s: second[..., 0, 0] @ b),
        "the bias went through the branch as well; the branch reads x, not the conv": _with_bias(
            lambda b, second, s: b + s * second[..., 0, 0] @ b),
    },
    read=_kernel_and_bias,
    right="one conv, equal to the package's in float64",
)  # fmt: skip
WIDER = Task(lambda: _kernels((4, 3, 7, 3), (6, 2, 1, 5)), _by_the_package, read=_kernel_and_bias, right=FOLD.right)


def fold(mine: Callable) -> Answer:
    """Are `mine(weight, bias, first, second, scale)` kernel and bias of the one conv that does what conv and branch do together?"""
    answer = judge(mine, FOLD)
    if answer.mark != "✓":
        return answer
    wider = judge(mine, WIDER)
    return wider if wider.mark == "✓" else Answer("✗", f"right where width, inputs and outputs are as many; elsewhere: {wider.text}")


# --- soft labels -----------------------------------------------------------------------------------------------------------------------


def _answers() -> list[tuple]:
    """(student, teacher, labels, temperature, weight): logits of batches, with T below and above 1."""
    draw = generator("exercise", "kd")
    cases = []
    for images, classes, temperature, weight in ((6, 5, 4.0, 0.9), (3, 7, 2.0, 0.3), (4, 4, 0.5, 0.6)):
        logits = [2 * torch.randn(images, classes, dtype=torch.float64, generator=draw) for _ in range(2)]
        cases.append((*logits, torch.randint(classes, (images,), generator=draw), temperature, weight))
    return cases


def _learned(loss: Callable) -> Callable:
    """The value of a loss and its gradient at the student's logits: the right value with another gradient teaches something else."""

    def both(student, *rest):
        student = student.requires_grad_()
        value = loss(student.clone(), *rest)  # a clone may be written into
        if value is None or value is ...:
            return None
        if not isinstance(value, Tensor):
            raise Wrong(f"expected a tensor that can be trained on, got {type(value).__name__}")
        if value.numel() != 1:
            raise Wrong(f"expected one number for the batch, got the shape {list(value.shape)}")
        if not value.requires_grad:
            raise Wrong("it carries no gradient: nothing can be learned from it")
        if value.isnan().any():
            raise Wrong("it is not a number: some log is of what is negative. A target that is a log-softmax needs log_target=True")
        (grad,) = torch.autograd.grad(value.sum(), student, allow_unused=True)
        if grad is None:
            raise Wrong("its gradient does not reach the student's logits")
        return torch.cat([value.reshape(1), grad.flatten()])

    return both


def _loss(soft: Callable | None = None, hard: Callable = lambda s, t, y, T: F.cross_entropy(s, y), shares=lambda w: (1 - w, w)):
    """The loss with another soft part `(student, teacher, T)`, another hard one or other weights; right where nothing is given."""

    def loss(s, t, y, T, w):
        part = kd_term(s, t, T) if soft is None else soft(s, t, T)
        return shares(w)[0] * hard(s, t, y, T) + shares(w)[1] * part

    return _learned(loss)


def _kl(s, t, T, dim=1, **how):
    return F.kl_div(F.log_softmax(s / T, dim), F.log_softmax(t / T, dim), **{"reduction": "batchmean", "log_target": True} | how)


KD = Task(
    _answers,
    _loss(),
    {
        "the soft part is not multiplied by T squared": _loss(_kl),
        "the soft part is multiplied by T, not by T squared": _loss(lambda s, t, T: T * _kl(s, t, T)),
        "the soft part is divided by T squared": _loss(lambda s, t, T: _kl(s, t, T) / T**2),
        "the soft part is multiplied by T squared twice": _loss(lambda s, t, T: T**2 * kd_term(s, t, T)),
        "T squared is on the labels' part; it belongs to the soft one": _loss(_kl, lambda s, t, y, T: T**2 * F.cross_entropy(s, y)),
        "T squared is on the whole loss; it belongs to the soft part": _learned(
            lambda s, t, y, T, w: T**2 * ((1 - w) * F.cross_entropy(s, y) + w * _kl(s, t, T))),
        "the KL is averaged over the classes too (reduction \"mean\", torch's default): C times too small": _loss(
            lambda s, t, T: T**2 * _kl(s, t, T) / s.shape[1]),
        "the KL is averaged over the classes too, and T squared is missing": _loss(lambda s, t, T: _kl(s, t, T) / s.shape[1]),
        "the KL is summed over the batch; it is averaged over the images": _loss(lambda s, t, T: T**2 * _kl(s, t, T, reduction="sum")),
        "log_target=True is for a target that is a log already": _loss(lambda s, t, T: T**2 * F.kl_div(
            F.log_softmax(s / T, 1), F.softmax(t / T, 1), reduction="batchmean", log_target=True)),
        "kl_div wants the student's log-probabilities, these are probabilities": _loss(lambda s, t, T: T**2 * F.kl_div(
            F.softmax(s / T, 1), F.softmax(t / T, 1), reduction="batchmean")),
        "kl_div wants log-probabilities, these are logits": _loss(lambda s, t, T: T**2 * F.kl_div(
            s / T, F.softmax(t / T, 1), reduction="batchmean")),
        "student and teacher are swapped: KL(student || teacher)": _loss(lambda s, t, T: kd_term(t, s, T)),
        "the softmax runs over the batch, not over the classes": _loss(lambda s, t, T: T**2 * _kl(s, t, T, dim=0)),
        "the weights are swapped: `weight` is the soft part's": _loss(shares=lambda w: (w, 1 - w)),
        "the labels' part has no weight: 1 - weight": _loss(shares=lambda w: (1, w)),
        "the soft part has no weight": _loss(shares=lambda w: (1 - w, 1)),
        "neither part has a weight": _loss(shares=lambda w: (1, 1)),
        "the labels' part is missing": _loss(shares=lambda w: (0, w)),
        "the labels' part and the weight are missing": _loss(shares=lambda w: (0, 1)),
        "the soft part is missing": _loss(shares=lambda w: (1 - w, 0)),
        "the soft part and the weight are missing": _loss(shares=lambda w: (1, 0)),
        "the temperature is on the labels' part too: labels are for T = 1": _loss(hard=lambda s, t, y, T: F.cross_entropy(s / T, y)),
        "the labels' part is averaged over logits after a softmax: cross_entropy takes logits": _loss(
            hard=lambda s, t, y, T: F.cross_entropy(F.softmax(s, 1), y)),
        "the labels' part is summed over the batch": _loss(hard=lambda s, t, y, T: F.cross_entropy(s, y, reduction="sum")),
        "the labels' part is the teacher's answer, not the label": _loss(hard=lambda s, t, y, T: F.cross_entropy(s, t.argmax(1))),
        "the temperature is on the teacher alone": _loss(lambda s, t, T: T**2 * _kl(s, t / T, 1)),
        "the temperature is on the student alone": _loss(lambda s, t, T: T**2 * _kl(s / T, t, 1)),
        "no softmax has the temperature": _loss(lambda s, t, T: T**2 * _kl(s, t, 1)),
        "the temperature is nowhere": _loss(lambda s, t, T: _kl(s, t, 1)),
        "the temperature multiplies the logits; it divides them": _loss(lambda s, t, T: T**2 * _kl(s, t, 1 / T)),
        "the temperature divides the probabilities, not the logits": _loss(
            lambda s, t, T: T**2 * (F.softmax(t, 1) / T * (F.log_softmax(t, 1) - F.log_softmax(s, 1))).sum(1).mean()),
        "this is the cross entropy with soft labels: the gradient is right, but it is not 0 where student and teacher agree": _loss(
            lambda s, t, T: T**2 * F.cross_entropy(s / T, F.softmax(t / T, 1))),
        "the sign of the KL is turned": _loss(lambda s, t, T: -kd_term(s, t, T)),
        "these are squared distances of logits, not a KL": _loss(lambda s, t, T: F.mse_loss(s, t)),
        "the student has no gradient in the soft part: only the teacher is held fixed": _loss(lambda s, t, T: kd_term(s.detach(), t, T)),
        "the student has no gradient in the labels' part": _loss(hard=lambda s, t, y, T: F.cross_entropy(s.detach(), y)),
    },
    grads=True,
    right="value and gradient are the package's, in float64",
)  # fmt: skip


def distil(mine: Callable) -> Answer:
    """Is `mine(student, teacher, labels, temperature, weight)` the loss `(1 - w) CE + w T^2 KL(teacher || student)`, with its gradient?"""
    return judge(_learned(mine), KD)
