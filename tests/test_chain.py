import pytest
import torch

from reducenet import chain, home
from reducenet.net import build
from reducenet.study.vocabulary import MOVES


def test_every_word_has_a_function_and_every_function_is_a_word():
    """But `resize`, which no one writes: it is what `prune` decides."""
    kinds = (home.BUILDS, home.MOVES, home.SEARCHES, home.TUNES)
    words = [word for kind in kinds for word in kind]
    assert len(words) == len(set(words))
    assert {*words, "fit", "best_of"} - {"resize"} == set(MOVES)
    for word in words:
        assert callable(chain.function(word)), word
        assert chain.function(word).__doc__, word


def test_perform_plays_one_move():
    net = chain.perform(None, {"build": {"block": "scaler", "width": 4}}, seed=3)
    assert torch.equal(net.classifier.weight, build("scaler", width=4, seed=3).classifier.weight)
    assert not hasattr(chain.perform(net, {"drop_branch": {}}).stage1[0], "branch1")


@pytest.mark.parametrize(
    ("move", "message"),
    [({"shrink": {}}, "unknown move 'shrink'; known: build, vanillanet, fit, drop_branch"), ({"snap": {}}, "snap needs data")],
)
def test_what_cannot_be_performed(move, message):
    with pytest.raises(ValueError, match=message):
        chain.perform(None, move)
