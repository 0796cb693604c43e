"""`widen`: the scaler branch beside the convs of anybody's network, and gone again without a trace."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import assert_same
from torch import nn
from torch.nn.utils import parametrizations
from torchvision.models import mobilenet_v3_small, resnet18

from reducenet import load, save
from reducenet.data.tensors import load as load_data
from reducenet.deploy.fuse import fuse
from reducenet.learn.measure import macs
from reducenet.learn.train import fit, named_loss
from reducenet.methods.depthshrinker import search_mask
from reducenet.methods.supernet import narrow, search_width
from reducenet.methods.widen import fronts, widen
from reducenet.moves.activations import linearise, loosen, settle
from reducenet.moves.branch import drop_branch, set_scaler
from reducenet.moves.freezing import freeze
from reducenet.moves.side import attach, fold
from reducenet.moves.stack import stack, unstack
from reducenet.nets.activation import LambdaReLU
from reducenet.nets.networks import build
from reducenet.nets.seeding import initialise
from reducenet.nets.widened import Widened
from reducenet.words import MoveError


class Small(nn.Module):
    """A residual block as torchvision writes them: one ReLU, called twice, in place."""

    def __init__(self, act=None, **conv):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 4, 3, padding=1, **conv), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.relu = act or nn.ReLU(inplace=True)
        self.pick = nn.Conv2d(2, 4, 1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)) + self.pick(x))
        return self.fc(out.mean((2, 3)))


class Inline(Small):
    """The same with a function in place of the module."""

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.fc((self.bn2(self.conv2(out)) + self.pick(x)).relu().mean((2, 3)))


def line(*parts):
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def conv_bn_act(act, **conv):
    return line(nn.Conv2d(2, 4, 3, padding=1, **conv), nn.BatchNorm2d(4), act)


def tv_resnet():
    net = resnet18(num_classes=4)
    net.conv1 = nn.Conv2d(2, 64, 3, padding=1, bias=False)
    return net


def tv_mobilenet():
    net = mobilenet_v3_small(num_classes=4)
    net.features[0][0] = nn.Conv2d(2, 16, 3, 2, 1, bias=False)
    return net


def with_random_branches(wide, randomised):
    for name, m in wide.named_modules():
        if isinstance(m, Widened):
            randomised(m.branch1, name)
    return wide


NETS = {
    "one-relu-called-twice": Small,
    "a-function": Inline,
    "own-relu": lambda: conv_bn_act(nn.ReLU()),
    "hardswish": lambda: conv_bn_act(nn.Hardswish(inplace=True)),
    "grouped-dilated-strided": lambda: conv_bn_act(nn.SiLU(), groups=2, dilation=2, stride=2, padding_mode="reflect", bias=False),
    "parametrised": lambda: line(
        parametrizations.weight_norm(nn.Conv2d(2, 4, 3, padding="same")), nn.BatchNorm2d(4), LambdaReLU(0.3)),
    "plain-blocks": lambda: build("plain", width=4, in_channels=2, num_classes=3),
    "resnet18": tv_resnet,
    "mobilenet_v3": tv_mobilenet,
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_at_scaler_0_and_after_drop_branch_it_is_the_original_bitwise(name, randomised, images):
    net, x = randomised(NETS[name]()), images(2, 18)
    found, _ = fronts(net)
    assert found
    before = copy.deepcopy(net.state_dict())
    wide = widen(net, expansion=1)
    assert {m.training for m in wide.modules()} == {False}
    wide = with_random_branches(wide, randomised)
    assert sum(isinstance(m, Widened) for m in wide.modules()) == len(found)
    dropped = drop_branch(wide)
    with torch.no_grad():
        assert torch.equal(set_scaler(wide, 0)(x), net(x))
        assert torch.equal(dropped(x), net(x))
        assert not torch.allclose(wide(x), net(x))
    assert list(dropped.state_dict()) == list(before)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
    assert [(key, type(m)) for key, m in dropped.named_modules()] == [(key, type(m)) for key, m in net.named_modules()]
    other = NETS[name]().double().eval()
    dropped.load_state_dict(other.state_dict())
    with torch.no_grad():
        assert torch.equal(dropped(x), other(x))


@pytest.mark.parametrize("name", ["one-relu-called-twice", "a-function", "hardswish", "resnet18"])
def test_in_train_mode_too(name, images):
    net, x = NETS[name]().double().train(), images(2, 18)
    wide = widen(net, expansion=1, scaler=0)
    assert torch.equal(wide(x), net(x))
    dropped = drop_branch(wide)
    assert dropped.training
    assert all(
        torch.equal(a, b) for a, b in zip(dropped.state_dict().values(), net.state_dict().values(), strict=True)
    )  # statistics moved alike


def as_teacher(teacher, expansion, **more):
    """The same numbers, in a student that was widened."""
    student, tensors = build("plain", width=4, num_classes=len(teacher.classifier.bias)).double().eval(), teacher.state_dict()
    student.load_state_dict(tensors, strict=False)
    wide = widen(student, "*branch2.0", expansion, **more)
    for name, m in wide.named_modules():
        if isinstance(m, Widened):
            own = name.removesuffix("branch2.0") + "branch1."
            m.branch1.load_state_dict({key.removeprefix(own): t for key, t in tensors.items() if key.startswith(own)})
    return wide


def test_it_is_the_articles_teacher_where_the_net_is_its_student(randomised, images):
    """The oracle is the block that was written by hand."""
    teacher = randomised(build("scaler", width=4, scaler=0.6))
    wide = as_teacher(teacher, 4, scaler=0.6)
    x = images(1, 12)
    assert torch.equal(wide(x), teacher(x))
    assert torch.equal(set_scaler(wide, 0.2)(x), set_scaler(teacher, 0.2)(x))
    assert torch.equal(drop_branch(wide)(x), drop_branch(teacher)(x))


def test_a_conv_in_groups_has_a_branch_a_group(randomised, images):
    """Brute force: each group's channels through its own part of branch1."""
    net = randomised(conv_bn_act(nn.ReLU(), groups=2, bias=False))
    wide = randomised(widen(net, expansion=3))[0]
    x = images(2, 7)
    first, bn, _, second, last, _ = wide.branch1
    inner = [F.conv2d(x[:, g : g + 1], first.weight[6 * g : 6 * g + 6], padding=1) for g in (0, 1)]
    inner = bn(torch.cat(inner, 1)).relu()
    outer = [F.conv2d(inner[:, 6 * g : 6 * g + 6], second.weight[2 * g : 2 * g + 2]) for g in (0, 1)]
    assert torch.allclose(wide.branch1(x), last(torch.cat(outer, 1)).relu(), atol=1e-12)


def test_every_branch_is_drawn_from_seed_and_name_alone():
    def weights(net):
        return {key: t for key, t in net.state_dict().items() if ".branch1." in key and t.is_floating_point()}

    torch.manual_seed(3)
    few = weights(widen(tv_resnet(), "layer1.*.conv1", 1, seed=5))
    torch.manual_seed(4)
    many, other = weights(widen(tv_resnet(), "*", 1, seed=5)), weights(widen(tv_resnet(), "*", 1, seed=6))
    assert few
    assert all(torch.equal(tensor, many[key]) for key, tensor in few.items())
    name = "layer1.0.conv1.branch1.0.weight"
    assert not torch.equal(many[name], other[name])
    assert not torch.equal(many[name], many[name.replace("1.0.conv", "1.1.conv")])
    drawn = nn.Sequential(nn.Conv2d(64, 64, 3, bias=False))
    initialise(drawn, 5, "layer1.0.conv1.branch1")
    assert torch.equal(many[name], drawn[0].weight)


def test_twice_with_other_widths_and_both_go(randomised, images):
    net, x = randomised(build("plain", width=4, in_channels=2)), images(2, 8)
    wide = widen(widen(net, "stage1.*", 2), ["stage2.*", "stem.0"], 3)
    assert [m.branch1[0].out_channels for m in wide.modules() if isinstance(m, Widened)] == [12, 8, 24]
    assert torch.equal(drop_branch(wide)(x), net(x))
    with pytest.raises(
        MoveError, match=r"no conv .* matches 'stem.0.branch\*'; there are: stage3.0.branch2.0; .*stands in a branch, or beside"
    ):
        widen(wide, "stem.0.branch*")


# ---- the other moves on it


def test_the_moves_work_on_it(randomised, images):
    net, x = randomised(Small()), images(2, 9)
    wide = randomised(widen(net, "conv1", 2))
    assert_same(fuse(wide), wide, x)
    beside = attach(wide, at="conv1.branch2.0")
    for name, p in beside.named_parameters():
        if "second" in name:
            nn.init.normal_(p)
    assert not torch.allclose(beside(x), wide(x))
    assert_same(fold(beside), beside, x)
    assert_same(fold(drop_branch(beside)), set_scaler(beside, 0), x)  # what was attached goes with its conv
    assert list(fold(drop_branch(beside)).state_dict()) == list(net.state_dict())
    after = attach(wide, at="conv1.branch2.0", join="after-bn", space="branch")
    nn.init.normal_(after.conv1.branch2[0].side[-1].weight)
    assert_same(fold(drop_branch(after)), set_scaler(after, 0), x)
    frozen = drop_branch(freeze(wide, ["conv1.branch2.*", "bn.statistics"]))
    assert {name for name, p in frozen.named_parameters() if not p.requires_grad} == {
        "conv1.weight",
        "conv1.bias",
        "bn1.weight",
        "bn1.bias",
    }
    assert torch.equal(frozen.train()(x), drop_branch(wide).eval()(x))  # all statistics are still, the BN that came back included
    loose = loosen(wide, "conv1.branch1.2")
    assert_same(fuse(linearise(loose)), linearise(loose), x)
    assert (
        sum(isinstance(m, nn.Conv2d) for m in fuse(linearise(loose)).modules()) == sum(isinstance(m, nn.Conv2d) for m in net.modules()) + 1
    )


def test_what_its_own_relu_became_goes_back_or_is_refused(randomised, images):
    own, x = randomised(widen(conv_bn_act(nn.ReLU()))), images(2, 6)
    loose = loosen(own, "*branch2.2")
    dropped = drop_branch(loose)
    assert isinstance(dropped[2], LambdaReLU)
    assert torch.equal(dropped(x), set_scaler(loose, 0)(x))
    stays = loosen(randomised(widen(Small())), "*branch2.2")
    with pytest.raises(MoveError, match="conv1.branch2.2 is no ReLU any more"):
        drop_branch(stays)
    drop_branch(settle(stays))
    with pytest.raises(MoveError, match="the BN or the activation of .* belongs elsewhere"):
        drop_branch(nn.Sequential(settle(stays).conv1, nn.Flatten()))


def test_replicates_stand_side_by_side_and_go_apart(randomised, images):
    nets = [randomised(widen(build("plain", width=4, seed=seed), "stage*", 2, seed=seed), seed) for seed in (0, 1)]
    x = images(1, 8).expand(2, -1, -1, -1, -1)
    side_by_side = stack(nets)
    for one, net, y in zip(unstack(side_by_side), nets, side_by_side(x), strict=True):
        assert torch.allclose(y, net(x[0]), atol=1e-10)
        assert torch.equal(drop_branch(one)(x[0]), drop_branch(net)(x[0]))


def test_narrower_selves_are_those_of_the_block_that_was_written_by_hand(randomised, images):
    """`narrow`, `sandwich`, `netaug` and `search_width` on a widened student and on the teacher of the same numbers."""
    teacher = randomised(build("scaler", width=4, expansion=3, num_classes=4))
    wide, x = as_teacher(teacher, 3), images(1, 12)
    for expansion in (0, 2, [0, 1, 3], [2, 0, 0], 3):
        one, other = narrow(wide, expansion), narrow(teacher, expansion)
        assert torch.equal(one(x), other(x))
        assert macs(one, (1, 12, 12)) == macs(other, (1, 12, 12))
    y = torch.tensor([0, 1, 2])
    for name in ("sandwich", "netaug"):
        values = [named_loss(name, seed=3)(net.train(), x, y) for net in (wide, teacher)]
        assert values[0][0] == values[1][0]
        values[0][0].backward()
        assert wide.get_submodule("stem.0").weight.grad.abs().sum() > 0
    data = load_data("synthetic").subset(256)
    found = [search_width(net.float().eval(), data, budget=0.7, tries=3, images=200) for net in (wide, teacher)]
    assert found[0] == found[1]
    mixed = narrow(wide, [0, 1, 3])
    assert "stage1.0.branch2.0.weight" in mixed.state_dict()
    assert [name for name, m in mixed.named_modules() if isinstance(m, Widened)] == ["stage2.0.branch2.0", "stage3.0.branch2.0"]
    assert list(drop_branch(mixed).state_dict()) == list(drop_branch(teacher).state_dict())


def test_a_search_for_masks_takes_a_widened_conv_for_a_group():
    data = load_data("synthetic").subset(256)
    net = widen(
        line(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        "*",
        2,
    )
    net[-1] = nn.Linear(4, 4)
    net = loosen(net, "*branch1.2").eval()
    for by in ("learned", "greedy", "magnitude"):
        moves = search_mask(net, data, keep=1, by=by)
        (removed,) = [move["linearise"]["at"] for move in moves if "linearise" in move]
        assert removed in (["0.branch1.2"], ["3.branch1.2"])


def test_it_trains_teaches_and_is_played_again(tmp_path):
    data, quiet = load_data("synthetic").subset(128), dict(epochs=1, lr=0.05, device="cpu", progress=False)
    teacher = fit(widen(build("plain", width=4, num_classes=4), "stage*", 2), data, **quiet).net
    student = fit(drop_branch(teacher), data, loss="kd", teacher=teacher, nth_fit=1, **quiet).net
    large = [{"build": {"block": "plain", "width": 4, "num_classes": 4}}, {"widen": {"at": "stage*", "expansion": 2}}, {"fit": 1}]
    x = data.normalise(data.test.images)
    for net, chain in ((teacher, large), (student, [*large, "drop_branch", {"fit": 1}])):
        save(net, tmp_path / "net", chain)
        assert torch.equal(load(tmp_path / "net")(x), net(x))


# ---- what is refused


class Twice(nn.Module):
    """One conv called twice, one with two names, one whose weight is read, one whose BN feeds two, and one that may be widened."""

    def __init__(self):
        super().__init__()
        self.twice, self.named, self.tied, self.fork, self.free, self.idle = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(6))
        self.bns = nn.ModuleList(nn.BatchNorm2d(2) for _ in range(6))
        self.again = self.named
        self.bare = nn.Conv2d(2, 2, 1)

    def forward(self, x):
        x = F.relu(self.bns[1](self.twice(F.relu(self.bns[0](self.twice(x))))))
        x = F.relu(self.bns[2](self.named(x)))
        x = F.relu(self.bns[3](self.tied(x))) + self.tied.weight.mean()
        y = self.bns[4](self.fork(x))
        x = F.relu(y) + y
        return self.bare(F.relu(self.bns[5](self.free(x))))


@pytest.mark.parametrize(
    ("at", "why"),
    [
        ("twice", "twice: is called more than once, has two names, or its weights are read by something else"),
        ("named", "named: is called more than once, has two names"),
        ("again", ""),
        ("tied", "tied: is called more than once, has two names, or its weights are read by something else"),
        ("fork", "fork: no activation reads bns.4, alone"),
        ("bare", "bare: no BatchNorm reads it, alone"),
        ("idle", "idle: is never called"),
        ("layer*", ""),
    ],
)
def test_what_cannot_have_a_branch_is_refused_with_what_can(at, why):
    with pytest.raises(MoveError) as error:
        widen(Twice(), at)
    assert str(error.value).startswith(f"widen: no conv with a BN and an activation behind it matches '{at}'; there are: free")
    assert str(error.value).split("there are: free")[1].removeprefix("; ").startswith(why)
    assert "\n" not in str(error.value)


def test_a_pattern_takes_what_it_can_and_leaves_the_rest(randomised, images):
    net = randomised(Twice())
    wide = widen(net)
    assert [name for name, m in wide.named_modules() if isinstance(m, Widened)] == ["free"]
    assert torch.equal(drop_branch(wide)(images(2, 6)), net(images(2, 6)))


class Scaled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Shared(Small):
    """An activation that is no ReLU, called twice: it can neither move nor stay."""

    def __init__(self):
        super().__init__(nn.Hardswish())


def test_a_conv_that_computes_something_else_and_an_activation_that_cannot_move_are_refused():
    with pytest.raises(MoveError, match="there are: none; 0: is a Scaled, and may compute anything"):
        widen(line(Scaled(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), "0")
    with pytest.raises(MoveError, match="there are: none; conv1: no activation reads bn1, alone"):
        widen(Shared())
    with pytest.raises(MoveError, match="there are: none"):
        widen(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU()))


class Curious(Small):
    """Asks its conv for more than what it computes."""

    def forward(self, x):
        return super().forward(x) / self.conv1.out_channels


class Choosy(nn.Module):
    """Looks at what its layers are."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))

    def forward(self, x):
        found = 0.0
        for layer in self.layers:
            x = layer(x)
            found = found + x.mean() if isinstance(layer, nn.ReLU) else found
        return x + found


class Branching(Small):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x


@pytest.mark.parametrize(("net", "why"), [
    (Curious, "widen: .*'Widened' object has no attribute 'out_channels'"),
    (Choosy, "widen: the code of the network looks at what its layers are"),
    (Branching, r"widen: cannot trace the network \(Branching\)"),
])  # fmt: skip
def test_code_that_would_compute_something_else_is_refused(net, why):
    with pytest.raises(MoveError, match=why) as error:
        widen(net())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("given", "why"), [
    (dict(expansion=0), "widen: expansion must be at least 1, not 0"),
    (dict(scaler=1.5), "widen: scaler must be at most 1, not 1.5"),
    (dict(scaler=-0.5), "widen: scaler must be at least 0, not -0.5"),
    (dict(at=[]), "widen: at: nothing is named"),
])  # fmt: skip
def test_parameters_that_make_no_sense(given, why):
    with pytest.raises(MoveError, match=why):
        widen(Small(), **given)


def test_onnx_of_the_widened_and_dropped_resnet18(tmp_path, randomised):
    """As torch computes it, through `fuse` and onnxruntime, to 1e-5 of the largest logit."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from reducenet import to_onnx

    student = drop_branch(randomised(widen(tv_resnet(), "layer*.conv1", 1)).float())
    x = torch.randn(3, 2, 28, 28, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(to_onnx(student, (2, 28, 28), tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": x.numpy()})
    with torch.no_grad():
        expected = student(x).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
