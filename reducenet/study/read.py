"""What a study file says: a study is arms, an arm is a sentence of moves. Parsed once, here.

`read(path)` gives a validated `Study` whose chains are whole, or a one-line `StudyError` that names the file, the key and what is allowed.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from reducenet.data.sources import located
from reducenet.words import Above0, Count, MoveError, Positive, Strict, arms_named, complaint, find, place, unknown, whole, words


class StudyError(ValueError):
    """A study file, or what it asks for, is wrong; one line."""


class Arm(Strict):
    """`label` is what figures say. `after` is the arm whose chain comes first."""

    label: str = ""
    after: str | None = None
    chain: list[str | dict]


class Compare(Strict):
    """Fixed before running: every arm against `baseline`, and the pairs in `also` (first minus second), of which the first is what the
    title asks; the smallest difference that matters, in points; on which images: "val" for a study that chooses something, "test" for one
    that reports."""

    baseline: str
    margin: Above0 = 0.5
    also: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    on: Literal["test", "val"] = "test"


class Study(Strict):
    """One study file. `build` and `fit` hold defaults for the moves of that name; `seeds` counts replicates, from `first_seed`;
    `together` says how many of these are trained at once, as one grouped network ("auto": as many as pays); `notes` are what a reader of
    the report should bear in mind. `chains` are the whole chains, `after` resolved, every parameter said."""

    title: str
    question: str = ""
    data: str
    seeds: Positive = 5
    first_seed: Count = 0
    threads: Positive = 1
    together: Positive | Literal["auto"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    build: dict = {}
    fit: dict = {}
    compare: Compare
    notes: list[str] = []
    arms: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], Arm] = Field(min_length=1)
    _chains: dict[str, list[dict]] = PrivateAttr(default_factory=dict)
    _folder: Path = PrivateAttr(default=Path())

    @property
    def chains(self) -> dict[str, list[dict]]:
        return self._chains

    @property
    def images(self) -> str:
        """`data`, as it is said anywhere: one's own lie where the study file says, seen from there."""
        return located(self.data, self._folder)

    @property
    def defaults(self) -> dict[str, dict]:
        """What moves of these names are where a chain does not say."""
        return {"build": self.build, "fit": self.fit}

    @property
    def replicates(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    def label(self, arm: str) -> str:
        return self.arms[arm].label or arm


def read(path: str | Path, build: dict | None = None, **instead) -> Study:
    """The study in the file; `build` goes before its own defaults of that name, `instead` replaces what it says itself."""
    path = Path(path)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        study = Study.model_validate(given | ({"build": given.get("build", {}) | build} if build else {}) | instead)
    except FileNotFoundError:
        there = ", ".join(sorted(str(p) for p in Path("ablations").glob("*.toml"))) or "none in ablations/"
        raise StudyError(f"{path}: no such study file; there are: {there}") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as TOML: {error}") from None
    except ValidationError as error:
        raise StudyError(f"{path}: {_first(error)}") from None
    try:
        study._folder = path.parent
        study._chains.update({name: _whole(study, name, []) for name in study.arms})
        for where, name in [("baseline", study.compare.baseline), *(("also", name) for pair in study.compare.also for name in pair)]:
            if name not in study.arms:
                raise StudyError(f"compare.{where}: {unknown('arm', name, study.arms)}")
        _check_defaults(study)
        _check_arms(study)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None
    return study


def _whole(study: Study, name: str, seen: list[str]) -> list[dict]:
    """The chain of arm `name` from its build on."""
    arm = study.arms[name]
    if name in seen:
        raise StudyError(f"arms.{name}.after: goes in a circle: {' -> '.join([*seen, name])}")
    if arm.after is not None and arm.after not in study.arms:
        raise StudyError(f"arms.{name}.after: {unknown('arm', arm.after, study.arms)}")
    before = _whole(study, arm.after, [*seen, name]) if arm.after else []
    chain = before + [_move(study, entry, f"arms.{name}.chain[{i}]") for i, entry in enumerate(arm.chain)]
    starts = words("build", "choice")
    if [i for i, move in enumerate(chain) if next(iter(move)) in starts] != [0]:
        raise StudyError(f'arms.{name}.chain: a chain has one {" or ".join(starts)}, at its start (or names its start with after = "ARM")')
    return chain


def _move(study: Study, entry: str | dict, where: str) -> dict:
    """`"fold"`, `{fold = {}}`, `{freeze = ["conv3"]}` or `{fit = {epochs = 2}}` as `{name: all parameters}`."""
    defaults = study.defaults
    if isinstance(entry, dict) and isinstance(given := entry.get("fit"), dict) and "cost_of" in given:  # instead of the epochs
        defaults = {**defaults, "fit": {key: value for key, value in study.fit.items() if key != "epochs"}}
    try:
        return whole(entry, defaults)
    except MoveError as error:
        raise StudyError(f"{where}: {error}") from None


def _check_defaults(study: Study) -> None:
    """A default that no arm reads is a slip of the pen."""
    for name, given in study.defaults.items():
        word = find("sentence", name)
        known = [p.name for p in (*word.parameters, *(p for other in words(word.choice.of_kind).values() for p in other.parameters))]
        for key in given:
            if key not in known:
                raise StudyError(f"{name}: {unknown('parameter', key, dict.fromkeys(known))}")


def _check_arms(study: Study) -> None:
    """Every arm that a move names exists, no arm needs itself, and one run has one teacher."""
    needs = {}
    for name, chain in study.chains.items():
        named = [(next(iter(move)), arm) for move in chain for _, arm in arms_named(move)]
        needs[name] = {other for _, other in named}
        for word, other in named:
            if other not in study.arms:
                raise StudyError(f"arms.{name}: {word}: {unknown('arm', other, study.arms)}")

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise StudyError(f"arms.{name}: needs itself: {' -> '.join((*path[path.index(name) :], name))}")
        for other in sorted(needs[name]):
            visit(other, (*path, name))

    for name in study.chains:
        visit(name, ())


def _first(error: ValidationError) -> str:
    """The first complaint of pydantic about a study file, in our words."""
    first = error.errors()[0]
    if first["type"] == "extra_forbidden":
        where = first["loc"][:-1]
        model: type[BaseModel] = {"arms": Arm, "compare": Compare}.get(str(where[0]) if where else "", Study)
        return f"{unknown('key', str(first['loc'][-1]), model.model_fields)}" + (f" (in {place(first)})" if where else "")
    return complaint(error)
