"""RepOpt: a structure of parallel branches that lives in the optimiser. The network is a plain one from the first step.

Parallel branches with constant scales, y = sum_i s_i conv(x, W_i), compute conv(x, W) with W = sum_i s_i W_i. One SGD step moves each
W_i by -lr s_i dL/dW on the taps that the branch has, so W by -lr M dL/dW with M = sum_i s_i^2 mask_i, elementwise. Momentum, Nesterov's
too, and weight decay are linear in weights and gradients, so they commute with the sum: training W with its gradient multiplied by M is
training the branches, however W is split among them at the start. What is not linear breaks this: clipping, Adam, a BN per branch (RepVGG).
Source: Ding et al. 2023, "Re-parameterizing Your Optimizers rather than Architectures", section 3.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from reducenet.moves.side import inside_branches
from reducenet.moves.surgery import chosen, copied
from reducenet.words import Above0, AtLeast0, MoveError, Names, move


class _Multiplied(torch.autograd.Function):
    """The weight itself forward, the gradient times `multiplier` backward."""

    @staticmethod
    def forward(weight: Tensor, multiplier: Tensor) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.saved_tensors[0], None


class GradientMultiplier(nn.Module):
    """A parametrisation with `W -> W`, bitwise, and `dL/dW -> multiplier * dL/dW`, elementwise.

    A module and not a hook on the tensor: a hook is lost when the network is copied, and `fit` copies it.
    """

    def __init__(self, multiplier: Tensor):  # [out, in / groups, k, k]
        super().__init__()
        self.register_buffer("multiplier", multiplier)

    def forward(self, weight: Tensor) -> Tensor:
        return _Multiplied.apply(weight, self.multiplier)


@move
def repopt(net: nn.Module, at: Names = "*branch2.0", conv3: Above0 = 1.0, conv1: AtLeast0 = 1.0, identity: AtLeast0 = 0.0) -> nn.Module:
    """`repopt(net)(x) == net(x)`, bitwise, and under SGD the convs that match `at` learn as if they were parallel branches.

    The branches are `conv3 * conv(x)` of the conv's own kernel size, `conv1 * conv1x1(x)` on its centre tap and `identity * u * x` with one
    trained number u per channel; scale 0 is no branch. The gradient is multiplied by conv3^2, plus conv1^2 on the centre tap, plus
    identity^2 where the centre tap leads from a channel to itself. The identity is there only where the conv keeps the shape of its
    input, as in RepVGG. `identity` 1 is the "+ 1" of RepOpt, whose identity has a trained factor too: a bare `+ x`, with nothing in it to
    train, would add nothing. Scales are without unit; the weights stay as they are, and `fold` takes the multiplier off again.
    Exact for SGD with or without momentum, Nesterov and weight decay; not with gradient clipping or Adam.
    `conv3` is above 0, or the outer taps would never learn. Raises `MoveError` for a conv without a centre tap, and for an identity where
    no conv has one.
    """
    net = copied(net)
    taken = inside_branches(net)
    convs = chosen(net, lambda name, m: type(m) is nn.Conv2d and name not in taken, at, "repopt", "plain conv")
    if identity and not any(map(_keeps_shape, convs.values())):
        raise MoveError(f"repopt: no conv that matches {at!r} keeps the shape of its input, so none has an identity; take identity = 0")
    for name, conv in convs.items():
        if not all(size % 2 for size in conv.kernel_size):
            raise MoveError(f"repopt: {name} has an even kernel {conv.kernel_size}, which has no centre tap for a 1x1 branch")
        parametrize.register_parametrization(conv, "weight", GradientMultiplier(_multiplier(conv, conv3, conv1, identity)))
    return net


def _multiplier(conv: nn.Conv2d, conv3: float, conv1: float, identity: float) -> Tensor:
    multiplier = torch.full_like(conv.weight.detach(), conv3**2)
    height, width = conv.kernel_size
    multiplier[:, :, height // 2, width // 2] += conv1**2
    if _keeps_shape(conv):
        multiplier += identity**2 * nn.init.dirac_(torch.zeros_like(multiplier), conv.groups)
    return multiplier


def _keeps_shape(conv: nn.Conv2d) -> bool:
    same = tuple(dilation * (size // 2) for dilation, size in zip(conv.dilation, conv.kernel_size, strict=True))
    return conv.stride == (1, 1) and conv.in_channels == conv.out_channels and conv.padding in (same, "same")
