import copy
from functools import reduce

import pytest
import torch
from networks import small
from torch import nn

from reducenet.data.tensors import load
from reducenet.deploy.fuse import fuse
from reducenet.learn.evaluate import difference
from reducenet.learn.losses import cross_entropy
from reducenet.learn.train import fit
from reducenet.methods.layerfolding import keep_in_range, lam_penalty, layer_folding, learn_lam, snap
from reducenet.moves.activations import loosen
from reducenet.nets.activation import LambdaReLU, LearnedReLU, slide
from reducenet.words import MoveError, perform

ACTS = [f"stage{i}.0.pair.2" for i in (1, 2, 3)]


@pytest.fixture(scope="module")
def data():
    return load("synthetic")


def at_lams(*lams, block="lambda"):
    net = learn_lam(small(block).eval())
    for act, lam in zip((m for m in net.modules() if isinstance(m, LearnedReLU)), lams, strict=True):
        nn.init.constant_(act.lam, lam)
    return net


def lams(net):
    return [m.lam.item() for m in net.modules() if isinstance(m, LearnedReLU)]


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_learn_lam_is_the_same_function_with_lam_to_learn(lam, images, randomised):
    net = randomised(small("lambda", lam=lam))
    before = copy.deepcopy(net.state_dict())
    learned, x = learn_lam(net), images(1, 12)
    assert torch.equal(learned(x), net(x))
    assert [type(m) for m in net.modules() if isinstance(m, LambdaReLU)] == [LambdaReLU] * 3
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    new = dict(learned.named_parameters()).keys() - dict(net.named_parameters()).keys()
    assert new == {f"{act}.lam" for act in ACTS}
    for act in ACTS:
        parameter = learned.get_parameter(f"{act}.lam")
        assert (parameter.dtype, parameter.ndim, parameter.requires_grad) == (torch.float64, 0, True)
        assert parameter.item() == pytest.approx(lam)
    assert {t.data_ptr() for t in learned.state_dict().values()}.isdisjoint(t.data_ptr() for t in net.state_dict().values())
    with pytest.raises(ValueError, match="no LambdaReLU whose lam could move"):
        slide()(learned, 1.0)
    assert lams(learned) == pytest.approx([lam] * 3)


def test_learn_lam_at_some_and_what_it_refuses():
    some = learn_lam(small("lambda"), "stage2.*")
    assert [name for name, m in some.named_modules() if isinstance(m, LearnedReLU)] == [ACTS[1]]
    assert len(lams(learn_lam(some))) == 3  # the others; what learns goes on
    with pytest.raises(MoveError, match="learn_lam: no LambdaReLU with a fixed lam matches 'stage9'; there are: stage1.0.pair.2"):
        learn_lam(small("lambda"), "stage9")
    with pytest.raises(MoveError, match="there are: none"):
        learn_lam(learn_lam(small("lambda")))


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
def test_the_gradient_of_lam_by_hand(lam):
    """out = x for x > 0, lam x below: dL/dlam = sum over negative x of dL/dout * x, at both ends too."""
    act, x = LearnedReLU(lam).double(), torch.tensor([-3.0, -1.0, 2.0, 0.5], dtype=torch.float64)
    (act(x) * torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64)).sum().backward()
    assert act.lam.grad.item() == -3.0 - 10.0


def test_the_penalty_by_hand():
    net = at_lams(0.0, 0.5, 1.0)
    assert lam_penalty(net).item() == pytest.approx(1 + 0.75 + 0)
    lam_penalty(net).backward()
    assert net.stage1[0].pair[2].lam.grad == 0  # a rest point: the penalty alone never leaves it
    assert net.stage2[0].pair[2].lam.grad == pytest.approx(-1.0)
    outside = at_lams(0.0, 0.0, 1.5)
    assert lam_penalty(outside).item() == pytest.approx(1 + 1 + 1.25)  # |1 - lam^2|, not 1 - lam^2


@pytest.mark.parametrize("start", [0.0, 0.01, 0.3])
def test_the_penalty_grows_lam_exponentially_from_anywhere_but_0(start):
    """Gradient descent at rate r and weight w multiplies lam by 1 + 2 r w a step."""
    net = at_lams(start, start, start)
    step = torch.optim.SGD([net.get_parameter(f"{act}.lam") for act in ACTS], lr=0.1)
    for done in range(1, 6):
        step.zero_grad()
        (0.25 * lam_penalty(net)).backward()
        step.step()
        assert lams(net) == pytest.approx([start * 1.05**done] * 3, rel=1e-5)


def test_the_loss_adds_the_penalty_and_leaves_the_logits():
    net, x, y = at_lams(0.2, 0.2, 0.2), torch.randn(4, 1, 12, 12), torch.arange(4)
    value, logits = cross_entropy(net, x, y)
    penalised, same = layer_folding(0.5)(net, x, y)
    assert torch.equal(same, logits)
    assert penalised.item() == pytest.approx(value.item() + 0.5 * 3 * 0.96)
    with pytest.raises(MoveError, match="^layer-folding: lam_weight must be at least 0, not -1"):
        layer_folding(-1)


def test_keep_in_range_projects_the_learned_lams_and_nothing_else():
    net = at_lams(-0.2, 0.5, 1.3)
    net.stage1[0].act = LambdaReLU(2.0)
    weights = {name: p.clone() for name, p in net.named_parameters() if not name.endswith("lam")}
    keep_in_range(net)
    assert lams(net) == [0.0, 0.5, 1.0]
    assert net.stage1[0].act.lam == 2
    assert all(torch.equal(p, net.get_parameter(name)) for name, p in weights.items())
    assert all(net.get_parameter(f"{act}.lam").requires_grad for act in ACTS)


def test_a_lam_pushed_out_of_range_comes_back_and_one_at_0_leaves_it(data):
    """Where a clamp in the forward pass would have no gradient."""
    seen, penalised = [], layer_folding(0.0)

    def force(net, x, y):
        """Down in the first half of training, then up."""
        value, logits = penalised(net, x, y)
        seen.append(lams(net))
        sign = 1 if len(seen) < 8 else -1
        return value + sign * 10 * sum(net.get_parameter(f"{act}.lam") for act in ACTS), logits

    net = at_lams(0.0, 0.4, 1.0)
    after = fit(net, data, epochs=4, loss=force, momentum=0.0, device="cpu").net
    assert seen[0] == pytest.approx([0.0, 0.4, 1.0])
    assert seen[7] == [0.0, 0.0, 0.0]
    assert seen[-1] == [1.0, 1.0, 1.0]
    assert all(0 <= lam <= 1 for row in seen for lam in row)
    assert lams(net) == pytest.approx([0.0, 0.4, 1.0])
    assert lams(after) == [1.0, 1.0, 1.0]  # at the last step, behind which nobody projects, the rate is 0


def test_no_weight_decay_on_lam(data):
    """It would hold lam at the ReLU, against the penalty."""

    def constant(net, x, y):
        logits = net(x).detach()
        return 0.0 * lam_penalty(net), logits

    after = fit(at_lams(0.5, 0.6, 0.7), data, epochs=1, loss=constant, weight_decay=0.1, device="cpu").net
    assert lams(after) == pytest.approx([0.5, 0.6, 0.7])


@pytest.mark.parametrize(
    ("values", "above", "linear"),
    [
        ((0.1, 0.9, 0.95), 0.9, [1, 2]),
        ((0.1, 0.89, 0.95), 0.9, [2]),
        ((-0.01, 0.2, 1.02), 0.9, [2]),
        ((0.1, 0.2, 0.3), 0.9, []),
        ((0.5, 0.6, 0.7), 0.5, [0, 1, 2]),
    ],
)
def test_snap_decides_by_lam(values, above, linear):
    net = at_lams(*values)
    before = copy.deepcopy(net.state_dict())
    decided = snap(net, above=above)
    expected = {"settle": [ACTS[i] for i in range(3) if i not in linear], "linearise": [ACTS[i] for i in linear]}
    assert decided == [{name: {"at": at}} for name, at in expected.items() if at]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    after = reduce(perform, decided, net)
    assert [type(after.get_submodule(act)) for act in ACTS] == [nn.Identity if i in linear else nn.ReLU for i in range(3)]


def test_snap_leaves_fixed_lams_alone():
    net = learn_lam(small("lambda", lam=0.4), "stage2.*")
    assert snap(net) == [{"settle": {"at": [ACTS[1]]}}]
    assert sum(isinstance(m, LambdaReLU) for m in reduce(perform, snap(net), net).modules()) == 2


def test_snap_pads_where_a_merge_needs_it(images, randomised):
    net = learn_lam(loosen(randomised(small("plain")), "*branch2.2"))
    nn.init.constant_(net.stage2[0].branch2[2].lam, 1.0)
    decided = snap(net)
    assert [next(iter(move)) for move in decided] == ["settle", "linearise", "pad_first"]
    after, x = reduce(perform, decided, net), images(1, 12)
    fused = fuse(after, dearer=True)
    assert sum(isinstance(m, nn.Conv2d) for m in fused.stage2.modules()) == 1  # the shortcut is in it
    for a, b in zip(after.stage_maps(x), fused.stage_maps(x), strict=True):
        assert (a - b).abs().max() < 1e-10
        assert (a - b)[..., 1:-1, 1:-1].abs().max() < 1e-10


def test_the_change_of_function_is_what_lam_was_short_of(data):
    """Nothing for lams at 0 and 1; more the farther away. The network snaps to what it snaps to, and the change is not hidden."""
    changes = [
        difference(net, reduce(perform, snap(net), net), data, data.val) for net in (at_lams(0.0, 1.0, lam) for lam in (1.0, 0.95, 0.9))
    ]
    assert changes[0] == 0
    assert 1e-4 < changes[1] < changes[2]


def test_the_whole_chain(data, images, randomised):
    trained = fit(small("lambda", lam=0.1), data, epochs=1, device="cpu").net
    learned = learn_lam(trained)
    after = fit(learned, data, epochs=1, loss="layer-folding", lam_weight=5.0, lr=0.05, batch=64, device="cpu").net
    assert lams(learned) == pytest.approx([0.1] * 3)
    assert max(lams(after)) > 0.9
    snapped = reduce(perform, snap(after, data, seed=0, device="cpu"), after)
    assert not any(isinstance(m, LambdaReLU) for m in snapped.modules())
    snapped, x = randomised(snapped), images(1, 12)
    fused = fuse(snapped)
    assert (fused(x) - snapped(x)).abs().max() < 1e-10
    gone = sum(isinstance(snapped.get_submodule(act), nn.Identity) for act in ACTS)
    convs = [sum(isinstance(m, nn.Conv2d) for m in net.modules()) for net in (snapped, fused)]
    assert convs[0] - convs[1] == gone > 0


@pytest.mark.parametrize("what", [snap, lam_penalty, keep_in_range])
def test_nothing_to_learn(what):
    with pytest.raises(MoveError, match=r"no LearnedReLU here; learn_lam makes them of LambdaReLUs \(there are: stage1\.0\.pair\.2, "):
        what(small("lambda"))
    with pytest.raises(MoveError, match="there are: none"):
        what(small("plain"))


@pytest.mark.parametrize(("above", "message"), [(0.0, "above must be above 0, not 0"), (1.1, "above must be at most 1, not 1.1")])
def test_snap_refuses_a_threshold_that_is_none(above, message):
    with pytest.raises(MoveError, match=f"^snap: {message}"):
        snap(at_lams(0.1, 0.2, 0.3), above=above)
