import copy

import pytest
import torch
from torch import nn

from reducenet.activation import LambdaReLU, LearnedReLU, slide
from reducenet.algebra import NotExact
from reducenet.data import load
from reducenet.deploy import fuse
from reducenet.measure import parameters
from reducenet.moves import (
    FrozenBatchNorm2d,
    MoveError,
    add_relu,
    drop_branch,
    freeze,
    linearise,
    loosen,
    reinit,
    renew,
    set_scaler,
    settle,
)
from reducenet.net import build
from reducenet.side import attach, fold
from reducenet.train import fit

SMALL = dict(width=4, expansion=2, num_classes=4)


def state(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_untouched(net, before):
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_drop_branch_is_the_teacher_at_scaler_0(randomised, images):
    x = images(1, 12)
    teacher = randomised(build("scaler", **SMALL))
    before = state(teacher)
    student = drop_branch(teacher)
    assert_untouched(teacher, before)
    silent = randomised(build("scaler", scaler=0.0, **SMALL))
    assert torch.equal(student(x), silent(x))
    assert not torch.equal(student(x), teacher(x))
    assert parameters(student) == parameters(build("plain", **SMALL))
    with pytest.raises(MoveError, match="dropped already"):
        drop_branch(student)


def test_both_sizes_load_from_the_teachers_file():
    teacher, student = build("scaler", **SMALL), build("plain", seed=9, **SMALL)
    missing, unexpected = student.load_state_dict(teacher.state_dict(), strict=False)
    assert missing == []
    assert all(".branch1." in name for name in unexpected)


@pytest.mark.parametrize("post_relu", [True, False])
@pytest.mark.parametrize("block", ["scaler", "plain", "published", "lambda"])
def test_fuse_is_exact_for_every_block(block, post_relu, randomised, images):
    net = randomised(build(block, lam=1.0, post_relu=post_relu, **SMALL))
    before = state(net)
    fused = fuse(net)
    assert_untouched(net, before)
    for size in (5, 12, 13):
        x = images(1, size)
        assert (fused(x) - net(x)).abs().max() < 1e-10
    if block != "published":  # its BN stands behind a sum
        assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())


def test_fuse_makes_a_student_of_the_lambda_net(randomised):
    net = randomised(build("lambda", lam=1.0, **SMALL))
    convs = [m for m in fuse(net).modules() if isinstance(m, nn.Conv2d)]
    plain = [m for m in build("plain", **SMALL).modules() if isinstance(m, nn.Conv2d)]
    assert sorted(c.weight.shape for c in convs) == sorted(c.weight.shape for c in plain)


def test_fuse_refuses_train_mode_and_lam_below_1(randomised, images):
    with pytest.raises(NotExact, match="train mode"):
        fuse(build("plain", **SMALL))
    net = randomised(build("lambda", lam=0.3, **SMALL))
    with pytest.raises(NotExact, match=r"lam = 0\.3"):
        fuse(net)
    x = images(1, 12)
    assert (fuse(net, strict=False)(x) - net(x)).abs().max() < 1e-10
    linear = linearise(net)
    assert (fuse(linear)(x) - linear(x)).abs().max() < 1e-10
    assert (linear(x) - net(x)).abs().max() > 1e-3


def test_linearise_chooses_by_name():
    net = build("lambda", **SMALL)
    one = linearise(net, "stage2.*")
    assert sum(isinstance(m, LambdaReLU) for m in one.modules()) == 2
    with pytest.raises(MoveError, match=r"stage1\.0\.pair\.2"):
        linearise(net, "stage9.*")
    with pytest.raises(MoveError, match="none"):
        linearise(build("plain", **SMALL))


@pytest.mark.parametrize(
    ("parts", "frozen"),
    [
        (["classifier"], {"classifier.weight", "classifier.bias"}),
        (["classifier.weight"], {"classifier.weight"}),
        (["classifier.bias"], {"classifier.bias"}),
        (["conv3"], {f"stage{i}.0.conv3.weight" for i in (1, 2, 3)}),
        (["bn.affine"], {"bn"}),
        (["bn.statistics"], {"statistics"}),
        (["stage1.*"], {"stage1"}),
        (["*.bn3.*"], {"bn3"}),
        (["*.bn3.running_*"], {"bn3 statistics"}),
    ],
)
def test_freeze_holds_under_momentum_and_weight_decay(parts, frozen):
    """Frozen means bit-identical after training; and what is not frozen really moves."""
    net = freeze(build("plain", **SMALL), parts)
    assert all(p.requires_grad for p in build("plain", **SMALL).parameters())
    after = fit(net, load("synthetic"), epochs=1, device="cpu", progress=False).net.state_dict()
    bns = [name for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)]
    if frozen == {"bn"}:
        frozen = {f"{name}.{p}" for name in bns for p in ("weight", "bias")}
    elif frozen == {"statistics"}:
        frozen = {f"{name}.{p}" for name in bns for p in ("running_mean", "running_var", "num_batches_tracked")}
    elif frozen == {"stage1"}:
        frozen = {name for name in net.state_dict() if name.startswith("stage1.")}
    elif frozen == {"bn3"}:
        frozen = {name for name in net.state_dict() if ".bn3." in name}
    elif frozen == {"bn3 statistics"}:
        frozen = {name for name in net.state_dict() if ".bn3.running" in name or ".bn3.num" in name}
    for name, before in net.state_dict().items():
        assert torch.equal(before, after[name]) == (name in frozen), name


def test_freeze_all_moves_nothing_but_the_side_branch():
    net = attach(freeze(drop_branch(build("scaler", **SMALL)), "all"), expansion=1)
    after = fit(net, load("synthetic"), epochs=1, device="cpu", progress=False).net.state_dict()
    for name, before in net.state_dict().items():
        assert torch.equal(before, after[name]) == (not name.endswith((".first", ".second"))), name


def test_frozen_statistics_normalise_in_train_mode_too(randomised, images):
    net = randomised(build("plain", **SMALL))
    frozen = freeze(net, "bn.statistics").train()
    assert any(isinstance(m, FrozenBatchNorm2d) for m in frozen.modules())
    x = images(1, 12)
    torch.testing.assert_close(frozen(x), net(x), rtol=1e-12, atol=1e-12)
    assert (fuse(frozen.eval())(x) - net(x)).abs().max() < 1e-10


def test_reinit_changes_what_is_free_and_nothing_else():
    net = freeze(build("plain", seed=0, **SMALL), ["classifier", "bn.statistics"])
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.5)
    for bn in net.modules():
        if isinstance(bn, nn.BatchNorm2d):
            bn.running_mean.add_(0.5)
    fresh = reinit(net, seed=0)
    assert torch.equal(fresh.classifier.weight, net.classifier.weight)
    assert torch.equal(fresh.stem[1].running_mean, net.stem[1].running_mean)
    for name, p in fresh.named_parameters():
        if not name.startswith("classifier"):
            assert not torch.equal(p, net.get_parameter(name)), name
    start = build("plain", seed=0, **SMALL)
    assert not torch.equal(fresh.stem[0].weight, start.stem[0].weight)  # not the first draw again
    only = reinit(net, "*.branch2.0", seed=0)
    changed = {n for n, p in only.named_parameters() if not torch.equal(p, net.get_parameter(n))}
    assert changed == {f"stage{i}.0.branch2.0.weight" for i in (1, 2, 3)}


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (lambda net: freeze(net, "fc"), r"freeze: nothing here is called 'fc'; parts: all, classifier"),
        (lambda net: attach(net, at="branch9"), r"attach: no plain conv .* matches 'branch9'; there are: stem\.0"),
        (lambda net: attach(net, expansion=0), "at least 1"),
        (lambda net: reinit(net, at="nothing"), "reinit: no module"),
        (fold, "never attached"),
    ],
)
def test_moves_that_do_not_apply(move, message):
    net = build("plain", **SMALL)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(MoveError, match=message):
        move(net)
    assert_untouched(net, before)


MOVES = {
    "drop_branch": ("scaler", drop_branch),
    "set_scaler": ("scaler", lambda net: set_scaler(net, 0.3)),
    "linearise": ("lambda", linearise),
    "freeze": ("scaler", lambda net: freeze(net, ["all"])),
    "settle": ("lambda", settle),
    "loosen": ("plain", loosen),
    "add_relu": ("open", add_relu),
    "renew": ("lambda", renew),
    "renew merged": ("lambda", lambda net: renew(net, start="merged")),
    "reinit": ("plain", reinit),
    "attach": ("plain", attach),
    "fold": ("side", fold),
    "fuse": ("side", fuse),
}


@pytest.mark.parametrize("name", MOVES)
def test_every_move_leaves_its_input_alone_and_shares_nothing_with_it(name, randomised, images):
    block, move = MOVES[name]
    special = {"side": lambda: attach(build("plain", **SMALL)), "open": lambda: build("inverted", post_relu=False, **SMALL)}
    net = randomised(special.get(block, lambda: build(block, **SMALL))())
    before, flags, x = state(net), [p.requires_grad for p in net.parameters()], images(1, 12)
    scalers = [m.scaler for m in net.modules() if hasattr(m, "scaler")]
    expected = net(x)
    moved = move(net)
    assert_untouched(net, before)
    assert flags == [p.requires_grad for p in net.parameters()]
    assert scalers == [m.scaler for m in net.modules() if hasattr(m, "scaler")]
    assert torch.equal(net(x), expected)
    places = {t.data_ptr() for t in net.state_dict().values()}
    assert not places & {t.data_ptr() for t in moved.state_dict().values() if t.numel()}
    assert not moved.training


def test_set_scaler_slides_between_student_and_teacher(randomised, images):
    net, x = randomised(build("scaler", **SMALL)), images(1, 12)
    assert torch.equal(set_scaler(net, 0.0)(x), drop_branch(net)(x))
    assert torch.equal(set_scaler(net, 1.0)(x), net(x))
    assert not torch.equal(set_scaler(net, 0.5)(x), net(x))
    with pytest.raises(MoveError, match="no block has a scaler"):
        set_scaler(drop_branch(net), 0.5)


def conv_bn_relu(a, b, kernel=3):
    return nn.Sequential(nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU())


class Holder(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


@pytest.mark.parametrize("wrap", [lambda f: f, Holder, lambda f: nn.Sequential(Holder(f), nn.Identity())])
def test_fuse_any_nest_of_sequentials(wrap, randomised, images):
    inner = nn.Sequential(nn.Conv2d(4, 9, 3, padding=1), nn.Identity(), nn.Conv2d(9, 4, 1), nn.BatchNorm2d(4))
    net = randomised(wrap(nn.Sequential(*conv_bn_relu(3, 4), conv_bn_relu(4, 4), nn.Sequential(inner, nn.ReLU()), conv_bn_relu(4, 2))))
    fused, x = fuse(net), images(3, 9)
    assert (fused(x) - net(x)).abs().max() < 1e-10
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert sum(isinstance(m, nn.Conv2d) for m in fused.modules()) == 4  # the inner pair is one
    again = fuse(fused)
    assert (again(x) - net(x)).abs().max() < 1e-10


def test_drop_branch_keeps_whatever_stands_behind_the_sum(randomised, images):
    net, x = randomised(loosen(build("scaler", **SMALL), "*post")), images(1, 12)
    assert (drop_branch(net)(x) - set_scaler(net, 0.0)(x)).abs().max() < 1e-12


@pytest.mark.parametrize("scaler", [-0.1, 1.1, float("nan"), "a"])
def test_a_scaler_is_a_share(scaler):
    with pytest.raises(MoveError, match=r"set_scaler: the scaler must be in \[0, 1\]"):
        set_scaler(build("scaler", **SMALL), scaler)


def test_conv3_is_the_convs_of_that_name_and_no_bn():
    frozen = {name for name, p in freeze(build("repvgg", **SMALL), "conv3").named_parameters() if not p.requires_grad}
    assert frozen == {f"stage{i}.0.{layer}.conv3.0.weight" for i in (1, 2, 3) for layer in (0, 1)}
    with pytest.raises(MoveError, match="freeze: nothing is named"):
        freeze(build("plain", **SMALL), [])


def test_strict_fuse_takes_no_lam_that_is_learned_for_good(randomised):
    net = randomised(build("lambda", lam=1.0, **SMALL))
    for name in [name for name, m in net.named_modules() if isinstance(m, LambdaReLU)]:
        net.set_submodule(name, LearnedReLU(1.0).double())
    with pytest.raises(NotExact, match="learns its lam"):
        fuse(net)


@pytest.mark.parametrize("move", [drop_branch, renew])
def test_what_a_side_branch_stands_in_is_folded_first(move):
    net = build("lambda" if move is renew else "scaler", **SMALL)
    with pytest.raises(MoveError, match="fold first"):
        move(attach(net, at="*pair.0" if move is renew else "*branch2.0", space="branch"))


def test_settle_and_loosen_keep_the_function_and_undo_each_other(randomised, images):
    net, x = randomised(build("plain", **SMALL)), images(1, 12)
    loose = loosen(net)
    assert [name for name, m in loose.named_modules() if isinstance(m, LambdaReLU)] == [f"stage{i}.0.branch2.2" for i in (1, 2, 3)]
    tight = settle(loose)
    assert torch.equal(loose(x), net(x))
    assert torch.equal(tight(x), net(x))
    assert [type(m) for m in tight.modules()] == [type(m) for m in net.modules()]
    slid = randomised(build("lambda", lam=0.5, **SMALL))
    with pytest.raises(MoveError, match=r"settle: stage1\.0\.pair\.2 is at lam = 0\.5"):
        settle(slid)
    with pytest.raises(MoveError, match="loosen: no ReLU matches"):
        loosen(loose)


def test_a_learned_lam_settles_from_anywhere_and_no_slide_moves_it(randomised, images):
    net, x = randomised(build("lambda", **SMALL)), images(1, 12)
    learned = randomised(build("lambda", **SMALL))
    for name in [name for name, m in learned.named_modules() if isinstance(m, LambdaReLU)]:
        learned.set_submodule(name, LearnedReLU(0.25).double())
    with pytest.raises(ValueError, match="no LambdaReLU whose lam could move"):
        slide()(learned, 1.0)
    assert {m.lam.item() for m in learned.modules() if isinstance(m, LearnedReLU)} == {0.25}
    assert not torch.equal(learned(x), net(x))
    assert torch.equal(settle(learned)(x), net(x))


def test_add_relu_closes_the_blocks_that_match(randomised, images):
    net, x = randomised(build("plain", post_relu=False, **SMALL)), images(1, 12)
    closed = randomised(build("plain", post_relu=True, **SMALL))
    assert torch.equal(add_relu(net)(x), closed(x))
    one = add_relu(net, "stage2.*")
    assert [isinstance(getattr(one, f"stage{i}")[0].post, torch.nn.ReLU) for i in (1, 2, 3)] == [False, True, False]
    with pytest.raises(MoveError, match="add_relu: no block without final ReLU matches"):
        add_relu(closed)


def test_fuse_leaves_neighbours_that_do_not_merge(randomised, images):
    net, x = randomised(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1))), images(3, 9)
    fused = fuse(net)
    assert (fused(x) - net(x)).abs().max() < 1e-10
    assert sum(isinstance(m, nn.Conv2d) for m in fused.modules()) == 2


def test_fuse_twice_and_what_was_frozen_stays_frozen(randomised, images):
    net = randomised(freeze(build("plain", **SMALL), ["conv3", "bn.affine"]))
    fused, x = fuse(net), images(1, 12)
    assert (fuse(fused)(x) - net(x)).abs().max() < 1e-10
    assert [name for name, p in fused.named_parameters() if p.requires_grad] == ["classifier.weight", "classifier.bias"]
    assert all(p.requires_grad for p in fuse(build("plain", **SMALL).eval()).parameters())


def test_reinit_refuses_what_has_no_fresh_start():
    net = attach(freeze(build("plain", **SMALL), "all"))
    with pytest.raises(MoveError, match="is a SideBranch, which has no fresh start; reinit before attach"):
        reinit(net)


def test_reinit_resets_statistics_that_are_not_frozen():
    net = freeze(build("plain", **SMALL), "bn.affine")
    for bn in net.modules():
        if isinstance(bn, nn.BatchNorm2d):
            bn.running_mean.add_(5)
    assert reinit(net).stem[1].running_mean.abs().max() == 0
