"""The super-network: its slices against nets cut by hand, its losses against separate backward passes, its search against brute force."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reducenet.data.tensors import load
from reducenet.learn import measure
from reducenet.learn.batchnorm import recalibrate
from reducenet.learn.evaluate import accuracy
from reducenet.learn.losses import cross_entropy
from reducenet.learn.train import fit
from reducenet.methods import supernet
from reducenet.methods.supernet import narrow, netaug, sandwich, search_width
from reducenet.moves.branch import drop_branch
from reducenet.moves.freezing import freeze
from reducenet.moves.side import attach
from reducenet.nets.layers import FrozenBatchNorm2d
from reducenet.nets.networks import build
from reducenet.nets.seeding import generator
from reducenet.play import checkpoint
from reducenet.words import MoveError

WIDTH, CLASSES = 8, 4  # narrower nets must not be trained in channels_last on the CPU
PLANES = {"stage1.0": WIDTH, "stage2.0": 2 * WIDTH, "stage3.0": 4 * WIDTH}


def large(expansion=3, **kw):
    return build("scaler", width=WIDTH, expansion=expansion, num_classes=CLASSES, **kw)


@pytest.fixture
def batch():
    draw = generator("batch")
    return torch.randn(8, 1, 12, 12, dtype=torch.float64, generator=draw), torch.randint(0, CLASSES, (8,), generator=draw)


def slices_of(expansion):
    """What a net of this expansion has of every tensor of a larger one: the inner channels, by hand."""
    cut = {}
    for block, planes in PLANES.items():
        first = slice(expansion * planes)
        cut |= {f"{block}.branch1.1.{key}": (first,) for key in ("weight", "bias", "running_mean", "running_var")}
        cut |= {f"{block}.branch1.0.weight": (first,), f"{block}.branch1.3.weight": (slice(None), first)}
    return cut


def by_hand(net, expansion):
    """A net built that small, with the numbers of the large one."""
    block = {"block": "scaler", "expansion": expansion} if expansion else {"block": "plain"}
    small, cut, numbers = build(**block, width=WIDTH, num_classes=CLASSES).double(), slices_of(expansion), net.state_dict()
    small.load_state_dict({name: numbers[name][cut.get(name, ())] for name in small.state_dict()})
    return small.train(net.training)


def scattered(small, expansion, net):
    """The gradients of the small net at their place in the large one."""
    cut, gradients = slices_of(expansion), {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for name, p in small.named_parameters():
        gradients[name][cut.get(name, ())] = p.grad
    return gradients


def gradients_of(net):
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in net.named_parameters()}


def assert_equal_gradients(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-10, atol=1e-10, msg=name)


# narrow


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("expansion", [1, 2, 3])
def test_narrow_is_the_net_cut_by_hand(expansion, training, randomised, batch):
    net = randomised(large(scaler=0.7)).train(training)
    for block in (net.stage1[0], net.stage2[0], net.stage3[0]):
        block.scaler = 1.0  # `by_hand` builds with 1
    small, hand, x = narrow(net, expansion), by_hand(net, expansion), batch[0]
    assert torch.equal(small(x), hand(x))
    assert {name: t.shape for name, t in small.state_dict().items()} == {name: t.shape for name, t in hand.state_dict().items()}
    assert all(m.training == training for m in small.modules())


def test_narrow_to_all_and_to_nothing(randomised, images):
    net, x = randomised(large(scaler=0.7)), images(1, 12)
    before, expected = copy.deepcopy(net.state_dict()), net(x)
    assert torch.equal(narrow(net, 3)(x), expected)
    student = narrow(net, 0)
    assert torch.equal(student(x), drop_branch(net)(x))
    assert [type(m) for m in student.modules()] == [type(m) for m in drop_branch(net).modules()]
    assert not torch.equal(narrow(net, 2)(x), expected)
    assert torch.equal(narrow(narrow(net, 2), 1)(x), narrow(net, 1)(x))
    for small in (narrow(net, 2), student):
        assert not {t.data_ptr() for t in net.state_dict().values()} & {t.data_ptr() for t in small.state_dict().values()}
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_narrow_block_by_block(randomised, images):
    net, x = randomised(large()), images(1, 12)
    mixed = narrow(net, [2, 0, 3])
    hand, plain = by_hand(net, 2), by_hand(net, 0)
    assert len(mixed.stage1[0].branch1[0].weight) == 2 * WIDTH
    assert not hasattr(mixed.stage2[0], "branch1")
    assert len(mixed.stage3[0].branch1[0].weight) == 12 * WIDTH
    maps = plain.stage2(hand.stage1(hand.stem(x)))
    assert torch.equal(mixed(x), net.classifier(net.stage3(maps).mean((2, 3))))
    assert torch.equal(narrow(mixed, [1, 1])(x), narrow(net, [1, 0, 1])(x))  # the blocks that are left


def test_narrow_keeps_what_is_frozen_and_is_replayed_by_a_checkpoint(tmp_path):
    net = freeze(large(), ["stage1.0.branch1.0.*", "stage2.*", "*branch1.1.running*", "classifier"])
    small = narrow(net, [1, 0, 2])
    flags = {name: p.requires_grad for name, p in net.named_parameters()}
    assert all(p.requires_grad == flags[name] for name, p in small.named_parameters())
    assert type(small.stage1[0].branch1[1]) is type(small.stage3[0].branch1[1]) is FrozenBatchNorm2d
    chain = [{"build": {"block": "scaler", "width": WIDTH, "expansion": 3, "num_classes": CLASSES}}, {"narrow": {"expansion": [1, 0, 2]}}]
    checkpoint.save(small.eval(), tmp_path / "small.safetensors", chain)
    x = torch.randn(2, 1, 12, 12)
    assert torch.equal(checkpoint.load(tmp_path / "small.safetensors")(x), small(x))


def seven_inner_channels():
    net = large()
    net.stage1[0].branch1[3] = nn.Conv2d(7, WIDTH, 1, bias=False)
    return net


@pytest.mark.parametrize(
    ("make", "expansion", "message"),
    [
        (large, 4, r"narrow: the expansion of stage1\.0 must be a whole number from 0 to 3, not 4"),
        (large, -1, "narrow: expansion must be at least 0, not -1"),
        (large, [1, 2, 2.0], r"narrow: expansion.* must be a whole number, not .*2\.0"),
        (large, [1, 2], r"2 expansions for 3 scaler blocks: stage1\.0, stage2\.0, stage3\.0"),
        (lambda: drop_branch(large()), 1, "narrow: no scaler block here"),
        (lambda: build("lambda", width=4), 1, "narrow: no scaler block here"),
        (lambda: attach(large(), at="*branch1.0"), 1, r"stage1\.0\.branch1\.0' is no plain conv"),
        (seven_inner_channels, 1, r"stage1\.0 has 7 inner channels for 8 planes, no whole expansion"),
    ],
)
def test_what_narrow_refuses(make, expansion, message):
    net = make()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(MoveError, match=message):
        narrow(net, expansion)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


# sandwich


def separately(net, expansions, x, y):
    """(logits of the large net, summed loss, gradients) with one backward pass for every net, each cut by hand."""
    top = net.stage1[0].branch1[0].out_channels // WIDTH
    whole = by_hand(net, top)
    logits = whole(x)
    value = F.cross_entropy(logits, y)
    value.backward()
    total, gradients = value.item(), scattered(whole, top, net)
    target = logits.detach().softmax(1)
    for expansion in expansions:
        small = by_hand(net, expansion)
        value = -(target * small(x).log_softmax(1)).sum(1).mean()
        value.backward()
        total += value.item()
        for name, gradient in scattered(small, expansion, net).items():
            gradients[name] += gradient
    return logits, total, gradients


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [2, 4])
def test_one_backward_is_the_sum_of_separate_ones(count, layout, randomised, batch):
    """Expansion 2 leaves the random nets no choice: they have expansion 1."""
    net = randomised(large(2)).train()
    x, y = batch
    expected = separately(net, [0, 1, 1][: count - 1], x, y)
    net, x = net.to(memory_format=layout), x.to(memory_format=layout)
    value, logits = sandwich(count)(net, x, y)
    value.backward()
    torch.testing.assert_close(logits, expected[0], rtol=0, atol=1e-10)
    assert value.item() == pytest.approx(expected[1], abs=1e-10)
    assert_equal_gradients(gradients_of(net), expected[2])


@pytest.mark.parametrize("frozen", [[], ["bn.statistics"]])
def test_sandwich_moves_the_statistics_of_the_large_net_alone(frozen, randomised, batch):
    net = randomised(large())
    net = (freeze(net, frozen) if frozen else net).train()
    alone, before = copy.deepcopy(net), copy.deepcopy(net.state_dict())
    alone(batch[0])
    loss = sandwich(4)
    loss(net, *batch)[0].backward()
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, alone.get_buffer(name)), name
        assert torch.equal(buffer, before[name]) == bool(frozen), name
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


def test_frozen_statistics_are_those_of_the_slice(randomised, batch):
    """With frozen statistics train mode is eval mode, for every sub-network."""
    net = freeze(randomised(large(2)), "bn.statistics").train()
    x, y = batch
    value, logits = sandwich(3)(net, x, y)
    target, expected = logits.softmax(1), F.cross_entropy(logits, y)
    for expansion in (0, 1):
        expected = expected + F.cross_entropy(by_hand(net, expansion).eval()(x), target)
    assert value.item() == pytest.approx(expected.item(), abs=1e-10)


def expansions_seen(monkeypatch, loss, net, batch, steps):
    """The sub-networks that each step asked for."""
    seen = []
    real = supernet._through
    monkeypatch.setattr(supernet, "_through", lambda net, skeleton, *rest: (seen.append(skeleton), real(net, skeleton, *rest))[1])
    for _ in range(steps):
        loss(net, *batch)
    return [[len(getattr(net, s)[0].branch1[1].weight) // PLANES[f"{s}.0"] if hasattr(getattr(net, s)[0], "branch1") else 0
             for s in ("stage1", "stage2", "stage3")] for net in seen]  # fmt: skip


def test_random_widths_are_drawn_per_block_and_step_from_the_seed(monkeypatch, batch):
    net = large(4).double().train()

    def drawn(loss, steps=8):
        return expansions_seen(monkeypatch, loss, net, batch, steps)

    first = drawn(sandwich(3, seed=1))
    assert first[::2] == [[0, 0, 0]] * 8
    assert {e for random in first[1::2] for e in random} == {1, 2, 3}
    assert any(len(set(random)) > 1 for random in first[1::2])
    assert drawn(sandwich(3, seed=1)) == first
    assert drawn(sandwich(3, seed=2)) != first
    wider = drawn(netaug(seed=1))
    assert wider[::2] == [[0, 0, 0]] * 8
    assert {e for random in wider[1::2] for e in random} == {1, 2, 3, 4}
    assert drawn(netaug(seed=1)) == wider


def test_losses_follow_the_net_they_are_given(randomised, batch):
    """One loss, another net, and the first net after a step: nothing is remembered but shapes."""
    a, b, loss = randomised(large(2), 0).train(), randomised(large(2, seed=3), 1).train(), sandwich(3)
    x, y = batch
    for net, training in ((a, True), (b, True), (a, True), (a, False), (b, True)):
        net.train(training)
        fresh = sandwich(3)(copy.deepcopy(net), x, y)[0]
        assert torch.equal(loss(net, x, y)[0], fresh)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.01)


def test_sandwich_under_autocast(batch):
    net = large().train()
    x, y = batch[0].float(), batch[1]
    exact = sandwich(4)(copy.deepcopy(net), x, y)[0]
    with torch.autocast("cpu", torch.bfloat16):
        value, _ = sandwich(4)(net, x, y)
    value.backward()
    assert value.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())


def test_what_the_losses_refuse(batch):
    with pytest.raises(ValueError, match="sandwich: subnets must be at least 2, not 1"):
        sandwich(1)
    with pytest.raises(ValueError, match="netaug: aug_weight must be at least 0, not -1"):
        netaug(-1)
    net = large(1).double()
    with pytest.raises(MoveError, match="nothing lies between expansion 0 and 1"):
        sandwich(3)(net, *batch)
    sandwich(2)(net, *batch)
    for name, loss in (("sandwich", sandwich()), ("netaug", netaug())):
        with pytest.raises(MoveError, match=f"{name}: no scaler block here"):
            loss(drop_branch(net), *batch)


# netaug


@pytest.mark.parametrize("aug_weight", [0.0, 0.7])
def test_netaug_is_the_student_and_a_wider_net(aug_weight, randomised, batch):
    """Expansion 1 leaves one wider net: the whole one."""
    net = randomised(large(1)).train()
    x, y = batch
    student, wide = by_hand(net, 0), by_hand(net, 1)
    logits = student(x)
    first, second = F.cross_entropy(logits, y), aug_weight * F.cross_entropy(wide(x), y)
    first.backward()
    second.backward()
    value, given = netaug(aug_weight)(net, x, y)
    value.backward()
    assert value.item() == pytest.approx((first + second).item(), abs=1e-10)
    torch.testing.assert_close(given, logits, rtol=0, atol=1e-10)
    for_student, for_wide = scattered(student, 0, net), scattered(wide, 1, net)
    assert_equal_gradients(gradients_of(net), {name: for_student[name] + for_wide[name] for name in for_wide})


def test_netaug_moves_the_statistics_of_the_student_alone(randomised, batch):
    net = randomised(large()).train()
    before, student = copy.deepcopy(net.state_dict()), drop_branch(net)
    student(batch[0])
    netaug()(net, *batch)
    for name, buffer in net.named_buffers():
        expected = before[name] if ".branch1." in name else student.get_buffer(name)
        assert torch.equal(buffer, expected), name
        assert torch.equal(buffer, before[name]) == (".branch1." in name), name


# with fit, and the search


@pytest.fixture(scope="module")
def data():
    return load("synthetic")


def learnt(net, data, loss):
    return fit(net, data, epochs=2, loss=loss, lr=0.1, batch=32, device="cpu", progress=False).net


@pytest.fixture(scope="module")
def trained(data):
    return learnt(large(2), data, sandwich(4))


def test_fit_trains_every_width_at_once(data, trained):
    for expansion in (0, 1, [2, 0, 1]):
        small = recalibrate(narrow(trained, expansion), data, images=400)
        assert accuracy(small, data, data.val) > 0.5  # chance is 0.25
    student = drop_branch(learnt(large(2), data, netaug()))
    assert accuracy(student, data, data.val) > 0.5


def test_the_ledger_sees_all_nets_of_a_sandwich():
    net, shape = large(2), (1, 12, 12)
    parts = [measure.training_macs(narrow(net, e), shape, cross_entropy) for e in (2, 0, 1, 1)]
    assert measure.training_macs(net, shape, sandwich(4)) == sum(parts)
    assert measure.training_macs(net, shape, sandwich(2)) == sum(parts[:2])


def share(net, expansion):
    return measure.macs(narrow(net, list(expansion)), (1, 12, 12)) / measure.macs(net, (1, 12, 12))


@pytest.mark.parametrize("budget", [0.6, 1.0])
def test_search_finds_what_brute_force_finds(budget, data, trained):
    """Enough tries for all 27 sub-networks, so the best of those within the budget must come out."""
    before = copy.deepcopy(trained.state_dict())
    found = search_width(trained, data, budget=budget, tries=400, images=200)
    allowed = [e for e in itertools.product(range(3), repeat=3) if share(trained, e) <= budget]
    worth = {e: accuracy(recalibrate(narrow(trained, list(e)), data, images=200), data, data.val) for e in allowed}
    best = max(worth.values())
    cheapest = min((e for e in allowed if worth[e] == best), key=lambda e: share(trained, e))
    assert found == [{"narrow": {"expansion": list(cheapest)}}]
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())


def test_search_keeps_to_its_budget_and_its_seed(monkeypatch, data, trained):
    tried = []
    monkeypatch.setattr(supernet, "recalibrate", lambda net, data, **options: (tried.append(net), net)[1])

    def search(budget, tries=16, seed=0):
        tried.clear()
        decided = search_width(trained, data, budget=budget, tries=tries, seed=seed)
        return decided, [measure.macs(net, (1, 12, 12)) / measure.macs(trained, (1, 12, 12)) for net in tried]

    least = share(trained, (0, 0, 0))
    for budget in (least + 1e-9, 0.6, 0.8, 1.0):
        decided, shares = search(budget)
        assert max(shares) <= budget
        assert min(shares) == pytest.approx(least)
        assert len(shares) <= 16
        assert search(budget)[0] == decided
        (move,) = decided
        assert len(narrow(trained, **move["narrow"]).stage1) == 1
    assert len(search(1.0, tries=1)[1]) == 1
    assert search(1.0, seed=1)[1] != search(1.0, seed=2)[1]
    monkeypatch.setattr(supernet, "accuracy", lambda net, data, split: 0.5)
    assert search(1.0)[0] == [{"narrow": {"expansion": [0, 0, 0]}}]  # of equals the cheapest


def test_search_refuses_an_impossible_budget(data, trained):
    least = share(trained, (0, 0, 0))
    with pytest.raises(MoveError, match=r"the smallest share of the MACs is (0\.\d+), not 0\.01") as error:
        search_width(trained, data, budget=0.01)
    named = float(str(error.value).split(" is ")[1].split(",")[0])
    assert least <= named < least + 2e-4
    assert search_width(trained, data, budget=named, images=400) == [{"narrow": {"expansion": [0, 0, 0]}}]
    for wrong, message in (
        ({"budget": 0}, "budget must be above 0, not 0"),
        ({"budget": 1.1}, r"budget must be at most 1, not 1\.1"),
        ({"budget": 0.9, "tries": 0}, "tries must be at least 1, not 0"),
    ):
        with pytest.raises(MoveError, match=f"^search_width: {message}"):
            search_width(trained, data, **wrong)
    with pytest.raises(MoveError, match="search_width: no scaler block"):
        search_width(drop_branch(trained), data, budget=0.9)
