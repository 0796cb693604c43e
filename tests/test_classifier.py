"""Other classifiers: rows in another order, rows of another network."""

import pytest
import torch
from networks import small
from torch import nn

from reducenet import MoveError, freeze, load_data
from reducenet.methods.graft import graft
from reducenet.moves.classifier import permute_classes


def images(net):
    return torch.randn(5, 1, 13, 11, dtype=next(net.parameters()).dtype)


@pytest.mark.parametrize("seed", range(20))
def test_every_class_moves_and_nothing_else_changes(randomised, seed):
    net = randomised(small("plain"), seed).double().eval()
    nn.init.normal_(net.classifier.bias)
    other, x = permute_classes(net, seed=seed), images(net)
    before, after = net(x), other(x)
    order = [next(c for c in range(4) if torch.equal(after[:, place], before[:, c])) for place in range(4)]
    assert sorted(order) == list(range(4))
    assert all(place != c for place, c in enumerate(order))
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, other.state_dict()[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_the_order_is_the_seeds_own(randomised):
    net = randomised(small("plain"))
    one, again, other = (permute_classes(net, seed=seed).classifier.weight for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_what_is_frozen_is_permuted_and_stays_frozen(randomised):
    net = permute_classes(freeze(randomised(small("plain")), "classifier"))
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize(
    ("net", "at", "says"),
    [
        (lambda: small("plain"), "head", "permute_classes: no linear layer matches 'head'; there are: classifier"),
        (lambda: small("plain"), "stem.0", "permute_classes: no linear layer matches 'stem.0'"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 1)), "1", "permute_classes: 1 has one class, which cannot move"),
    ],
)
def test_what_cannot_be_permuted_is_refused(net, at, says):
    with pytest.raises(MoveError, match=f"^{says}"):
        permute_classes(net(), at)


def test_a_graft_takes_the_numbers_of_the_other_and_nothing_else(randomised):
    net, other = (randomised(small("plain"), seed) for seed in (0, 1))
    for tensor in (*net.parameters(), *other.parameters()):
        tensor.data.add_(torch.randn_like(tensor))
    net = freeze(net, "classifier")
    made = graft(net, load_data("synthetic"), teacher=other, at=["classifier", "stem.*"])
    state, mine, theirs = made.state_dict(), net.state_dict(), other.state_dict()
    for name in state:
        assert torch.equal(state[name], (theirs if name.startswith(("classifier", "stem")) else mine)[name])
    assert [p.requires_grad for p in made.parameters()] == [p.requires_grad for p in net.parameters()]
    made.classifier.weight.data.zero_()
    assert other.classifier.weight.abs().min() > 0  # they share nothing


def test_a_graft_that_does_not_fit_is_refused(randomised):
    net = small("plain")
    with pytest.raises(
        MoveError, match=r"^graft: classifier is weight \[4, \d+\], bias \[4\], the other network has weight \[5, \d+\], bias \[5\]$"
    ):
        graft(net, load_data("synthetic"), teacher=small("plain", num_classes=5))
    with pytest.raises(MoveError, match="^graft: classifier is .*, the other network has none$"):
        graft(net, load_data("synthetic"), teacher=nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(MoveError, match="^graft: no module with numbers of its own matches 'head'"):
        graft(net, load_data("synthetic"), teacher=net, at="head")
