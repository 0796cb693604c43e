"""The register, `ablations/claims/register.toml`, read strictly: every claim of the article, what would decide it, with which controls."""

import tomllib
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, ValidationError

from reducenet.study.claims.records import Records, compared_with
from reducenet.study.read import StudyError
from reducenet.words import Above0, Strict, complaint, unknown

Text = Annotated[str, Field(min_length=1)]
Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
Texts = Annotated[list[Text], Field(min_length=1)]


FILE = Path("ablations") / "claims" / "register.toml"
KEYS = {"all", "claims", "central", "planned", "looks"}


class ClaimError(StudyError):
    """The register is wrong; one line."""


class Exact(Strict):
    """An assertion on every row of these studies: none of these columns, float64 errors, is above `within`."""

    studies: Texts
    columns: Annotated[list[Literal["fuse_error", "move_error"]], Field(min_length=1)]
    within: Above0


class Shared(Strict):
    """What every claim has unless it says otherwise."""

    metric: Text
    margin: Above0
    family: Text
    rule: Text


class Claim(Shared):
    """One numbered sentence of the article, in both languages, with its contrasts, its controls and what has to come out.

    `second` is a study of the same arms at further seeds, for a claim that the first left undecided: the rows of both are read as one.
    `replicate` are studies with other seeds or another width that have to say the same; `beside` are studies of further controls, which
    the claim's page names with their answers and which decide nothing; `notebooks` explain what it is about; `exact` stands in place of
    contrasts where a claim is an equation.
    """

    id: str
    wording: Text
    chinese: Text
    study: Text
    pairs: list[Pair] = Field(default_factory=list)
    expects: Annotated[list[Literal["higher", "lower", "equivalent"]], Field(min_length=1)]
    controls: list[str] = Field(default_factory=list)
    missing: list[Text] = Field(default_factory=list)
    second: str = ""
    replicate: list[Text] = Field(default_factory=list)
    beside: list[Text] = Field(default_factory=list)
    notebooks: list[Text] = Field(default_factory=list)
    exact: Exact | None = None

    @property
    def held(self) -> bool:
        """Whether a study holds the contrasts; where not, `study` says in words what is missing, or what is asserted."""
        return bool(self.pairs)

    @property
    def arms(self) -> list[str]:
        """The arms of the contrasts, then the controls, each once."""
        return list(dict.fromkeys([arm for pair in self.pairs for arm in pair] + self.controls))


class Register(NamedTuple):
    """The whole file: every claim by its id, in order; the studies of the central figure, of which the first that has rows is drawn;
    planned core hours by study; how often a contrast may be read, each time with more seeds."""

    claims: dict[str, Claim]
    central: list[str]
    planned: dict[str, float]
    looks: int = 1

    @property
    def studies(self) -> list[str]:
        """Every study that a number of the claims' pages can come from, each once."""
        named = [*self.central, *self.planned]
        for claim in self.claims.values():
            named += [claim.study] * claim.held + claim.replicate + claim.beside + (claim.exact.studies if claim.exact else [])
            named += filter(None, [claim.second])
        return sorted(set(named))


def read_register(records: Records, file: Path | None = None) -> Register:
    """The register of a project. `ClaimError`, one line, where a key is unknown or missing, a study or an arm does not exist, a contrast is
    none of the study's, the margin is not the study's, or a replication has no seeds of its own."""
    file = file or records.project / FILE
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClaimError(f"{file.name}: cannot be read as TOML: {error}") from None
    if extra := sorted(set(given) - KEYS):
        raise ClaimError(f"{file.name}: {unknown('table', extra[0], sorted(KEYS))}")
    made, central, planned, looks = {}, given.get("central", []), given.get("planned", {}), given.get("looks", 1)
    if type(looks) is not int or looks < 1:
        raise ClaimError(f"{file.name}: looks: must be a whole number at least 1, not {looks!r}")
    for name, own in given.get("claims", {}).items():
        try:
            made[name] = Claim.model_validate({**given.get("all", {}), **own, "id": name})
            _check(made[name], records)
            _check_second(made, name, looks, records)
        except ValidationError as error:
            raise ClaimError(f"{file.name}: claims.{name}: {_first(error)}") from None
        except StudyError as error:
            raise ClaimError(f"{file.name}: claims.{name}: {error}") from None
    if type(central) is not list or not central:
        raise ClaimError(f"{file.name}: central: must be a list of studies, the first that has rows is drawn; not {central!r}")
    for table, study in [*(("central", study) for study in central), *(("planned", study) for study in planned)]:
        try:
            records.study(study)
        except StudyError as error:
            raise ClaimError(f"{file.name}: {table}: {error}") from None
    for study, hours in planned.items():
        if type(hours) not in (int, float) or hours <= 0:
            raise ClaimError(f"{file.name}: planned.{study}: must be core hours, a number above 0, not {hours!r}")
    return Register(made, central, planned, looks)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] != "extra_forbidden":
        return complaint(error)
    return unknown("key", str(first["loc"][-1]), Exact.model_fields if first["loc"][0] == "exact" else Claim.model_fields)


def _check(claim: Claim, records: Records) -> None:
    there = sorted(source.stem for source in (records.project / "notebooks" / "src").glob("[0-9]*.py"))
    strange = [name for name in claim.notebooks if name not in there]
    if there and strange:  # who has one page and the reports has no sources of pages
        raise ClaimError(unknown("notebook", strange[0], there))
    if claim.exact and (claim.held or claim.controls or claim.second):
        raise ClaimError("it is `exact`, so there are no pairs, no controls and no second look")
    for study in (*claim.beside, *(claim.exact.studies if claim.exact else ())):
        records.study(study)
    if not claim.held:
        if " " not in claim.study or claim.controls or claim.second or claim.replicate:
            raise ClaimError(
                "it has no pairs, so `study` says in words what is missing, and there are no controls, second look or replications; "
                f"not {claim.study!r}"
            )
        return
    study = records.study(claim.study)
    for arm in claim.arms:
        if arm not in study.arms:
            raise ClaimError(unknown("arm", arm, study.arms))
    for arm, against in claim.pairs:
        if against not in compared_with(study, arm):
            raise ClaimError(f"study {claim.study} does not compare {arm!r} with {against!r}")
    if claim.margin != study.compare.margin:
        raise ClaimError(f"margin {claim.margin:g} is not that of study {claim.study}, {study.compare.margin:g}")
    for again in claim.replicate:
        _check_replication(claim, again, records)


def _check_replication(claim: Claim, again: str, records: Records) -> None:
    """It compares the same pairs, on seeds that the first study has not."""
    other = records.study(again)
    for arm, against in claim.pairs:
        if against not in compared_with(other, arm):
            raise ClaimError(f"replicate: study {again} does not compare {arm!r} with {against!r}")
    for name in filter(None, (claim.study, claim.second)):
        if shared := set(records.study(name).replicates) & set(other.replicates):
            raise ClaimError(f"replicate: study {again} has seed {min(shared)}, as {name} has; set its first_seed apart")


def _check_second(claims: dict[str, Claim], name: str, looks: int, records: Records) -> None:
    """What is read as one is one: the same arms on the same images, other seeds, and paid for; and a pair has one reading everywhere."""
    claim = claims[name]
    for other in claims.values():
        shared = [pair for pair in other.pairs if other.study == claim.study and pair in claim.pairs]
        if shared and other.second != claim.second:
            one, two = (repr(each.second) if each.second else "none" for each in (other, claim))
            raise ClaimError(f"second: {' minus '.join(shared[0])} is a pair of {other.id} too: {one} there, {two} here")
    if not claim.second:
        return
    if looks < 2:
        raise ClaimError("second: a contrast may be read once here; `looks = 2` lets it be read again, and makes every reading stricter")
    first, again = records.study(claim.study), records.study(claim.second)
    for arm in dict.fromkeys(arm for pair in claim.pairs for arm in pair):
        if arm not in again.arms:
            raise ClaimError(f"second: study {claim.second} has no arm {arm!r}")
        for needed in [arm, *sorted(first.stands_on(arm))]:
            if first.chains[needed] != again.chains.get(needed):
                raise ClaimError(f"second: arm {needed!r} of study {claim.second} is not that of {claim.study}")
    for what in ("data", "compare.on", "device", "threads"):
        one, two = (attrgetter(what)(study) for study in (first, again))
        if one != two:
            raise ClaimError(f"second: {what} of study {claim.second} is {two!r}, and of {claim.study} {one!r}")
    if shared := set(first.replicates) & set(again.replicates):
        raise ClaimError(f"second: study {claim.second} has seed {min(shared)}, as {claim.study} has; set its first_seed apart")
