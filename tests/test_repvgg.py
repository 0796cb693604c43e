"""The oracle is the kernel written by hand: the gamma/sigma-weighted sum of the padded kernels, a one for the identity."""

import pytest
import torch
import torch.nn.functional as F
from networks import assert_equal_maps
from torch import nn

from reducenet.algebra.exact import NotExact
from reducenet.deploy.fuse import fuse
from reducenet.nets.blocks import RepVGGLayer
from reducenet.nets.networks import build
from reducenet.nets.seeding import initialise

SHAPES = {"same": (4, 4, 1), "wider": (4, 6, 1), "strided": (4, 4, 2), "strided and wider": (4, 6, 2)}


class Grouped(nn.Module):
    """A RepVGG layer with groups, which the package's own does not have."""

    def __init__(self, in_planes, planes, stride, groups):
        super().__init__()

        def branch(size):
            return nn.Sequential(nn.Conv2d(in_planes, planes, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(planes))

        self.conv3, self.conv1 = branch(3), branch(1)
        self.identity = nn.BatchNorm2d(planes) if stride == 1 and in_planes == planes else None
        self.relu = nn.ReLU()

    def forward(self, x):
        total = self.conv3(x) + self.conv1(x)
        return self.relu(total if self.identity is None else total + self.identity(x))


def make(shape, groups, *, seed=0):
    layer = RepVGGLayer(*SHAPES[shape]) if groups is None else Grouped(*SHAPES[shape], groups)
    initialise(layer, seed)
    return layer


def by_hand(layer):
    """(kernel [out, in / groups, 3, 3], bias [out]) of the sum of the three branches in eval mode."""
    conv = layer.conv3[0]
    kernel, bias = torch.zeros_like(conv.weight), torch.zeros(conv.out_channels, dtype=torch.float64)
    inputs = conv.in_channels // conv.groups
    for branch in (layer.conv3, layer.conv1, layer.identity):
        if branch is None:
            continue
        bn = branch if branch is layer.identity else branch[1]
        for c in range(conv.out_channels):
            gain = bn.weight[c] / (bn.running_var[c] + bn.eps) ** 0.5
            bias[c] += bn.bias[c] - bn.running_mean[c] * gain
            if branch is layer.conv3:
                kernel[c] += gain * branch[0].weight[c]
            elif branch is layer.conv1:
                kernel[c, :, 1, 1] += gain * branch[0].weight[c, :, 0, 0]
            else:
                kernel[c, c % inputs, 1, 1] += gain
    return kernel.detach(), bias.detach()


def convs_of(net):
    return [m for m in net.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("groups", [None, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_deployed_layer_is_the_trained_one_and_the_kernel_by_hand(shape, groups, randomised, images):
    layer = randomised(make(shape, groups))
    before = {name: t.clone() for name, t in layer.state_dict().items()}
    deployed, (kernel, bias) = fuse(layer), by_hand(layer)
    for size in (2, 5, 8, 9):
        x = images(4, size, size + 1)
        assert_equal_maps(deployed(x), layer(x))
        assert_equal_maps(F.conv2d(x, kernel, bias, SHAPES[shape][2], 1, groups=groups or 1).relu(), layer(x))
    (conv,) = convs_of(deployed)
    assert (conv.weight - kernel).abs().max() < 1e-12
    assert (conv.bias - bias).abs().max() < 1e-12
    assert not any(isinstance(m, nn.BatchNorm2d) for m in deployed.modules())
    assert all(torch.equal(before[name], t) for name, t in layer.state_dict().items())


@pytest.mark.parametrize("branch", ["conv3", "conv1", "identity"])
@torch.no_grad()
def test_every_branch_counts(branch, randomised, images):
    """The equality would fail if the deployed kernel left a branch out."""
    layer, x = randomised(make("same", None)), images(4, 8)
    deployed = fuse(layer)
    bn = layer.identity if branch == "identity" else getattr(layer, branch)[1]
    bn.weight.zero_()
    bn.bias.zero_()
    bn.running_mean.zero_()
    assert (deployed(x) - layer(x)).abs().max() > 1e-2
    assert_equal_maps(fuse(layer)(x), layer(x))


@pytest.mark.parametrize(("depth", "stem_stride"), [(8, 1), (14, 2)])
@torch.no_grad()
def test_deployed_net_is_the_trained_one(depth, stem_stride, randomised, images):
    net = randomised(build("repvgg", depth=depth, width=4, stem_stride=stem_stride, in_channels=3))
    deployed = fuse(net)
    for size in (9, 16):
        x = images(3, size)
        for a, b in zip(deployed.stage_maps(x), net.stage_maps(x), strict=True):
            assert_equal_maps(a, b)
        assert (deployed(x) - net(x)).abs().max() < 1e-10
    assert [conv.kernel_size for conv in convs_of(deployed)] == [(3, 3)] * (depth - 1)  # the stem and one a layer
    assert not any(isinstance(m, nn.BatchNorm2d) for m in deployed.modules())
    layers = [m for m in net.modules() if isinstance(m, RepVGGLayer)]
    for conv, layer in zip(convs_of(deployed)[1:], layers, strict=True):
        assert (conv.weight - by_hand(layer)[0]).abs().max() < 1e-12


def test_the_identity_is_there_only_where_shapes_agree():
    net = build("repvgg", depth=14, width=4)
    layers = {name: m for name, m in net.named_modules() if isinstance(m, RepVGGLayer)}
    without = {name for name, layer in layers.items() if layer.identity is None}
    assert without == {"stage2.0.0", "stage3.0.0"}
    assert len(layers) == 12


@torch.no_grad()
def test_in_train_mode_the_sum_is_no_conv_bn(randomised):
    """A conv and one BN give |gamma| as the deviation of every channel over every batch; three BNs do not."""
    layer = randomised(make("same", None))
    layer.relu = nn.Identity()
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(16, 4, 8, 8, generator=draw, dtype=torch.float64)
    smooth = F.avg_pool2d(base, 3, 1, 1)  # neighbours alike: the branches agree more
    deployed = fuse(layer)
    with pytest.raises(NotExact, match="train mode"):
        fuse(layer.train())
    kernel, _ = by_hand(layer)
    bn = nn.BatchNorm2d(4).double().train()
    bn.eps = 1e-12
    for x in (base, smooth):
        assert (layer(x) - deployed(x)).abs().max() > 1e-2
        assert (bn(F.conv2d(x, kernel, padding=1)).std((0, 2, 3), unbiased=False) - 1).abs().max() < 1e-10
    deviations = [layer(x).std((0, 2, 3), unbiased=False) for x in (base, smooth)]
    assert (deviations[0] / deviations[1] - 1).abs().max() > 0.05
