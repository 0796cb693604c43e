"""A piece of a sentence played for several replicates: moves one by one, the fit at its end together, as one grouped network.

Each comes out as if it had been played alone, to rounding. What cannot stand side by side (networks of other shapes, a learned lam) is
fitted one by one, and why is said.
"""

from typing import NamedTuple

from torch import nn

from reducenet.learn.replicates import fit_replicates
from reducenet.play.play import Bench, Played, fit_alone, fit_options, fitted, play
from reducenet.words import MoveError, split


class Start(NamedTuple):
    """Where one replicate starts: as `play` has it."""

    bench: Bench
    net: nn.Module | None
    before: list[dict]
    seed: int


def play_together(moves: list[dict], starts: list[Start], *, nth_fit: int = 0) -> tuple[list[Played], str]:
    """What `play` gives for each of the starts, and why they were fitted apart ("" where they were not). The last move is the fit."""
    *first, last = moves
    played = [play(first, s.bench, net=s.net, before=s.before, seed=s.seed, nth_fit=nth_fit) for s in starts]
    _, given = split(last)
    try:
        options = _one(given, [fit_options(one, given, s.bench) for one, s in zip(played, starts, strict=True)])
        found = fit_replicates([one.net for one in played], starts[0].bench.data, seeds=[s.seed for s in starts], **options,
                               nth_fit=nth_fit, device=starts[0].bench.device, progress=starts[0].bench.progress)  # fmt: skip
    except MoveError as why:
        for one, s in zip(played, starts, strict=True):
            fit_alone(one, given, s.bench, s.seed, nth_fit)
        return played, str(why)
    for one, end in zip(played, found, strict=True):
        fitted(one, given, end)
    return played, ""


def _one(given: dict, options: list[dict]) -> dict:
    """The options of all as one: networks, of which each has its own, as a tuple. `MoveError` where anything else differs."""
    own = {name for name, value in options[0].items() if isinstance(value, nn.Module)}
    epochs = sorted({each["epochs"] for each in options})
    if len(epochs) > 1:
        raise MoveError(f"their cost buys {' or '.join(map(str, epochs))} epochs")
    return options[0] | {name: tuple(each[name] for each in options) for name in own}
