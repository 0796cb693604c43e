"""Replicates as one grouped network: each gives its own logits and gets its own gradient, and comes back bit for bit."""

import copy

import pytest
import torch
from networks import small
from torch import nn

from reducenet import LambdaReLU, MoveError, attach, fold, freeze, fuse, learn_lam, loosen, stack, unstack
from reducenet.methods.vanillanet import vanillanet
from reducenet.moves.stack import Stacked
from reducenet.words import words

MANY = 3


def replicates(randomised, make, many=MANY):
    """Networks of one shape and of other numbers, statistics included."""
    nets = [randomised(make(), seed) for seed in range(many)]
    for seed, net in enumerate(nets):
        draw = torch.Generator().manual_seed(seed)
        for parameter in net.parameters():
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype))
    return nets


def same(one, other):
    """Every tensor, what is frozen, every mode."""
    a, b = one.state_dict(), other.state_dict()
    assert list(a) == list(b)
    assert all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a.values(), b.values(), strict=True))
    assert [p.requires_grad for p in one.parameters()] == [p.requires_grad for p in other.parameters()]
    assert [(n, type(m).__name__, m.training) for n, m in one.named_modules()] == [
        (n, type(m).__name__, m.training) for n, m in other.named_modules()
    ]
    return True


CONV = {"lambda": "*conv3", "inverted": "stem.0", "repvgg": "*.conv3.0"}
NETS = {name: (lambda name=name: small(name, depth=14)) for name in words("block")}
NETS |= {
    "vanillanet": lambda: vanillanet(width=4, lam=0.3, depth=5),
    "sliding": lambda: loosen(small("plain")),
    "frozen": lambda: freeze(small("scaler"), ["classifier", "bn.statistics", "conv3"]),
    "side": lambda: attach(freeze(small("plain"), "all")),
    "side-turned": lambda: attach(small("plain"), order="conv1-conv3"),
    "side-beside": lambda: attach(small("plain"), bn=True),
    "side-after": lambda: attach(small("plain"), join="after-bn"),
    "side-lam": lambda: attach(small("plain"), lam=0.5),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("training", [False, True])
def test_every_replicate_gives_its_own_logits_and_comes_back(randomised, name, training):
    nets = [net.train(training) for net in replicates(randomised, NETS[name])]
    before, x = copy.deepcopy(nets), torch.randn(MANY, 4, 1, 13, 11, dtype=torch.float64)
    nets = [net.double() for net in nets]
    stacked = stack(nets)
    assert all(same(net, old.double()) for net, old in zip(nets, before, strict=True))  # what was handed in stays
    assert all(same(net, back) for net, back in zip(nets, unstack(stacked), strict=True))
    with torch.no_grad():
        torch.testing.assert_close(stacked(x), torch.stack([net(own) for net, own in zip(nets, x, strict=True)]), rtol=0, atol=1e-12)
    if training:  # the statistics have moved alike
        for net, back in zip(nets, unstack(stacked), strict=True):
            for a, b in zip(net.state_dict().values(), back.state_dict().values(), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["scaler", "side", "frozen", "inverted"])
def test_gradients_are_each_ones_own(randomised, name):
    nets = [net.double().train() for net in replicates(randomised, NETS[name])]
    x, stacked = torch.randn(MANY, 4, 1, 13, 11, dtype=torch.float64), stack(nets)
    weights = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    (weights * stacked(x).pow(2).flatten(1).sum(1)).sum().backward()
    for net, own, factor in zip(nets, x, weights, strict=True):
        (factor * net(own).pow(2).sum()).backward()
    grads = copy.deepcopy(stacked)
    for parameter, given in zip(grads.parameters(), stacked.parameters(), strict=True):
        parameter.data = torch.zeros_like(given) if given.grad is None else given.grad
    for net, found in zip(nets, unstack(grads), strict=True):
        for (where, parameter), grad in zip(net.named_parameters(), found.parameters(), strict=True):
            assert parameter.requires_grad == grad.requires_grad, where
            if parameter.grad is not None:
                torch.testing.assert_close(grad.data, parameter.grad, rtol=1e-9, atol=1e-9)


def test_a_side_branch_folds_after_as_before(randomised):
    nets = [net.double().eval() for net in replicates(randomised, NETS["side"])]
    for net, back in zip(nets, unstack(stack(nets)), strict=True):
        assert same(fold(net), fold(back))


def test_one_that_is_not_finite_leaves_the_others_alone(randomised):
    nets = replicates(randomised, NETS["scaler"])
    nets[1].stem[0].weight.data.fill_(float("nan"))
    x = torch.randn(MANY, 4, 1, 13, 11, dtype=torch.float64)
    logits = stack(nets).eval()(x)
    assert torch.isfinite(logits).flatten(1).all(1).tolist() == [True, False, True]


def test_a_lam_moves_in_all_of_them(randomised):
    nets = [net.eval() for net in replicates(randomised, NETS["lambda"])]
    stacked = stack(nets)
    for module in stacked.modules():
        if isinstance(module, LambdaReLU):
            module.lam.fill_(1.0)
    for back in unstack(stacked):
        assert {module.lam.item() for module in back.modules() if isinstance(module, LambdaReLU)} == {1.0}


def test_one_network_can_be_stacked(randomised):
    (net,) = replicates(randomised, NETS["plain"], many=1)
    (back,) = unstack(stack([net]))
    assert isinstance(stack([net]), Stacked)
    assert same(net, back)


class Mixing(nn.Module):
    def forward(self, x):
        return x.softmax(1)


REFUSED = {
    "no networks": lambda: [],
    "network 1 has other parts than the first: stage1.1": lambda: [small("plain"), small("plain", depth=14)],
    "network 1 differs at stem.0": lambda: [small("plain"), small("plain", width=8)],
    "network 2 differs at stage1.0: ": lambda: [small("scaler"), small("scaler"), small("scaler", scaler=0.5)],
    "network 1 differs at classifier": lambda: [small("plain"), freeze(small("plain"), "classifier.weight")],
    "network 1 differs at stage1.0.act": lambda: [vanillanet(width=4, lam=0.0), vanillanet(width=4, lam=0.5)],
    "network 1 differs at its top": lambda: [small("plain"), small("plain").eval()],
    "nobody knows whether a LearnedReLU keeps replicates apart": lambda: [learn_lam(small("lambda"))] * 2,
    "nobody knows whether a Mixing keeps": lambda: [nn.Sequential(nn.Conv2d(1, 2, 1), Mixing())] * 2,
    "nobody knows whether a Dropout": lambda: [nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout())] * 2,
    "nobody knows whether a GraphModule": lambda: [fuse(small("plain").eval())] * 2,
    "nobody knows whether a GroupNorm": lambda: [nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2))] * 2,
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_stacked_is_refused_in_one_line(message):
    with pytest.raises(MoveError, match="stack: ") as caught:
        stack(REFUSED[message]())
    assert "\n" not in str(caught.value)
    assert message.split("stage1.0.act")[0] in str(caught.value)
