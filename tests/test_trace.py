"""Networks written in every way: what may be touched, what may not, and what cannot be followed."""

import operator
import random

import pytest
import torch
import torch.nn.functional as F
from networks import assert_same, conv_bn, count, fused_alone, small
from torch import nn

from reducenet.deploy.fuse import fuse, fused
from reducenet.deploy.trace import NotTraceable
from reducenet.nets.activation import LambdaReLU
from reducenet.nets.layers import FrozenBatchNorm2d


class Functional(nn.Module):
    """Layers by F, weights as parameters, and modules between them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.block = nn.Sequential(nn.Sequential(conv_bn(4, 4, 3), nn.Identity()), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.5)))

    def forward(self, x):
        x = F.relu(F.conv2d(x, self.weight, padding=1), inplace=True)
        out = F.dropout(self.block(x), training=self.training)
        out = F.max_pool2d(out + x.mean(1, keepdim=True), 2)
        return out.view(x.size(0), -1) * 2


class Twice(nn.Module):
    """One conv called twice, and one whose weight somebody else reads."""

    def __init__(self):
        super().__init__()
        self.conv, self.a, self.b, self.tied, self.c = (
            nn.Conv2d(3, 3, 1),
            *(nn.BatchNorm2d(3) for _ in range(2)),
            nn.Conv2d(3, 3, 1),
            nn.BatchNorm2d(3),
        )

    def forward(self, x):
        x = self.b(self.conv(self.a(self.conv(x))))
        return F.conv_transpose2d(self.c(self.tied(x)), self.tied.weight)


class Reader(nn.Module):
    """Values that are read twice: nothing may be folded into where they come from."""

    def __init__(self):
        super().__init__()
        self.one, self.bn, self.two = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = self.one(x)
        z = self.two(y)
        return self.bn(y), z, z


@pytest.mark.parametrize(("make", "left"), [(Functional, (1, 0)), (Twice, (2, 3)), (Reader, (2, 1))])
def test_networks_written_in_other_ways(make, left, randomised, images):
    net = randomised(make())
    new, x = fused_alone(net), images(3, 8)
    assert_same(new, net, x)
    assert (count(new, nn.Conv2d), count(new, nn.BatchNorm2d)) == left


class Inputs(nn.Module):
    """A dict, a tuple, an option that is off and an argument that may be missing."""

    def __init__(self):
        super().__init__()
        self.body = conv_bn(3, 4, 3)

    def forward(self, batch, mask=None, negative=False):
        x, y = batch["images"]
        out = self.body(x + y) if mask is None else self.body(x) * mask
        return {"out": -out if negative else out}


def test_dicts_tuples_and_options(randomised, images):
    net = randomised(Inputs())
    new, x = fuse(net), images(3, 8)
    batch = {"images": (x, 2 * x)}
    for options in ({}, {"mask": None}, {"mask": None, "negative": False}):
        assert_same(lambda o: new(batch, **o)["out"], lambda o: net(batch, **o)["out"], options)
    with pytest.raises(AssertionError, match="mask has been specialized"):
        new(batch, mask=x)
    with pytest.raises(AssertionError, match="negative has been specialized"):
        new(batch, negative=True)
    assert count(new, nn.BatchNorm2d) == 0
    assert_same(lambda x: fuse(new)(batch)["out"], lambda x: net(batch)["out"], x)


class Inner(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.conv, self.f = nn.Conv2d(3, 3, 1), f

    def forward(self, x):
        return self.f(self.conv(x))


@pytest.mark.parametrize(
    ("f", "reason"),
    [
        (lambda x: x if x.sum() > 0 else -x, "control flow"),
        (lambda x: sum(x[i] for i in range(len(x))), "len"),
        (lambda x: [2 * part for part in x], "iterated"),
        (lambda x: operator.setitem(x, 0, 0.0), "item assignment"),
    ],
)
def test_what_cannot_be_traced_is_named_in_one_line(f, reason):
    for net, name in ((Inner(f), "the network"), (nn.Sequential(nn.ReLU(), nn.Sequential(Inner(f))), r"1\.0")):
        with pytest.raises(NotTraceable, match=rf"^fuse: cannot trace {name} \(Inner\) at test_trace\.py:\d+ `.*`: .*{reason}.*$") as found:
            fuse(net.eval())
        assert "\n" not in str(found.value)
    net = small("plain").eval()
    net.stage2[0].bn3 = Inner(f).eval()
    with pytest.raises(NotTraceable, match=r"cannot trace stage2\.0\.bn3 \(Inner\)"):
        fuse(net)


def test_more_than_the_forward_of_a_class_is_left_alone(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Identity(), nn.Conv2d(4, 4, 1)).double().eval()
    net[1].register_forward_hook(lambda module, inputs, out: out * 2)
    net[2].register_forward_hook(lambda module, inputs, out: out + 1)
    new = fuse(net)
    assert_same(new, net, images(3, 6))
    assert len([n for n in new.graph.nodes if n.op == "call_module"]) == 4
    net.register_forward_hook(lambda module, inputs, out: out * 3)
    with pytest.raises(NotTraceable, match="forward hooks"):
        fuse(net)
    patched = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)).double().eval()
    patched[1].forward = lambda x: x + 1
    assert_same(fuse(patched), patched, images(3, 6))


class Shifted(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 1


def test_a_batchnorm_with_another_forward_is_followed_and_one_that_stays_is_folded(randomised, images):
    net = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), Shifted(4), nn.Conv2d(4, 4, 3), FrozenBatchNorm2d(4)))
    new = fuse(net)
    assert_same(new, net, images(3, 8))
    assert not count(new, nn.BatchNorm2d)
    assert [node.target for node in new.graph.nodes if node.op == "call_module"] == ["0", "2"]


# Writing in place


def conv_same(channels, size, groups, bias):
    return nn.Conv2d(channels, channels, size, padding=(size[0] // 2, size[1] // 2), groups=groups, bias=bias)


class Mixed(nn.Module):
    """Random layers and sums in a random order, some of them in place, on values that anybody may read again."""

    KINDS = (
        *4 * ["conv"],
        *2 * ["bn"],
        *2 * ["add"],
        "iadd",
        "add_",
        "sum",
        "relu",
        "relu_",
        "F.relu_",
        "lam",
        "identity",
        "drop",
        "view",
        "again",
    )

    def __init__(self, seed):
        super().__init__()
        pick = random.Random(seed)
        torch.manual_seed(seed)
        self.layers, self.steps = nn.ModuleList(), []
        for i in range(pick.randrange(2, 14)):
            kind = pick.choice(self.KINDS)
            make = {
                "conv": lambda: conv_same(4, pick.choice([(1, 1), (3, 3), (1, 3), (3, 1)]), pick.choice([1, 1, 2, 4]), pick.random() < 0.4),
                "bn": lambda: nn.BatchNorm2d(4),
                "relu": nn.ReLU,
                "relu_": lambda: nn.ReLU(inplace=True),
                "lam": lambda: LambdaReLU(1.0),
                "drop": nn.Dropout,
                "again": lambda: pick.choice([nn.Identity(), *self.layers]),
            }
            self.layers.append(make.get(kind, nn.Identity)())
            self.steps.append((kind, pick.choice([i, i, i, pick.randrange(i + 1)]), pick.randrange(i + 1)))
        self.out = [-1] + [0] * (pick.random() < 0.3)

    def forward(self, x):
        values = [x]
        for layer, (kind, a, b) in zip(self.layers, self.steps, strict=True):
            a, b = values[a], values[b]
            if kind == "add":
                y = a + b
            elif kind == "iadd":
                y = a
                y += b
            elif kind == "add_":
                y = a.add_(b)
            elif kind == "sum":
                y = sum([a, b])
            elif kind == "F.relu_":
                y = F.relu(a, True)
            elif kind == "view":
                y = a.view(a.shape)
            else:
                y = layer(a)
            values.append(y)
        return [values[i] for i in self.out]


def test_random_networks_that_write_in_place(randomised, images):
    rules = set()
    for seed in range(400):
        net = randomised(Mixed(seed), seed)
        x, expected_x = images(4, 6, 7), images(4, 6, 7)
        with torch.no_grad():
            expected = [value.clone() for value in net(expected_x)]
            new, changes = fused(net, dearer=bool(seed % 3))
            found = new(x)
        scale = max(value.abs().max() for value in expected)
        for a, b in zip([*found, x], [*expected, expected_x], strict=True):
            assert (a - b).abs().max() <= 1e-10 * scale, seed
        rules |= {step.rule for step in changes.steps}
    assert rules == {"drop", "fold", "merge", "add"}


def sum_into_what_others_read(net, x):
    y = net.other(x)
    total = net.one(x) + y
    total += net.dense(x)
    return total, y


def sum_written_into_a_value(net, x):
    y = net.other(x)
    z = y
    z += net.one(x)
    z += net.dense(x)
    return z, y


def value_written_between(net, x):
    x = net.other(x)
    dense = net.dense(x)
    x.mul_(2)
    return dense + net.one(x)


def view_written_between(net, x):
    x = net.other(x)
    dense = net.dense(x)
    x.view(-1).mul_(2)
    return dense + net.one(x)


def summand_written_after(net, x):
    y = net.other(x)
    total = net.one(x) + y
    y.mul_(2)
    return total + net.dense(x)


def written_under_another_name(net, x):
    y = net.other(x)
    x = y.mul_(2)
    dense = net.dense(x)
    y.mul_(3)
    return dense + net.one(x)


def in_place_on_its_own(net, x):
    dense = net.dense(x)
    dense += net.one(x)
    return dense


def from_zero_in_place(net, x):
    total = 0
    for branch in (net.one, net.dense):
        total += branch(x)
    return F.relu_(total)


def a_number_in_the_sum(net, x):
    return (net.one(x) + 1.5) + net.dense(x)


def one_term_twice(net, x):
    dense = net.dense(x)
    return (dense + dense) + net.one(x)


class Parts(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f, self.other = f, nn.Conv2d(3, 3, 1)
        self.dense, self.one = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.f(self, x)


WHEN = {
    sum_into_what_others_read: 2,
    sum_written_into_a_value: 3,
    value_written_between: 3,
    view_written_between: 3,
    summand_written_after: 3,
    written_under_another_name: 3,
    in_place_on_its_own: 1,
    from_zero_in_place: 1,
    a_number_in_the_sum: 2,
    one_term_twice: 2,
}


@pytest.mark.parametrize(("f", "left"), WHEN.items())
def test_who_reads_and_writes_when(f, left, randomised, images):
    net = randomised(Parts(f))
    new = fuse(net)
    assert_same(new, net, images(3, 7))
    assert count(new, nn.Conv2d) == left


class Dropped(nn.Module):
    """What a dropped LambdaReLU had made is written into between two convs that read it; another asks first who writes."""

    def __init__(self):
        super().__init__()
        self.first, self.second = LambdaReLU(1.0), LambdaReLU(1.0)
        self.other, self.dense, self.one = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        value = self.second(self.other(self.first(x)))
        dense = self.dense(value)
        value.mul_(2)
        return dense + self.one(value)


def test_who_wrote_into_a_copy_writes_into_what_stands_for_it(randomised, images):
    net = randomised(Dropped())
    new, changes = fused(net)
    assert_same(new, net, images(3, 7))
    assert [step.rule for step in changes.steps] == ["drop", "drop"]


def test_the_callers_images_are_not_written_into(images):
    net, x = nn.Sequential(LambdaReLU(1.0), nn.ReLU(inplace=True)).double().eval(), images(3, 5)
    fuse(net)(x)
    assert torch.equal(x, images(3, 5))
