"""The oracle is the network itself, run as it was written: in float64, ring and interior apart, on networks of all kinds."""

import copy
import operator

import pytest
import torch
import torchvision
from networks import Beside, assert_same, conv_bn, convs, count, fused_alone, small
from torch import fx, nn
from torch.fx.experimental.optimization import fuse as peer_fuse

from reducenet.algebra.exact import NotExact
from reducenet.deploy.fuse import fuse, fused
from reducenet.deploy.padding import pad_first
from reducenet.moves.activations import linearise
from reducenet.moves.freezing import freeze
from reducenet.moves.side import attach
from reducenet.nets.networks import Network, build
from reducenet.words import MoveError

# The networks of this project


@pytest.mark.parametrize("block", ["scaler", "plain", "lambda", "published", "inverted", "repvgg"])
def test_our_networks_stay_classifiers_with_their_names(block, randomised, images):
    net = randomised(small(block, lam=1.0))
    new = fused_alone(net)
    for size in (5, 12, 13):
        x = images(1, size)
        assert_same(new, net, x)
        assert_same(new.features, net.features, x)
    assert type(new) is type(net)
    assert isinstance(new, Network)
    assert {name.removesuffix(".bias") for name in new.state_dict()} <= {n.rpartition(".")[0] for n in net.state_dict()} | set(
        net.state_dict()
    )
    assert "stage1.0.conv3.weight" in new.state_dict() or block in ("inverted", "repvgg")
    assert new.stem.get_submodule("0").bias is not None
    assert count(new, nn.BatchNorm2d) == (3 if block == "published" else 0)  # its BN stands behind a sum


def test_the_lambda_net_becomes_the_student_and_repvgg_two_convs_a_block(randomised):
    def shapes(net):
        return sorted(c.weight.shape for c in convs(net))

    assert shapes(fuse(small("lambda", lam=1.0).eval())) == shapes(small("plain"))
    assert {c.kernel_size for c in convs(fuse(small("repvgg").eval()))} == {(3, 3)}
    assert count(fuse(small("repvgg").eval()), nn.Conv2d) == 1 + 2 * 3


def test_a_side_branch_is_folded_first(randomised, images):
    net = attach(randomised(small("plain")))
    for name, p in net.named_parameters():
        if name.endswith(".second"):
            nn.init.normal_(p)
    new, x = fused_alone(net), images(1, 12)
    assert_same(new, net, x)
    assert set(new.state_dict()) == set(fuse(small("plain").eval()).state_dict())
    half = attach(randomised(small("plain")), lam=0.5)
    for name, p in half.named_parameters():
        if ".side." in name:
            nn.init.normal_(p)
    with pytest.raises(NotExact, match=r"side.*lam = 0\.5"):
        fuse(half)
    assert_same(fuse(half, strict=False), half, x)


def test_train_mode_and_lam_below_1_are_refused_by_name(randomised, images):
    with pytest.raises(NotExact, match=r"^fuse: the network \(ReduceNet\) is in train mode"):
        fuse(small("plain"))
    net = randomised(small("plain"))
    net.stage2[0].bn3.train()
    with pytest.raises(NotExact, match=r"^fuse: stage2\.0\.bn3 \(BatchNorm2d\) is in train mode"):
        fuse(net)
    net = randomised(small("lambda", lam=0.3))
    with pytest.raises(NotExact, match=r"stage1\.0\.pair\.2 is at lam = 0\.3"):
        fuse(net)
    assert_same(fuse(net, strict=False), net, images(1, 12))
    assert_same(fuse(linearise(net)), linearise(net), images(1, 12))


def test_a_file_of_a_fused_net_fits_the_fuse_of_another_start(randomised, images):
    """What is rewritten does not depend on weights, not even on a bias that is 0."""
    x = images(1, 12)
    for block in ("scaler", "lambda", "repvgg", "inverted"):
        net, fresh = randomised(small(block, lam=1.0)), small(block, lam=1.0, seed=9).double().eval()
        new, other = fuse(net), fuse(fresh)
        other.load_state_dict(new.state_dict())
        assert torch.equal(other(x), new(x))
        again = copy.deepcopy(new)
        assert torch.equal(again(x), new(x))
        assert_same(fuse(again), net, x)
    zero = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1)).eval()
    nn.init.zeros_(zero[0].bias)
    assert count(fuse(zero), nn.Conv2d) == 2


def test_what_was_frozen_stays_frozen_and_the_rest_learns(randomised, images):
    new = fuse(freeze(randomised(small("plain")), ["conv3", "stem.1.*"]))
    frozen = {name for name, p in new.named_parameters() if not p.requires_grad}
    assert frozen == {f"{part}.{p}" for part in ("stem.0", *(f"stage{i}.0.conv3" for i in (1, 2, 3))) for p in ("weight", "bias")}
    new.train()(images(1, 12)).square().sum().backward()
    assert all((p.grad is None) == (name in frozen) and (p.grad is None or p.grad.abs().max() > 0) for name, p in new.named_parameters())


# Foreign networks


def test_resnet18_as_torch_fx_folds_it(randomised):
    net = randomised(torchvision.models.resnet18(weights=None))
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    new, peer = fused_alone(net), peer_fuse(net)
    assert_same(new, net, x)
    assert isinstance(new, fx.GraphModule)
    theirs, ours = peer.state_dict(), new.state_dict()
    assert ours.keys() == {name for name in theirs if ".bn" not in name and not name.startswith("bn") and "downsample.1" not in name}
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-10, atol=1e-12)


def test_mobilenet_keeps_the_pairs_that_would_cost_more(randomised):
    net = randomised(torchvision.models.mobilenet_v2(weights=None))
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    new, changes = fused(net)
    assert_same(new, net, x)
    assert (count(new, nn.Conv2d), count(new, nn.BatchNorm2d)) == (52, 0)
    assert changes.left == {  # a projection without residual, and the expansion behind it
        ("features.1.conv.1", "features.2.conv.0.0"): "merge: would raise the MACs per output pixel from 2,048 to 3,072",
        ("features.17.conv.2", "features.18.0"): "merge: would raise the MACs per output pixel from 716,800 to 1,228,800",
    }
    shallow = fuse(net, dearer=True)
    assert_same(shallow, net, x)
    assert count(shallow, nn.Conv2d) == 50


ADD = {"+": operator.add, "add": torch.add, "method": lambda a, b: a.add(b), "add_": lambda a, b: a.add_(b)}


class RepVGG(nn.Module):
    """Ding et al.'s block, its sum written in one of many ways."""

    def __init__(self, stride, groups, how, channels=4):
        super().__init__()
        self.dense, self.one = conv_bn(channels, channels, 3, stride, groups), conv_bn(channels, channels, 1, stride, groups)
        self.identity = nn.BatchNorm2d(channels) if stride == 1 else None
        self.relu, self.how = nn.ReLU(inplace=True), how

    def forward(self, x):
        branches = [self.one(x), self.dense(x)] if self.identity is None else [self.one(x), self.identity(x), self.dense(x)]
        first, *rest = branches
        if self.how == "right":
            total = first + (rest[0] if len(rest) == 1 else rest[0] + rest[1])
        elif self.how == "sum":
            total = sum(branches)
        else:
            total = first
            for branch in rest:
                if self.how == "+=":
                    total += branch
                else:
                    total = ADD[self.how](total, branch)
        return self.relu(total)


@pytest.mark.parametrize("how", ["+", "+=", "add", "method", "add_", "sum", "right"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_repvgg_block_is_one_conv(stride, groups, how, randomised, images):
    net = randomised(nn.Sequential(RepVGG(stride, groups, how), RepVGG(stride, groups, how)))
    new = fused_alone(net)
    for size in (1, 2, 7, 8):
        assert_same(new, net, images(4, size))
    assert [(c.kernel_size, c.groups) for c in convs(new)] == [((3, 3), groups)] * 2
    assert set(new.state_dict()) == {f"{i}.dense.0.{p}" for i in (0, 1) for p in ("weight", "bias")}
    assert not [n for n in new.graph.nodes if n.op == "call_function"]


@pytest.mark.parametrize(
    ("branches", "left", "why"),
    [
        ([nn.Conv2d(4, 4, 3, padding=1), nn.Identity()], 1, None),
        ([nn.Identity(), nn.Conv2d(4, 4, 3, padding=1, groups=4)], 1, None),
        ([nn.Conv2d(4, 4, (1, 3), padding=(0, 1)), nn.Conv2d(4, 4, (3, 1), padding=(1, 0)), nn.Conv2d(4, 4, 3, padding=1)], 1, None),
        ([nn.Conv2d(4, 4, (1, 3), padding=(0, 1)), nn.Conv2d(4, 4, (3, 1), padding=(1, 0))], 2, "MACs per output pixel from 96 to 144"),
        ([nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1)], 2, "MACs per output pixel from 52 to 144"),
        ([nn.Conv2d(4, 4, 3, padding=1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())], 2, None),
        ([nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.Identity()], 1, "dilation"),
        ([nn.Conv2d(4, 4, 3, padding=1), nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 4, 1))], 1, None),
    ],
)
def test_branches_are_added_where_it_is_exact_and_no_dearer(branches, left, why, images):
    net = Beside(*copy.deepcopy(branches)).double().eval()
    new, changes = fused(net)
    for size in (2, 7):
        assert_same(new, net, images(4, size))
    assert count(new, nn.Conv2d) == left
    assert (why is None) == (not changes.left)
    assert why is None or why in next(iter(changes.left.values()))
    if why and "MACs" in why:
        assert count(fuse(net, dearer=True), nn.Conv2d) == 1
        assert_same(fuse(net, dearer=True), net, images(4, 7))


def test_a_run_is_merged_by_its_cost_as_a_whole(images):
    """conv1-depthwise conv3-conv1: the first two as one are dear, so are the last two, all three are cheap."""
    run = nn.Sequential(nn.Conv2d(4, 24, 1, bias=False), nn.Conv2d(24, 24, 3, 2, 1, groups=24), nn.Conv2d(24, 4, 1)).double().eval()
    new, changes = fused(run)
    assert_same(new, run, images(4, 9))
    assert (count(new, nn.Conv2d), changes.left) == (1, {})
    assert new.get_submodule("0").weight.shape == (4, 4, 3, 3)
    assert [count(fuse(part.eval()), nn.Conv2d) for part in (run[:2], run[1:])] == [2, 2]
    assert fused(run[:2].eval())[1].left[("0", "1")].endswith("from 600 to 864")  # 4 x 96 at stride 2, and 216


@pytest.mark.parametrize(
    ("first", "second", "now", "then"),
    [
        ((2, 2, 3, dict()), (2, 8, 1, dict(stride=2)), 4 * 36 + 16, 8 * 2 * 9),  # four pixels of the first for one of the second
        ((2, 2, 1, dict(stride=2)), (2, 2, 3, dict()), 4 + 36, 4 * 25),  # the taps of the second are two pixels apart
        ((4, 1, 3, dict()), (1, 8, 1, dict()), 36 + 8, 8 * 4 * 9),
        ((4, 4, 3, dict(groups=4)), (4, 4, 1, dict(groups=4)), 36 + 4, 4 * 9),  # groups stay groups
        ((4, 4, 3, dict(groups=4)), (4, 4, 1, dict(groups=2)), 36 + 8, 4 * 2 * 9),
    ],
)
def test_cost_per_output_pixel_by_hand(first, second, now, then, images):
    net = nn.Sequential(*(nn.Conv2d(i, o, k, bias=False, **options) for i, o, k, options in (first, second))).double().eval()
    new, changes = fused(net)
    merged = fuse(net, dearer=True)
    assert convs(merged)[0].weight.numel() == then
    assert count(new, nn.Conv2d) == (1 if then <= now else 2)
    assert list(changes.left.values()) == [f"merge: would raise the MACs per output pixel from {now} to {then}"] * (then > now)
    assert_same(merged, net, images(first[0], 9))


def test_neighbours_that_do_not_merge_stay_and_say_why(images):
    net = (
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 1, padding_mode="circular"))
        .double()
        .eval()
    )
    new, changes = fused(net)
    assert_same(new, net, images(3, 9))
    assert count(new, nn.Conv2d) == 3
    assert "padding (1, 1) on the second conv" in changes.left[("0", "1")]
    assert "padding_mode='circular'" in changes.left[("1", "2")]


# Linear and BatchNorm1d


def with_statistics(net):
    for bn in net.modules():
        if isinstance(bn, nn.BatchNorm1d):
            bn.running_mean.uniform_(-1, 1)
            bn.running_var.uniform_(0.3, 3)
            if bn.affine:
                nn.init.uniform_(bn.weight, 0.5, 2)
                nn.init.uniform_(bn.bias, -1, 1)
    return net.double().eval()


@pytest.mark.parametrize(("bias", "affine"), [(True, True), (False, True), (True, False)])
def test_a_batchnorm1d_is_folded_into_a_linear_behind_a_flatten(bias, affine, images):
    net = with_statistics(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 8, bias), nn.BatchNorm1d(8, affine=affine), nn.ReLU(), nn.Linear(8, 5), nn.BatchNorm1d(5))
    )
    net[5].weight.requires_grad_(False)
    new = fuse(net)
    assert_same(new, net, images(3, 2))
    assert count(new, nn.BatchNorm1d) == 0
    assert [p.requires_grad for p in new.parameters()] == [True, True, False, False]


def test_a_batchnorm1d_over_channels_is_not_one_over_features():
    """[N, 8, 5] -> Linear(5, 8) -> [N, 8, 8]: the BN normalises the first 8, the Linear makes the last 8."""
    net = with_statistics(nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8)))
    new, changes = fused(net)
    assert_same(new, net, torch.randn(3, 8, 5, dtype=torch.float64))
    assert_same(new, net, torch.randn(3, 5, dtype=torch.float64))
    assert "Flatten" in changes.left[("1",)]
    wrong = torch.nn.utils.fusion.fuse_linear_bn_eval(net[0], net[1])
    x = torch.randn(3, 8, 5, dtype=torch.float64)
    assert (wrong(x) - net(x)).abs().max() > 1e-2


# pad_first


def test_pad_first_moves_all_padding_to_the_head_of_a_run(randomised, images):
    net = build("inverted", lam=0.0, width=4, expansion=4)
    padded = pad_first(net)
    assert type(padded) is type(net)
    assert padded.training
    assert [c.padding for c in convs(net.stage1)] == [(0, 0), (1, 1), (0, 0)]
    assert [c.padding for c in convs(padded.stage1)] == [(1, 1), (0, 0), (0, 0)]
    linear, x = randomised(linearise(padded)), images(1, 13)
    new = fuse(linear)
    assert_same(new, linear, x)
    assert count(new, nn.Conv2d) == 1 + 3
    before = randomised(linearise(net)).stem(x)
    inner, changed = (randomised(linearise(side)).stage1(before) for side in (net, padded))
    assert (inner - changed)[..., 1:-1, 1:-1].abs().max() < 1e-10  # the ring changes, and only the ring
    assert (inner - changed).abs().max() > 1e-3
    with pytest.raises(MoveError, match="pad_first: every linear run"):
        pad_first(padded)
    with pytest.raises(MoveError, match="pad_first"):
        pad_first(small("plain"))


def test_pad_first_reaches_the_head_through_strides(images):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1)
    )
    padded = pad_first(net.double().eval())
    assert [c.padding for c in convs(padded)] == [(1 + 2 + 4,) * 2, (0, 0), (0, 0), (1, 1)]
    x = images(3, 33)
    assert padded(x).shape == net(x).shape
    assert_same(fuse(padded, dearer=True), padded, x)
    assert [c.kernel_size for c in convs(fuse(padded, dearer=True))] == [(15, 15), (3, 3)]
