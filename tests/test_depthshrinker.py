import copy
from dataclasses import replace
from functools import partial
from typing import get_args

import pytest
import torch
from networks import small
from torch import nn

from reducenet.data.tensors import load
from reducenet.deploy.fuse import fuse
from reducenet.learn.batchnorm import recalibrate
from reducenet.learn.evaluate import accuracy
from reducenet.learn.losses import cross_entropy
from reducenet.learn.measure import latency, macs
from reducenet.learn.train import fit
from reducenet.methods import depthshrinker, removal
from reducenet.methods.depthshrinker import choose, search_mask, with_gates
from reducenet.methods.removal import accuracy_without, groups
from reducenet.moves.activations import linearise, loosen, settle
from reducenet.moves.freezing import freeze
from reducenet.nets.activation import LambdaReLU
from reducenet.words import MoveError, find, perform

SELECTORS = get_args(next(p.type for p in find("search", "search_mask").parameters if p.name == "by"))
BLOCKS = ["stage1.0", "stage2.0", "stage3.0"]
SHAPE = (1, 12, 12)


@pytest.fixture(scope="module")
def data():
    return load("synthetic")


@pytest.fixture(scope="module")
def trained(data):
    return fit(small("lambda"), data, epochs=1, device="cpu").net


def moves_of(decided):
    return {name: given.get("at") for move in decided for name, given in move.items()}


def removed(decided):
    return [name.split(".pair")[0] for name in moves_of(decided)["linearise"]]


def performed(net, decided):
    for move in decided:
        net = perform(net, move)
    return net


def gates_of(net):
    return [m for m in net.modules() if isinstance(m, depthshrinker.Gate)]


def on_ring_and_inside(a, b):
    error = (a - b).abs()
    return error.max().item(), error[..., 1:-1, 1:-1].max().item()


@pytest.mark.parametrize("block", ["lambda", "inverted"])
def test_every_score_has_a_gradient_at_the_start_and_it_is_that_of_the_soft_mask(block, data):
    """The oracle: the network whose activations really are p * act(x) + (1 - p) * x, at p = 1 (kept) or 0 (removed)."""
    net = small(block).double()
    found = groups(net, "test")
    gated = with_gates(net, found, keep=2)
    x, y = torch.randn(8, *SHAPE, dtype=torch.float64), torch.arange(8) % 4
    cross_entropy(gated, x, y)[0].backward()
    gates = gates_of(gated)
    assert len(gates) == 3
    assert sum(gate.kept for gate in gates) == 2
    p = torch.tensor([float(gate.kept) for gate in gates], dtype=torch.float64, requires_grad=True)
    soft = copy.deepcopy(net)
    for i, acts in enumerate(found.values()):
        for act in acts:
            soft.get_submodule(act).forward = lambda x, i=i: p[i] * x.relu() + (1 - p[i]) * x
    cross_entropy(soft, x, y)[0].backward()
    for gate, expected in zip(gates, p.grad, strict=True):
        assert gate.score.grad.abs() > 1e-6
        assert 0.49 < torch.sigmoid(gate.score).item() < 0.51
        assert gate.score.grad.item() == pytest.approx(expected.item() * (gate().detach() * (1 - gate().detach())).item(), rel=1e-9)
    for name, parameter in soft.named_parameters():
        torch.testing.assert_close(gated.get_parameter(name).grad, parameter.grad, msg=name)


@pytest.mark.parametrize("block", ["lambda", "inverted"])
def test_the_gated_forward_is_the_hard_network_bitwise(block):
    net, x = small(block).eval(), torch.randn(8, *SHAPE)
    found = groups(net, "test")
    for keep in range(3):
        gated = with_gates(net, found, keep)
        for gate, score in zip(gates_of(gated), (2.2, -3.1, 0.3), strict=True):
            nn.init.constant_(gate.score, score)  # p(keep) is 0.9, 0.04, 0.57; a soft mask would show
        gone = [act for acts, gate in zip(found.values(), gates_of(gated), strict=True) if not gate.kept for act in acts]
        assert len(gone) == (3 - keep) * len(found["stage1.0"])
        assert torch.equal(gated(x), linearise(net, gone)(x))
        assert torch.equal(gated.train()(x), linearise(net, gone).train()(x))


@pytest.mark.parametrize("by", SELECTORS)
@pytest.mark.parametrize("keep", [0, 1, 2])
def test_exactly_so_many_are_kept_and_the_net_stays_as_it_is(by, keep, trained, data):
    before, mode, grads = copy.deepcopy(trained.state_dict()), trained.training, [p.grad.clone() for p in trained.parameters()]
    decided = search_mask(trained, data, keep=keep, by=by, explore=1.0, cost_weight=0.1)
    after = performed(trained, decided)
    relus = [name for name in BLOCKS if type(after.get_submodule(f"{name}.pair.2")) is nn.ReLU]
    gone = [name for name in BLOCKS if type(after.get_submodule(f"{name}.pair.2")) is nn.Identity]
    assert len(relus) == keep
    assert len(gone) == 3 - keep
    assert [next(iter(move)) for move in decided] == (["settle", "linearise"] if keep else ["linearise"])
    assert decided == search_mask(trained, data, keep=keep, by=by, explore=1.0, cost_weight=0.1)
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())
    assert trained.training == mode
    assert all(torch.equal(p.grad, grad) for p, grad in zip(trained.parameters(), grads, strict=True))
    assert all(isinstance(trained.get_submodule(f"{name}.pair.2"), LambdaReLU) for name in BLOCKS)


@pytest.mark.parametrize("favoured", range(3))
def test_a_block_with_a_large_saving_is_the_first_to_go(favoured, trained, data, monkeypatch):
    """The sign: the published code pushes such a block to stay."""
    savings = [0.1, 0.1, 0.1]
    savings[favoured] *= 100
    monkeypatch.setattr(depthshrinker, "_savings", lambda *_: savings)
    assert removed(search_mask(trained, data, keep=2, cost_weight=1.0, lr=0.1)) == [BLOCKS[favoured]]


def test_savings_are_those_of_the_merged_network(trained, data, monkeypatch):
    monkeypatch.setattr(removal, "latency", partial(latency, seconds=0.02))
    found = groups(trained, "test")
    total = macs(fuse(trained, strict=False), SHAPE)
    for block, saving in zip(BLOCKS, depthshrinker._savings(trained, found, "macs", data), strict=True):
        merged = macs(fuse(linearise(trained, found[block]), strict=False, dearer=True), SHAPE)
        assert saving == pytest.approx((total - merged) / total, abs=1e-12)
        assert saving > 0
    assert len(list(depthshrinker._savings(trained, found, "latency", data))) == 3
    loose = loosen(small("plain").eval())
    assert all(saving < 0 for saving in depthshrinker._savings(loose, groups(loose, "test"), "macs", data))  # 5x5 for 3x3 and 3x3


@pytest.mark.parametrize("block", ["lambda", "inverted"])
def test_a_network_without_activations_is_what_their_moves_make_of_it(block, randomised):
    net = randomised(small(block)).float()
    acts = [act for inside in groups(net, "test").values() for act in inside]
    x = torch.randn(4, *SHAPE)
    for count in range(len(acts) + 1):
        moves, made = removal.resolved(net, acts[:count]), removal.without(net, acts[:count])
        moved = performed(net, moves)
        assert [(name, type(m)) for name, m in made.named_modules()] == [(name, type(m)) for name, m in moved.named_modules()]
        assert torch.equal(made(x), moved(x))
        assert {"settle": count < len(acts), "linearise": count > 0} == {word: word in moves_of(moves) for word in ("settle", "linearise")}


def test_a_large_cost_weight_removes_what_saves_most(trained, data):
    savings = list(depthshrinker._savings(trained, groups(trained, "test"), "macs", data))
    best = max(zip(savings, BLOCKS, strict=True))[1]
    assert removed(search_mask(trained, data, keep=2, cost_weight=1000.0)) == [best]


def test_the_top_is_chosen_again_before_every_step_and_at_the_end(trained, data, monkeypatch):
    steps = []

    def spied(*given):
        hook = choose(*given)

        def note(net, progress):
            hook(net, progress)
            scores = {name: gate.score.item() for name, gate in zip(BLOCKS, gates_of(net), strict=True)}
            steps.append({name for name, gate in zip(BLOCKS, gates_of(net), strict=True) if gate.kept})
            assert steps[-1] == set(sorted(scores, key=scores.get)[1:])

        return note

    monkeypatch.setattr(depthshrinker, "choose", spied)
    gone = removed(search_mask(trained, data, keep=2, epochs=3, lr=0.2, cost_weight=3.0))
    assert len(steps) == 12
    assert steps[0] != steps[-1]
    assert set(gone) == set(BLOCKS) - steps[-1]  # the last step has rate 0


@pytest.mark.parametrize("by", SELECTORS)
def test_the_test_images_are_not_looked_at(by, trained, data):
    blind = replace(data, test=data.test._replace(images=data.test.images[:0], labels=data.test.labels[:0]))
    assert search_mask(trained, blind, keep=1, by=by) == search_mask(trained, data, keep=1, by=by)


def rankings(net, explore, seed, steps=20):
    hook, found = choose(1, explore, seed), []
    for step in range(steps):
        hook(net, step / (steps - 1))
        found.append([gate.kept for gate in gates_of(net)].index(True))
    return found


def test_gumbel_noise_changes_the_ranking_fades_and_is_reproducible():
    net = with_gates(small("lambda"), groups(small("lambda"), "test"), keep=1)
    for gate, score in zip(gates_of(net), (0.0, 1.0, 0.5), strict=True):
        nn.init.constant_(gate.score, score)
    assert set(rankings(net, 0.0, seed=0)) == {1}
    noisy = rankings(net, 3.0, seed=0)
    assert len(set(noisy)) == 3
    assert all(rankings(net, 3.0, seed)[-1] == 1 for seed in range(8))  # temperature 0 at the end
    assert noisy == rankings(net, 3.0, seed=0)
    assert noisy != rankings(net, 3.0, seed=1)
    # At temperature T a step draws from softmax(score / T).
    hook, counts = choose(1, explore=2.0, seed=5), torch.zeros(3)
    for _ in range(2000):
        hook(net, 0.0)
        counts[[gate.kept for gate in gates_of(net)].index(True)] += 1
    torch.testing.assert_close(counts / 2000, (torch.tensor([0.0, 1.0, 0.5]) / 2).softmax(0), rtol=0, atol=0.04)


def test_greedy_is_the_brute_force_search(trained, data):
    def worth(blocks):
        return accuracy(recalibrate(linearise(trained, [f"{name}.pair.2" for name in blocks]), data), data, data.val)

    one = max(BLOCKS, key=lambda name: worth([name]))
    two = max((name for name in BLOCKS if name != one), key=lambda name: worth([one, name]))
    assert removed(search_mask(trained, data, keep=2, by="greedy")) == [one]
    assert set(removed(search_mask(trained, data, keep=1, by="greedy"))) == {one, two}
    for name in BLOCKS:
        assert accuracy_without(trained, [f"{name}.pair.2"], data, 0, "cpu") == worth([name])


def test_greedy_sees_what_a_block_is_worth(trained, data, monkeypatch):
    """On a table of made-up accuracies, where the best pair is not the best single ones."""
    table = {("stage2.0",): 0.9, ("stage1.0",): 0.8, ("stage3.0",): 0.7, ("stage1.0", "stage3.0"): 0.9, ("stage1.0", "stage2.0"): 0.3}
    monkeypatch.setattr(depthshrinker, "accuracy_without", lambda net, acts, *_: table.get(tuple(sorted(a[:8] for a in acts)), 0.4))
    assert removed(search_mask(trained, data, keep=2, by="greedy")) == ["stage2.0"]
    assert removed(search_mask(trained, data, keep=1, by="greedy")) == ["stage2.0", "stage3.0"]


@pytest.mark.parametrize("block", ["lambda", "inverted"])
def test_magnitude_is_what_the_relus_take_away(block, data):
    net = small(block).eval()
    inputs = {}
    for name, act in net.named_modules():
        if isinstance(act, LambdaReLU):
            act.register_forward_hook(lambda _, given, out, name=name: inputs.update({name: given[0]}))
    with torch.no_grad():
        net(data.normalise(data.train.images))
    plain = small(block).eval()
    found = groups(plain, "test")
    taken = [torch.cat([inputs[act].clamp(max=0).abs().flatten() for act in acts]).double().mean().item() for acts in found.values()]
    assert depthshrinker._magnitudes(plain, found, data) == pytest.approx(taken, rel=1e-5)
    order = [name for _, name in sorted(zip(taken, found, strict=True))]
    for keep in range(3):
        gone = moves_of(search_mask(plain, data, keep=keep, by="magnitude"))["linearise"]
        assert gone == [act for name in found if name in order[: 3 - keep] for act in found[name]]


def test_random_depends_on_the_seed_alone(trained, data):
    drawn = [removed(search_mask(trained, data, keep=2, by="random", seed=seed))[0] for seed in range(12)]
    assert set(drawn) == set(BLOCKS)
    other = small("lambda", seed=7)
    assert drawn == [removed(search_mask(other, data, keep=2, by="random", seed=seed))[0] for seed in range(12)]


def test_equals_at_the_start_are_ranked_by_the_seed_and_not_by_position(trained):
    starts = {tuple(gate.kept for gate in gates_of(with_gates(trained, groups(trained, "test"), 1, seed))) for seed in range(12)}
    assert len(starts) == 3


@pytest.mark.parametrize("size", [12, 5])
def test_the_merge_that_was_never_performed_lambda(size, randomised, images, data):
    net = randomised(small("lambda"))
    decided = search_mask(net.float(), data, keep=1, by="random")
    linear = performed(net.double(), decided)
    fused = fuse(linear, dearer=True)
    assert "pad_first" not in moves_of(decided)
    for name in removed(decided):
        assert sum(isinstance(m, nn.Conv2d) for m in fused.get_submodule(name[:6]).modules()) <= 3  # conv3, conv3, shortcut
    check_merged(linear, fused, images(1, size))


@pytest.mark.parametrize("size", [12, 5])
@pytest.mark.parametrize(("block", "convs"), [("inverted", 1), ("plain", 1)])
def test_the_merge_that_was_never_performed_with_padding(block, convs, size, randomised, images, data):
    """Inverted: a shift of BN before the depthwise padding. Plain: conv3 behind conv3. The residual is a part of what is merged."""
    net = randomised(small(block))
    net = loosen(net, "*branch2.2") if block == "plain" else net
    decided = search_mask(net.float(), data, keep=0, by="random")
    assert [next(iter(move)) for move in decided] == ["linearise", "pad_first"]
    net = net.double()
    linear, x = performed(net, decided), images(1, size)
    fused = fuse(linear, dearer=True)
    check_merged(linear, fused, x)
    for stage in ("stage1", "stage2", "stage3"):
        assert sum(isinstance(m, nn.Conv2d) for m in getattr(fused, stage).modules()) == convs
    # Without the padding moved, the network is another on the ring, the same inside, and does not merge.
    unpadded = performed(net, decided[:1])
    with torch.no_grad():
        stem = net.stem(images(1, 12))
        ring, inside = on_ring_and_inside(unpadded.stage1(stem), linear.stage1(stem))
    assert ring > 1e-3
    assert inside < 1e-10
    assert sum(isinstance(m, nn.Conv2d) for m in fuse(unpadded, dearer=True).stage1.modules()) > convs


def check_merged(linear, fused, x):
    for a, b in zip(linear.stage_maps(x), fused.stage_maps(x), strict=True):
        ring, inside = on_ring_and_inside(a, b) if a.shape[-1] > 2 else ((a - b).abs().max().item(), 0.0)
        assert ring < 1e-10
        assert inside < 1e-10
    assert (linear(x) - fused(x)).abs().max() < 1e-10


def test_gradual_leaves_the_removed_to_slide(trained, data):
    decided = search_mask(trained, data, keep=1, by="random", gradual=True)
    assert [next(iter(move)) for move in decided] == ["settle"]
    after = performed(trained, decided)
    x = data.normalise(data.val.images)
    assert torch.equal(after(x), trained(x))
    sliding = [name for name, m in after.named_modules() if isinstance(m, LambdaReLU)]
    assert sliding == moves_of(search_mask(trained, data, keep=1, by="random"))["linearise"]


@pytest.mark.parametrize("gradual", [False, True])
def test_gradual_pads_before_the_slide(gradual, data, randomised, images):
    net = randomised(small("inverted")).float()
    decided = search_mask(net, data, keep=1, by="random", gradual=gradual)
    assert decided[-1] == {"pad_first": {}}
    after = performed(net.double(), decided)
    for act in after.modules():
        if isinstance(act, LambdaReLU):
            act.lam.fill_(1.0)
    fused = fuse(after, dearer=True)
    check_merged(after, fused, images(1, 12))
    assert sum(isinstance(m, nn.Conv2d) for m in fused.modules()) == 1 + 1 + 1 + 3


def test_final_relu_only_where_there_is_none(data):
    net = small("inverted", post_relu=False)
    decided = search_mask(net, data, keep=1, by="random", final_relu=True)
    gone = {name.split(".inverted")[0] for name in moves_of(decided)["linearise"]}
    assert set(moves_of(decided)["add_relu"]) == gone
    after = performed(net, decided)
    assert {name for name in BLOCKS if isinstance(after.get_submodule(name).post, nn.ReLU)} == gone
    net.stage1[0].post = net.stage2[0].post = nn.ReLU()
    assert moves_of(search_mask(net, data, keep=0, by="random", final_relu=True))["add_relu"] == ["stage3.0"]
    with pytest.raises(MoveError, match="search_mask: final_relu has nothing to add"):
        search_mask(small("inverted", post_relu=True), data, keep=1, final_relu=True)


def test_what_stands_behind_the_sum_is_not_inside():
    net = loosen(small("lambda"), "*")
    assert groups(net, "test") == {name: [f"{name}.pair.2", f"{name}.act"] for name in BLOCKS}


def test_all_others_settle(data):
    net = loosen(small("lambda"), ["*.post", "stem.2"])
    after = performed(net, search_mask(net, data, keep=1, by="random"))
    assert not any(isinstance(m, LambdaReLU) for m in after.modules())
    assert type(after.stem[2]) is nn.ReLU


def test_frozen_statistics_do_not_stop_a_search(trained, data):
    frozen = freeze(trained, "*.bn3.running_*")
    assert len(removed(search_mask(frozen, data, keep=1, by="greedy"))) == 2
    assert len(removed(search_mask(frozen, data, keep=1))) == 2


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (lambda: small("lambda"), dict(keep=-1), "search_mask: keep must be at least 0, not -1"),
        (lambda: small("lambda"), dict(keep=3), r"search_mask: keep must be from 0 to 2, not 3; the groups are: stage1\.0, "),
        (lambda: small("lambda"), dict(keep=1, explore=-1.0), "search_mask: explore must be at least 0, not -1"),
        (lambda: small("lambda"), dict(keep=1, by="luck"), "search_mask: unknown by 'luck'; known: learned, random"),
        (lambda: small("lambda"), dict(keep=1, cost="watt"), "search_mask: unknown cost 'watt'; known: macs, latency"),
        (lambda: small("plain"), dict(keep=1), r"no block has a LambdaReLU .*\(blocks here: PlainBlock\); loosen .*branch2\.2"),
        (lambda: settle(small("lambda")), dict(keep=1), r"search_mask: no block .*stage1\.0\.pair\.2"),
        (lambda: small("lambda", lam=0.5), dict(keep=1), r"search_mask: stage1\.0\.pair\.2 is at lam = 0\.5"),
    ],
)
def test_searches_that_do_not_apply(make, given, message, data):
    with pytest.raises(MoveError, match=message):
        search_mask(make(), data, **given)


def test_what_is_kept_is_not_padded_and_stays_the_same_function(data, randomised, images):
    net = randomised(small("inverted"))
    decided = search_mask(net.float(), data, keep=2, by="random")
    gone = moves_of(decided)["linearise"][0][:8]
    after = performed(net.double(), decided)
    for name, planes in zip(BLOCKS, (4, 4, 8), strict=True):
        x = images(planes, 9)
        same = torch.equal(after.get_submodule(name)(x), net.get_submodule(name)(x))
        assert same == (name != gone)


def test_a_block_in_which_nothing_would_merge_is_refused():
    net = loosen(small("scaler"), "*branch2.2")
    with pytest.raises(MoveError, match=r"search_mask: nothing would merge in stage1\.0"):
        search_mask(net, load("synthetic"), keep=1, by="random")
