"""Sentences: how a move is written, short and whole, and the performing of one that needs nothing but a network."""

import inspect
import json

from reducenet.words.declared import find, function, others
from reducenet.words.word import MoveError

PLAIN = ("build", "move")  # kinds that need a network and a seed, and nothing else


def split(move: str | dict) -> tuple[str, dict]:
    """The name of a move and its parameters, as far as they are said: `split({"freeze": "all"}) == ("freeze", {"parts": "all"})`."""
    if isinstance(move, str):
        return move, {}
    if not isinstance(move, dict) or len(move) != 1:
        raise MoveError(f"a move is a name or a table with one name, not {move!r}")
    ((name, given),) = move.items()
    if isinstance(given, dict):
        return name, given
    word = find("sentence", name)
    if not word.parameters:
        raise MoveError(f"{name}: takes no parameters, not {given!r}")
    return name, {word.parameters[0].name: given}


def whole(move: str | dict, defaults: dict[str, dict] | None = None) -> dict:
    """The move with every parameter written out: `whole("fold") == {"fold": {}}`. `MoveError`, one line, where it makes no sense.

    `defaults` are a study's own, by word.
    """
    name, given = split(move)
    word = find("sentence", name)
    try:
        return {name: word.whole(given, others(word), defaults=(defaults or {}).get(name))}
    except MoveError as error:
        raise MoveError(f"{name}: {error}") from None


def said(move: dict, *, arms: bool = True) -> dict:
    """The whole move without what is its default anyway, and without names of arms unless `arms`."""
    ((name, given),) = move.items()
    word = find("sentence", name)
    usual = {p.name: p for p in word.reads(given, others(word))}
    kept = [key for key in usual if key in given and given[key] != usual[key].default and (arms or not usual[key].names_an_arm)]
    return {name: {key: given[key] for key in kept}}


def arms_named(move: dict) -> list[tuple[str, str]]:
    """(parameter, arm) for every arm that the move names."""
    ((name, given),) = move.items()
    word = find("sentence", name)
    return [(p.name, given[p.name]) for p in word.reads(given, others(word)) if p.names_an_arm and given.get(p.name)]


def used(move: dict) -> list:
    """The words that a move uses: its own, and the block or the loss that it names."""
    name, given = split(move)
    word = find("sentence", name)
    chosen = given.get(word.choice.name, word.choice.default) if word.choice else None
    return [word] if chosen is None else [word, find(word.choice.of_kind, chosen)]


def caption(sentence: list[dict], defaults: dict[str, dict] | None = None) -> str:
    """A sentence in words, with what differs from the defaults in brackets: `build(plain) → fit(epochs 4) → drop_branch`."""
    words = []
    for move in sentence:
        ((name, given),) = move.items()
        word = find("sentence", name)
        usual = {p.name: p.default for p in word.reads(given, others(word))} | (defaults or {}).get(name, {})
        shown = [f"{key} {_short(value)}" for key, value in given.items()
                 if value is not None and (key == "block" or key not in usual or value != usual[key])]  # fmt: skip
        words.append(f"{name}({', '.join(shown)})" if shown else name)
    return " → ".join(words)


def _short(value) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value, ensure_ascii=False).strip('"')


def perform(net, move: str | dict, seed: int = 0):
    """The network after one build or move: `perform(net, "fold")`. What draws at random draws from `seed`."""
    name, given = split(move)
    word = find("sentence", name)
    if word.kind not in PLAIN:
        raise MoveError(f"{name} needs data: `play` performs it, or the function of that name")
    performed = function(word)
    seeded = {"seed": seed} if "seed" in inspect.signature(performed).parameters else {}
    return performed(*(() if word.kind == "build" else (net,)), **given, **seeded)
