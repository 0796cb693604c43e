import copy
from collections import OrderedDict

import pytest
import torch
from networks import small
from torch import nn

from reducenet.algebra.exact import NotExact
from reducenet.data.tensors import load
from reducenet.deploy.fuse import fuse
from reducenet.learn.measure import parameters
from reducenet.learn.train import fit
from reducenet.moves.activations import add_relu, linearise, loosen, settle
from reducenet.moves.branch import drop_branch, set_scaler
from reducenet.moves.freezing import freeze, reinit
from reducenet.moves.renew import renew
from reducenet.moves.side import attach, fold
from reducenet.moves.surgery import chosen, replace
from reducenet.nets.activation import LambdaReLU, LearnedReLU, slide
from reducenet.nets.blocks import PlainBlock, ScalerBlock
from reducenet.nets.layers import FrozenBatchNorm2d
from reducenet.words import MoveError


def state(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_untouched(net, before):
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_drop_branch_is_the_teacher_at_scaler_0(randomised, images):
    x = images(1, 12)
    teacher = randomised(small("scaler"))
    before = state(teacher)
    student = drop_branch(teacher)
    assert_untouched(teacher, before)
    silent = randomised(small("scaler", scaler=0.0))
    assert torch.equal(student(x), silent(x))
    assert not torch.equal(student(x), teacher(x))
    assert parameters(student) == parameters(small("plain"))
    with pytest.raises(MoveError, match="dropped already"):
        drop_branch(student)


def test_both_sizes_load_from_the_teachers_file():
    teacher, student = small("scaler"), small("plain", seed=9)
    missing, unexpected = student.load_state_dict(teacher.state_dict(), strict=False)
    assert missing == []
    assert all(".branch1." in name for name in unexpected)


@pytest.mark.parametrize("post_relu", [True, False])
@pytest.mark.parametrize("block", ["scaler", "plain", "published", "lambda"])
def test_fuse_is_exact_for_every_block(block, post_relu, randomised, images):
    net = randomised(small(block, lam=1.0, post_relu=post_relu))
    before = state(net)
    fused = fuse(net)
    assert_untouched(net, before)
    for size in (5, 12, 13):
        x = images(1, size)
        assert (fused(x) - net(x)).abs().max() < 1e-10
    if block != "published":  # its BN stands behind a sum
        assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())


def test_fuse_makes_a_student_of_the_lambda_net(randomised):
    net = randomised(small("lambda", lam=1.0))
    convs = [m for m in fuse(net).modules() if isinstance(m, nn.Conv2d)]
    plain = [m for m in small("plain").modules() if isinstance(m, nn.Conv2d)]
    assert sorted(c.weight.shape for c in convs) == sorted(c.weight.shape for c in plain)


def test_fuse_refuses_train_mode_and_lam_below_1(randomised, images):
    with pytest.raises(NotExact, match="train mode"):
        fuse(small("plain"))
    net = randomised(small("lambda", lam=0.3))
    with pytest.raises(NotExact, match=r"lam = 0\.3"):
        fuse(net)
    x = images(1, 12)
    assert (fuse(net, strict=False)(x) - net(x)).abs().max() < 1e-10
    linear = linearise(net)
    assert (fuse(linear)(x) - linear(x)).abs().max() < 1e-10
    assert (linear(x) - net(x)).abs().max() > 1e-3


def test_linearise_chooses_by_name():
    net = small("lambda")
    one = linearise(net, "stage2.*")
    assert sum(isinstance(m, LambdaReLU) for m in one.modules()) == 2
    with pytest.raises(MoveError, match=r"stage1\.0\.pair\.2"):
        linearise(net, "stage9.*")
    with pytest.raises(MoveError, match="none"):
        linearise(small("plain"))


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
    net = freeze(small("plain"), parts)
    assert all(p.requires_grad for p in small("plain").parameters())
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
    net = attach(freeze(drop_branch(small("scaler")), "all"), expansion=1)
    after = fit(net, load("synthetic"), epochs=1, device="cpu", progress=False).net.state_dict()
    for name, before in net.state_dict().items():
        assert torch.equal(before, after[name]) == (not name.endswith((".first", ".second"))), name


def test_frozen_statistics_normalise_in_train_mode_too(randomised, images):
    net = randomised(small("plain"))
    frozen = freeze(net, "bn.statistics").train()
    assert any(isinstance(m, FrozenBatchNorm2d) for m in frozen.modules())
    x = images(1, 12)
    torch.testing.assert_close(frozen(x), net(x), rtol=1e-12, atol=1e-12)
    assert (fuse(frozen.eval())(x) - net(x)).abs().max() < 1e-10


def test_reinit_changes_what_is_free_and_nothing_else():
    net = freeze(small("plain", seed=0), ["classifier", "bn.statistics"])
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
    start = small("plain", seed=0)
    assert not torch.equal(fresh.stem[0].weight, start.stem[0].weight)  # not the first draw again
    only = reinit(net, "*.branch2.0", seed=0)
    changed = {n for n, p in only.named_parameters() if not torch.equal(p, net.get_parameter(n))}
    assert changed == {f"stage{i}.0.branch2.0.weight" for i in (1, 2, 3)}


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (lambda net: freeze(net, "fc"), r"freeze: parts: unknown part 'fc'; known: all, classifier, .*, or a name or a pattern of names"),
        (lambda net: freeze(net, "fc.*"), r"freeze: nothing here is called 'fc\.\*'; parts: all, classifier"),
        (lambda net: attach(net, at="branch9"), r"attach: no plain conv .* matches 'branch9'; there are: stem\.0"),
        (lambda net: attach(net, expansion=0), "at least 1"),
        (lambda net: reinit(net, at="nothing"), "reinit: no module"),
        (fold, "never attached"),
    ],
)
def test_moves_that_do_not_apply(move, message):
    net = small("plain")
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
    "reinit orthogonal": ("plain", lambda net: reinit(net, at="classifier", orthogonal=True)),
    "attach": ("plain", attach),
    "fold": ("side", fold),
    "fuse": ("side", fuse),
}


@pytest.mark.parametrize("name", MOVES)
def test_every_move_leaves_its_input_alone_and_shares_nothing_with_it(name, randomised, images):
    block, move = MOVES[name]
    special = {"side": lambda: attach(small("plain")), "open": lambda: small("inverted", post_relu=False)}
    net = randomised(special.get(block, lambda: small(block))())
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
    net, x = randomised(small("scaler")), images(1, 12)
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
    net, x = randomised(loosen(small("scaler"), "*post")), images(1, 12)
    assert (drop_branch(net)(x) - set_scaler(net, 0.0)(x)).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("scaler", "message"),
    [(-0.1, "at least 0, not -0.1"), (1.1, "at most 1, not 1.1"), (float("nan"), "a finite number, not nan"), ("a", "a number, not 'a'")],
)
def test_a_scaler_is_a_share(scaler, message):
    with pytest.raises(MoveError, match=f"^set_scaler: scaler must be {message}"):
        set_scaler(small("scaler"), scaler)


def test_conv3_is_the_convs_of_that_name_and_no_bn():
    frozen = {name for name, p in freeze(small("repvgg"), "conv3").named_parameters() if not p.requires_grad}
    assert frozen == {f"stage{i}.0.{layer}.conv3.0.weight" for i in (1, 2, 3) for layer in (0, 1)}
    with pytest.raises(MoveError, match="freeze: parts: nothing is named"):
        freeze(small("plain"), [])


def test_strict_fuse_takes_no_lam_that_is_learned_for_good(randomised):
    net = randomised(small("lambda", lam=1.0))
    for name in [name for name, m in net.named_modules() if isinstance(m, LambdaReLU)]:
        net.set_submodule(name, LearnedReLU(1.0).double())
    with pytest.raises(NotExact, match="learns its lam"):
        fuse(net)


@pytest.mark.parametrize("move", [drop_branch, renew])
def test_what_a_side_branch_stands_in_is_folded_first(move):
    net = small("lambda" if move is renew else "scaler")
    with pytest.raises(MoveError, match="fold first"):
        move(attach(net, at="*pair.0" if move is renew else "*branch2.0", space="branch"))


def test_settle_and_loosen_keep_the_function_and_undo_each_other(randomised, images):
    net, x = randomised(small("plain")), images(1, 12)
    loose = loosen(net)
    assert [name for name, m in loose.named_modules() if isinstance(m, LambdaReLU)] == [f"stage{i}.0.branch2.2" for i in (1, 2, 3)]
    tight = settle(loose)
    assert torch.equal(loose(x), net(x))
    assert torch.equal(tight(x), net(x))
    assert [type(m) for m in tight.modules()] == [type(m) for m in net.modules()]
    slid = randomised(small("lambda", lam=0.5))
    with pytest.raises(MoveError, match=r"settle: stage1\.0\.pair\.2 is at lam = 0\.5"):
        settle(slid)
    with pytest.raises(MoveError, match="loosen: no ReLU matches"):
        loosen(loose)


def test_a_learned_lam_settles_from_anywhere_and_no_slide_moves_it(randomised, images):
    net, x = randomised(small("lambda")), images(1, 12)
    learned = randomised(small("lambda"))
    for name in [name for name, m in learned.named_modules() if isinstance(m, LambdaReLU)]:
        learned.set_submodule(name, LearnedReLU(0.25).double())
    with pytest.raises(ValueError, match="no LambdaReLU whose lam could move"):
        slide()(learned, 1.0)
    assert {m.lam.item() for m in learned.modules() if isinstance(m, LearnedReLU)} == {0.25}
    assert not torch.equal(learned(x), net(x))
    assert torch.equal(settle(learned)(x), net(x))


def test_add_relu_closes_the_blocks_that_match(randomised, images):
    net, x = randomised(small("plain", post_relu=False)), images(1, 12)
    closed = randomised(small("plain", post_relu=True))
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
    net = randomised(freeze(small("plain"), ["conv3", "bn.affine"]))
    fused, x = fuse(net), images(1, 12)
    assert (fuse(fused)(x) - net(x)).abs().max() < 1e-10
    assert [name for name, p in fused.named_parameters() if p.requires_grad] == ["classifier.weight", "classifier.bias"]
    assert all(p.requires_grad for p in fuse(small("plain").eval()).parameters())


def test_reinit_refuses_what_has_no_fresh_start():
    net = attach(freeze(small("plain"), "all"))
    with pytest.raises(MoveError, match="is a SideBranch, which has no fresh start; reinit before attach"):
        reinit(net)


@pytest.mark.parametrize("name", ["classifier", "stage1.0.branch2.0"])
def test_orthogonal_rows_are_at_right_angles_and_as_long_as_those_they_replace(name, randomised):
    net = randomised(small("plain"))
    fresh = reinit(net, at=name, orthogonal=True, seed=3)
    rows, old = (n.get_parameter(f"{name}.weight").detach().flatten(1) for n in (fresh, net))
    torch.testing.assert_close(rows @ rows.T, (old * old).sum(dim=1).diag(), rtol=0, atol=1e-12)
    assert rows.dtype == old.dtype == torch.float64
    assert not torch.allclose(rows, old)
    assert {n for n, p in fresh.named_parameters() if not torch.equal(p, net.get_parameter(n))} <= {f"{name}.weight", f"{name}.bias"}
    assert name != "classifier" or fresh.classifier.bias.abs().max() == 0
    again, other = (reinit(net, at=name, orthogonal=True, seed=seed).get_parameter(f"{name}.weight") for seed in (3, 4))
    assert torch.equal(again.flatten(1), rows)
    assert not torch.allclose(other.flatten(1), rows)


def test_orthogonal_rows_keep_what_is_frozen_and_the_precision():
    net = freeze(small("plain").float(), "classifier.weight")
    fresh = reinit(net, at="classifier", orthogonal=True)
    assert torch.equal(fresh.classifier.weight, net.classifier.weight)
    assert reinit(small("plain").float(), at="classifier", orthogonal=True).classifier.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("stem.1", "reinit: stem.1 is a BatchNorm2d, which has no rows that could be orthogonal; name convs or the classifier"),
        ("*", "has no rows that could be orthogonal"),
    ],
)
def test_orthogonal_rows_are_refused_where_there_are_none(at, message):
    with pytest.raises(MoveError, match=message):
        reinit(small("plain"), at=at, orthogonal=True)


def test_more_rows_than_numbers_cannot_be_orthogonal():
    with pytest.raises(MoveError, match="reinit: the 5 rows of 0 have 3 numbers each; no more than 3 can be orthogonal"):
        reinit(nn.Sequential(nn.Linear(3, 5)), orthogonal=True)


def test_reinit_resets_statistics_that_are_not_frozen():
    net = freeze(small("plain"), "bn.affine")
    for bn in net.modules():
        if isinstance(bn, nn.BatchNorm2d):
            bn.running_mean.add_(5)
    assert reinit(net).stem[1].running_mean.abs().max() == 0


# replace


def tree():
    """Convs and ReLUs at several depths, some of them in train mode."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1).requires_grad_(False)), nn.ReLU()).eval()
    net[2].train()
    return net


def test_replace_makes_what_is_found_and_copies_the_rest():
    net, asked = tree(), []

    def make(name, module):
        asked.append((name, type(module)))
        return nn.Tanh().eval()

    before = state(net)
    after = replace(net, nn.ReLU, make)
    assert asked == [("1", nn.ReLU), ("2.0", nn.ReLU), ("3", nn.ReLU)]
    assert [type(m) for m in net.modules()] == [nn.Sequential, nn.Conv2d, nn.ReLU, nn.Sequential, nn.ReLU, nn.Conv2d, nn.ReLU]
    assert [type(m) for m in after.modules()] == [nn.Sequential, nn.Conv2d, nn.Tanh, nn.Sequential, nn.Tanh, nn.Conv2d, nn.Tanh]
    assert [m.training for m in after.modules()] == [False, False, False, True, False, True, False]
    assert_untouched(net, before)
    assert all(torch.equal(before[name], t) for name, t in after.state_dict().items())
    assert [p.requires_grad for p in after.parameters()] == [p.requires_grad for p in net.parameters()]
    assert not set(net.modules()) & set(after.modules())
    assert not {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in after.parameters()}


def test_replace_finds_kinds_and_predicates_everywhere_or_by_pattern():
    def names(found, *where):
        made = replace(tree(), found, lambda *_: nn.Tanh(), *where)
        return [name for name, m in made.named_modules() if isinstance(m, nn.Tanh)]

    assert names(nn.ReLU | nn.Conv2d) == ["0", "1", "2.0", "2.1", "3"]
    assert names(lambda name, module: isinstance(module, nn.ReLU) and name != "3") == ["1", "2.0"]
    assert names(nn.ReLU, ["3", "2.*"], "turn", "ReLU") == ["2.0", "3"]
    assert list(chosen(tree(), nn.ReLU, ["3", "2.*", "*"], "turn", "ReLU")) == ["3", "2.0", "1"]
    assert names(nn.BatchNorm2d) == []
    with pytest.raises(MoveError, match=r"^turn: no ReLU matches '9'; there are: 1, 2\.0, 3$"):
        names(nn.ReLU, ["3", "9"], "turn", "ReLU")
    with pytest.raises(MoveError, match=r"^turn: no BN matches '\*'; there are: none$"):
        names(nn.BatchNorm2d, "*", "turn", "BN")
    with pytest.raises(MoveError, match=r"^turn: no net matches '1'; there are: the network itself, 2$"):
        names(nn.Sequential, "1", "turn", "net")


def test_what_has_two_names_is_made_once_and_stands_in_both_places():
    act = nn.ReLU()
    net = nn.Sequential(act, nn.ModuleDict({"one": act, "two": act}), act)
    after = replace(net, nn.ReLU, lambda name, module: nn.Sequential(OrderedDict({f"once {name}": module})))
    assert list(after[0]._modules) == ["once 0"]
    assert after[0] is after[2] is after[1]["one"] is after[1]["two"]
    assert net[0] is net[2] is net[1]["one"] is net[1]["two"] is act
    linear = linearise(nn.Sequential(*[LambdaReLU()] * 2, nn.Conv2d(1, 1, 1)))
    assert [type(m) for m in linear] == [nn.Identity, nn.Identity, nn.Conv2d]


def test_what_stands_inside_of_another_is_replaced_before_it():
    net, asked = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU()))), []

    def make(name, module):
        asked.append((name, [type(m).__name__ for m in module.children()]))
        return nn.Tanh() if name.endswith("0.0") or name == "0.1.0" else nn.ModuleList(module)

    after = replace(net, lambda name, _: name != "", make)
    assert asked == [("0.0", []), ("0.1.0", []), ("0.1", ["Tanh"]), ("0", ["Tanh", "ModuleList"])]
    assert [type(m) for m in after.modules()] == [nn.Sequential, nn.ModuleList, nn.Tanh, nn.ModuleList, nn.Tanh]


@torch.no_grad()
def test_the_network_itself_may_be_what_is_found(randomised, images):
    block, x = randomised(ScalerBlock(3, 4, expansion=2)), images(3, 6)
    assert type(drop_branch(block)) is PlainBlock
    assert torch.equal(drop_branch(block)(x), set_scaler(block, 0.0)(x))
    assert type(linearise(LambdaReLU())) is nn.Identity
    assert type(settle(LambdaReLU())) is nn.ReLU
    assert type(loosen(nn.ReLU(), "*")) is LambdaReLU
    assert type(freeze(nn.BatchNorm2d(3), "bn.statistics")) is FrozenBatchNorm2d
    conv = nn.Conv2d(3, 4, 3, padding=1).double()
    for space in ("weight", "branch"):
        beside = attach(conv, at="*", space=space)
        assert torch.equal(beside(x), conv(x))
        assert type(fold(beside)) is nn.Conv2d
        assert torch.equal(fold(beside)(x), conv(x))
    with pytest.raises(MoveError, match="the LambdaReLU in side is at lam = 0.5"):
        fold(attach(conv, at="*", lam=0.5))
    with pytest.raises(MoveError, match='attach: join "after-bn" needs a BN right behind'):
        attach(conv, at="*", join="after-bn")


def test_a_conv_with_two_names_has_one_side_branch(images):
    conv = nn.Conv2d(2, 2, 3, padding=1).double()
    net, x = nn.Sequential(conv, nn.ReLU(), conv), images(2, 5)
    beside = attach(net, at="0", space="branch")
    assert beside[0] is beside[2]
    nn.init.normal_(beside[0].side[1].weight)
    folded = fold(beside)
    assert folded[0] is folded[2]
    assert (folded(x) - beside(x)).abs().max() < 1e-10


def test_fuse_of_stages_that_are_one_and_the_same(randomised, images):
    net, x = randomised(small("plain")), images(1, 12)
    net.stage2, net.stage3 = net.stage1, net.stage1
    net.classifier = nn.Linear(4, 3).double()
    fused = fuse(net)
    assert fused.stage1 is fused.stage2 is fused.stage3
    assert (fused(x) - net(x)).abs().max() < 1e-10
