"""What a study file says: a study is arms, an arm is a sentence of moves. Parsed once, here.

`read(path)` gives a validated `Study` whose chains are whole, or a one-line `StudyError` that names the file, the key and what is allowed.
"""

import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from reducenet.data.sources import located
from reducenet.study.tuning.choices import Choice, Grid, OwnGrid, Tuning, contradiction, read_choices, with_rate
from reducenet.words import (
    Above0,
    Count,
    MoveError,
    Positive,
    Strict,
    arms_named,
    complaint,
    find,
    place,
    unknown,
    used,
    whole,
    words,
)

TABLES = ("build", "fit", "arms")  # of a study that extends another: what both say is joined
TICKET = 1000  # tickets of seed s are the replicates s, s + 1000, s + 2000, ...


class StudyError(ValueError):
    """A study file, or what it asks for, is wrong; one line."""


class Untuned(StudyError):
    """Learning rates have to be chosen before anything else can be done; one line."""


class Arm(Strict):
    """`label` is what figures say. `after` is the arm whose chain comes first. `tune`: a grid of its own, or false for what it says."""

    label: str = ""
    after: str | None = None
    chain: list[str | dict]
    tune: OwnGrid = True

    @property
    def last_fit(self) -> int | None:
        """Where in the arm's own chain its last fit stands."""
        names = [entry if isinstance(entry, str) else next(iter(entry), "") for entry in self.chain]
        return len(names) - 1 - names[::-1].index("fit") if "fit" in names else None


class Compare(Strict):
    """Fixed before running: every arm against `baseline`, and the pairs in `also` (first minus second), of which the first is what the
    title asks; the smallest difference that matters, in points; on which images: "val" for a study that chooses something, "test" for one
    that reports. `steps` are pairs of these in an order of their own, each one change on from the last: the report draws what each changes.
    """

    baseline: str
    margin: Above0 = 0.5
    also: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    steps: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    on: Literal["test", "val"] = "test"


class Study(Strict):
    """One study file; where it says `extends = "OTHER"`, after what the study beside it says; `only = [...]` takes these arms of it.

    `build` and `fit` hold defaults for the moves of that name; `seeds` counts replicates, from `first_seed`; `together` says how many of
    these are trained at once, as one grouped network ("auto": as many as pays); `notes` are what a reader of the report should bear in
    mind. With `tune`, the last fit of every arm gets the learning rate that was chosen for it: `choices`, as far as they are made.
    `chains` are the whole chains, `after` resolved, every parameter said.
    """

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
    tune: Tuning | None = None
    compare: Compare
    notes: list[str] = []
    arms: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], Arm] = Field(min_length=1)
    _chains: dict[str, list[dict]] = PrivateAttr(default_factory=dict)
    _choices: dict[str, Choice] = PrivateAttr(default_factory=dict)
    _file: Path = PrivateAttr(default=Path())

    @property
    def chains(self) -> dict[str, list[dict]]:
        return self._chains

    @property
    def choices(self) -> dict[str, Choice]:
        return self._choices

    @property
    def tuned(self) -> list[str]:
        """The arms whose learning rate is chosen: all that have a fit of their own and do not keep what they say."""
        return [name for name, arm in self.arms.items() if self.tune and arm.tune and arm.last_fit is not None]

    def grid(self, arm: str) -> list[float]:
        """The learning rates that are tried for a tuned arm."""
        own = self.arms[arm].tune
        return own.lr if isinstance(own, Grid) else self.tune.lr

    def stands_on(self, arm: str, but: Collection[str] = ()) -> set[str]:
        """The arms that an arm needs: those that it goes on from, that teach it or set its budget, and what these need in turn; `but` says
        which parameters do not count."""
        found = {other for move in self.chains[arm] for parameter, other in arms_named(move) if parameter not in but}
        found |= {self.arms[arm].after} - {None}
        return found.union(*(self.stands_on(other, but) for other in found))

    def chosen(self, choices: dict[str, Choice]) -> "Study":
        """The same study with these choices in its chains."""
        study = self.model_copy()
        study._choices = {arm: choices[arm] for arm in self.tuned if arm in choices}
        study._chains = {name: _whole(study, name, []) for name in study.arms}
        return study

    def of(self, chains: dict[str, list[dict]], **instead) -> "Study":
        """A study of these whole chains, otherwise like this one; nothing in it is tuned."""
        study = self.model_copy(update={"arms": {name: Arm(chain=[]) for name in chains}, "tune": None, **instead})
        study._chains, study._choices = chains, {}
        return study

    @property
    def images(self) -> str:
        """`data`, as it is said anywhere: one's own lie where the study file says, seen from there."""
        return located(self.data, self._file.parent)

    @property
    def command(self) -> str:
        """The study, as `reducenet run` is told of it: its name where it lies in ablations/; else, seen from the folder that its own is in,
        its file and that of every word that is not the package's."""
        folder, every = self._file.absolute().parent, [word for chain in self.chains.values() for move in chain for word in used(move)]
        own = {word.home for word in [find("dataset", self.images), *every] if Path(word.home).is_absolute()}
        name = self._file.stem if folder.name == "ablations" else f"{folder.name}/{self._file.name}"
        return " ".join([name, *(f"--words {os.path.relpath(home, folder.parent)}" for home in sorted(own))])

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
        given, files = _said(path)
        study = Study.model_validate(given | ({"build": given.get("build", {}) | build} if build else {}) | instead)
    except FileNotFoundError:
        there = sorted(file.stem for file in Path("ablations").glob("*.toml"))
        raise StudyError(f"{path}: no such study file; {unknown('study', path.stem, there)}") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as TOML: {error}") from None
    except ValidationError as error:
        raise StudyError(f"{path}: {_first(error)}") from None
    try:
        study._file = path
        made = [read_choices(file) for file in files] if study.tune else []
        study = study.chosen({arm: choice for choices in made for arm, choice in choices.items()})
        for where, name in [("baseline", study.compare.baseline), *(("also", name) for pair in study.compare.also for name in pair)]:
            if name not in study.arms:
                raise StudyError(f"compare.{where}: {unknown('arm', name, study.arms)}")
        for pair in study.compare.steps:
            if pair not in study.compare.also and (pair[1] != study.compare.baseline or pair[0] not in study.arms or pair[0] == pair[1]):
                raise StudyError(f"compare.steps: {pair[0]!r} is not compared with {pair[1]!r}; a step is a pair of `also`, or an arm "
                                 "with the baseline")  # fmt: skip
        _check_defaults(study)
        _check_arms(study)
        if why := contradiction(study.tune, study.arms, study.tuned, {seed % TICKET for seed in study.replicates}, TICKET):
            raise StudyError(why)
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from None
    return study


def _said(path: Path, after: tuple[Path, ...] = ()) -> tuple[dict, list[Path]]:
    """What the file says, after what the study says that it `extends`, and the files that say it, the first one first.

    The tables of both are one, all else is the file's own; with `only`, a list of arms, the others of the extended study are left out.
    """
    if path in after:
        raise StudyError(f"{path}: extends: goes in a circle: {' -> '.join(file.stem for file in (*after, path))}")
    given = tomllib.loads(path.read_text(encoding="utf-8"))
    other, only = given.pop("extends", None), given.pop("only", None)
    if other is None:
        if only is not None:
            raise StudyError(f'{path}: only: names arms of the study that this one extends; say which, extends = "OTHER"')
        return given, [path]
    known = {file.stem: file for file in sorted(path.parent.glob("*.toml"))}
    if other not in [*known]:
        others = ", ".join(name for name in known if name != path.stem)
        raise StudyError(f"{path}: extends: no study {other!r} beside it; there are: {others or 'none'}")
    base, files = _said(known[other], (*after, path))
    if only is not None:
        base["arms"] = _only(path, base.get("arms", {}), only)
    tables = {name: base.get(name, {}) | given.get(name, {}) for name in TABLES if name in base or name in given}
    return base | given | tables, [*files, path]


def _only(path: Path, arms: dict, only: object) -> dict:
    """The arms that are named, in the order of the study that has them."""
    if type(only) is not list:
        raise StudyError(f"{path}: only: must be a list of arms, not {only!r}")
    if missing := [name for name in only if name not in [*arms]]:
        raise StudyError(f"{path}: only: {unknown('arm', str(missing[0]), arms)}")
    return {name: arm for name, arm in arms.items() if name in only}


def _whole(study: Study, name: str, seen: list[str]) -> list[dict]:
    """The chain of arm `name` from its build on."""
    arm = study.arms[name]
    if name in seen:
        raise StudyError(f"arms.{name}.after: goes in a circle: {' -> '.join([*seen, name])}")
    if arm.after is not None and arm.after not in study.arms:
        raise StudyError(f"arms.{name}.after: {unknown('arm', arm.after, study.arms)}")
    before = _whole(study, arm.after, [*seen, name]) if arm.after else []
    own = [_move(study, entry, f"arms.{name}.chain[{i}]") for i, entry in enumerate(arm.chain)]
    chain = before + (with_rate(own, study.choices[name].lr) if name in study.choices else own)
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
        models = {"arms": Arm, "compare": Compare, "tune": Tuning}
        model: type[BaseModel] = Grid if "tune" in where[1:] else models.get(str(where[0]) if where else "", Study)
        return f"{unknown('key', str(first['loc'][-1]), model.model_fields)}" + (f" (in {place(first)})" if where else "")
    return complaint(error)
