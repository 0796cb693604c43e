"""Versions: what a run's numbers depend on in the code, by word, and a trip-wire that notices when that code changes.

A word has a version, and so has what all runs share; keys are made of these. Beside each version `lock.json` holds a hash of the source it
was last seen with. Where the two differ, nothing is trained until `reducenet accept` has played finished runs again: the same numbers keep
the version, other numbers raise it. A version *is* the hash of the source that first gave its numbers, so versions of two branches never
collide, and a word that is not in the lock yet has its source for a version.
"""

import ast
import functools
import hashlib
import json
from pathlib import Path

from reducenet.words.declared import PACKAGE, find
from reducenet.words.face import homes
from reducenet.words.meaning import meaning
from reducenet.words.sentence import used
from reducenet.words.word import Word

FILE = Path(__file__).with_name("lock.json")
# What all runs share, by the modules it starts from; whatever these import belongs to it.
SHARED = {
    "train": ("reducenet.learn.train", "reducenet.play.play", "reducenet.play.checkpoint", "reducenet.data.tensors"),
    "together": ("reducenet.play.together",),
    "measure": ("reducenet.play.piece", "reducenet.play.timing"),
}
SHARED_PARTS = ("train", "count", "together", "measure")
COUNT = "reducenet.learn.measure"  # how multiply-adds are counted changes no network: a part by itself, and nobody else's
OWN_TIME = ("reducenet.words", "reducenet.store")  # what a sentence says is in the key itself, where its results lie changes no number


class Tripped(ValueError):
    """The source of a word is not what the lock knows; one line that names the words and the cure."""


def name_of(word: Word) -> str:
    """How the lock calls a word: "fit", "loss kd", "block scaler", "dataset synthetic"."""
    return f"{word.kind} {word.name}" if word.kind in ("loss", "block", "dataset") else word.name


def known() -> dict:
    """The lock: `{"words": {name: {"version", "source"}}, "shared": ..., "proofs": {machine: {run: digest}}}`."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {"shared": {}, "words": {}, "proofs": {}}


def version(word: Word) -> str:
    """The version of a word; its source where the lock does not know it."""
    entry = known_once()["words"].get(name_of(word))
    return entry["version"] if entry else source(word)


def shared_version(part: str) -> str:
    """The version of what all runs share: "train", "count", "together" or "measure"."""
    entry = known_once()["shared"].get(part)
    return entry["version"] if entry else shared_source(part)


@functools.cache
def known_once() -> dict:
    """`known()`, read once a process."""
    return known()


def words_of(moves: list[dict], data: str) -> list[Word]:
    """Every word that a run with these moves depends on, its data set and the losses, blocks and moves that are named included."""
    every = [find("dataset", data), *(word for move in moves for word in used(move))]
    return list({name_of(word): word for word in every}.values())


def check(every: list[Word]) -> None:
    """Raises `Tripped` where the source of one of these words, or of what all runs share, is not the one that the lock knows."""
    lock = known_once()
    tripped = [f"what all runs share ({part})" for part, e in lock["shared"].items() if e["source"] != shared_source(part)]
    entries = {name_of(word): (lock["words"].get(name_of(word)), word) for word in every}
    tripped += [name for name, (entry, word) in entries.items() if entry and entry["source"] != source(word)]
    if tripped:
        raise Tripped(f"the source of {', '.join(tripped)} has changed; `reducenet accept` plays finished runs again and finds out whether "
                      "that changes a number, before anything is trained")  # fmt: skip


# ---- the source of a word


@functools.cache
def shared_source(part: str) -> str:
    """A hash of the modules that all runs share: "train", "count", "together" (what training replicates together adds to training), or
    "measure" (what the others do not hold)."""
    return _hash(shared_modules(part))


@functools.cache
def shared_modules(part: str) -> frozenset[str]:
    if part == "count":
        return frozenset({COUNT})
    before = {"train": (), "together": ("train",), "measure": ("train", "together")}[part]
    return closure(*SHARED[part]).difference(*map(shared_modules, before))


def source(word: Word) -> str:
    """A hash of the module of the word and of all that it imports, what all runs share left out."""
    return _source(word.home, word.name)


@functools.cache
def _source(home: str, name: str) -> str:
    if not home.startswith("reducenet."):
        text = Path(home).read_text(encoding="utf-8")
        modules = frozenset().union(*map(closure, imported(text, ""))) - shared_modules("train")
        return hashlib.sha256(f"{meaning(text)}\n{_hash(modules)}".encode()).hexdigest()[:16]
    return _hash((closure(home) - shared_modules("train")) | ({home} if home not in shared_modules("train") else set()), name)


def _hash(modules, *more: str) -> str:
    digest = hashlib.sha256(repr(more).encode())
    for module in sorted(modules):
        digest.update(f"{module}\n{_meaning_of(module)}\n".encode())
    return digest.hexdigest()[:16]


@functools.cache
def closure(*start: str) -> frozenset[str]:
    """These modules of the package and all that they import, in whatever form, but for what has its own time."""
    found, new = set(), set(start)
    while new:
        found |= new
        named = {name for module in new for name in _imported_by(module)}
        new = {name for name in named if name != COUNT and not name.startswith(OWN_TIME)} - found
    return frozenset(found)


@functools.cache
def _imported_by(module: str) -> frozenset[str]:
    return imported(file_of(module).read_text(encoding="utf-8"), module)


@functools.cache
def _meaning_of(module: str) -> str:
    return meaning(file_of(module).read_text(encoding="utf-8"))


@functools.cache
def hash_of(*modules: str) -> str:
    """A hash of these modules alone."""
    return _hash(modules)


def file_of(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    package = path / "__init__.py"
    return package if package.is_file() else path.with_suffix(".py")


def imported(text: str, module: str) -> frozenset[str]:
    """The modules of the package that a source imports: absolute, relative, through the package's face, or by a string."""
    named = set()
    package = module if module and file_of(module).name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            named |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "reducenet":
            named |= {"reducenet", f"reducenet.{node.attr}"}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("reducenet."):
            named.add(node.value)
    ours = {name for name in named if name.startswith("reducenet.") and all(part.isidentifier() for part in name.split("."))}
    if named & {"reducenet"}:  # names of the package's face lie in other modules
        ours |= {homes().get(name.removeprefix("reducenet."), "") for name in named}
    return frozenset(name for name in ours if name and file_of(name).is_file())
