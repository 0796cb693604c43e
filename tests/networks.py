"""What tests of networks share: small ones, what equal means, and networks to fuse."""

import torch
from torch import nn

from reducenet.deploy.fuse import fuse
from reducenet.nets.networks import build
from reducenet.words import words


def small(block, **more):
    """A small net of this block for four classes. What only other blocks read is left out: one line says how each of them is built."""
    blocks = words("block")
    own = {p.name for p in blocks[block].parameters}
    foreign = {p.name for other in blocks.values() for p in other.parameters} - own
    said = dict(width=4, expansion=2, num_classes=4) | more
    return build(block, **{name: value for name, value in said.items() if name not in foreign})


def count(net, kind):
    return sum(isinstance(m, kind) for m in net.modules())


def convs(net):
    return [m for m in net.modules() if isinstance(m, nn.Conv2d)]


@torch.no_grad()
def assert_same(one, two, *inputs):
    """Equal to 1e-10 of the largest output, the outermost ring of a map and its interior each for itself."""
    found, expected = one(*inputs), two(*inputs)
    found, expected = (side if isinstance(side, tuple | list) else [side] for side in (found, expected))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        bound = 1e-10 * b.abs().max()
        if b.dim() == 4 and min(b.shape[2:]) > 2:
            assert (a - b)[..., 1:-1, 1:-1].abs().max() <= bound
            a, b = a.clone(), b.clone()
            a[..., 1:-1, 1:-1] = b[..., 1:-1, 1:-1] = 0
        assert (a - b).abs().max() <= bound


def assert_equal_maps(a, b):
    """Ring and interior apart, so that a wrong border cannot hide in a right mean."""
    assert a.shape == b.shape
    gap = (a - b).abs()
    inner = gap[..., 1:-1, 1:-1]
    assert inner.numel() == 0 or inner.max() < 1e-10
    assert max(gap[..., 0, :].max(), gap[..., -1, :].max(), gap[..., :, 0].max(), gap[..., :, -1].max()) < 1e-10


def fused_alone(net):
    """`fuse(net)`, and a proof that it left `net` alone: values, flags, modes."""
    before = {name: t.clone() for name, t in net.state_dict().items()}
    flags, modes = [p.requires_grad for p in net.parameters()], [m.training for m in net.modules()]
    new = fuse(net)
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    assert flags == [p.requires_grad for p in net.parameters()]
    assert modes == [m.training for m in net.modules()]
    assert not any(m.training for m in new.modules())
    assert not {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in new.parameters()}
    return new


def conv_bn(a, b, kernel, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(b))


class Beside(nn.Module):
    """`f(x) + g(x)`, or `f(x) + x`."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        first, *rest = [branch(x) for branch in self.branches]
        for branch in rest:
            first = branch + first
        return first
