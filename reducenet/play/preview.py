"""Sentences played in miniature, untrained: what a run would refuse is refused before anything trains.

`python -m reducenet.play.preview` reads a study's chains from standard input and prints a line of JSON for each arm that cannot be played,
as it is found. Every move is made for real, on the data set's first images; a fit takes one step. What comes after a search rests on a
decision that an untrained network may take otherwise, so nothing there is held against an arm.
"""

import json
import sys

import torch

from reducenet import words
from reducenet.algebra.exact import NotExact
from reducenet.data.tensors import Data, Split, load
from reducenet.play.play import Bench, play
from reducenet.words import MoveError, arms_named, find

ONE_STEP = {"epochs": 1, "cost_of": None, "lr": 1e-4}


class Preview:
    """The chains of a study, played as far as they go; beginnings that arms share are played once."""

    def __init__(self, chains: dict[str, list[dict]], data: Data):
        self.chains, self.played = chains, {}
        self.images, self.few = _first(data, 256), _first(data, 16)

    def refusal(self, arm: str) -> str | None:
        """Why the chain of this arm cannot be played, in the words of the run; None where it can."""
        chain = self.chains[arm]
        for length in range(1, len(chain) + 1):
            try:
                self.at(chain[:length])
            except (MoveError, NotExact) as error:
                searched = any(find("sentence", name).kind == "search" for move in chain[: length - 1] for name in move)
                return None if searched else " ".join(str(error).split())
            except Exception:  # too few images, a table of zeros: the miniature's own trouble
                return None
        return None

    def at(self, chain: list[dict]):
        """What is played after this beginning of a chain."""
        key = json.dumps(chain)
        if key not in self.played:
            *before, move = chain
            start = self.at(before) if before else None
            self.played[key] = self._one(move, start, sum("fit" in other for other in before))
        return self.played[key]

    def _one(self, move: dict, start, nth_fit: int):
        ((name, given),) = move.items()
        kind = find("sentence", name).kind
        named = {parameter: arm for parameter, arm in arms_named(move) if parameter != "cost_of"}
        nets = {parameter: self.at(self.chains[arm]) for parameter, arm in named.items()}
        bench = Bench(
            self.few if kind == "fit" else self.images,
            networks={parameter: played.net for parameter, played in nets.items()},
            replicates=tuple((0.5, played.sentence, lambda net=played.net: net) for played in nets.values()) * given.get("tickets", 0),
        )
        if kind == "fit":
            given = given | ONE_STEP
        elif given.get("epochs"):
            given = given | {"epochs": 1}
        net, before = (start.net, start.sentence) if start else (None, [])
        return play([{name: given}], bench, net=net, before=before, nth_fit=nth_fit)


def _first(data: Data, count: int) -> Data:
    """The first images of the data set, as many as `count` of each part."""
    val, test = (Split(part.images[:count], part.labels[:count]) for part in (data.val, data.test))
    return Data(data.name, data.classes, data.subset(count).train, val, test, data.mean, data.std, data.pad)


def main() -> None:
    asked = json.load(sys.stdin)
    torch.set_num_threads(1)
    for file in asked["own_words"]:
        words.add(file)
    preview = Preview(asked["chains"], load(asked["data"]))
    for arm in asked["chains"]:
        if why := preview.refusal(arm):
            print(json.dumps({"arm": arm, "why": why}), flush=True)


if __name__ == "__main__":
    main()
