import copy
import math

import pytest
import torch
import torch.nn.functional as F
from networks import assert_equal_maps
from torch import nn

from reducenet.algebra.exact import NotExact
from reducenet.data.tensors import load
from reducenet.deploy.fuse import fuse
from reducenet.learn.train import fit
from reducenet.methods.vanillanet import VanillaNet, halvings, series_relu, vanillanet
from reducenet.nets.activation import SLIDES, LambdaReLU, slide


def replaced(net, kind):
    """The net with `kind()` in place of every LambdaReLU."""
    net = copy.deepcopy(net)
    for name in [name for name, m in net.named_modules() if isinstance(m, LambdaReLU)]:
        net.set_submodule(name, kind())
    return net


@pytest.mark.parametrize(("channels", "size", "stem_stride"), [(1, 28, 2), (3, 32, 2), (1, 28, 4), (3, 32, 4), (1, 28, 1), (1, 12, 2)])
@pytest.mark.parametrize("depth", [5, 6, 7, 9, 13])
def test_shapes(depth, channels, size, stem_stride):
    net = vanillanet(depth=depth, width=2, in_channels=channels, stem_stride=stem_stride, num_classes=7).eval()
    x = torch.randn(3, channels, size, size)
    assert net(x).shape == (3, 7)
    assert net.features(x).shape == (3, 16)  # three doublings
    side, planes = size // stem_stride, 2
    expected = [(planes, side, side)]
    for halve in halvings(depth):
        if halve:
            side, planes = math.ceil(side / 2), 2 * planes
        expected.append((planes, side, side))
    assert [tuple(maps.shape[1:]) for maps in net.stage_maps(x)] == expected
    assert len(net.trunk) == depth - 1


@pytest.mark.parametrize(
    ("depth", "strides"),  # the paper's own, from VanillaNet-5 to -13
    [
        (5, [2, 2, 2]), (6, [2, 2, 2, 1]), (7, [1, 2, 2, 2, 1]), (8, [1, 2, 2, 1, 2, 1]), (9, [1, 2, 2, 1, 1, 2, 1]),
        (13, [1, 2, 2, 1, 1, 1, 1, 1, 1, 2, 1]),
    ],
)  # fmt: skip
def test_stages_halve_where_the_papers_do(depth, strides):
    assert [2 if halve else 1 for halve in halvings(depth)] == strides


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_series_is_the_sum_over_shifts(n, randomised, images):
    series, x = series_relu(4, n), images(4, 5, 7)
    nn.init.normal_(series[1].weight)
    series = randomised(series)
    a, bn = series[1].weight, series[2]
    size = 2 * n + 1
    assert a.shape == (4, 1, size, size)
    total = torch.zeros_like(x)
    for i in range(-n, n + 1):
        for j in range(-n, n + 1):
            for h in range(5):
                for w in range(7):
                    if 0 <= h + i < 5 and 0 <= w + j < 7:
                        total[:, :, h, w] += a[:, 0, i + n, j + n] * x[:, :, h + i, w + j].clamp(min=0)
    mean, scale = bn.running_mean.view(-1, 1, 1), (bn.weight / (bn.running_var + bn.eps).sqrt()).view(-1, 1, 1)
    assert_equal_maps(series(x), (total - mean) * scale + bn.bias.view(-1, 1, 1))


def test_lam_0_is_a_relu_net_and_lam_1_the_linear_pair_net(randomised, images):
    x = images(1, 28)
    at = {lam: randomised(vanillanet(width=4, lam=lam)) for lam in (0.0, 0.5, 1.0)}
    assert torch.equal(at[0.0](x), replaced(at[0.0], nn.ReLU)(x))
    assert torch.equal(at[1.0](x), replaced(at[1.0], nn.Identity)(x))
    assert (at[0.0](x) - at[1.0](x)).abs().max() > 1e-3
    assert (at[0.5](x) - at[1.0](x)).abs().max() > 1e-3


@pytest.mark.parametrize(("depth", "n", "stem_stride"), [(5, 1, 2), (6, 3, 4), (8, 0, 3)])
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (3, 21)])
def test_deployed_is_trained(depth, n, stem_stride, channels, size, randomised, images):
    net = randomised(vanillanet(depth=depth, width=4, n=n, lam=1.0, in_channels=channels, stem_stride=stem_stride))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    deployed, x = fuse(net), images(channels, size, size + 3)
    assert isinstance(deployed, VanillaNet)
    for a, b in zip(deployed.stage_maps(x), net.stage_maps(x), strict=True):
        assert_equal_maps(a, b)
    assert (deployed(x) - net(x)).abs().max() < 1e-10
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    assert not any(isinstance(m, nn.BatchNorm2d | LambdaReLU) for m in deployed.modules())
    convs = [m for m in deployed.modules() if isinstance(m, nn.Conv2d)]
    assert len([c for c in convs if c.groups == 1]) == depth
    assert len([c for c in convs if c.groups > 1]) == depth - 1


def test_the_layers_that_are_left():
    deployed = fuse(vanillanet(width=4, lam=1.0, in_channels=3).eval())
    layers = [m for m in deployed.modules() if isinstance(m, nn.Conv2d | nn.ReLU | nn.MaxPool2d)]
    shapes = [(m.in_channels, m.out_channels, m.kernel_size[0]) if isinstance(m, nn.Conv2d) else type(m).__name__ for m in layers]
    expected = [(3, 4, 2), "ReLU", (4, 4, 3)]
    for planes in (4, 8, 16):
        expected += [(planes, 2 * planes, 1), "MaxPool2d", "ReLU", (2 * planes, 2 * planes, 3)]
    assert shapes == [*expected, (32, 10, 1)]


def test_converting_below_lam_1_is_refused(randomised):
    with pytest.raises(NotExact, match=r"stem\.pair\.2 is at lam = 0\.3"):
        fuse(randomised(vanillanet(width=4, lam=0.3)))
    net = randomised(vanillanet(width=4, lam=1.0))
    net.classifier.pair[2].lam.fill_(0.99)
    with pytest.raises(NotExact, match=r"classifier\.pair\.2 is at lam = 0\.99"):
        fuse(net)
    with pytest.raises(NotExact, match="train mode"):
        fuse(vanillanet(width=4, lam=1.0))


@pytest.mark.parametrize("schedule", SLIDES)
def test_a_real_fit_slides_step_by_step_to_exactly_1(schedule):
    seen = []

    def watch(net, progress):
        lams = {m.lam.item() for m in net.modules() if isinstance(m, LambdaReLU)}
        assert len(lams) == 1  # all of them together
        seen.append((progress, lams.pop()))

    data, net = load("synthetic"), vanillanet(width=4, num_classes=4)
    hooks = [slide(schedule, until=0.75), watch]
    fitted, _ = fit(net, data, epochs=2, batch=64, hooks=hooks, device="cpu", progress=False)
    lams = [lam for _, lam in seen]
    assert len(lams) == 16
    assert lams[0] == 0
    assert lams == sorted(lams)
    wanted = {"linear": lambda p: p, "half-cosine": lambda p: 0.5 - 0.5 * math.cos(math.pi * p), "hard": lambda p: float(p == 1)}[schedule]
    assert lams == pytest.approx([wanted(min(p / 0.75, 1)) for p, _ in seen], abs=1e-6)
    assert len(set(lams)) == (2 if schedule == "hard" else 13)  # every step of its own, and not every epoch
    assert all(m.lam == 1 for m in fitted.modules() if isinstance(m, LambdaReLU))
    assert all(m.lam == 0 for m in net.modules() if isinstance(m, LambdaReLU))
    fitted = fitted.double()
    deployed, x = fuse(fitted), data.normalise(data.val.images[:50]).double()
    assert (deployed(x) - fitted(x)).abs().max() < 1e-10
    assert torch.equal(deployed(x).argmax(1), fitted(x).argmax(1))


class FirstCode(nn.Module):
    """The activation of the article's first code: meant to be ReLU at scaler 1 and the identity at scaler 0."""

    def __init__(self, scaler):
        super().__init__()
        self.scaler = scaler

    def forward(self, out):
        return self.scaler * F.relu(out, inplace=True) + (1 - self.scaler) * out


def pair_with(act, randomised):
    """A linear pair of the net around `act`."""
    pair = randomised(vanillanet(width=4, lam=1.0)).stage1.pair
    pair[2] = act
    return pair


def gap_to_folded(pair, x):
    """How far the pair is from the one conv that it would be if its activation were the identity."""
    linear = copy.deepcopy(pair)
    linear[2] = nn.Identity()
    with torch.no_grad():
        return (pair(x) - fuse(linear)(x)).abs().max()


@pytest.mark.parametrize("scaler", [0.0, 0.3, 1.0])
def test_the_first_code_never_became_linear(scaler, randomised, images):
    x = images(4, 6)
    assert (FirstCode(scaler)(x.clone()) - F.relu(x)).abs().max() < 1e-15
    pair = pair_with(FirstCode(scaler), randomised)
    with torch.no_grad():
        assert (pair(x) - pair_with(nn.ReLU(), randomised)(x)).abs().max() < 1e-12
    assert gap_to_folded(pair, x) > 0.1  # even at scaler 0, where it should be linear


def test_lambda_relu_passes_the_check_that_the_first_code_fails(randomised, images):
    x = images(4, 6)
    assert gap_to_folded(pair_with(LambdaReLU(1.0), randomised), x) < 1e-10
    assert gap_to_folded(pair_with(LambdaReLU(0.0), randomised), x) > 0.1


def test_a_part_starts_alike_in_every_net_of_a_seed():
    five, six = vanillanet(depth=5, seed=3), vanillanet(depth=6, n=2, seed=3)
    assert torch.equal(five.stage2.pair[0].weight, six.stage2.pair[0].weight)
    assert torch.equal(five.stem.series[1].weight, vanillanet(depth=7, seed=3).stem.series[1].weight)
    assert not torch.equal(five.stage2.pair[0].weight, vanillanet(seed=4).stage2.pair[0].weight)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(depth=4), "depth must be at least 5, not 4"),
        (dict(width=0), "width must be at least 1, not 0"),
        (dict(n=-1), "n must be at least 0, not -1"),
        (dict(lam=1.5), r"lam must be at most 1, not 1\.5"),
        (dict(num_classes=0), "num_classes must be at least 1, not 0"),
        (dict(in_channels=0), "in_channels must be at least 1, not 0"),
        (dict(stem_stride=0), "stem_stride must be at least 1, not 0"),
    ],
)
def test_refusals(parameters, message):
    with pytest.raises(ValueError, match=message):
        vanillanet(**parameters)
