"""Page 01: the activation that slides, two kernels that become one, and a bug that hid in an in-place ReLU."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, einsum, nn

from reducenet.algebra import exact
from reducenet.course.exercises.judge import Answer, Task, Wrong, judge
from reducenet.nets.seeding import generator, initialise

SHARES = (0.0, 0.25, 0.75, 1.0)  # of lam, or of the scaler: numbers that float32 holds exactly


def _values() -> list[tuple]:
    """Values away from 0 on both sides: at 0 itself a gradient is a matter of taste."""
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=generator("exercise", "values"))
    return [(x + 0.1 * x.sign(), share) for share in SHARES]


def _seen(function: Callable, afterwards: bool = False) -> Callable:
    """What comes out of an activation, the gradient that comes back through it and, if asked, its input afterwards."""

    def seen(x: Tensor, share: float):
        source = x.requires_grad_()
        handed = 1.0 * source  # no leaf: it may be written into, as inside a network
        out = function(handed, share)
        if out is None or out is ...:
            return None
        if not isinstance(out, Tensor):
            raise Wrong(f"expected a tensor, got {type(out).__name__}")
        if out.shape != x.shape:
            raise Wrong(f"expected the shape {tuple(x.shape)}, got {tuple(out.shape)}")
        back = torch.autograd.grad(out.sum(), source, allow_unused=True)[0] if out.requires_grad else None
        parts = [out, torch.zeros_like(x) if back is None else back, *([handed] if afterwards else [])]
        return torch.stack([part.detach().double() for part in parts])

    return seen


LAMBDA_SLIPS = {
    "it is ReLU whatever lam is: lam is not used, or the ReLU has written into x before x was used": lambda x, lam: F.relu(x),
    "it is the identity whatever lam is": lambda x, lam: 1 * x,
    "lam and 1 - lam are swapped: at lam 1 it should be the identity": lambda x, lam: (1 - lam) * x + lam * F.relu(x),
    "above 0 it is (1 + lam) x: the ReLU has to be weighed with 1 - lam": lambda x, lam: lam * x + F.relu(x),
    "above 0 it is (2 - lam) x: x has to be weighed with lam": lambda x, lam: x + (1 - lam) * F.relu(x),
    "both terms have all of their weight": lambda x, lam: x + F.relu(x),
    "both sides are multiplied by lam; above 0 it should be x": lambda x, lam: lam * x,
    "this is lam times the ReLU: nothing comes from below 0": lambda x, lam: lam * F.relu(x),
    "this is 1 - lam times the ReLU: the share lam of x is missing": lambda x, lam: (1 - lam) * F.relu(x),
    "the factor is on the wrong side: what is above 0 is multiplied by lam": lambda x, lam: torch.where(x > 0, lam * x, x),
    "below 0 it is the constant lam, not lam x": lambda x, lam: torch.where(x > 0, x, torch.full_like(x, lam)),
    "below 0 it comes out above 0: a sign is lost": lambda x, lam: torch.where(x > 0, x, -lam * x),
    "it is a switch at lam 1, not a slide": lambda x, lam: 1 * x if lam == 1 else F.relu(x),
    "it is a switch in the middle, not a slide": lambda x, lam: 1 * x if lam > 0.5 else F.relu(x),
    "it is a switch at lam 0, not a slide": lambda x, lam: F.relu(x) if lam == 0 else 1 * x,
    "below 0 it is leaky_relu with the slope that it has of its own, 0.01; lam is not used": lambda x, lam: F.leaky_relu(x),
    "below 0 lam counts twice": lambda x, lam: torch.where(x > 0, x, lam * lam * x),
    "the values are right, but no gradient comes back: it cannot be trained": lambda x, lam: torch.where(x > 0, x, lam * x).detach(),
    "the values are right, but the gradient of the linear part is cut": lambda x, lam: lam * x.detach() + (1 - lam) * F.relu(x),
    "the values are right, but the gradient of the ReLU is cut": lambda x, lam: lam * x + (1 - lam) * F.relu(x.detach()),
}
LAMBDA = Task(
    _values,
    _seen(lambda x, lam: torch.where(x > 0, x, lam * x)),
    {cause: _seen(slip) for cause, slip in LAMBDA_SLIPS.items()},
    grads=True,
    right="ReLU at lam 0, the identity at lam 1, and in between values and gradients are right",
)


def lambda_relu(mine: Callable) -> Answer:
    """Is `mine(x, lam)` lam x + (1 - lam) relu(x), gradient included?"""
    return judge(_seen(mine), LAMBDA)


def _pairs(*sizes: tuple[int, int, int]) -> list[tuple]:
    """conv3 and conv1 with biases, of these channels, strides 1 and 2 in turn."""
    pairs = []
    for i, (inside, inner, out) in enumerate(sizes):
        pair = nn.Sequential(nn.Conv2d(inside, inner, 3, 1 + i % 2, padding=1), nn.Conv2d(inner, out, 1)).double()
        initialise(pair, f"exercise {i}")
        for which, conv in enumerate(pair):
            nn.init.uniform_(conv.bias, 0.5, 1.5, generator=generator("exercise", "bias", i, which))
        pairs.append(tuple(pair))
    return pairs


def _kernel_and_bias(answer, first: nn.Conv2d, second: nn.Conv2d) -> Tensor:
    if isinstance(answer, nn.Conv2d):
        for name in ("stride", "padding", "groups"):
            if getattr(answer, name) != getattr(first, name):
                raise Wrong(f"the {name} of the one conv is that of the first, {getattr(first, name)}, not {getattr(answer, name)}")
        answer = answer.weight, answer.bias
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Wrong(f"expected the weight and the bias of one conv, got {type(answer).__name__}")
    weight, bias = answer
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor):
        lacks = "the weight" if not isinstance(weight, Tensor) else "the bias"
        raise Wrong(f"{lacks} is no tensor, but {type(weight if lacks == 'the weight' else bias).__name__}")
    shapes = {"weight": (weight, (second.out_channels, *first.weight.shape[1:])), "bias": (bias, (second.out_channels,))}
    for name, (tensor, shape) in shapes.items():
        if tensor.shape != shape:
            raise Wrong(f"expected a {name} of shape {shape}, out of the second and into the first, got {tuple(tensor.shape)}")
    return torch.cat([weight.double().flatten(), bias.double()])


RIGHT_KERNEL, RIGHT_BIAS = "", ""
KERNELS = {
    RIGHT_KERNEL: lambda a, b: einsum("om,miyx->oiyx", b, a),
    "conv1's matrix is transposed in the kernel": lambda a, b: einsum("mo,miyx->oiyx", b, a),
    "in the kernel, conv1 comes first": lambda a, b: einsum("omyx,mi->oiyx", a, b),
    "in and out are swapped in the kernel": lambda a, b: einsum("im,moyx->oiyx", b, a),
    "conv3's kernel is read the wrong way round, [out, in] as [in, out]": lambda a, b: einsum("om,imyx->oiyx", b, a),
    "rows and columns of the kernel are swapped": lambda a, b: einsum("om,miyx->oixy", b, a),
    "the kernel is flipped, as in a convolution of mathematics": lambda a, b: einsum("om,miyx->oiyx", b, a).flip(2, 3),
    "the kernel is conv3's alone": lambda a, b: 1 * a,
    "the kernels are multiplied number by number": lambda a, b: a * b[:, :, None, None],
    "the kernels are added: that is for two convs side by side": lambda a, b: a + F.pad(b[:, :, None, None], (1, 1, 1, 1)),
    "the kernels are added: that is for convs side by side": lambda a, b: a + b[:, :, None, None],
    "the kernel is averaged over the inner channels, not summed": lambda a, b: einsum("om,miyx->oiyx", b, a) / b.shape[1],
    "of conv3 only the middle of each kernel is used": lambda a, b: einsum("om,miyx->oiyx", b, F.pad(a[..., 1:2, 1:2], (1, 1, 1, 1))),
    "every kernel is multiplied by the sum of its weights in conv1": lambda a, b: einsum("om,oiyx->oiyx", b, a),
    "every kernel is multiplied by what conv1 makes of its channel": lambda a, b: einsum("om,miyx->miyx", b, a),
}
BIASES = {
    RIGHT_BIAS: lambda b, p, q: q + b @ p,
    "conv3's bias is lost: conv1 sees it too, W2 b1": lambda b, p, q: 1 * q,
    "conv1's bias is lost": lambda b, p, q: b @ p,
    "conv3's bias is added as it is, but it goes through conv1: W2 b1": lambda b, p, q: p + q,
    "conv1's matrix is transposed in the bias": lambda b, p, q: q + b.T @ p,
    "the bias is conv3's alone": lambda b, p, q: 1 * p,
    "conv1 is applied to the wrong bias": lambda b, p, q: p + b @ q,
    "conv1 is applied to both biases": lambda b, p, q: b @ (p + q),
    "the bias is 0": lambda b, p, q: 0 * q,
    "conv3's bias is averaged over the inner channels, not summed": lambda b, p, q: q + b @ p / len(p),
}


def _made(kernel: Callable, bias: Callable) -> Callable:
    return lambda first, second: (
        kernel(first.weight, second.weight[..., 0, 0]), bias(second.weight[..., 0, 0], first.bias, second.bias))  # fmt: skip


MERGE = Task(
    lambda: _pairs((6, 6, 6), (6, 6, 6)),  # first with as many channels everywhere: no slip stumbles over a shape before it is known
    exact.merge,
    {
        " and ".join(filter(None, causes)): _made(KERNELS[causes[0]], BIASES[causes[1]])
        for causes in product(KERNELS, BIASES)
        if any(causes)
    },
    read=_kernel_and_bias,
    right="two convs, one kernel, equal to the package's in float64",
)
ANY_SIZE = replace(MERGE, cases=lambda: _pairs((3, 12, 5), (4, 8, 2)), slips={})


def merge(mine: Callable) -> Answer:
    """Is `mine(first, second)` the weight and the bias of the one conv that a 3x3 conv and the 1x1 behind it are, or that conv itself?"""
    answer = judge(mine, MERGE)
    return judge(mine, ANY_SIZE) if answer.mark == "✓" else answer


FIXED_SLIPS = {
    "still ReLU at every scaler: x is overwritten before it is read; a second name, a view, or a copy made later is overwritten "
    "too": lambda x, s: s * F.relu(x, inplace=True) + (1 - s) * x,
    "the value is right now, but x is still overwritten: whoever reads it next, a shortcut for one, gets ReLU(x)": lambda x, s: (
        (1 - s) * x + s * F.relu(x, inplace=True)
    ),
    "detach() copies nothing, it is the same memory: still ReLU at every scaler, and a gradient is cut too": lambda x, s: (
        lambda y: s * F.relu(x, inplace=True) + (1 - s) * y
    )(x.detach()),
    "x is left alone now, but it is ReLU at every scaler: what was overwritten is read for both terms": lambda x, s: F.relu(x),
    "it is the identity at every scaler: the ReLU is gone": lambda x, s: 1 * x,
    "scaler and 1 - scaler are swapped: in this code scaler 1 is the ReLU": lambda x, s: (1 - s) * F.relu(x) + s * x,
    "scaler and 1 - scaler are swapped (in this code scaler 1 is the ReLU), and x is still overwritten": lambda x, s: (
        s * x + (1 - s) * F.relu_(x)
    ),
    "the terms are not weighed with scaler and 1 - scaler": lambda x, s: F.relu(x) + x,
    "the weight 1 - scaler is missing": lambda x, s: s * F.relu(x) + x,
    "the weight scaler is missing": lambda x, s: F.relu(x) + (1 - s) * x,
    "it is a switch, not a sum of shares": lambda x, s: 1 * x if s == 0 else F.relu(x),
    "the other switch, not a sum of shares": lambda x, s: F.relu(x) if s == 1 else 1 * x,
    "the value is right, but the gradient of the linear part is cut": lambda x, s: s * F.relu(x) + (1 - s) * x.detach(),
    "the value is right, but the gradient of the ReLU is cut": lambda x, s: s * F.relu(x.detach()) + (1 - s) * x,
    "the value is right, but no gradient comes back": lambda x, s: (s * F.relu(x) + (1 - s) * x).detach(),
    "the value is right, but x is still overwritten, and the gradient of its copy is cut": lambda x, s: (
        (1 - s) * x.detach().clone() + s * F.relu_(x)
    ),
    "the value is right, but it is written into x: whoever reads x next gets the result": lambda x, s: x.mul_(
        torch.where(x > 0, 1.0, 1 - s)
    ),
}
FIXED = Task(
    _values,
    _seen(lambda x, scaler: scaler * F.relu(x) + (1 - scaler) * x, afterwards=True),
    {cause: _seen(slip, afterwards=True) for cause, slip in FIXED_SLIPS.items()},
    grads=True,
    right="ReLU at scaler 1, the identity at 0, and x is left as it was",
)


def fixed(mine: Callable) -> Answer:
    """Is `mine(x, scaler)` scaler relu(x) + (1 - scaler) x, gradient included, with x as it was afterwards?"""
    return judge(_seen(mine, afterwards=True), FIXED)
