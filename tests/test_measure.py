import pytest
import torch
from networks import small
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reducenet.data.tensors import load
from reducenet.deploy.fuse import fuse
from reducenet.learn.evaluate import accuracy, correct, difference
from reducenet.learn.losses import cross_entropy, kd
from reducenet.learn.measure import Count, latency, macs, parameters, training_macs
from reducenet.moves.branch import drop_branch
from reducenet.moves.freezing import freeze
from reducenet.moves.side import attach


def by_hand(net, shape):
    """MACs from the shapes of the outputs: k k in out H W for a conv, in out for a linear layer."""
    total, hooks = [], []
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            hooks.append(m.register_forward_hook(lambda m, _, out: total.append(m.weight.numel() * out.shape[2] * out.shape[3])))
        elif isinstance(m, nn.Linear):
            hooks.append(m.register_forward_hook(lambda m, _, out: total.append(m.weight.numel())))
    net(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return sum(total)


@pytest.mark.parametrize("block", ["scaler", "plain", "published", "lambda", "inverted", "repvgg"])
def test_macs_equal_the_count_by_hand(block):
    net = small(block)
    assert macs(net, (1, 28, 28)) == by_hand(net, (1, 28, 28))
    assert net.training  # measuring changed nothing


def test_counts_agree_with_torchs_flop_counter():
    for block in ("scaler", "lambda"):
        net = small(block)
        with FlopCounterMode(display=False) as counter:
            net(torch.zeros(8, 1, 28, 28)).square().mean().backward()
        assert training_macs(net, (1, 28, 28)) == counter.get_total_flops() // 2 // 8


def test_folding_bn_saves_no_macs_and_merging_a_pair_does():
    net = small("lambda", lam=1.0).eval()
    assert macs(fuse(net), (1, 28, 28)) == macs(small("plain"), (1, 28, 28)) < macs(net, (1, 28, 28))


def test_training_macs_of_a_plain_step_are_three_forwards_less_the_first_input_gradient():
    net, shape = small("plain"), (1, 28, 28)
    stem = by_hand(net.stem, shape)
    assert training_macs(net, shape) == 3 * macs(net, shape) - stem


def test_training_macs_count_the_teacher_and_skip_the_frozen():
    teacher, shape = small("scaler"), (1, 28, 28)
    student = drop_branch(teacher)
    plain = training_macs(student, shape)
    assert training_macs(student, shape, kd(teacher)) == plain + macs(teacher, shape)
    assert training_macs(freeze(student, "stem.*"), shape) < plain
    side = training_macs(attach(freeze(student, "all")), shape)
    assert macs(student, shape) < side < plain


@pytest.mark.parametrize("groups", [1, 2, 16])
def test_each_gradient_of_a_conv_costs_what_its_forward_does_groups_or_not(groups):
    conv, x = nn.Conv2d(16, 16, 3, padding=1, groups=groups, bias=False), torch.randn(2, 16, 8, 8, requires_grad=True)
    with Count() as forward:
        out = conv(x)
    with Count() as both:
        out.sum().backward(retain_graph=True)
    assert forward.macs == 2 * 8 * 8 * conv.weight.numel()
    assert both.macs == 2 * forward.macs
    with Count() as one:
        torch.autograd.grad(out.sum(), conv.weight)
    assert one.macs == forward.macs


def test_macs_name_the_images_that_a_network_does_not_take():
    with pytest.raises(ValueError, match=r"takes no images of \(3, 28, 28\)"):
        macs(small("plain"), (3, 28, 28))


def test_a_loss_that_draws_is_counted_over_several_steps():
    net, passes = small("plain"), iter((1, 2, 1, 2))

    def loss(net, x, y):
        return sum(cross_entropy(net, x, y)[0] for _ in range(next(passes))), None

    assert training_macs(net, (1, 12, 12), loss, steps=4) == 1.5 * training_macs(net, (1, 12, 12))


def test_a_count_holds_whatever_ran_inside():
    net, shape = small("plain"), (1, 12, 12)
    with Count() as count:
        net(torch.zeros(5, *shape))
        net.eval()(torch.zeros(2, *shape))
    assert count.macs == 7 * macs(net, shape)


def test_accuracy_counts():
    data = load("synthetic")
    net = small("plain").eval()
    hits = correct(net, data, data.test)
    with torch.no_grad():
        expected = [net(data.normalise(x[None])).argmax().item() == y for x, y in zip(*data.test, strict=True)]
    assert hits.tolist() == expected
    assert accuracy(net, data, data.test) == sum(expected) / len(expected)


def test_difference_sees_a_changed_weight():
    data, net = load("synthetic"), small("plain").eval()
    other = small("plain").eval()
    assert difference(net, other, data, data.val) == 0
    with torch.no_grad():
        other.classifier.bias[0] += 0.25
    assert difference(net, other, data, data.val) == pytest.approx(0.25)


def test_latency_is_a_median_with_its_spread():
    timed = latency(small("plain"), (1, 28, 28), batch=2, seconds=0.02)
    assert timed["median"] > 0
    assert timed["iqr"] >= 0
    assert (timed["batch"], timed["threads"]) == (2, 1)


def test_a_count_around_it_does_not_slow_a_latency_down():
    """Nothing timed is counted: the count sees none of it."""
    with Count() as count:
        latency(small("plain"), (1, 12, 12), seconds=0.01)
    assert count.macs == 0


def test_parameters():
    assert parameters(nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3))) == 54 + 6
