"""The grammar in the terminal: every word, what it does, what it takes, and an example. All of it is read from the words themselves."""

import json
import re
import tomllib
from types import UnionType
from typing import Literal, Union, get_args, get_origin

from reducenet.words.declared import KINDS, PACKAGE, words
from reducenet.words.word import REQUIRED, MoveError, Parameter, Word, unknown

WHAT = {
    "build": "starts a sentence with a fresh network", "choice": "starts a sentence with the best of replicates", "fit": "trains",
    "move": "net -> net", "search": "net, data -> moves, which stand in its place", "tune": "net, data -> net, without training",
    "loss": "what a fit minimises: fit = { loss = NAME }", "block": "what a network is built of: build = { block = NAME }",
    "dataset": "data = NAME, at the head of a study",
}  # fmt: skip
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
BARE = re.compile(r"[\w-]+")  # keys that need no quotes
EXAMPLES = PACKAGE.parent / "ablations" / "words.toml"


def show(name: str | None = None) -> str:
    """All words in a line each, or one of them whole; `MoveError` that lists the words for a name that none has."""
    if name is None:
        wide = max(len(word) for kind in KINDS for word in words(kind))
        lines = []
        for kind in KINDS:
            lines += ["", f"{kind}: {WHAT[kind]}", *(f"  {word.name:{wide}}  {first_sentence(word)}" for word in words(kind).values())]
        return "\n".join([*lines[1:], "", "One of them, with its parameters and an example: reducenet words NAME"])
    found = [word for kind in KINDS for word in words(kind).values() if word.name == name]
    if not found:
        raise MoveError(unknown("word", name, {word: None for kind in KINDS for word in words(kind)}))
    return "\n\n".join(map(_whole, found))


def table() -> str:
    """The words by kind, as README shows them."""
    rows = [f"| {kind} | {WHAT[kind]} | {', '.join(f'`{name}`' for name in words(kind))} |" for kind in KINDS]
    return "\n".join(["| kind | what it does | words |", "|:--|:--|:--|", *rows])


def first_sentence(word: Word, width: int = 110) -> str:
    """The summary of a word, cut at a width."""
    text = word.summary
    return text if len(text) <= width else text[: text.rindex(" ", 0, width - 2)] + " …"


def _whole(word: Word) -> str:
    lines = [f"{word.name} ({word.kind}: {WHAT[word.kind]}{'; exact' if word.exact else ''})", "", word.says]
    if word.parameters:
        lines += ["", "parameters"]
        wide = max(len(p.name) for p in word.parameters)
        lines += [
            f"  {p.name:{wide}}  {kind_of(p)}{'' if p.default is REQUIRED else f', by default {toml(p.default)}'}" for p in word.parameters
        ]
    if word.choice:
        lines += [f"  and those of the {word.choice.of_kind} that it names (reducenet words NAME)"]
    if example := example_of(word):
        lines += ["", "example", f"  {example}"]
    return "\n".join(lines)


def kind_of(parameter: Parameter) -> str:
    """What a parameter may be, in words: `a number from 0 to 1`."""
    if parameter.names_an_arm:
        return "the name of an arm (in Python: its network)"
    if parameter.of_kind:
        return "one of " + ", ".join(words(parameter.of_kind))
    return _kind(parameter.type)


def _kind(annotation) -> str:
    if get_origin(annotation) in (UnionType, Union):
        return " or ".join(dict.fromkeys(_kind(part) for part in get_args(annotation) if part is not type(None)))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is list:
        return "a list of these"
    base = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(
        getattr(annotation, "__origin__", annotation)
    )
    bounds = [bound for mark in getattr(annotation, "__metadata__", ()) for bound in getattr(mark, "metadata", ())]
    limits = [f"{say} {getattr(bound, name):g}" for bound in bounds for name, say in BOUNDS.items() if hasattr(bound, name)]
    return " ".join([base or "a table", *([" and ".join(limits)] if limits else [])])


def example_of(word: Word) -> str:
    """How the word stands in a study file: from `ablations/words.toml`; "" where it is not there."""
    if word.kind == "dataset":
        return f'data = "{word.name}"'
    if not EXAMPLES.is_file():
        return ""
    moves = [move for arm in tomllib.loads(EXAMPLES.read_text(encoding="utf-8"))["arms"].values() for move in arm["chain"]]
    wanted = {"loss": ("fit", "loss"), "block": ("build", "block")}.get(word.kind)
    if wanted:
        move, key = wanted
        given = [(m, m[move]) for m in moves if isinstance(m, dict) and move in m]
        found = [m for m, said in given if word.name == (said.get(key) if isinstance(said, dict) else said)]
    else:
        found = [m for m in moves if m == word.name or (isinstance(m, dict) and word.name in m)]
    if wanted and not found:  # the one that stands where none is named
        found = [{move: {key: word.name}}]
    return toml(max(found, key=lambda m: isinstance(m, dict))) if found else ""


def toml(value) -> str:
    """A value as it is written in a study file: `{ fit = { epochs = 1 } }`."""
    if isinstance(value, dict):
        keys = {key: key if BARE.fullmatch(key) else json.dumps(key) for key in value}
        return "{ " + ", ".join(f"{keys[key]} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return "nothing" if value is None else json.dumps(value)
