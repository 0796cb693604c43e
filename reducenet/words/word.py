"""A word: what it is called, where it lives, what it takes. `whole` is the one check, for study files, notebooks and Python calls alike."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from reducenet.words.types import NAMES_AN_ARM, OfKind

REQUIRED = object()  # in place of a default


class MoveError(ValueError):
    """A word does not apply: its parameters make no sense, or this network has nothing for it. One line, with the valid choices."""


class Parameter(NamedTuple):
    """One parameter of a sentence: its type, as annotated, and its default, or `REQUIRED`."""

    name: str
    type: Any
    default: Any

    @property
    def marks(self) -> tuple:
        """What the annotation carries besides the type, through an `| None` too."""
        inner = [part for part in get_args(self.type) if part is not type(None)]
        return getattr(self.type, "__metadata__", ()) or (getattr(inner[0], "__metadata__", ()) if len(inner) == 1 else ())

    @property
    def names_an_arm(self) -> bool:
        return NAMES_AN_ARM in self.marks

    @property
    def of_kind(self) -> str | None:
        """The kind of word that the value names, if it names one."""
        return next((mark.kind for mark in self.marks if isinstance(mark, OfKind)), None)


class Strict(BaseModel):
    """Nothing is converted, nothing unknown is taken."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())


@dataclass(frozen=True)
class Word:
    """A function, or a class, that a sentence can name. `options` are what its decorator says; `says` is its docstring."""

    kind: str
    name: str
    home: str  # the module, or the file of a word from outside
    function: str
    parameters: tuple[Parameter, ...]
    says: str = ""
    options: dict = field(default_factory=dict)
    refuse: Callable[..., str | None] | None = None  # parameters -> why they do not go together

    @property
    def exact(self) -> bool:
        return self.options.get("exact", False)

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return " ".join(self.says.split("\n\n")[0].split())

    @cached_property
    def choice(self) -> Parameter | None:
        """The parameter that names a word whose parameters join, as `block` of build and `loss` of fit."""
        return next((p for p in self.parameters if p.of_kind), None)

    def reads(self, given: Mapping, others: Mapping[str, "Word"]) -> tuple[Parameter, ...]:
        """All that a sentence may say here: the word's own parameters, and those of the word that it names."""
        name = given.get(self.choice.name, self.choice.default) if self.choice else None
        chosen = others.get(name) if isinstance(name, str) else None
        return self.parameters + (chosen.parameters if chosen else ())

    def whole(self, given: Mapping, others: Mapping[str, "Word"], *, defaults: Mapping | None = None, called: bool = False) -> dict:
        """All parameters, written out: `given` before `defaults` before the word's own. `MoveError`, one line, where that makes no sense.

        `others` are the words of the kind that this one names. A default that nothing here reads is passed over, a parameter that is given
        is not. From a Python call (`called`) come networks where a study file names arms.
        """
        merged = {**(defaults or {}), **given}
        if self.choice and isinstance(name := merged.get(self.choice.name, self.choice.default), str) and name not in others:
            raise MoveError(unknown(self.choice.name, name, others))
        reads = self.reads(merged, others)
        names = [p.name for p in reads]
        for key in given:
            if key not in names:
                if self.choice and any(key == p.name for word in others.values() for p in word.parameters):
                    raise MoveError(f"nothing reads {key!r} here; leave it out")
                raise MoveError(f"takes no parameters, not {key!r}" if not names else unknown("parameter", key, names))
        merged = {key: value for key, value in (defaults or {}).items() if key in names} | dict(given)
        networks = {p.name: merged[p.name] for p in reads if called and p.names_an_arm and p.name in merged}
        plain = {key: _plain(value) if called else value for key, value in merged.items() if key not in networks}
        model = _model(tuple(p for p in reads if p.name not in networks))
        try:
            checked = model.model_validate(plain).model_dump(mode="json") | networks
        except ValidationError as error:
            raise MoveError(complaint(error)) from None
        checked = {name: checked[name] for name in names}
        for word in (self, others.get(checked[self.choice.name]) if self.choice else None):
            if word and word.refuse and (why := word.refuse(**{p.name: checked[p.name] for p in word.parameters})):
                raise MoveError(why)
        return checked


@cache
def _model(parameters: tuple[Parameter, ...]) -> type[Strict]:
    """What checks these parameters together."""
    return create_model(
        "Parameters", __base__=Strict, **{p.name: (p.type, ... if p.default is REQUIRED else p.default) for p in parameters}
    )


def _plain(value):
    """A value of a Python call as a study file would have it: a list for a tuple, a number for one of numpy's."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () else value


def unknown(kind: str, name: str, known) -> str:
    """`unknown arm 'plane' (did you mean 'plain'?); known: plain, teacher`."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"unknown {kind} {name!r}{f' (did you mean {close[0]!r}?)' if close else ''}; known: {', '.join(known) or 'none'}"


ALTERNATIVES = ("str", "dict", "int", "float", "bool", "constrained-int", "constrained-float")  # pydantic's names for parts of a union
BOUNDS = {"greater_than_equal": ("at least", "ge"), "greater_than": ("above", "gt"), "less_than_equal": ("at most", "le"),
          "less_than": ("below", "lt")}  # fmt: skip
KINDS = {"int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number", "string_type": "a text",
         "bool_type": "true or false", "list_type": "a list", "dict_type": "a table", "finite_number": "a finite number"}  # fmt: skip


def place(error: dict) -> str:
    """Where pydantic complains, without its own names for what a value might have been."""
    return ".".join(str(part) for part in error["loc"] if part not in ALTERNATIVES and "[" not in str(part))


def complaint(error: ValidationError) -> str:
    """The first complaint of pydantic in our words, and how many more parameters are wrong.

    Where a value might have been one of several things, the one that it came closest to complains, or all of them together.
    """
    errors = error.errors()
    parameter = errors[0]["loc"][:1]
    own = [e for e in errors if e["loc"][:1] == parameter]
    deepest = [e for e in own if len(place(e)) == max(len(place(other)) for other in own)]
    first = min(deepest, key=lambda e: e["type"] in KINDS)
    where, value, more = place(first), first["input"], len({e["loc"][:1] for e in errors} - {parameter})
    also = f" (and {more} more)" if more else ""
    if first["type"] == "missing":
        return f"{where}: is missing{also}"
    if first["type"] in BOUNDS:
        what, key = BOUNDS[first["type"]]
        return f"{where} must be {what} {first['ctx'][key]:g}, not {value!r}{also}"
    if first["type"] in KINDS:
        kinds = " or ".join(dict.fromkeys(KINDS[e["type"]] for e in deepest if e["type"] in KINDS))
        return f"{where} must be {kinds}, not {value!r}{also}"
    if first["type"] == "literal_error":
        known = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"unknown {where} {value!r}; known: {known}{also}"
    message = first["msg"].removeprefix("Value error, ")
    given = f", not {value!r}" if where and not isinstance(value, dict) else ""
    return f"{where}: {message}{given}{also}" if where else f"{message}{also}"
