import copy
import math

import pytest
import torch
import torch.nn.functional as F
from networks import small
from torch import nn

from reducenet.data.tensors import load
from reducenet.methods.ridge import fit_quality, ridge, ridge_kernel
from reducenet.moves.branch import drop_branch, set_scaler
from reducenet.moves.freezing import freeze
from reducenet.moves.side import attach
from reducenet.nets.layers import FrozenBatchNorm2d
from reducenet.nets.seeding import generator
from reducenet.words import MoveError

BLOCKS = ("stage1.0", "stage2.0", "stage3.0")
CONVS = [
    nn.Conv2d(3, 5, 3, padding=1),
    nn.Conv2d(3, 5, 3, stride=2, padding=1),
    nn.Conv2d(3, 2, 1, stride=2),
    nn.Conv2d(3, 4, (3, 5), padding=(0, 2), dilation=(2, 1)),
]


def problem(conv, images=7, size=(8, 9)):
    """Images, and targets that are no conv of them."""
    draw = generator("ridge problem", images)
    x = torch.randn(images, conv.in_channels, *size, dtype=torch.float64, generator=draw).relu()
    shape = conv(x[:1].float()).shape
    return x, torch.randn(images, *shape[1:], dtype=torch.float64, generator=draw).relu() + x.mean()


def apply(like, weight, bias, x):
    return F.conv2d(x, weight, bias, like.stride, like.padding, like.dilation)


def objective(like, weight, bias, x, y, strength):
    per_pixel = (apply(like, weight, bias, x) - y).square().sum(1)
    return per_pixel.mean() + strength * weight.square().sum()


@pytest.mark.parametrize("like", CONVS, ids=str)
def test_recovers_a_conv_and_its_bias(like):
    x, y = problem(like)
    weight, bias = torch.randn_like(like.weight, dtype=torch.float64), torch.randn_like(like.bias, dtype=torch.float64)
    found = ridge_kernel(x, apply(like, weight, bias, x), like, 1e-12)
    torch.testing.assert_close(found.weight, weight, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.bias, bias, rtol=0, atol=1e-9)
    assert abs(1 - found.r2) < 1e-12
    assert ridge_kernel(x, y, like, 1e-12).r2 < 0.9  # and not of everything


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("like", CONVS, ids=str)
def test_is_the_least_squares_solution_with_the_penalty_as_rows(like, strength):
    """Oracle: QR on a table filled pixel by pixel, with a row for every penalised weight."""
    x, y = problem(like, images=3)
    (s_y, s_x), (p_y, p_x), (d_y, d_x), (k_y, k_x) = like.stride, like.padding, like.dilation, like.kernel_size
    padded, rows, wanted = F.pad(x, (p_x, p_x, p_y, p_y)), [], []
    for n in range(len(x)):
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                window = padded[n, :, i * s_y :, j * s_x :][:, : d_y * k_y : d_y, : d_x * k_x : d_x]
                rows.append(torch.cat((window.flatten(), torch.ones(1, dtype=torch.float64))))
                wanted.append(y[n, :, i, j])
    inputs, count = like.weight[0].numel(), len(rows)
    penalty = torch.zeros(inputs, inputs + 1, dtype=torch.float64)
    penalty.fill_diagonal_((strength * count) ** 0.5)
    table = torch.cat((torch.stack(rows), penalty))
    solution = torch.linalg.lstsq(table, torch.cat((torch.stack(wanted), torch.zeros(inputs, y.shape[1])))).solution
    found = ridge_kernel(x, y, like, strength)
    torch.testing.assert_close(found.weight.flatten(1), solution[:-1].T, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.bias, solution[-1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("like", CONVS, ids=str)
def test_no_step_from_the_solution_and_no_trained_kernel_is_better(like):
    """The objective is convex: where autograd finds no slope there is nothing better, and SGD ends above."""
    x, y = problem(like, images=230)  # three chunks
    found = ridge_kernel(x, y, like, 0.01)
    weight, bias = found.weight.clone().requires_grad_(), found.bias.clone().requires_grad_()
    best = objective(like, weight, bias, x, y, 0.01)
    for slope in torch.autograd.grad(best, (weight, bias)):
        assert slope.abs().max() < 1e-12
    weight, bias = torch.zeros_like(weight, requires_grad=True), torch.zeros_like(bias, requires_grad=True)
    optimiser = torch.optim.SGD([weight, bias], lr=0.05, momentum=0.9)
    for _ in range(30):
        optimiser.zero_grad()
        value = objective(like, weight, bias, x, y, 0.01)
        value.backward()
        optimiser.step()
        assert value > best
    assert value < 2 * best  # it was trained


def test_r2_is_the_share_of_the_variance():
    like = CONVS[1]
    x, y = problem(like, images=130)
    y[:, 0] += 100  # the mean of each channel is free
    weight, bias, r2 = ridge_kernel(x, y, like, 1e-3)
    guess = apply(like, weight, bias, x)
    residual = sum((guess[:, c] - y[:, c]).square().sum() for c in range(5))
    total = sum((y[:, c] - y[:, c].mean()).square().sum() for c in range(5))
    assert 0 < r2 < 0.9
    assert abs(r2 - (1 - residual / total).item()) < 1e-12
    torch.testing.assert_close(guess.mean((0, 2, 3)), y.mean((0, 2, 3)))  # the bias is not penalised


def test_a_dead_channel_gets_no_weight_and_a_constant_target_no_r2():
    like = CONVS[0]
    x, y = problem(like)
    x[:, 1] = 0
    assert not ridge_kernel(x, y, like, 1e-3).weight[:, 1].any()
    found = ridge_kernel(x, torch.ones_like(y), like, 1e-3)
    assert math.isnan(found.r2)
    torch.testing.assert_close(found.bias, torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("like", "strength", "message"),
    [
        (nn.Conv2d(3, 5, 3, padding=1), 0.0, "strength must be above 0, not 0.0"),
        (nn.Conv2d(2, 5, 3, padding=1), 1e-3, "does not make"),
        (nn.Conv2d(3, 4, 3, padding=1), 1e-3, "does not make"),
        (nn.Conv2d(3, 5, 3), 1e-3, "does not make"),
        (nn.Conv2d(3, 5, 3, padding=1, stride=2), 1e-3, "does not make"),
        (nn.Conv2d(3, 6, 3, padding=1, groups=3), 1e-3, "one group"),
        (nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"), 1e-3, "zero padding"),
        (nn.Conv2d(3, 5, 3, padding="same"), 1e-3, "zero padding"),
    ],
)
def test_kernel_refuses(like, strength, message):
    x, y = problem(CONVS[0])
    with pytest.raises(ValueError, match=message):
        ridge_kernel(x, y, like, strength)


def chosen_images(data, count, seed=0):
    order = torch.randperm(len(data.train.labels), generator=generator(seed, "ridge"))
    return data.normalise(data.train.images[order[:count]]).double()


def guided(teacher, x):
    """The teacher's input and front of every block, by hand."""
    x = teacher.stem(x)
    for name in BLOCKS:
        block = teacher.get_submodule(name)
        yield name, x, block.scaler * block.branch1(x) + block.branch2(x)
        x = block(x)


@torch.no_grad()
def test_every_student_block_computes_the_prediction(randomised):
    data, teacher = load("synthetic"), randomised(small("scaler", scaler=0.7))
    student = ridge(drop_branch(teacher), data, teacher=teacher, images=150, seed=4, strength=1e-2)
    quality = fit_quality(drop_branch(teacher), data, teacher=teacher, images=150, seed=4, strength=1e-2)
    assert list(quality) == list(BLOCKS)
    for name, x, y in guided(teacher, chosen_images(data, 150, seed=4)):
        conv, bn, relu = student.get_submodule(name).branch2
        found = ridge_kernel(x, y, conv, 1e-2)
        expected = apply(conv, found.weight, found.bias, x)
        assert (bn(conv(x)) - expected).abs().max() < 1e-10
        out = conv(x)
        torch.testing.assert_close(bn.running_mean, out.mean((0, 2, 3)))
        torch.testing.assert_close(bn.running_var, out.var((0, 2, 3)))
        torch.testing.assert_close(copy.deepcopy(bn).train()(out), expected, rtol=0, atol=1e-2)
        assert (relu(expected) - y).square().sum() < (expected - y).square().sum()
        assert abs(quality[name] - found.r2) < 1e-12
        assert 0.1 < found.r2 < 1


def test_a_front_without_relu_is_imitated_exactly(randomised):
    """Then one linear layer is enough, and the student becomes the teacher, on images it has not seen too."""
    data, teacher = load("synthetic"), randomised(small("scaler"))
    for name in BLOCKS:
        for relu in ("branch1.2", "branch1.5", "branch2.2"):
            teacher.set_submodule(f"{name}.{relu}", nn.Identity())
    options = dict(teacher=teacher, images=200, strength=1e-10)
    student, x = ridge(drop_branch(teacher), data, **options), data.normalise(data.val.images).double()
    with torch.no_grad():
        torch.testing.assert_close(student(x), teacher(x), rtol=1e-6, atol=1e-6)
        assert (drop_branch(teacher)(x) - teacher(x)).abs().max() > 0.1
    assert all(abs(1 - r2) < 1e-8 for r2 in fit_quality(student, data, **options).values())


def test_nothing_else_changes_and_nothing_is_shared(randomised):
    data, teacher = load("synthetic"), randomised(small("scaler"))
    net = freeze(drop_branch(teacher), ["stage2.*", "classifier"])
    net.stage3.train()
    teacher.train()
    before = [copy.deepcopy(one.state_dict()) for one in (net, teacher)]
    stream = torch.get_rng_state()
    after = ridge(net, data, teacher=teacher, images=120, at=["stage1*branch2.0", "stage2*branch2.0"])
    assert torch.equal(stream, torch.get_rng_state())
    for one, state in zip((net, teacher), before, strict=True):
        assert all(torch.equal(state[name], t) for name, t in one.state_dict().items())
        assert all(p.grad is None for p in one.parameters())
    assert all(m.training for m in teacher.modules())
    assert not any(m._forward_pre_hooks for m in teacher.modules())
    parts = ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var")
    set_anew = {f"{name}.branch2.{part}" for name in BLOCKS[:2] for part in parts}
    assert {name for name, t in after.state_dict().items() if not torch.equal(t, before[0][name])} == set_anew
    assert [p.requires_grad for p in net.parameters()] == [p.requires_grad for p in after.parameters()]
    assert [m.training for m in net.modules()] == [m.training for m in after.modules()]
    assert [type(m) for m in net.modules()] == [type(m) for m in after.modules()]
    assert isinstance(after.stage2[0].branch2[1], FrozenBatchNorm2d)
    assert not {t.data_ptr() for t in after.state_dict().values()} & {t.data_ptr() for s in (net, teacher) for t in s.state_dict().values()}


def test_a_teacher_in_train_mode_is_imitated_as_in_eval_mode(randomised):
    data, teacher = load("synthetic"), randomised(small("scaler"))
    student, few = drop_branch(teacher), dict(images=50)
    expected = fit_quality(student, data, teacher=teacher, **few)
    assert fit_quality(student, data, teacher=teacher.train(), **few) == expected
    assert fit_quality(student, data, teacher=teacher, **few, seed=1) != expected
    assert fit_quality(student, data, teacher=set_scaler(teacher, 0.1), **few) != expected


def test_the_published_block_has_a_front_too(randomised):
    data, teacher = load("synthetic"), randomised(small("published"))
    student = ridge(drop_branch(teacher), data, teacher=teacher, images=100)
    x = chosen_images(data, 100)
    with torch.no_grad():
        error = [
            (net.stage1[0].front(net.stem(x)) - teacher.stage1[0].front(teacher.stem(x))).square().mean()
            for net in (student, drop_branch(teacher))
        ]
    assert error[0] < error[1]


@pytest.mark.parametrize(
    ("net", "teacher", "options", "message"),
    [
        ("plain", "repvgg", {}, r"teacher has no front at 'stage1\.0'; it has at: none"),
        ("deep", "scaler", {}, r"teacher has no front at 'stage1\.1'; it has at: stage1\.0, stage2\.0, stage3\.0"),
        ("plain", "wide", {}, r"stage1\.0: Conv2d\(4, 4, .* does not make \[512, 6, 12, 12\] of \[512, 6, 12, 12\]"),
        ("scaler", "scaler", {}, r"no conv of a student block \(conv, BN, ReLU\) matches '\*branch2\.0'; there are: none"),
        ("attached", "scaler", {}, "no conv of a student block"),
        ("plain", "scaler", {"at": "stem.0"}, r"matches 'stem\.0'; there are: stage1\.0\.branch2\.0, stage2"),
        ("plain", "scaler", {"strength": 0.0}, "strength must be above 0"),
        ("plain", "scaler", {"images": 0}, "images must be at least 1, not 0"),
    ],
)
def test_ridge_where_it_does_not_apply(net, teacher, options, message):
    makers = {
        "plain": lambda: small("plain"),
        "scaler": lambda: small("scaler"),
        "repvgg": lambda: small("repvgg"),
        "deep": lambda: small("plain", depth=14),
        "wide": lambda: small("scaler", width=6),
        "attached": lambda: attach(small("plain")),
    }
    net, teacher = makers[net](), makers[teacher]()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=f"^ridge: .*{message}") as error:
        ridge(net, load("synthetic"), teacher=teacher, **options)
    assert isinstance(error.value, MoveError) or "images" in options
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
