import pytest
import torch
import torch.nn.functional as F

from reducenet.data import load
from reducenet.distill import feature_alignment, soft_labels, soft_labels_term
from reducenet.moves import drop_branch
from reducenet.net import build
from reducenet.train import fit

SMALL = dict(width=4, expansion=2, num_classes=4)


def test_equal_logits_cost_nothing():
    z = torch.randn(5, 10, dtype=torch.float64, requires_grad=True)
    loss = soft_labels_term(z, z.detach(), 4.0)
    (gradient,) = torch.autograd.grad(loss, z)
    assert abs(loss.item()) < 1e-14
    assert gradient.abs().max() < 1e-14


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_the_sum_written_out(temperature):
    z, t = torch.randn(2, 5, 10, dtype=torch.float64)
    p, q = (F.softmax(v / temperature, 1) for v in (t, z))
    expected = sum((p[n, c] * (p[n, c] / q[n, c]).log()) for n in range(5) for c in range(10)) / 5 * temperature**2
    torch.testing.assert_close(soft_labels_term(z, t, temperature), expected)


def test_the_default_reduction_of_torch_is_smaller_by_the_number_of_classes():
    z, t = torch.randn(2, 5, 10, dtype=torch.float64)
    with pytest.warns(UserWarning, match="batchmean"):
        mean = F.kl_div(F.log_softmax(z / 4, 1), F.softmax(t / 4, 1), reduction="mean") * 16
    torch.testing.assert_close(soft_labels_term(z, t, 4.0), 10 * mean)


def test_hot_limit_is_the_squared_error_of_centred_logits():
    z, t = torch.randn(2, 5, 10, dtype=torch.float64)
    centred = (z - z.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    torch.testing.assert_close(soft_labels_term(z, t, 1e4), centred.square().sum(1).mean() / (2 * 10), rtol=1e-3, atol=0)


@pytest.mark.parametrize("make", [soft_labels, feature_alignment])
def test_teacher_gets_no_gradient_and_moves_no_buffer(make):
    data, teacher = load("synthetic"), build("scaler", **SMALL)
    before = {name: t.clone() for name, t in teacher.state_dict().items()}
    fit(drop_branch(teacher), data, epochs=1, loss=make(teacher), device="cpu", progress=False)
    assert all(torch.equal(before[name], t) for name, t in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert teacher.training  # the caller's teacher, not the loss's copy


def test_aligned_features_leave_only_cross_entropy():
    net, x, y = build("plain", **SMALL).eval(), torch.randn(6, 1, 12, 12), torch.arange(6) % 4
    loss, logits = feature_alignment(net, feature_weight=100.0)(net, x, y)
    torch.testing.assert_close(loss, F.cross_entropy(logits, y))


def test_weights_mix_as_stated():
    net, teacher = build("plain", **SMALL).eval(), build("scaler", seed=1, **SMALL).eval()
    x, y = torch.randn(6, 1, 12, 12), torch.arange(6) % 4
    loss, _ = soft_labels(teacher, kd_weight=0.3, temperature=2.0)(net, x, y)
    expected = 0.7 * F.cross_entropy(net(x), y) + 0.3 * soft_labels_term(net(x), teacher(x), 2.0)
    torch.testing.assert_close(loss, expected)
    with pytest.raises(ValueError, match="kd_weight"):
        soft_labels(teacher, kd_weight=1.5)


def test_feature_alignment_by_hand():
    net, teacher = build("plain", **SMALL).eval(), build("plain", seed=1, **SMALL).eval()
    x, y = torch.randn(6, 1, 12, 12), torch.arange(6) % 4
    loss, _ = feature_alignment(teacher, feature_weight=3.0)(net, x, y)
    gap = sum((a - b) ** 2 for a, b in zip(net.features(x).flatten(), teacher.features(x).flatten(), strict=True)) / (6 * 16)
    torch.testing.assert_close(loss, F.cross_entropy(net(x), y) + 3 * gap)


@pytest.mark.parametrize("make", [soft_labels, feature_alignment])
def test_a_teacher_in_train_mode_teaches_in_eval_mode(make):
    net, teacher = build("plain", **SMALL).eval(), build("scaler", seed=1, **SMALL)
    x, y = torch.randn(6, 1, 12, 12), torch.arange(6) % 4
    assert torch.equal(make(teacher.train())(net, x, y)[0], make(teacher.eval())(net, x, y)[0])
