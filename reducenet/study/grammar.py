"""The words of a study file and what they mean: a study is arms, an arm is a chain of moves.

`read(path)` gives a validated `Study` or a one-line `StudyError` that names the file, the key and what is allowed. The moves here are the
same, with the same parameters and defaults, as the functions in `reducenet.net`, `reducenet.moves` and `reducenet.train`.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator


class StudyError(ValueError):
    """A study file, or what it asks for, is wrong; one line."""


class Words(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Above0 = Annotated[float, Field(gt=0)]
Names = str | list[str]


class Build(Words):
    """A fresh network; `num_classes` and `in_channels` come from the data, the start from the seed."""

    block: Literal["scaler", "plain", "lambda", "published"] = "scaler"
    depth: Positive = 8
    width: Positive = 8
    expansion: Positive = 4
    scaler: float = 1.0
    lam: Share = 0.0
    post_relu: bool = True
    stem_stride: Positive = 1

    @model_validator(mode="after")
    def _depth(self):
        if self.depth < 8 or (self.depth - 2) % 6:
            raise ValueError("depth must be 6n + 2: 8, 14, 20, ...")
        return self


class Fit(Words):
    """Training: `epochs`, or as many as the whole training of the arm `cost_of` would pay for."""

    epochs: Positive | None = None
    cost_of: str | None = None
    loss: Literal["ce", "kd", "features"] = "ce"
    teacher: str | None = None
    kd_weight: Share = 0.9
    temperature: Above0 = 4.0
    feature_weight: Above0 = 1.0
    lr: Above0 = 0.1
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    batch: Positive = 128
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    lam: Literal["linear", "cosine", "hard"] | None = None
    lam_until: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _sense(self):
        if (self.epochs is None) == (self.cost_of is None):
            raise ValueError("a fit needs either epochs or cost_of")
        if (self.loss == "ce") != (self.teacher is None):
            raise ValueError('loss "kd" and "features" need a teacher, loss "ce" has none')
        return self


class DropBranch(Words):
    pass


class SetScaler(Words):
    scaler: float


class Linearise(Words):
    at: Names = "*"


PARTS = ("all", "classifier", "classifier.weight", "classifier.bias", "conv3", "bn.affine", "bn.statistics")


class Freeze(Words):
    """`parts` are the switches in `PARTS`, or patterns with a `*` over names of parameters and statistics."""

    parts: Names

    @field_validator("parts")
    @classmethod
    def _known(cls, parts: Names) -> Names:
        for part in [parts] if isinstance(parts, str) else parts:
            if part not in PARTS and "*" not in part:
                raise ValueError(f"unknown part {part!r}; known: {', '.join(PARTS)}, or a pattern with a *")
        return parts


class Reinit(Words):
    at: Names = "*"


class Attach(Words):
    expansion: Positive = 2
    at: Names = "*branch2.0"


class Fold(Words):
    pass


class Fuse(Words):
    strict: bool = True


MOVES: dict[str, type[Words]] = {
    "build": Build, "fit": Fit, "drop_branch": DropBranch, "set_scaler": SetScaler, "linearise": Linearise, "freeze": Freeze,
    "reinit": Reinit, "attach": Attach, "fold": Fold, "fuse": Fuse,
}  # fmt: skip


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
    first_seed: Annotated[int, Field(ge=0)] = 0
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
        _check_teachers(study, chains)
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
    builds = [i for i, move in enumerate(chain) if "build" in move]
    if builds != [0]:
        raise StudyError(f'arms.{name}.chain: a chain has one build, at its start (or names its start with after = "ARM")')
    return chain


def _move(study: Study, entry: str | dict, where: str) -> dict:
    """`"fold"`, `{fold = {}}`, `{freeze = ["conv3"]}` or `{fit = {epochs = 2}}` as `{name: all parameters}`."""
    if isinstance(entry, dict) and len(entry) != 1:
        raise StudyError(f"{where}: a move is a name or a table with one name, not {entry!r}")
    name, given = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    if name not in MOVES:
        raise StudyError(f"{where}: {_unknown('move', name, MOVES)}")
    model = MOVES[name]
    if not isinstance(given, dict):
        if not model.model_fields:
            raise StudyError(f"{where}.{name}: takes no parameters")
        given = {next(iter(model.model_fields)): given}
    defaults = {"build": study.build, "fit": study.fit}.get(name, {})
    if "cost_of" in given:
        defaults = {key: value for key, value in defaults.items() if key != "epochs"}
    try:
        return {name: model.model_validate(defaults | given).model_dump(mode="json")}
    except ValidationError as error:
        raise StudyError(f"{where}.{name}: {_first(error, model)}") from None


def _check_teachers(study: Study, chains: dict[str, list[dict]]) -> None:
    """Every arm that a fit names exists, and no arm needs itself."""
    needs = {}
    for name, chain in chains.items():
        fits = [move["fit"] for move in chain if "fit" in move]
        needs[name] = {fit[role] for fit in fits for role in ("teacher", "cost_of") if fit[role]}
        for other in needs[name] - set(study.arms):
            raise StudyError(f"arms.{name}: fit: {_unknown('arm', other, study.arms)}")

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
    place = ".".join(str(part) for part in first["loc"] if part not in ("str", "list[str]", "dict"))
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
