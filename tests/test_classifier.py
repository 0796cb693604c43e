"""Other classifiers: rows in another order, rows of another network."""

import pytest
import torch
from networks import small
from torch import nn

from reducenet import MoveError, freeze, load_data
from reducenet.methods.graft import graft
from reducenet.moves.classifier import drop_bias, permute_classes


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


@pytest.mark.parametrize("frozen", [False, True])
def test_without_its_bias_a_classifier_is_the_same_less_the_bias(randomised, frozen):
    net = randomised(small("plain")).double().eval()
    nn.init.normal_(net.classifier.bias)
    net = freeze(net, "classifier") if frozen else net
    made, x = drop_bias(net), images(net)
    assert (made(x) - (net(x) - net.classifier.bias)).abs().max() < 1e-12
    assert set(net.state_dict()) - set(made.state_dict()) == {"classifier.bias"}
    assert made.classifier.weight.requires_grad is not frozen
    assert net.classifier.bias is not None  # the one handed in keeps it


def test_a_layer_of_ones_own_loses_its_bias_and_a_second_time_it_is_refused():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    made = drop_bias(net, "2")
    assert made[0].bias is not None
    assert made[2].bias is None
    with pytest.raises(MoveError, match="^drop_bias: 2 has no bias$"):
        drop_bias(made, ["0", "2"])
    with pytest.raises(MoveError, match="^drop_bias: no linear layer matches 'head'; there are: 0, 2"):
        drop_bias(net, "head")


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
