import copy
import math
from dataclasses import replace
from functools import cache, partial, reduce
from itertools import chain, combinations
from operator import add

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import small
from torch import nn

from reducenet.data.tensors import load
from reducenet.deploy.fuse import fuse
from reducenet.learn.batchnorm import recalibrate
from reducenet.learn.evaluate import accuracy
from reducenet.learn.measure import Count, latency, macs
from reducenet.learn.train import fit
from reducenet.methods import depth, removal
from reducenet.methods.depth import best_cuts, boundaries, cost_table, importance_table, search_depth
from reducenet.moves.activations import linearise, loosen, settle
from reducenet.nets.activation import LambdaReLU
from reducenet.words import MoveError, perform

SHAPE = (1, 12, 12)


@pytest.fixture(scope="module")
def data():
    return load("synthetic")


@pytest.fixture(scope="module")
def nets(data):
    """Trained a little: the lambda net with two cuts in each block or in some, the plain one (ResNet-8) with one, the inverted with two."""
    made = {
        "lambda": loosen(small("lambda"), "*.act"),
        "some": loosen(small("lambda"), "stage[12].*.act"),
        "plain": loosen(small("plain"), "*branch2.2"),
        "inverted": small("inverted"),
    }
    return {name: fit(net, data, epochs=1, device="cpu").net for name, net in made.items()}


def subsets(items):
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


def brute_force(cost, importance, budget):
    """The best (importance, cost) over all 2^(n-1) ways to cut, and the cuts that reach it; the smallest cost of all."""
    n, ways = len(cost) - 1, []
    for cuts in subsets(range(1, n)):
        ends = list(zip((0, *cuts), (*cuts, n), strict=True))
        if all(cost[i][j] < math.inf for i, j in ends):
            worth, spent = (reduce(add, [table[i][j] for i, j in ends], 0) for table in (importance, cost))  # left to right
            ways.append((worth, spent, cuts))
    fitting = [way for way in ways if way[1] <= budget]
    best = max(((worth, -spent) for worth, spent, _ in fitting), default=None)
    return best, [cuts for worth, spent, cuts in fitting if (worth, -spent) == best], min((way[1] for way in ways), default=math.inf)


@st.composite
def tables(draw):
    n = draw(st.integers(1, 7))
    number = st.one_of(st.integers(-20, 20), st.floats(-5, 5))
    size = n + 1
    cost = [[draw(st.one_of(number, st.just(math.inf))) if i < j else math.inf for j in range(size)] for i in range(size)]
    importance = [[draw(number) if i < j else math.nan for j in range(size)] for i in range(size)]
    return cost, importance, draw(st.one_of(st.integers(-40, 60), st.just(math.inf)))


@settings(max_examples=150, deadline=None)
@given(tables())
def test_best_cuts_is_the_brute_force_search(given):
    cost, importance, budget = given
    best, reached_by, least = brute_force(cost, importance, budget)
    if best is None:
        with pytest.raises(ValueError, match="the smallest possible cost is") as caught:
            best_cuts(cost, importance, budget)
        assert str(caught.value).endswith(f" {least:g}")
    else:
        cuts, worth = best_cuts(cost, importance, budget)
        assert worth == best[0]
        assert cuts in reached_by


@pytest.mark.parametrize(("name", "cost"), [("lambda", "latency"), ("plain", "latency"), ("inverted", "macs")])
def test_best_cuts_on_measured_tables(name, cost, nets, data, monkeypatch):
    """Really measured costs and accuracies; budgets from the cheapest to the dearest way."""
    monkeypatch.setattr(removal, "latency", partial(latency, seconds=0.02))
    changes = cost_table(nets[name], data, cost)
    worth = importance_table(nets[name], data, changes)
    n = len(changes) - 1
    assert all(changes[i][i + 1] == worth[i][i + 1] == 0 for i in range(n))
    low, high = (sum(pick(c for c in chain.from_iterable(changes) if c < math.inf) for _ in range(3)) for pick in (min, max))
    for step in range(6):
        budget = low + (high - low) * step / 5
        best, reached_by, _ = brute_force(changes, worth, budget)
        if best is not None:
            cuts, value = best_cuts(changes, worth, budget)
            assert value == best[0]
            assert cuts in reached_by


def pieces(gone, acts):
    """`gone` as runs without a gap within one block."""
    found = []
    for act in sorted(gone, key=acts.index):
        before = acts[acts.index(act) - 1] if acts.index(act) else None
        if found and found[-1][-1] == before and before[:8] == act[:8]:
            found[-1] += (act,)
        else:
            found.append((act,))
    return found


def shrunk(net, gone):
    """The network without the activations `gone`, the padding moved by hand for the chains that occur here."""
    net = linearise(settle(net, [name for name, m in net.named_modules() if isinstance(m, LambdaReLU) and name not in gone]), list(gone))
    for block in net.modules():
        if hasattr(block, "branch2") and type(block.branch2[2]) is nn.Identity:  # conv3-conv3
            first, stride = block.branch2[0], block.branch2[0].stride[0]
        elif hasattr(block, "pair") and type(block.act) is nn.Identity:  # conv3-conv1-conv3, or conv1-conv3 behind a ReLU
            first = block.pair[0] if type(block.pair[2]) is nn.Identity else block.pair[3]
            stride = first.stride[0]
        else:
            continue
        first.padding, block.conv3.padding = (first.padding[0] + stride,) * 2, (0, 0)
    return net


@pytest.mark.parametrize(("name", "budgets"), [("some", (1.0, 0.75)), ("plain", (1.0,))])
def test_search_depth_is_the_brute_force_search_over_networks(name, budgets, nets, data):
    """Every subset of activations removed from the real network: the MACs of the whole of it, and the importances of its pieces."""
    net = nets[name]
    acts, total = [act for act in boundaries(net) if act], macs(net, SHAPE)
    whole = accuracy(recalibrate(net, data), data, data.val)
    worth = cache(lambda piece: accuracy(recalibrate(shrunk(net, piece), data), data, data.val) - whole)
    ways = [(sum(map(worth, pieces(gone, acts))), macs(fuse(shrunk(net, gone), dearer=True), SHAPE)) for gone in subsets(acts) if gone]
    for budget in budgets:
        best = max([value for value, spent in ways if spent <= budget * total] + [0.0] * (budget == 1))
        decided = search_depth(net, data, budget=budget)
        gone = next((move["linearise"]["at"] for move in decided if "linearise" in move), [])
        assert sum(map(worth, pieces(gone, acts))) == pytest.approx(best, abs=1e-12)
        assert macs(fuse(reduce(perform, decided, net), dearer=True), SHAPE) <= budget * total


def test_the_smallest_possible_budget_is_named_and_can_be_met(nets, data):
    net = nets["lambda"]
    with pytest.raises(MoveError, match=r"search_depth: a budget of 0\.5 cannot be met; the smallest possible cost is 0\.") as caught:
        search_depth(net, data, budget=0.5)
    least = float(str(caught.value).split()[-5])
    pairs = [f"stage{i}.0.pair.2" for i in (1, 2, 3)]
    assert least == pytest.approx(macs(fuse(linearise(net, pairs), strict=False, dearer=True), SHAPE) / macs(net, SHAPE), abs=1e-4)
    assert {"linearise": {"at": pairs}} in search_depth(net, data, budget=least)
    with pytest.raises(MoveError, match="the smallest possible cost is 1 of"):
        search_depth(nets["plain"], data, budget=0.99)  # one 5x5 conv is dearer than two 3x3


@pytest.mark.parametrize("name", ["lambda", "plain", "inverted"])
def test_what_was_decided_merges_exactly(name, nets, data, randomised, images, monkeypatch):
    """The longest merges made to look free and worth most: each block becomes one conv, the ring included."""
    size = len(cost_table(nets[name], data, "macs"))
    monkeypatch.setattr(depth, "cost_table", lambda net, *_: [[min(c, 0) for c in row] for row in cost_table(net, *_)])
    monkeypatch.setattr(depth, "importance_table", lambda *_, **__: [[(j - i) ** 2 for j in range(size)] for i in range(size)])
    net = randomised(copy.deepcopy(nets[name]))
    after, x = reduce(perform, search_depth(net, data, budget=1.0), net), images(1, 12)
    fused = fuse(after, dearer=True)
    for a, b in zip(after.stage_maps(x), fused.stage_maps(x), strict=True):
        assert (a - b).abs().max() < 1e-10
        assert (a - b)[..., 1:-1, 1:-1].abs().max() < 1e-10
    for stage in (fused.stage1, fused.stage2, fused.stage3):
        assert sum(isinstance(m, nn.Conv2d) for m in stage.modules()) == 1


def test_same_decision_every_time_and_the_net_stays_as_it_is(nets, data):
    net = copy.deepcopy(nets["lambda"]).train()
    before = copy.deepcopy(net.state_dict())
    decided = search_depth(net, data, budget=0.8)
    blind = replace(data, test=data.test._replace(images=data.test.images[:0], labels=data.test.labels[:0]))
    assert decided == search_depth(nets["lambda"], blind, budget=0.8)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(m.training for m in net.modules())
    assert sum(isinstance(m, LambdaReLU) for m in net.modules()) == 6
    assert not any(isinstance(m, LambdaReLU) for m in reduce(perform, decided, net).modules())


def test_importance_after_training_is_against_the_net_trained_as_long(nets, data):
    net = nets["plain"]
    changes = cost_table(net, data, "macs")
    changes[2][4] = math.inf  # not measured where it cannot be merged
    worth = importance_table(net, data, changes, epochs=1, lr=0.02, seed=3)

    def trained(net):
        return accuracy(fit(net, data, epochs=1, lr=0.02, seed=3, device="cpu").net, data, data.val)

    for i, j, act in ((0, 2, "stage1.0.branch2.2"), (4, 6, "stage3.0.branch2.2")):
        assert worth[i][j] == trained(shrunk(net, (act,))) - trained(net)
    assert worth[2][4] == math.inf


def test_latencies_are_not_those_of_a_counted_run(nets):
    """A search is run under a count of its MACs, which would slow what is timed."""
    with Count() as count:
        assert removal.measured(nets["plain"], "latency", SHAPE) > 0
    assert count.macs == 0


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (lambda: small("lambda"), dict(budget=0.0), "search_depth: budget must be above 0, not 0"),
        (lambda: small("lambda"), dict(budget=1.1), r"search_depth: budget must be at most 1, not 1\.1"),
        (lambda: small("lambda"), dict(cost="watt"), "search_depth: unknown cost 'watt'; known: macs, latency"),
        (lambda: small("plain"), {}, r"search_depth: no block has a LambdaReLU inside \(blocks here: PlainBlock\)"),
        (lambda: small("lambda", lam=1.0), {}, r"search_depth: stage1\.0\.pair\.2 is at lam = 1"),
        (lambda: loosen(small("scaler"), "*branch2.2"), {}, r"search_depth: nothing merges, whichever .*stage1\.0\.branch2\.2"),
    ],
)
def test_searches_that_do_not_apply(make, given, message, data):
    with pytest.raises(MoveError, match=message):
        search_depth(make(), data, **given)
