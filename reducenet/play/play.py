"""The one interpreter of a sentence of moves: studies, checkpoints, notebooks and tests all play sentences here.

build, choice   start a network          afresh, or with the best of replicates
move            net -> net
search          net, data -> moves       decides; the moves it decides on are played and recorded in its place
tune            net, data -> net         other tensors, the same structure: without fit's epochs
fit             net, data -> net         trains

    play(sentence)                       structure only: what trains is passed over; so `load` gets the network that its tensors belong to
    play(sentence, Bench(data, ...))     everything
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from reducenet.data.tensors import Data, Split
from reducenet.learn import evaluate
from reducenet.learn.measure import Count
from reducenet.learn.train import DivergedError, Fitted, fit
from reducenet.nets.activation import slide
from reducenet.nets.seeding import drawing_from
from reducenet.words import MoveError, Word, find, function, others, perform, split, words


@dataclass(frozen=True)
class Bench:
    """What training needs, and no sentence says. Networks and replicates are looked up by the name of the parameter that asks for them.

    `networks["teacher"]` is the network that teaches. `replicates` are those that a choice is between: validation accuracy, sentence, and a
    function that gives the network. `epochs_for(net, fit)` turns `cost_of` into epochs. `asked(net)` is how a loss asks a network that
    teaches. Exact moves prove themselves on `probe`.
    """

    data: Data
    networks: Mapping[str, nn.Module] = field(default_factory=dict)
    replicates: tuple = ()
    epochs_for: Callable[[nn.Module, dict], int] | None = None
    asked: Callable[[nn.Module], nn.Module] = lambda net: net
    probe: Split | None = None
    device: str = "cpu"
    progress: bool | None = False


@dataclass
class Played:
    """A network and how it came about: the sentence as performed, decisions in place of searches; a row for each epoch of its last fit."""

    net: nn.Module | None
    sentence: list[dict]
    rows: list[dict] = field(default_factory=list)
    epochs: int = 0
    searched_macs: int = 0  # multiply-adds of searches and tunes, evaluations included
    seconds: float = 0.0  # of what trained, searched or tuned
    move_error: float | None = None  # the largest change of a logit by a move that calls itself exact
    diverged: bool = False


def play(sentence: list, bench: Bench | None = None, *, net: nn.Module | None = None, before: list[dict] = (), seed: int = 0,
         nth_fit: int = 0) -> Played:  # fmt: skip
    """The network that `sentence` leads to, from `net` and the sentence `before` it where there is one.

    `nth_fit` counts the fits before: with the seed it fixes what the next sees. Without a bench a fit leaves what it does to the structure
    (a slide ends at lam 1), tunes leave nothing, and searches, whose decisions are not known, raise `MoveError`. A fit that diverges ends
    the sentence.
    """
    played = Played(net, list(before))
    for move in sentence:
        name, given = split(move)
        word = find("sentence", name)
        starts = word.kind in ("build", "choice")
        if starts != (played.net is None):
            first = " or ".join(words("build", "choice"))
            raise MoveError(f"a sentence has one {first}, at its start" if starts else f"a sentence starts with {first}, not with {name}")
        _PLAYERS[word.kind](played, word, given, bench, seed, nth_fit)
        nth_fit += word.kind == "fit"
        if played.diverged:
            break
    if played.net is None:
        raise MoveError("the sentence is empty")
    return played


def _build(played: Played, word: Word, given: dict, bench: Bench | None, seed: int, nth_fit: int) -> None:
    if bench is not None:
        given = {**given, "num_classes": len(bench.data.classes), "in_channels": bench.data.in_channels}
    with drawing_from(seed, word.name):  # one's own network may draw its start from torch's stream
        played.net = perform(None, {word.name: given}, seed)
    played.sentence.append({word.name: given})


def _choose(played: Played, word: Word, given: dict, bench: Bench | None, seed: int, nth_fit: int) -> None:
    """A network that was trained already goes on, with its own sentence."""
    if bench is None:
        raise MoveError(f"{word.name}: which one is chosen is not known before they are trained")
    best = function(word)([accuracy for accuracy, _, _ in bench.replicates], **given)
    _, sentence, network = bench.replicates[best]
    played.sentence, played.net = list(sentence), network()


def _move(played: Played, word: Word, given: dict, bench: Bench | None, seed: int, nth_fit: int) -> None:
    move, net = {word.name: given}, played.net.eval()
    played.net = perform(net, move, seed)
    played.sentence.append(move)
    if word.exact and bench is not None and bench.probe is not None:
        error = evaluate.difference(net, perform(copy.deepcopy(net).double(), move, seed), bench.data, bench.probe)
        played.move_error = max(error, played.move_error or 0.0)


def _search(played: Played, word: Word, given: dict, bench: Bench | None, seed: int, nth_fit: int) -> None:
    if bench is None:
        raise MoveError(f"{word.name}: what it decides is not known before it has data")
    for decision in _counted(played, word, given, bench, seed):
        name, decided = split(decision)
        _move(played, find("move", name), decided, bench, seed, nth_fit)


def _tune(played: Played, word: Word, given: dict, bench: Bench | None, seed: int, nth_fit: int) -> None:
    if bench is not None:
        played.net = _counted(played, word, given, bench, seed)
    played.sentence.append({word.name: given})


def _counted(played: Played, word: Word, given: dict, bench: Bench, seed: int):
    """What a search or a tune gives; what it costs, every multiply-add of it, is added up."""
    start = time.perf_counter()
    with Count() as count:
        made = function(word)(played.net, bench.data, **_with_networks(word, given, bench), seed=seed, device=bench.device)
    played.searched_macs += count.macs
    played.seconds += time.perf_counter() - start
    return made


def _fit(played: Played, word: Word, given: dict, bench: Bench | None, seed: int, nth_fit: int) -> None:
    if bench is not None:
        fit_alone(played, given, bench, seed, nth_fit)
        return
    played.sentence.append({word.name: given})
    if given.get("slide"):
        slide()(played.net, 1.0)  # where such a fit ends; a fuse may follow


def fit_alone(played: Played, given: dict, bench: Bench, seed: int, nth_fit: int) -> None:
    """The fit that `given` asks for."""
    options = fit_options(played, given, bench)
    try:
        with drawing_from(seed, "fit", nth_fit):  # Dropout does
            found = fit(played.net, bench.data, **options, seed=seed, nth_fit=nth_fit, device=bench.device, progress=bench.progress)
    except DivergedError as error:
        found = error
    fitted(played, given, found)


def fit_options(played: Played, given: dict, bench: Bench) -> dict:
    """What `fit` is called with: networks in place of arms' names, epochs in place of what they may cost."""
    word = find("sentence", "fit")
    options = _with_networks(word, given, bench)
    if find("loss", given.get("loss", word.choice.default)).options.get("asks"):  # what it asks can be remembered
        options = {name: bench.asked(value) if isinstance(value, nn.Module) else value for name, value in options.items()}
    if options.pop("cost_of", None) is not None:
        options["epochs"] = bench.epochs_for(played.net, given)
    return options


def fitted(played: Played, given: dict, found: Fitted | DivergedError) -> None:
    """Write down what a fit has given."""
    played.sentence.append({"fit": given})
    played.rows, played.diverged = found.rows, isinstance(found, DivergedError)
    played.net = played.net if played.diverged else found.net
    played.epochs += len(played.rows) + played.diverged
    played.seconds += sum(row["seconds"] for row in played.rows)


def _with_networks(word: Word, given: dict, bench: Bench) -> dict:
    """The parameters, with the network of an arm in place of its name."""
    named = [p.name for p in word.reads(given, others(word)) if p.names_an_arm and given.get(p.name) is not None]
    return given | {name: bench.networks[name] for name in named if name in bench.networks}


_PLAYERS = {"build": _build, "choice": _choose, "move": _move, "search": _search, "tune": _tune, "fit": _fit}
