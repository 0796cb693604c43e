import copy

import pytest
import torch
import torch.nn.functional as F
from networks import small

from reducenet.data.tensors import load
from reducenet.learn.losses import (
    attention,
    attention_map,
    block_wise,
    cross_entropy,
    features,
    hints,
    kd,
    kd_term,
    match,
    smoothed,
)
from reducenet.learn.measure import macs, parameters, training_macs
from reducenet.learn.train import fit
from reducenet.methods.simkd import project
from reducenet.methods.vanillanet import vanillanet
from reducenet.moves.branch import drop_branch
from reducenet.moves.freezing import freeze
from reducenet.words import MoveError

TAUGHT = [kd, features, hints, attention, match, block_wise]
STEM_AND_BLOCKS = ("stem", "stage1.0", "stage2.0", "stage3.0")


def logits_pair(classes=10):
    return torch.randn(2, 5, classes, dtype=torch.float64)


def batch():
    return torch.randn(6, 1, 12, 12), torch.arange(6) % 4


def two_nets(randomised):
    """A student and a teacher that agree in nothing, float64, eval mode; images; labels."""
    x, y = batch()
    return randomised(small("plain"), 1), randomised(small("scaler", seed=1), 2), x.double(), y


def squared_gap(a, b):
    return sum((p - q) ** 2 for p, q in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)) / a.numel()


def gradients(net, value):
    named = {name: p for name, p in net.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True, retain_graph=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


def test_equal_logits_cost_nothing():
    z = torch.randn(5, 10, dtype=torch.float64, requires_grad=True)
    for reduction in ("batchmean", "elementwise-mean"):
        loss = kd_term(z, z.detach(), 4.0, reduction)
        (gradient,) = torch.autograd.grad(loss, z)
        assert abs(loss.item()) < 1e-14
        assert gradient.abs().max() < 1e-14


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_the_sum_written_out(temperature):
    z, t = logits_pair()
    p, q = (F.softmax(v / temperature, 1) for v in (t, z))
    expected = sum((p[n, c] * (p[n, c] / q[n, c]).log()) for n in range(5) for c in range(10)) / 5 * temperature**2
    torch.testing.assert_close(kd_term(z, t, temperature), expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_is_the_soft_cross_entropy_minus_the_teachers_entropy(temperature):
    """So at T = 1 it has the gradient of the soft cross-entropy that others train with."""
    z, t = logits_pair()
    z.requires_grad_()
    p = F.softmax(t / temperature, 1)
    soft, entropy = F.cross_entropy(z / temperature, p), torch.distributions.Categorical(p).entropy().mean()
    loss = kd_term(z, t, temperature)
    torch.testing.assert_close(loss, temperature**2 * (soft - entropy))
    (a,), (b,) = torch.autograd.grad(loss, z), torch.autograd.grad(temperature**2 * soft, z)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("classes", [4, 10])
def test_the_legacy_reduction_is_torchs_default_and_smaller_by_the_number_of_classes(classes):
    z, t = logits_pair(classes)
    z.requires_grad_()
    with pytest.warns(UserWarning, match="batchmean"):
        torchs = F.kl_div(F.log_softmax(z / 4, 1), F.softmax(t / 4, 1), reduction="mean") * 16
    legacy, ours = kd_term(z, t, 4.0, "elementwise-mean"), kd_term(z, t, 4.0)
    torch.testing.assert_close(legacy, torchs)
    torch.testing.assert_close(ours, classes * legacy, rtol=1e-14, atol=0)
    of_torch, of_legacy, of_ours = (torch.autograd.grad(value, z)[0] for value in (torchs, legacy, ours))
    torch.testing.assert_close(of_legacy, of_torch)
    torch.testing.assert_close(of_ours, classes * of_legacy, rtol=1e-12, atol=0)


def test_hot_limit_is_half_the_mean_squared_error_of_centred_logits():
    """softmax(z / T) = 1/C + (z - mean z) / (C T) + ..., so T^2 KL -> sum_c d_c^2 / (2 C), d the difference of the centred logits."""
    z, t = logits_pair()
    z.requires_grad_()
    centred = (z - z.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    limit = centred.square().mean(1).mean() / 2
    loss = kd_term(z, t, 1e4)
    torch.testing.assert_close(loss, limit, rtol=1e-3, atol=0)
    (a,), (b,) = torch.autograd.grad(loss, z), torch.autograd.grad(limit, z)
    torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(b, centred.detach() / (5 * 10))


def test_soft_labels_mix_as_stated():
    net, teacher = small("plain").eval(), small("scaler", seed=1).eval()
    x, y = batch()
    for reduction, scale in (("batchmean", 1), ("elementwise-mean", 1 / 4)):
        loss, logits = kd(teacher, kd_weight=0.3, temperature=2.0, reduction=reduction)(net, x, y)
        expected = 0.7 * F.cross_entropy(net(x), y) + 0.3 * scale * kd_term(net(x), teacher(x), 2.0)
        torch.testing.assert_close(loss, expected)
        assert torch.equal(logits, net(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: kd(net, kd_weight=1.5), "kd: kd_weight must be at most 1, not 1.5"),
        (lambda net: kd(net, temperature=0), "kd: temperature must be above 0, not 0"),
        (lambda net: kd(net, reduction="mean"), "unknown reduction 'mean'; known: batchmean, elementwise-mean"),
        (lambda net: smoothed(1.0), "smoothed: smoothing must be below 1, not 1.0"),
    ],
)
def test_options_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make(small("plain"))


def test_smoothed_labels_by_hand():
    net, (x, y) = small("plain").eval(), batch()
    loss, logits = smoothed(0.3)(net, x, y)
    log_p = logits.log_softmax(1)
    expected = -sum(0.7 * log_p[n, y[n]] + 0.3 * log_p[n].mean() for n in range(6)) / 6
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(smoothed(0.0)(net, x, y)[0], cross_entropy(net, x, y)[0])


@pytest.mark.parametrize("make", TAUGHT)
def test_teacher_gets_no_gradient_and_moves_no_buffer(make):
    data, teacher = load("synthetic"), small("scaler")
    before = copy.deepcopy(teacher.state_dict())
    student = drop_branch(teacher)
    after = fit(student, data, epochs=1, loss=make(teacher), device="cpu", progress=False).net
    assert any(not torch.equal(before[name], p) for name, p in after.named_parameters())
    assert all(torch.equal(before[name], t) for name, t in teacher.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert all(m.training for m in teacher.modules())  # the caller's teacher, not the loss's copy


@pytest.mark.parametrize("make", TAUGHT)
def test_a_teacher_in_train_mode_teaches_in_eval_mode(make):
    net, teacher = small("plain").eval(), small("scaler", seed=1)
    x, y = batch()
    loss = make(teacher.train())
    first = loss(net, x, y)[0]
    assert torch.equal(first, make(teacher.eval())(net, x, y)[0])
    assert torch.equal(first, loss(net, x, y)[0])  # the copy's statistics do not move either
    assert first > 0


@pytest.mark.parametrize("make", TAUGHT)
def test_one_forward_of_each_and_nothing_more(make):
    """BNs of the student see each batch once, the projector's too."""
    student, shape = project(small("plain")), (1, 12, 12)
    teacher = small("scaler")
    loss = make(teacher)
    loss(student, *batch())
    assert {bn.num_batches_tracked.item() for name, bn in student.named_modules() if hasattr(bn, "num_batches_tracked")} == {1}
    head = 16 * 4
    own, guide = training_macs(student, shape), macs(teacher, shape) - (0 if make is kd else head)
    if make is match:  # no gradient in the classifier
        own -= 2 * head
    if make is block_wise:  # no gradient passes between blocks, nor into the neck
        assert training_macs(student, shape, loss) < own + guide
    else:
        assert training_macs(student, shape, loss) == own + guide


@pytest.mark.parametrize("make", [features, hints, attention])
def test_aligned_maps_leave_only_cross_entropy(make, randomised):
    net, _, x, y = two_nets(randomised)
    loss, logits = make(net, feature_weight=100.0)(net, x, y)
    expected, _ = cross_entropy(net, x, y)
    assert torch.equal(loss, expected)
    assert torch.equal(logits, net(x))
    labels_only = gradients(net, expected)
    for name, gradient in gradients(net, loss).items():
        torch.testing.assert_close(gradient, labels_only[name], msg=name)


def test_feature_losses_by_hand(randomised):
    net, teacher, x, y = two_nets(randomised)
    hard, maps, wanted = F.cross_entropy(net(x), y), net.stage_maps(x), teacher.stage_maps(x)
    assert len(maps) == 4
    attended = [[torch.stack([(m := (im**2).sum(0)) / m.norm() for im in part]) for part in parts] for parts in (maps, wanted)]
    expected = {
        features: squared_gap(net.features(x), teacher.features(x)),
        hints: sum(map(squared_gap, maps, wanted)),
        attention: sum(map(squared_gap, *attended)),
    }
    for make, gap in expected.items():
        assert gap > 1e-4
        torch.testing.assert_close(make(teacher, feature_weight=3.0)(net, x, y)[0], hard + 3 * gap, msg=make.__name__)


def test_attention_sees_neither_the_order_of_channels_nor_their_scale():
    maps = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    expected = attention_map(maps)
    assert expected.shape == (3, 4, 6)
    torch.testing.assert_close(expected.flatten(1).norm(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(attention_map(maps[:, torch.tensor([3, 0, 4, 1, 2])]), expected)
    torch.testing.assert_close(attention_map(maps * torch.tensor([0.1, 2.0, 30.0]).double().view(3, 1, 1, 1)), expected)
    assert (attention_map(maps.flip(3)) - expected).abs().max() > 1e-2


def test_attention_of_a_dead_map_has_a_finite_gradient():
    maps = torch.zeros(2, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(attention_map(maps).sum(), maps)
    assert torch.equal(gradient, torch.zeros_like(maps))


def test_attention_needs_the_same_height_and_width_only(randomised):
    net, _, x, y = two_nets(randomised)
    wide = randomised(small("plain", width=6))
    assert attention(wide)(net, x, y)[0] > 0
    with pytest.raises(ValueError, match=r"student's map is \[6, 12, 12\], the teacher's \[6, 6, 6\]"):
        attention(randomised(small("plain", stem_stride=2)))(net, x, y)


@pytest.mark.parametrize("make", [features, hints, match, block_wise])
def test_shapes_that_differ_are_named(make):
    net, teacher = small("plain").eval(), small("plain", width=6)
    with pytest.raises(ValueError, match=r"the student's map is \[6, (4|16).*\], the teacher's \[6, (6|24).*\]; shapes must agree"):
        make(teacher)(net, *batch())


def test_feature_match_is_the_gap_of_the_maps_alone(randomised):
    net, teacher, x, _ = two_nets(randomised)
    loss, logits = match(teacher)(net, x, None)  # no labels
    torch.testing.assert_close(loss.item(), squared_gap(net.stage_maps(x)[-1], teacher.stage_maps(x)[-1]))
    assert torch.equal(logits, net(x))
    assert not logits.requires_grad
    assert not [name for name in gradients(net, loss) if name.startswith("classifier")]


def test_matched_features_give_the_teachers_logits_bitwise(randomised):
    _, teacher, x, y = two_nets(randomised)
    student = freeze(copy.deepcopy(teacher), "classifier")
    loss, logits = match(teacher)(student, x, y)
    assert loss == 0
    assert torch.equal(logits, teacher(x))
    with torch.no_grad():
        student.stage3[0].bn3.bias.add_(0.1)
    loss, logits = match(teacher)(student, x, y)
    assert loss > 0
    assert not torch.equal(logits, teacher(x))


def test_feature_match_reads_behind_the_projector(randomised):
    net, teacher, x, y = two_nets(randomised)
    projected = randomised(project(net), 3)
    loss, logits = match(teacher)(projected, x, y)
    maps = projected.neck(projected.stage_maps(x)[-1])
    torch.testing.assert_close(loss.item(), squared_gap(maps, teacher.stage_maps(x)[-1]))
    assert torch.equal(logits, projected(x))
    assert {name.split(".")[0] for name in gradients(projected, loss)} == {"stem", "stage1", "stage2", "stage3", "neck"}


def test_a_frozen_classifier_and_a_projector_learn_the_teachers_features():
    data, teacher = load("synthetic"), small("scaler")
    teacher = fit(teacher, data, epochs=1, device="cpu", progress=False).net
    student = project(freeze(drop_branch(teacher), "classifier"))
    fitted = fit(student, data, epochs=3, loss=match(teacher), device="cpu", progress=False)
    assert torch.equal(fitted.net.classifier.weight, teacher.classifier.weight)
    assert not torch.equal(fitted.net.neck[0].weight, student.neck[0].weight)
    assert fitted.rows[2]["train_loss"] < 0.8 * fitted.rows[0]["train_loss"]


def test_the_projector_is_in_the_net_and_counted():
    net, shape = small("plain"), (1, 12, 12)
    projected = project(net, factor=4, seed=3)
    planes, narrow, pixels = 16, 4, 9
    weights = 2 * planes * narrow + 9 * narrow**2
    assert parameters(projected) - parameters(net) == weights + 2 * (narrow + narrow + planes)
    assert macs(projected, shape) - macs(net, shape) == pixels * weights
    kinds = ["Conv2d", "BatchNorm2d", "ReLU"] * 3
    assert [type(m).__name__ for m in projected.neck] == kinds
    assert [m.kernel_size for m in projected.neck if hasattr(m, "kernel_size")] == [(1, 1), (3, 3), (1, 1)]
    assert (projected.features(torch.randn(2, 1, 12, 12)) >= 0).all()


def test_project_draws_from_the_seed_and_leaves_its_input_alone():
    net = freeze(small("plain"), "all").double().eval()
    before = copy.deepcopy(net.state_dict())
    projected = project(net, seed=3)
    assert len(net.neck) == 0
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    assert all(torch.equal(before[name], projected.state_dict()[name]) for name in before)
    assert not {t.data_ptr() for t in before.values()} & {t.data_ptr() for t in projected.state_dict().values()}
    assert {name.split(".")[0] for name, p in projected.named_parameters() if p.requires_grad} == {"neck"}
    assert {p.dtype for p in projected.parameters()} == {torch.float64}
    assert not any(m.training for m in projected.modules())
    again, other = project(net, seed=3), project(net, seed=4)
    assert torch.equal(projected.neck[0].weight, again.neck[0].weight)
    assert not torch.equal(projected.neck[0].weight, other.neck[0].weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: project(project(net)), "has a projector already"),
        (lambda net: project(net, factor=0), "factor must be at least 1, not 0"),
        (lambda net: project(net, factor=17), "factor must be at most the 16 channels"),
        (lambda net: project(net.stem), "Sequential has no neck"),
    ],
)
def test_project_where_it_does_not_apply(make, message):
    with pytest.raises(MoveError, match=f"project: .*{message}"):
        make(small("plain"))


def nets_with_blocks(kind, randomised):
    """Student, teacher, and the names of their blocks."""
    if kind == "vanillanet":
        names = ["stem", "stage1", "stage2", "stage3", "stage4"]
        return *(randomised(vanillanet(depth=6, width=4, num_classes=4, seed=seed), seed) for seed in (0, 1)), names
    depth = 14 if kind == "deep" else 8
    pairs = enumerate(("repvgg", "repvgg") if kind == "repvgg" else ("plain", "scaler"))
    nets = (randomised(small(block, depth=depth, seed=seed), seed) for seed, block in pairs)
    return *nets, ["stem", *(f"stage{i}.{j}" for i in (1, 2, 3) for j in range((depth - 2) // 6))]


@pytest.mark.parametrize("kind", ["shallow", "deep", "repvgg", "vanillanet"])
def test_block_wise_by_hand(kind, randomised):
    x, y = torch.randn(6, 1, 12, 12, dtype=torch.float64), torch.arange(6) % 4
    net, teacher, names = nets_with_blocks(kind, randomised)
    expected, guided = 0.0, x
    for name in names:
        out, target = net.get_submodule(name)(guided), teacher.get_submodule(name)(guided)
        expected += squared_gap(out, target) / squared_gap(target, target.mean().expand_as(target))
        guided = target
    loss, logits = block_wise(teacher)(net, x, y)
    torch.testing.assert_close(loss.item(), expected)
    torch.testing.assert_close(logits, net.classifier(out.mean((2, 3))))
    assert not logits.requires_grad


def test_blocks_that_equal_the_teachers_cost_nothing(randomised):
    _, teacher, x, y = two_nets(randomised)
    student = copy.deepcopy(teacher)
    loss, logits = block_wise(teacher)(student, x, y)
    assert loss == 0
    assert torch.equal(logits, teacher(x))
    found = gradients(student, loss)
    assert {name.split(".")[0] for name in found} == {"stem", "stage1", "stage2", "stage3"}  # and not the classifier
    assert all(not gradient.any() for gradient in found.values())


def test_a_blocks_gradient_depends_on_that_block_only(randomised):
    net, teacher, x, y = two_nets(randomised)
    loss = block_wise(teacher)
    before = gradients(net, loss(net, x, y)[0])
    for changed in STEM_AND_BLOCKS:
        other = copy.deepcopy(net)
        with torch.no_grad():
            for p in other.get_submodule(changed).parameters():
                p.add_(0.1)
        for name, gradient in gradients(other, loss(other, x, y)[0]).items():
            assert torch.equal(gradient, before[name]) == (not name.startswith(f"{changed}.")), (changed, name)


def test_block_wise_needs_as_many_blocks():
    net, deep = small("plain"), small("plain", depth=14)
    with pytest.raises(ValueError, match="the student has 4 blocks, the teacher 7; they must be as many"):
        block_wise(deep)(net, *batch())


def test_a_teacher_of_other_classes_or_without_maps_is_refused():
    x, y = torch.randn(3, 1, 12, 12), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="classes must agree"):
        kd(small("plain", num_classes=1))(small("plain"), x, y)
    with pytest.raises(ValueError, match="a Network, not a Linear"):
        hints(torch.nn.Linear(2, 2))
