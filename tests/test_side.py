"""The side branch against its definition: two convs run one after the other, and peft's own merge."""

import pytest
import torch
import torch.nn.functional as F
from networks import assert_equal_maps, small
from torch import nn

from reducenet.algebra.exact import NotExact
from reducenet.data.tensors import load
from reducenet.learn.train import fit
from reducenet.moves.branch import drop_branch
from reducenet.moves.freezing import freeze
from reducenet.moves.side import Beside, SideBranch, attach, fold, has_side_branch
from reducenet.nets.activation import LambdaReLU, slide
from reducenet.nets.layers import Still
from reducenet.words import MoveError

OPTIONS = {
    "weight space": {},
    "weight space, conv1-conv3": dict(order="conv1-conv3"),
    "rank 2": dict(rank=2),
    "branch space": dict(space="branch"),
    "branch space, conv1-conv3": dict(space="branch", order="conv1-conv3"),
    "bn": dict(bn=True),
    "bn behind a zero conv": dict(bn=True, start="zero-conv"),
    "lam": dict(lam=0.0),
    "lam, conv1-conv3": dict(lam=0.0, order="conv1-conv3"),
    "lam and bn": dict(lam=0.3, bn=True),
    "after the bn": dict(join="after-bn"),
    "after the bn, with bn and lam": dict(join="after-bn", bn=True, lam=0.0),
}


def student(randomised):
    return randomised(freeze(drop_branch(small("scaler")), "all"))


def shaken(net):
    """As after some training: every trainable tensor and every free statistic moved, every LambdaReLU at the end of its slide."""
    torch.manual_seed(1)
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(0.3 * torch.randn_like(p))
    if any(isinstance(module, LambdaReLU) for module in net.modules()):
        slide()(net, 1.0)
    return net


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_branch_starts_as_nothing(options, randomised, images):
    net, x = student(randomised), images(1, 12)
    beside = attach(net, **options, seed=1)
    assert torch.equal(beside(x), net(x))
    assert torch.equal(beside.train()(x), net.train()(x))
    trainable = [name for name, p in beside.named_parameters() if p.requires_grad]
    assert trainable
    assert all(".side." in name or name.endswith((".first", ".second")) for name in trainable)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_fold_is_exact(options, randomised, images):
    net = shaken(attach(student(randomised), **options, seed=1))
    folded = fold(net)
    for size in (3, 12):
        x = images(1, size)
        assert (folded(x) - net(x)).abs().max() < 1e-10
    x = images(4, 9)
    assert_equal_maps(folded.stage1[0].branch2(x), net.stage1[0].branch2(x))
    assert (net.stage1[0].branch2(x) - student(randomised).stage1[0].branch2(x)).abs().max() > 1e-2  # the branch had done something
    assert not any(has_side_branch(m) or isinstance(m, Beside) for m in folded.modules())
    assert not any(p.requires_grad for p in folded.parameters())  # the base was frozen
    with pytest.raises(MoveError, match="folded already"):
        fold(folded)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_mode_of_the_conv_is_that_of_its_branch_and_of_what_it_folds_into(options, randomised):
    beside = attach(student(randomised), **options)
    for net in (beside, fold(shaken(beside))):
        assert not any(m.training for m in net.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Sequential | Beside))
    assert all(m.training for m in attach(student(randomised).train(), **options).modules() if not isinstance(m, Still))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_training_moves_the_branch_and_nothing_else(options):
    net = attach(freeze(drop_branch(small("scaler")), "all"), **options)
    hooks = [slide()] if "lam" in options else []
    after = fit(net, load("synthetic"), epochs=1, hooks=hooks, device="cpu", progress=False).net
    for name, before in net.state_dict().items():
        ours = ".side." in name or name.endswith((".first", ".second"))
        assert ours or torch.equal(before, after.state_dict()[name]), name
    moved = [name for name, p in net.named_parameters() if p.requires_grad and not torch.equal(p, after.get_parameter(name))]
    assert len(moved) == sum(p.requires_grad for p in net.parameters())
    x = torch.randn(2, 1, 12, 12, dtype=torch.float64)
    after = after.double()
    assert (fold(after)(x) - after(x)).abs().max() < 1e-10


@pytest.mark.parametrize("order", ["conv3-conv1", "conv1-conv3"])
@pytest.mark.parametrize("stage", ["stage1", "stage2"])  # stride 1 and 2
def test_weight_space_is_branch_space(order, stage, randomised, images):
    """Outputs and gradients, against two convolutions written out here."""
    net = attach(student(randomised), 3, order=order, seed=1)
    conv = getattr(net, stage)[0].branch2[0]
    branch = conv.parametrizations.weight[0]
    nn.init.normal_(branch.second)
    x = images(4, 9).requires_grad_()
    base = F.conv2d(x, conv.parametrizations.weight.original, stride=conv.stride, padding=1)
    if order == "conv3-conv1":
        pair = F.conv2d(F.conv2d(x, branch.first, stride=conv.stride, padding=1), branch.second[:, :, None, None])
    else:
        pair = F.conv2d(F.conv2d(x, branch.first[:, :, None, None]), branch.second, stride=conv.stride, padding=1)
    torch.testing.assert_close(conv(x), base + pair, rtol=0, atol=1e-12)
    weights = (branch.first, branch.second, x)
    for a, b in zip(*(torch.autograd.grad(out.square().sum(), weights) for out in (conv(x), base + pair)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_both_spaces_draw_the_same_branch(randomised):
    first = attach(student(randomised), rank=3, seed=1).stage1[0].branch2[0].parametrizations.weight[0].first
    assert torch.equal(attach(student(randomised), rank=3, seed=1, space="branch").stage1[0].branch2[0].side[0].weight, first)


@pytest.mark.parametrize("order", ["conv3-conv1", "conv1-conv3"])
@pytest.mark.parametrize("width", [1, 2, 3, 100])
def test_rank_of_the_change(order, width):
    """At most the branch's width, in the unfolding that its narrow middle cuts; from min(rows, columns) on nothing is out of reach."""
    conv = nn.Conv2d(5, 7, 3, padding=1, bias=False).double()
    draw = torch.Generator().manual_seed(0)
    branch = SideBranch(conv, width, order, draw)
    nn.init.normal_(branch.second)
    change = branch(torch.zeros_like(conv.weight)).detach()
    unfolded = change.reshape(7, 45) if order == "conv3-conv1" else change.transpose(0, 1).reshape(5, 63)
    assert torch.linalg.matrix_rank(unfolded) == min(width, *unfolded.shape)


def test_attach_depends_on_seed_and_place():
    net = small("plain")

    def first(seed, stage):
        return getattr(attach(net, seed=seed), stage)[0].branch2[0].parametrizations.weight[0].first

    assert torch.equal(first(0, "stage2"), first(0, "stage2"))
    assert not torch.equal(first(0, "stage2"), first(1, "stage2"))
    assert not torch.equal(first(0, "stage2").flatten()[:100], first(0, "stage3").flatten()[:100])


@pytest.mark.filterwarnings("ignore")
def test_fold_agrees_with_peft(randomised, images):
    """The same branch in a peer's hands: conv3 to rank r, conv1 back, merged by its own code."""
    from peft import LoraConfig, get_peft_model

    net, x = student(randomised), images(1, 12)
    ours = attach(net, rank=5, seed=1)
    theirs = get_peft_model(student(randomised), LoraConfig(target_modules=r".*branch2\.0", r=5, lora_alpha=5)).double().eval()
    for name, module in ours.named_modules():
        if isinstance(module, SideBranch):
            nn.init.normal_(module.second)
            peer = theirs.base_model.model.get_submodule(name.removesuffix(".parametrizations.weight.0"))
            peer.lora_A["default"].weight.data = module.first.data.clone()
            peer.lora_B["default"].weight.data = module.second.data[:, :, None, None].clone()
    assert (theirs(x) - net(x)).abs().max() > 1e-2
    torch.testing.assert_close(fold(ours)(x), theirs.merge_and_unload()(x), rtol=0, atol=1e-12)


def branch_after_one_step(options) -> float:
    """How large the branch's output is after one small step, from a start at nothing. Source of the idea: ControlNet's zero convolution."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False)).requires_grad_(False)
    net = attach(net, at="0", space="branch", seed=0, **options).train()
    side, x, target = net[0].side, torch.randn(32, 8, 8, 8), torch.randn(32, 8, 8, 8)
    assert side(x).abs().max() == 0
    optimiser = torch.optim.SGD(side.parameters(), lr=1e-3)
    F.mse_loss(net(x), target).backward()
    optimiser.step()
    return side(x).abs().max().item()


def test_a_bn_behind_a_zero_conv_is_no_quiet_start():
    """After the first step the BN divides the conv's tiny output by its tiny deviation; a zero gamma keeps the branch quiet."""
    assert branch_after_one_step(dict(bn=True, start="zero-conv")) > 2
    assert branch_after_one_step({}) < 1e-3
    assert branch_after_one_step(dict(bn=True)) < 1e-3
    assert branch_after_one_step(dict(bn=True, start="zero-gamma")) < 1e-3


@pytest.mark.parametrize("space", ["weight", "branch"])
def test_one_zero_factor_learns_and_two_are_dead(space, randomised, images):
    net = attach(student(randomised), space=space, seed=1)
    net(images(1, 12)).square().sum().backward()
    grads = {name: p.grad.abs().max() for name, p in net.named_parameters() if p.requires_grad}
    second = {name: g for name, g in grads.items() if name.endswith((".second", ".side.1.weight"))}
    assert all(second.values())  # the zero one moves at once
    assert not any(g for name, g in grads.items() if name not in second)  # the other from the second step on
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.zero_()
    net.zero_grad()
    net(images(1, 12)).square().sum().backward()
    assert not any(p.grad.any() for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(at="branch9"), r"attach: no plain conv .* matches 'branch9'; there are: stem\.0"),
        (dict(expansion=0), "expansion must be at least 1"),
        (dict(rank=0), "rank must be at least 1"),
        (dict(expansion=1, rank=1), "not by both"),
        (dict(order="conv1"), "unknown order 'conv1'; known: conv3-conv1, conv1-conv3"),
        (dict(join="bn"), "unknown join"),
        (dict(start="zero"), "unknown start"),
        (dict(space="function"), "unknown space"),
        (dict(order="conv1-conv3", bn=True), "could not be folded"),
        (dict(start="zero-gamma"), "needs a BN"),
        (dict(lam=-3.0), r"lam must be at least 0, not -3\.0"),
        (dict(space="weight", bn=True), "in weight space nothing"),
        (dict(at="stage1.0.conv3", join="after-bn"), "needs a BN right behind stage1.0.conv3"),
    ],
)
def test_what_does_not_apply(options, message):
    net = small("plain")
    before = {name: t.clone() for name, t in net.state_dict().items()}
    with pytest.raises(MoveError, match=message):
        attach(net, **options)
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())


def test_fold_refuses_what_is_not_constant(randomised):
    with pytest.raises(MoveError, match="never attached"):
        fold(small("plain"))
    with pytest.raises(NotExact, match="train mode"):
        fold(attach(small("plain"), bn=True))
    with pytest.raises(MoveError, match=r"stage1\.0\.branch2\.0\.side is at lam = 0\.5"):
        fold(attach(student(randomised), lam=0.5))


def test_what_a_padding_mode_allows(images):
    conv = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")).double()
    net, x = attach(conv, at="0"), images(2, 5)
    nn.init.normal_(net[0].parametrizations.weight[0].second)
    assert (fold(net)(x) - net(x)).abs().max() < 1e-12
    with pytest.raises(MoveError, match="padding mode"):
        attach(conv, at="0", bn=True)


def test_another_parametrisation_folds_too(images):
    net, x = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3, padding=1))).double(), images(2, 5)
    folded = fold(net)
    assert type(folded[0]) is nn.Conv2d
    assert (folded(x) - net(x)).abs().max() < 1e-12
