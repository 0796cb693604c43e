"""The oracle is the structure itself: parallel branches with constant scales and weights of their own, trained by torch's optimisers."""

import copy

import pytest
import torch
import torch.nn.functional as F
from networks import small
from torch import nn

from reducenet.data.tensors import load
from reducenet.learn.train import fit
from reducenet.methods.repopt import GradientMultiplier, repopt
from reducenet.moves.side import fold
from reducenet.nets.seeding import generator
from reducenet.words import MoveError

SCALES = dict(conv3=0.6, conv1=1.1, identity=0.8)
AT = "*branch2.0"
STEPS = 60


def dirac(conv):
    """The kernel of a conv that returns its input, written out."""
    kernel = torch.zeros_like(conv.weight)
    own = conv.out_channels // conv.groups
    for channel in range(conv.out_channels):
        kernel[channel, channel % own, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
    return kernel


class Branches(nn.Module):
    """`sum_i s_i branch_i(x)`: a conv like the given one, a 1x1 conv, a number per channel where shapes agree; in sum, the given one."""

    def __init__(self, conv, name, conv3, conv1, identity):
        super().__init__()
        self.scales = conv3, conv1, identity
        draw = generator("branches", name)
        like = dict(stride=conv.stride, groups=conv.groups, bias=False, dtype=torch.float64)
        self.large, self.small = copy.deepcopy(conv), nn.Conv2d(conv.in_channels, conv.out_channels, 1, **like)
        has_identity = identity and conv.stride == (1, 1) and conv.in_channels == conv.out_channels
        self.factors = nn.Parameter(torch.randn(conv.out_channels, generator=draw, dtype=torch.float64)) if has_identity else None
        self.identity_kernel = dirac(conv) if has_identity else None
        with torch.no_grad():
            self.small.weight.copy_(torch.randn(self.small.weight.shape, generator=draw))
            self.large.weight.zero_()
            self.large.weight.copy_((conv.weight - self.kernel()) / conv3)

    def parts(self, x):
        yield self.scales[0], self.large(x)
        yield self.scales[1], self.small(x)
        if self.factors is not None:
            yield self.scales[2], self.factors[:, None, None] * x

    def forward(self, x):
        return sum(scale * part for scale, part in self.parts(x))

    def kernel(self):
        """The kernel of the one conv that the sum is."""
        margin = self.large.kernel_size[0] // 2
        kernel = self.scales[0] * self.large.weight + self.scales[1] * F.pad(self.small.weight, (margin,) * 4)
        return kernel if self.factors is None else kernel + self.scales[2] * self.factors[:, None, None, None] * self.identity_kernel


class NormedBranches(Branches):
    """The same with a BN per branch, RepVGG's, set so that on its first batch it computes what the constant scales would."""

    def __init__(self, *args, **scales):
        super().__init__(*args, **scales)
        self.norms = None

    def forward(self, x):
        parts = list(self.parts(x))
        if self.norms is None:
            self.norms = nn.ModuleList(nn.BatchNorm2d(part.shape[1]).double() for _, part in parts)
            with torch.no_grad():
                for norm, (scale, part) in zip(self.norms, parts, strict=True):
                    norm.weight.copy_(scale * (part.var((0, 2, 3), unbiased=False) + norm.eps).sqrt())
                    norm.bias.copy_(scale * part.mean((0, 2, 3)))
        return sum(norm(part) for norm, (_, part) in zip(self.norms, parts, strict=True))


def with_branches(net, kind=Branches, **scales):
    net = copy.deepcopy(net)
    for name, conv in [(n, m) for n, m in net.named_modules() if n.endswith("branch2.0")]:
        net.set_submodule(name, kind(conv, name, **(SCALES | scales)))
    return net


def plain():
    """Three blocks, with a BN and a ReLU behind every conv; one of the convs that learn specially has stride 1, two stride 2."""
    return small("plain").double()


def the_batch():
    data = load("synthetic")
    return data.normalise(data.train.images[:32]).double(), data.train.labels[:32]


def sgd(lr=0.05, **options):
    return lambda parameters: torch.optim.SGD(parameters, lr, **options)


def trained(net, optimiser=None, *, steps=STEPS, clip=None):
    net, (x, y) = copy.deepcopy(net).train(), the_batch()
    optimiser = (optimiser or sgd())(net.parameters())
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(net(x), y).backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimiser.step()
    return net


def difference(a, b):
    """In what the nets compute, in train mode on the batch and in eval mode."""
    x, _ = the_batch()
    return max((copy.deepcopy(a).train(mode)(x) - copy.deepcopy(b).train(mode)(x)).abs().max().item() for mode in (True, False))


OPTIMISERS = {
    "sgd": sgd(),
    "momentum": sgd(momentum=0.9),
    "nesterov": sgd(momentum=0.9, nesterov=True),
    "weight decay": sgd(weight_decay=0.05),
    "all of them": sgd(momentum=0.9, nesterov=True, weight_decay=5e-3),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_learns_as_if_it_were_branches(optimiser):
    net = plain()
    one, branches = trained(repopt(net, **SCALES), OPTIMISERS[optimiser]), trained(with_branches(net), OPTIMISERS[optimiser])
    assert difference(one, branches) < 1e-12
    for name, branch in [(n, m) for n, m in branches.named_modules() if isinstance(m, Branches)]:
        assert (one.get_submodule(name).weight - branch.kernel()).abs().max() < 1e-12
    assert difference(one, trained(net, OPTIMISERS[optimiser])) > 1e-3


@pytest.mark.parametrize("scales", [dict(conv1=0.0, identity=0.0), dict(identity=0.0), dict(conv1=0.0)])
def test_a_scale_of_0_is_no_branch(scales):
    net = plain()
    assert difference(trained(repopt(net, **(SCALES | scales))), trained(with_branches(net, **scales))) < 1e-12


def test_a_bare_identity_adds_nothing_to_the_gradient():
    class Bare(Branches):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            if self.factors is not None:
                self.factors.requires_grad_(False)

    net = plain()
    bare = trained(with_branches(net, Bare))
    assert difference(bare, trained(repopt(net, **(SCALES | dict(identity=0.0))))) < 1e-12
    assert difference(bare, trained(repopt(net, **SCALES))) > 1e-3


def test_any_split_of_the_start_gives_the_same_training():
    class AllInOne(Branches):
        def __init__(self, conv, *args, **scales):
            super().__init__(conv, *args, **scales)
            with torch.no_grad():
                self.small.weight.zero_()
                self.large.weight.add_((conv.weight - self.kernel()) / self.scales[0])

    net = plain()
    assert difference(trained(repopt(net, **SCALES)), trained(with_branches(net, AllInOne))) < 1e-12


def test_what_is_not_linear_in_the_gradient_breaks_it():
    net = plain()

    def gap(**options):
        return difference(trained(repopt(net, **SCALES), **options), trained(with_branches(net), **options))

    assert gap(clip=1e9) < 1e-12
    assert gap(clip=0.3) > 1e-3
    assert gap(optimiser=lambda parameters: torch.optim.Adam(parameters, 1e-2)) > 1e-3


def test_a_bn_in_every_branch_breaks_it():
    net, (x, _) = plain().train(), the_batch()
    normed = with_branches(net, NormedBranches).train()
    assert (normed(x) - net(x)).abs().max() < 1e-10  # the same start
    one, normed = trained(repopt(net, **SCALES)), trained(normed)
    assert (one(x) - normed(x)).abs().max() > 1e-3


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_multiplier_by_hand(size, groups):
    conv = nn.Conv2d(4, 4, size, padding=size // 2, groups=groups, bias=False, dtype=torch.float64)
    multiplier = repopt(nn.Sequential(conv), "0", conv3=2.0, conv1=3.0, identity=5.0)[0].parametrizations.weight[0].multiplier
    expected = torch.full_like(conv.weight, 4.0)
    expected[:, :, size // 2, size // 2] = 13.0
    expected[dirac(conv) == 1] = 38.0
    assert torch.equal(multiplier, expected.detach())


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (dict(padding=1), True), (dict(padding="same"), True), (dict(padding=2, dilation=2), True), (dict(padding=1, stride=2), False),
        (dict(padding=0), False), (dict(padding=2), False),
    ],
)  # fmt: skip
def test_an_identity_only_where_the_shape_is_kept(options, kept):
    net = nn.Sequential(nn.Conv2d(4, 4, 3, **options))
    assert (net(torch.zeros(1, 4, 9, 9)).shape == (1, 4, 9, 9)) == kept
    if kept:
        assert (repopt(net, "0", identity=1.0)[0].parametrizations.weight[0].multiplier == 3).sum() == 4
    else:
        with pytest.raises(MoveError, match="none has an identity"):
            repopt(net, "0", identity=1.0)


@pytest.mark.parametrize("groups", [1, 2])
def test_grouped_convs_learn_as_branches_too(groups):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 4)).double()
    net[1].add_module("branch2", nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=groups, bias=False).double()))
    assert difference(trained(repopt(net, **SCALES)), trained(with_branches(net))) < 1e-12


def test_the_function_is_bitwise_the_same_and_fold_takes_it_off(images):
    net, x = plain().eval(), images(1, 12)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    changed = repopt(net, **SCALES)
    assert torch.equal(changed(x), net(x))
    assert sum(isinstance(m, GradientMultiplier) for m in changed.modules()) == 3
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
    places = {t.data_ptr() for t in net.state_dict().values()}
    assert not places & {t.data_ptr() for t in changed.state_dict().values()}
    folded = fold(changed)
    assert {type(m) for m in folded.modules()} == {type(m) for m in net.modules()}
    assert torch.equal(folded(x), net(x))
    assert folded.state_dict().keys() == before.keys()


def test_fit_multiplies_the_first_step_and_nothing_else():
    net, data = small("plain"), load("synthetic")
    options = dict(epochs=1, batch=512, momentum=0.0, weight_decay=0.0, device="cpu", progress=False)
    special = repopt(net, **SCALES)
    moved, plainly = fold(fit(special, data, **options).net), fit(net, data, **options).net
    for name, start in net.named_parameters():
        factor = torch.ones_like(start)
        if name.removesuffix(".weight").endswith("branch2.0"):
            factor = special.get_submodule(name.removesuffix(".weight")).parametrizations.weight[0].multiplier
            assert factor.unique().numel() > 1
        torch.testing.assert_close(moved.get_parameter(name) - start, factor * (plainly.get_parameter(name) - start), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(at="branch9"), r"repopt: no plain conv matches 'branch9'; there are: stem\.0"),
        (dict(conv3=0.0), "conv3 must be above 0, not 0"),
        (dict(conv1=-1.0), "conv1 must be at least 0, not -1"),
        (dict(identity=float("nan")), "identity must be a finite number, not nan"),
        (dict(at="stage2.0.branch2.0", identity=1.0), "none has an identity; take identity = 0"),
    ],
)
def test_refusals(options, message):
    net = plain()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    with pytest.raises(MoveError, match=message):
        repopt(net, **options)
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())


def test_refuses_an_even_kernel_and_a_second_time():
    with pytest.raises(MoveError, match=r"0 has an even kernel \(2, 2\), which has no centre tap"):
        repopt(nn.Sequential(nn.Conv2d(1, 1, 2)), "0")
    with pytest.raises(MoveError, match="no plain conv matches"):
        repopt(repopt(plain()))
