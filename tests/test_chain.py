import pytest
import torch

from reducenet import chain, home, moves
from reducenet.net import build
from reducenet.rivals import layerfolding
from reducenet.study.vocabulary import VOCABULARY


def test_every_word_has_a_function_and_every_function_is_a_word():
    """But `resize`, which no one writes: it is what `prune` decides."""
    kinds = (home.BUILDS, home.MOVES, home.SEARCHES, home.TUNES)
    words = [word for kind in kinds for word in kind]
    assert len(words) == len(set(words))
    assert {*words, "fit", "best_of"} - {"resize"} == set(VOCABULARY)
    for word in words:
        assert callable(chain.function(word)), word
        assert chain.function(word).__doc__, word


def test_perform_plays_one_move():
    net = chain.perform(None, {"build": {"block": "scaler", "width": 4}}, seed=3)
    assert torch.equal(net.classifier.weight, build("scaler", width=4, seed=3).classifier.weight)
    assert not hasattr(chain.perform(net, {"drop_branch": {}}).stage1[0], "branch1")


def test_whatever_draws_gets_the_seed_of_the_run(monkeypatch):
    """A move of one's own too: nothing has to be said about it but its signature."""
    drawn = []

    def shake(net, sigma, *, seed=0):
        drawn.append((sigma, seed))
        return net

    monkeypatch.setitem(home.MOVES, "shake", "moves")
    monkeypatch.setattr(moves, "shake", shake, raising=False)
    chain.perform(build("plain", width=4), {"shake": 0.5}, seed=7)
    assert drawn == [(0.5, 7)]


@pytest.mark.parametrize(
    ("move", "message"),
    [({"shrink": {}}, "unknown move 'shrink'; known: build, vanillanet, fit, drop_branch"), ({"snap": {}}, "snap needs data")],
)
def test_what_cannot_be_performed(move, message):
    with pytest.raises(ValueError, match=message):
        chain.perform(None, move)


def test_the_hooks_of_a_fit():
    assert chain.hooks({"epochs": 1}) == []
    net = build("lambda", width=4)
    (hook,) = chain.hooks({"lam": "linear", "lam_until": 0.5})
    for progress, lam in ((0.25, 0.5), (0.5, 1.0), (0.75, 1.0)):
        hook(net, progress)
        assert net.stage1[0].pair[2].lam == lam
    assert chain.hooks({"lam_weight": 0.1}) == [layerfolding.keep_in_range]


def test_the_penalty_on_lam_is_part_of_the_loss():
    net, x, y = layerfolding.learn_lam(build("lambda", width=4)), torch.randn(2, 1, 12, 12), torch.tensor([0, 1])
    plain, more = (chain.objective({"loss": "ce", "lam_weight": weight})(net, x, y)[0] for weight in (0.0, 0.5))
    torch.testing.assert_close(more - plain, 0.5 * layerfolding.lam_penalty(net))
