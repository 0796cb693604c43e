"""The register of claims, read strictly and joined with what the studies have measured: a claim has the verdict that its rows give it.

A verdict makes no comparison of its own: it takes the `Contrast` that the study's report made, adjusted over the study's whole family.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from IPython.display import Markdown
from pydantic import Field, ValidationError

from reducenet.course.evidence import Evidence, project
from reducenet.study.read import Study, StudyError
from reducenet.study.report.prose import interval
from reducenet.study.report.statistics import CLAIM, DECIDED, RESULT, Contrast, Reading
from reducenet.study.report.text import inline
from reducenet.words import Above0, Strict, complaint, unknown

Text = Annotated[str, Field(min_length=1)]
Pair = Annotated[list[str], Field(min_length=2, max_length=2)]


class ClaimError(ValueError):
    """The register is wrong; one line."""


class Shared(Strict):
    """What every claim has unless it says otherwise."""

    metric: Text
    margin: Above0
    family: Text
    rule: Text


class Claim(Shared):
    """One numbered sentence of the article, in both languages, with its contrasts, its controls and what has to come out."""

    id: str
    wording: Text
    chinese: Text
    study: Text
    pairs: list[Pair] = Field(default_factory=list)
    expects: Annotated[list[Literal["higher", "lower", "equivalent"]], Field(min_length=1)]
    controls: list[str] = Field(default_factory=list)
    missing: list[Text] = Field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether a study holds the contrasts; where not, `study` says in words what is missing."""
        return bool(self.pairs)

    @property
    def arms(self) -> list[str]:
        """The arms of the contrasts, then the controls, each once."""
        return list(dict.fromkeys([arm for pair in self.pairs for arm in pair] + self.controls))


@dataclass(frozen=True)
class Verdict:
    """`kind` is supported, refuted, equivalent, undecided or not decided yet; `text` says it whole; `contrasts` are those of the study."""

    claim: Claim
    kind: str
    text: str
    contrasts: tuple[Contrast, ...] = ()
    absent: tuple[str, ...] = ()  # controls without rows, by label, and those that no arm is

    @property
    def mark(self) -> str:
        """A sign that can be told without colour."""
        return {"supported": "▲", "refuted": "▼", "equivalent": "=", "undecided": "?"}.get(self.kind, "—")


def register(path: Path | None = None) -> dict[str, Claim]:
    """Every claim by its id, in the order of the file. `ClaimError`, one line, where a key is unknown or missing, an arm does not exist, a
    contrast is none of the study's, or the margin is not the study's."""
    path = path or project() / "ablations" / "claims" / "register.toml"
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClaimError(f"{path.name}: cannot be read as TOML: {error}") from None
    if extra := sorted(set(given) - {"all", "claims"}):
        raise ClaimError(f"{path.name}: {unknown('table', extra[0], ['all', 'claims'])}")
    made = {}
    for name, own in given.get("claims", {}).items():
        try:
            made[name] = Claim.model_validate({**given.get("all", {}), **own, "id": name})
            _check(made[name])
        except ValidationError as error:
            first = error.errors()[0]
            extra = first["type"] == "extra_forbidden"
            said = unknown("key", str(first["loc"][-1]), Claim.model_fields) if extra else complaint(error)
            raise ClaimError(f"{path.name}: claims.{name}: {said}") from None
        except (ClaimError, StudyError) as error:
            raise ClaimError(f"{path.name}: claims.{name}: {error}") from None
    return made


@cache
def evidence(study: str) -> Evidence:
    """Several claims rest on one study: it is read once a process."""
    return Evidence(study)


def _check(claim: Claim) -> None:
    if not claim.held:
        if " " not in claim.study or claim.controls:
            raise ClaimError(f"it has no pairs, so `study` says in words what is missing, and there are no controls; not {claim.study!r}")
        return
    study: Study = evidence(claim.study).study
    for arm in claim.arms:
        if arm not in study.arms:
            raise ClaimError(unknown("arm", arm, study.arms))
    for arm, against in claim.pairs:
        if against not in evidence(claim.study).against(arm):
            raise ClaimError(f"study {claim.study} does not compare {arm!r} with {against!r}")
    if claim.margin != study.compare.margin:
        raise ClaimError(f"margin {claim.margin:g} is not that of study {claim.study}, {study.compare.margin:g}")


def verdict(claim: Claim) -> Verdict:
    """What the recorded rows say of the claim. Nothing is decided with fewer than 8 paired seeds in any pair, or where a control has
    fewer than the 5 that make a number a result."""
    if not claim.held:
        return Verdict(claim, "not decided yet", f"not decided yet: no rows ({claim.study.removeprefix('none yet: ')})")
    report = evidence(claim.study).report
    if report is None:
        return Verdict(claim, "not decided yet", f"not decided yet: study {claim.study} has no rows", absent=tuple(claim.missing))
    found = tuple(report.contrast(*pair) for pair in claim.pairs)
    least = min(contrast.n for contrast in found)
    silent = [report.labels[arm] for arm in claim.controls if report.values[arm].count() < RESULT]
    none = [label for arm, label in report.labels.items() if arm in claim.controls and not report.values[arm].count()]
    absent = tuple(none + claim.missing)
    if least < CLAIM:
        return Verdict(claim, "not decided yet", f"not decided yet ({least} of {CLAIM} seeds)", found, absent)
    if silent or claim.missing:
        lacking = [*silent, *claim.missing]
        return Verdict(
            claim, "not decided yet", f"not decided yet: {_controls(len(lacking))} missing ({'; '.join(lacking)})", found, absent
        )
    return Verdict(claim, *_decided(claim, found), found)


def _controls(count: int) -> str:
    return "1 control" if count == 1 else f"{count} controls"


def _decided(claim: Claim, found: tuple[Contrast, ...]) -> tuple[str, str]:
    """(kind, text): one pair that comes out otherwise is enough to refute."""
    against = [c for c in found if c.reading in DECIDED and c.reading not in claim.expects]
    if any(c.reading != Reading.EQUIVALENT for c in against):
        return "refuted", "refuted"
    if against:
        return "equivalent", f"equivalent within {claim.margin:g} points: no such difference"
    if all(c.reading in claim.expects for c in found):
        return "supported", "supported"
    power = max(c.detectable for c in found if c.reading == Reading.UNDECIDED)
    return "undecided", f"undecided (would have found {power:.1f} points with 80 % power)"


def table(*names: str) -> Markdown:
    """Every claim, or these, with its verdict, and how its first contrast stands so far."""
    lines = ["| claim | what the article says | verdict | first contrast, in points |", "|---|---|---|---|"]
    for name, claim in register().items():
        if not names or name in names:
            found = verdict(claim)
            first = next(iter(found.contrasts), None)
            so_far = f"{interval(first)}, {first.reading}" if first is not None and first.n else ""
            lines.append(f"| {name} | {inline(claim.wording)} | {found.mark} {inline(found.text)} | {so_far} |")
    return Markdown("\n".join(lines))
