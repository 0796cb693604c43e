"""A scaler branch beside a conv of any network, with its BN and its activation."""

from torch import Tensor, nn


class Widened(nn.Module):
    """`widened(x) == scaler * branch1(x) + branch2(x)`; branch2 is the conv, its BN and its activation, which stood in the network before.

    It stands in the conv's place. `places` are the modules that stand in the places of the others meanwhile and change nothing: the BN's
    and, where the activation could be moved, the activation's. They are in a list, so that they are no parts of this one. Where it could
    not, since the network calls one ReLU in many places, or a function, that ReLU stays: a sum that is not below 0 passes it as it is.
    Source: the article, "Further evolution: the scaler branch".
    """

    def __init__(self, branch1: nn.Sequential, branch2: nn.Sequential, places: list[nn.Module], scaler: float = 1.0):
        super().__init__()
        self.scaler = scaler
        self.branch1, self.branch2 = branch1, branch2
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        return self.scaler * self.branch1(x) + self.branch2(x)

    def extra_repr(self) -> str:
        return f"scaler={self.scaler:g}"


def branch_beside(conv: nn.Conv2d, expansion: int) -> nn.Sequential:
    """branch1 for this conv: conv(expand)-BN-ReLU-conv1(reduce)-BN-ReLU of inner width `expansion * out_channels`, not initialised.

    The first conv reads what `conv` reads, by a kernel of the same size, stride, padding and dilation. Of a conv in groups each group has a
    branch of its own, so both convs are in as many.
    """
    like = dict(device=conv.weight.device, dtype=conv.weight.dtype)
    wide = expansion * conv.out_channels
    return nn.Sequential(
        nn.Conv2d(conv.in_channels, wide, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, bias=False,
                  padding_mode=conv.padding_mode, **like),
        nn.BatchNorm2d(wide, **like),
        nn.ReLU(),
        nn.Conv2d(wide, conv.out_channels, 1, groups=conv.groups, bias=False, **like),
        nn.BatchNorm2d(conv.out_channels, **like),
        nn.ReLU(),
    )  # fmt: skip
