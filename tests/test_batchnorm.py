import copy

import pytest
import torch
import torch.nn.functional as F
from networks import small
from torch import nn

from reducenet.data.tensors import load
from reducenet.learn.batchnorm import recalibrate
from reducenet.moves.freezing import freeze
from reducenet.nets.layers import FrozenBatchNorm2d
from reducenet.nets.seeding import generator
from reducenet.words import MoveError

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def the_batches(data, count, size, seed=0):
    chosen = torch.randperm(len(data.train.labels), generator=generator(seed, "recalibrate"))[:count]
    return data.normalise(data.train.images).double()[chosen].split(size)


def normalised(bn, x):
    """Written out: what a BN makes of a batch in train mode."""
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / (var + bn.eps).sqrt() * bn.weight.view(1, -1, 1, 1) + bn.bias.view(1, -1, 1, 1)


def maps_before(net, x):
    """By hand, layer by layer: what the BN of the stem, of branch2 and of conv3 in the first block are given."""
    given = [F.conv2d(x, net.stem[0].weight, padding=1)]
    x = normalised(net.stem[1], given[-1]).relu()
    block = net.stage1[0]
    given.append(F.conv2d(x, block.branch2[0].weight, padding=1))
    given.append(F.conv2d(normalised(block.branch2[1], given[-1]).relu(), block.conv3.weight, padding=1))
    return given


def assert_statistics(bn, maps):
    """Mean of batch means, mean of unbiased batch variances."""
    per_channel = [m.transpose(0, 1).flatten(1) for m in maps]
    torch.testing.assert_close(bn.running_mean, sum(m.mean(1) for m in per_channel) / len(maps), rtol=0, atol=1e-12)
    expected = sum((m - m.mean(1, keepdim=True)).square().sum(1) / (m.shape[1] - 1) for m in per_channel) / len(maps)
    torch.testing.assert_close(bn.running_var, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("images", "used"), [(300, 300), (350, 300), (10_000, 500)])
def test_statistics_are_those_of_the_batches(images, used, randomised):
    data, net = load("synthetic"), randomised(small("plain"))
    after = recalibrate(net, data, images=images, batch=100, seed=5)
    maps = [maps_before(net, x) for x in the_batches(data, used, 100, seed=5)]
    block = after.stage1[0]
    for bn, given in zip((after.stem[1], block.branch2[1], block.bn3), zip(*maps, strict=True), strict=True):
        assert_statistics(bn, given)
    assert after.stage3[0].bn3.num_batches_tracked == used // 100


def test_the_deepest_bn_by_a_forward_of_hooks(randomised):
    """Every BN of the net against the maps that reach it in train mode, whatever the path."""
    data, net = load("synthetic"), randomised(small("scaler"))
    after, probe, seen = recalibrate(net, data, images=400, batch=100), copy.deepcopy(net).train(), {}
    for name, bn in probe.named_modules():
        if isinstance(bn, nn.BatchNorm2d):
            bn.register_forward_pre_hook(lambda _, args, name=name: seen.setdefault(name, []).append(args[0].detach()))
    for x in the_batches(data, 400, 100):
        probe(x)
    assert len(seen) == 1 + 3 * 4 + 2
    for name, maps in seen.items():
        assert_statistics(after.get_submodule(name), maps)


@pytest.mark.parametrize("frozen", [[], ["all"], ["stage2.*"]])
def test_nothing_else_changes(frozen, randomised):
    data, net = load("synthetic"), randomised(freeze(small("scaler"), frozen) if frozen else small("scaler"))
    if frozen == ["all"]:
        net = randomised(small("scaler")).requires_grad_(False)
    net.stage1.train()
    net.stem[1].momentum = 0.3
    before, flags = copy.deepcopy(net.state_dict()), [p.requires_grad for p in net.parameters()]
    modes, momenta = [m.training for m in net.modules()], [getattr(m, "momentum", None) for m in net.modules()]
    stream = torch.get_rng_state()
    after = recalibrate(net, data)
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())  # the net handed in
    assert not {t.data_ptr() for t in net.state_dict().values()} & {t.data_ptr() for t in after.state_dict().values()}
    for name, t in after.state_dict().items():
        still = not name.endswith(STATISTICS) or (bool(frozen) and frozen != ["all"] and name.startswith("stage2."))
        assert torch.equal(before[name], t) == still, name
    assert list(after.state_dict()) == list(before)
    for one in (net, after):
        assert flags == [p.requires_grad for p in one.parameters()]
        assert modes == [m.training for m in one.modules()]
        assert momenta == [getattr(m, "momentum", None) for m in one.modules()]
    assert [type(m) for m in after.modules()] == [type(m) for m in net.modules()]


def test_frozen_statistics_stay_and_are_what_the_next_layers_see(randomised):
    data, net = load("synthetic"), randomised(freeze(small("plain"), "stem.*"))
    after = recalibrate(net, data, images=300, batch=100)
    assert isinstance(after.stem[1], FrozenBatchNorm2d)
    for name in STATISTICS:
        assert torch.equal(getattr(after.stem[1], name), getattr(net.stem[1], name))
    maps = [F.conv2d(net.stem(x), net.stage1[0].branch2[0].weight, padding=1) for x in the_batches(data, 300, 100)]
    assert_statistics(after.stage1[0].branch2[1], maps)


def test_the_images_come_from_the_seed():
    data, net = load("synthetic"), small("plain")
    one, again, other = (recalibrate(net, data, images=200, seed=seed).stem[1].running_mean for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("net", [nn.Conv2d(1, 2, 3), freeze(small("plain"), "bn.statistics")])
def test_refuses_a_net_without_a_bn_that_may_move(net):
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(MoveError, match="recalibrate: no BatchNorm whose statistics may move"):
        recalibrate(net, load("synthetic"))
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())


@pytest.mark.parametrize(
    ("images", "batch", "message"),
    [
        (100, 200, "100 images do not fill one batch of 200"),
        (4000, 513, "512 images do not fill one batch of 513"),
        (4000, 0, "batch must be at least 1, not 0"),
        (0, 200, "images must be at least 1, not 0"),
        (4000, -1, "batch must be at least 1, not -1"),
    ],
)
def test_refuses_less_than_one_batch(images, batch, message):
    with pytest.raises(ValueError, match=f"^recalibrate: {message}"):
        recalibrate(small("plain"), load("synthetic"), images=images, batch=batch)


def test_one_value_a_channel_has_no_variance():
    net = nn.Sequential(nn.Conv2d(1, 4, 12), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 4))
    with pytest.raises(MoveError, match="recalibrate: at batch = 1 a BatchNorm sees one value a channel"):
        recalibrate(net, load("synthetic"), images=4, batch=1)
    recalibrate(net, load("synthetic"), images=4, batch=2)


def test_batchnorms_of_flat_features_are_estimated_and_frozen_ones_stay():
    """By hand: the mean over batches of their means and unbiased variances."""
    data = load("synthetic")
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, 4), nn.BatchNorm1d(4))
    new = recalibrate(freeze(net, "3.running_*"), data, images=40, batch=20)
    chosen = torch.randperm(len(data.train.images), generator=generator(0, "recalibrate"))[:40]
    x = data.normalise(data.train.images[chosen]).flatten(1)
    torch.testing.assert_close(new[1].running_var, torch.stack([half.var(0) for half in x.split(20)]).mean(0))
    torch.testing.assert_close(new[1].running_mean, x.mean(0))
    assert torch.equal(new[3].running_var, torch.ones(4))
