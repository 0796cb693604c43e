"""Every network of `edges` gives the same function or a refusal, as docs/edges.md says; `fuse` disturbs nobody, and finds its mistakes."""

import cProfile
import pstats
import sys
import threading

import edges
import pytest
import torch
from convs import filled
from edges import CASES, PAGE, Of, answer, conv_bn, images
from torch import fx, nn

from reducenet import fuse, fuse_report
from reducenet.algebra.exact import NotExact
from reducenet.deploy import adding, folding, proof
from reducenet.deploy import fuse as fusing
from reducenet.deploy.fuse import fused
from reducenet.nets.blocks import RepVGGLayer

ROWS = {tuple(row.split(" | ")[:2]): row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| ")}


@pytest.mark.parametrize(("kind", "what"), CASES)
def test_equal_or_refused(kind, what):
    found = answer(kind, what)
    assert "WRONG" not in found
    assert "\n" not in found
    assert ROWS.get((f"| {kind}", what)) == f"| {kind} | {what} | {found.replace('|', '/')} |", "stale: python tests/edges.py"


def test_the_page_has_no_other_rows():
    assert len(ROWS) == len(CASES) + 1
    assert len(CASES) >= 40


# ---- beside other threads


def block():
    return conv_bn(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))


def test_tracing_patches_nothing_that_another_thread_would_meet():
    """From inside of the pass that is traced: another thread runs another network, and torch.fx traces a third."""
    seen, call, attribute = [], nn.Module.__call__, nn.Module.__getattr__
    other, x = filled(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), "other"), images(4)
    expected = other(x)

    def look(self, y):
        thread = threading.Thread(target=lambda: seen.append(torch.equal(other(x), expected)))
        thread.start()
        thread.join()
        seen.append(nn.Module.__call__ is call and nn.Module.__getattr__ is attribute)
        seen.append(torch.equal(fx.symbolic_trace(other)(x), expected))
        return self.body(y)

    net = filled(Of(look), "look")
    assert "bn" not in dict(fusing.rewritten(net, True, False)[0].named_modules())
    assert seen == [True, True, True]
    assert (nn.Module.__call__, nn.Module.__getattr__) == (call, attribute)
    assert torch.is_tensor.__module__ == "torch"
    assert "isinstance" not in vars(edges)
    assert "isinstance" not in vars(sys.modules[__name__])


def test_threads_that_fuse_at_once_do_not_meet():
    nets = [filled(nn.Sequential(*(block() for _ in range(10))), str(i)) for i in range(3)]
    made, x, call = {}, images(4), nn.Module.__call__
    threads = [threading.Thread(target=lambda i=i: made.update({i: [fuse(nets[i]) for _ in range(3)]})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert nn.Module.__call__ is call
    with torch.no_grad():
        for i, net in enumerate(nets):
            for new in made[i]:
                assert (new(x) - net(x)).abs().max() < 1e-10 * net(x).abs().max()


# ---- the proof


@pytest.mark.parametrize("how", ["fold", "add", "trace"])
def test_a_mistake_of_our_own_is_found_and_its_place_named(how, monkeypatch):
    """Each wrong in one place: the second fold, the sum, or a layer that the graph leaves out, so that what is around it merges."""
    if how == "fold":
        right, folds = folding.fold_bn, []

        def wrong(conv, bn):
            folds.append(right(conv, bn))
            if conv.kernel_size == (1, 1):
                nn.init.zeros_(folds[-1].bias)
            return folds[-1]

        monkeypatch.setattr(folding, "fold_bn", wrong)
        net, where = nn.Sequential(block(), nn.ReLU(), conv_bn(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)), nn.ReLU()), r"2\.0"
    elif how == "add":
        monkeypatch.setattr(adding, "add", lambda conv, other: conv)
        net, where = nn.Sequential(RepVGGLayer(4, 4), nn.Conv2d(4, 4, 1)), r"0\.relu"
    else:
        monkeypatch.setattr(folding, "_DropoutNd", nn.Sigmoid)
        net, where = nn.Sequential(block(), nn.Sigmoid(), nn.Conv2d(4, 4, 1)), r"0\.0"
    with pytest.raises(
        NotExact, match=rf"^fuse: on \[\d, 4, 8, 8\] it would differ by \S+, of outputs up to \S+, first at {where}; nothing"
    ):
        fuse(filled(net, how), example=(4, 8, 8))
    with pytest.raises(NotExact, match="would differ"):
        fuse_report(filled(net, how), (4, 8, 8), seconds=0.01)


def baked(condition):
    def forward(self, x):
        return self.body(x) * (1 if isinstance(x, fx.Proxy) or not condition(x) else 2)

    return forward


CONDITIONS = {
    "other images": lambda x: x.abs().max() > 0,
    "a batch of another size": lambda x: len(x) != 2,
    "images of another size": lambda x: x.shape[-1] != 8,
}


@pytest.mark.parametrize("only", CONDITIONS)
def test_what_holds_on_the_example_alone_is_no_proof(only):
    net = filled(Of(baked(CONDITIONS[only])), only)
    example = torch.zeros(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(fusing.rewritten(net, True, False)[0](example), net(example))
    with pytest.raises(NotExact, match="would differ"):
        fuse(net, example=example)


def test_examples_of_other_kinds():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.embed = block(), block(), nn.Embedding(5, 4)

        def forward(self, x, y, words):
            return {"out": self.a(x["images"]) + self.b(y) + self.embed(words).mean(1)[..., None, None]}

    net, words = filled(Two(), "two"), torch.tensor([[0, 1, 2], [3, 4, 0]])
    x = images(4)
    new, changes = fused(net, example=({"images": x}, x, words))
    with torch.no_grad():
        assert (new({"images": x}, 2 * x, words)["out"] - net({"images": x}, 2 * x, words)["out"]).abs().max() < 1e-10
    assert [step.rule for step in changes.steps] == ["fold", "fold"]
    with pytest.raises(NotExact, match=r"^fuse: the network does not take the example \[2, 4, 8, 8\]: TypeError"):
        fuse(net, example=x)


def test_a_proof_leaves_no_trace():
    net, state = filled(Of(lambda self, x: self.body(x) + torch.rand_like(x[:, :1])), "random"), torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fuse(net, example=(3, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    torch.set_rng_state(state)


def test_a_made_up_example_fits_the_first_layer():
    for net, shape in (
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.LazyLinear(4)), (2, 2, 64, 64)),
        (nn.Linear(7, 2), (2, 7)),
        (nn.Conv1d(3, 4, 3), (2, 3, 64)),
    ):
        net(torch.zeros(shape))
        (found,) = proof.made_up(net.double())
        assert (found.shape, found.dtype) == (shape, torch.float64)
    assert proof.made_up(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(5, 4))) is None
    assert proof.made_up(nn.ReLU()) is None


# ---- cost


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.relu = block(), block(), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.two(self.relu(self.one(x))) + x)


@pytest.mark.parametrize("kind", [Block, lambda: RepVGGLayer(4, 4)])
def test_twice_the_blocks_cost_twice_the_work(kind):
    """Work is counted in calls of functions, not in seconds."""

    def work(blocks):
        net = nn.Sequential(*(kind() for _ in range(blocks))).eval()
        profile = cProfile.Profile()
        profile.runcall(fusing.rewritten, net, True, False)
        return pstats.Stats(profile).total_calls

    few, more = work(10), work(40)
    assert more < 4.6 * few
