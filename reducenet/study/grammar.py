"""What a study file says: a study is arms, an arm is a chain of moves in the words of `vocabulary`.

`read(path)` gives a validated `Study` or a one-line `StudyError` that names the file, the key and what is allowed.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from reducenet.study.vocabulary import ARMS, STARTS, VOCABULARY, Above0, Count, Positive, Words, idle


class StudyError(ValueError):
    """A study file, or what it asks for, is wrong; one line."""


class Arm(Words):
    """`label` is what figures say. `after` is the arm whose chain comes first."""

    label: str = ""
    after: str | None = None
    chain: list[str | dict]


class Compare(Words):
    """Fixed before running: every arm against `baseline`, and the pairs in `also` (first minus second); the smallest difference that
    matters, in points; on which images: "val" for a study that chooses something, "test" for one that reports."""

    baseline: str
    margin: Above0 = 0.5
    also: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    on: Literal["test", "val"] = "test"


class Study(Words):
    """One study file. `build` and `fit` hold defaults for the moves of that name; `seeds` counts replicates, from `first_seed`;
    `notes` are what a reader of the report should bear in mind."""

    title: str
    question: str = ""
    data: str
    seeds: Positive = 5
    first_seed: Count = 0
    threads: Positive = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    build: dict = {}
    fit: dict = {}
    compare: Compare
    notes: list[str] = []
    arms: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], Arm] = Field(min_length=1)


def read(path: str | Path) -> tuple[Study, dict[str, list[dict]]]:
    """The study in the file, and the whole chain of every arm: moves with all parameters written out, `after` resolved."""
    path = Path(path)
    try:
        study = Study.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        there = ", ".join(sorted(str(p) for p in Path("ablations").glob("*.toml"))) or "none in ablations/"
        raise StudyError(f"{path}: no such study file; there are: {there}") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as TOML: {error}") from None
    except ValidationError as error:
        raise StudyError(f"{path}: {_first(error, Study)}") from None
    try:
        chains = {name: _whole(study, name, []) for name in study.arms}
        for where, name in [("baseline", study.compare.baseline), *(("also", name) for pair in study.compare.also for name in pair)]:
            if name not in study.arms:
                raise StudyError(f"compare.{where}: {_unknown('arm', name, study.arms)}")
        _check_arms(study, chains)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None
    return study, chains


def _whole(study: Study, name: str, seen: list[str]) -> list[dict]:
    """The chain of arm `name` from its build on."""
    arm = study.arms[name]
    if name in seen:
        raise StudyError(f"arms.{name}.after: goes in a circle: {' -> '.join([*seen, name])}")
    if arm.after is not None and arm.after not in study.arms:
        raise StudyError(f"arms.{name}.after: {_unknown('arm', arm.after, study.arms)}")
    before = _whole(study, arm.after, [*seen, name]) if arm.after else []
    chain = before + [_move(study, entry, f"arms.{name}.chain[{i}]") for i, entry in enumerate(arm.chain)]
    starts = [i for i, move in enumerate(chain) if next(iter(move)) in STARTS]
    if starts != [0]:
        raise StudyError(f'arms.{name}.chain: a chain has one {" or ".join(STARTS)}, at its start (or names its start with after = "ARM")')
    return chain


def _move(study: Study, entry: str | dict, where: str) -> dict:
    """`"fold"`, `{fold = {}}`, `{freeze = ["conv3"]}` or `{fit = {epochs = 2}}` as `{name: all parameters}`."""
    if isinstance(entry, dict) and len(entry) != 1:
        raise StudyError(f"{where}: a move is a name or a table with one name, not {entry!r}")
    name, given = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    if name not in VOCABULARY:
        raise StudyError(f"{where}: {_unknown('move', name, VOCABULARY)}")
    model = VOCABULARY[name]
    if not isinstance(given, dict):
        if not model.model_fields:
            raise StudyError(f"{where}.{name}: takes no parameters")
        given = {next(iter(model.model_fields)): given}
    defaults = {"build": study.build, "fit": study.fit}.get(name, {})
    if "cost_of" in given:
        defaults = {key: value for key, value in defaults.items() if key != "epochs"}
    try:
        whole = model.model_validate(defaults | given).model_dump(mode="json")
    except ValidationError as error:
        raise StudyError(f"{where}.{name}: {_first(error, model)}") from None
    if unread := [key for key in given if key in idle(name, whole)]:
        raise StudyError(f"{where}.{name}: nothing reads {unread[0]!r} here; leave it out")
    return {name: whole}


def _check_arms(study: Study, chains: dict[str, list[dict]]) -> None:
    """Every arm that a move names exists, and no arm needs itself."""
    needs = {}
    for name, chain in chains.items():
        named = [(word, given[role]) for move in chain for word, given in move.items() for role in ARMS if given.get(role)]
        needs[name] = {other for _, other in named}
        for word, other in named:
            if other not in study.arms:
                raise StudyError(f"arms.{name}: {word}: {_unknown('arm', other, study.arms)}")

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise StudyError(f"arms.{name}: needs itself: {' -> '.join((*path[path.index(name) :], name))}")
        for other in sorted(needs[name]):
            visit(other, (*path, name))

    for name in chains:
        visit(name, ())


def _unknown(kind: str, name: str, known) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"unknown {kind} {name!r}{f' (did you mean {close[0]!r}?)' if close else ''}; known: {', '.join(known)}"


def _first(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of pydantic, in our words; how many more there are."""
    first, *rest = error.errors()
    kinds = ("str", "dict", "int", "float", "constrained-int", "constrained-float")  # pydantic's names for what a value might have been
    place = ".".join(str(part) for part in first["loc"] if part not in kinds and "[" not in str(part))
    more = f" (and {len(rest)} more)" if rest and first["type"] != "extra_forbidden" else ""
    if first["type"] == "extra_forbidden":
        fields = _fields_at(model, first["loc"][:-1])
        return f"{_unknown('key', str(first['loc'][-1]), fields)}" + (f" (in {place})" if len(first["loc"]) > 1 else "")
    if first["type"] == "missing":
        return f"{place}: is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    given = f", not {first['input']!r}" if place and not isinstance(first["input"], dict) else ""
    return f"{place}: {message}{given}{more}" if place else f"{message}{more}"


def _fields_at(model: type[BaseModel], location: tuple) -> list[str]:
    """The field names of the model that `location` leads to."""
    if location[:1] == ("arms",):
        model = Arm
    elif location[:1] == ("compare",):
        model = Compare
    return list(model.model_fields)
