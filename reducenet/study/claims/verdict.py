"""The verdict of every claim, from published rows.

All contrasts of the register are one family for Holm, those of all replications another: a pair has one reading wherever a claim is told.
A contrast that may be read again with more seeds counts once for each time (`looks`), whether or not it is.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from reducenet.study.claims.records import Records
from reducenet.study.claims.register import FILE, Claim, Register, read_register
from reducenet.study.claims.registered import deviations, registered
from reducenet.study.report.images import OnImages, on_images
from reducenet.study.report.prose import Report
from reducenet.study.report.statistics import CLAIM, DECIDED, RESULT, Contrast, Reading, family, paired

KINDS = {"supported": "▲", "refuted": "▼", "equivalent": "=", "undecided": "?", "not decided yet": "—"}  # a sign told without colour


@dataclass(frozen=True)
class Replication:
    """The same contrasts in another study; `kind` is what its rows alone would say."""

    study: str
    kind: str
    text: str
    contrasts: tuple[Contrast, ...]
    regime: str


@dataclass(frozen=True)
class Verdict:
    """`kind` is one of `KINDS`; `text` says it whole. `absent`: controls without rows, by label, and those that no arm is."""

    claim: Claim
    kind: str
    text: str
    contrasts: tuple[Contrast, ...] = ()
    absent: tuple[str, ...] = ()
    replications: tuple[Replication, ...] = ()
    deviations: tuple[str, ...] = ()
    regime: str = ""
    cost: float | None = None  # training of the deciding contrast's first arm, in units of its second's; teachers included
    images: OnImages | None = None  # of the deciding contrast
    rows: int = 0  # of an exact claim: how many were asserted
    worst: float | None = None  # of an exact claim: the largest error

    @property
    def mark(self) -> str:
        return KINDS[self.kind]

    @property
    def deciding(self) -> Contrast | None:
        """The contrast that the verdict rests on: the one that refutes, the one that stays open, else the one nearest to nothing."""
        found = [c for c in self.contrasts if c.n]
        if not found or self.kind == "not decided yet":
            return next(iter(found), None)
        if against := [c for c in found if c.reading in DECIDED and c.reading not in self.claim.expects]:
            return max(against, key=lambda c: (c.reading != Reading.EQUIVALENT, abs(c.mean)))
        if open_ := [c for c in found if c.reading not in DECIDED]:
            return max(open_, key=lambda c: np.nan_to_num(c.detectable))
        return min(found, key=lambda c: abs(c.mean))

    @property
    def agreeing(self) -> int:
        """How many replications come to the same verdict."""
        return sum(again.kind == self.kind for again in self.replications)

    @property
    def replicated(self) -> str:
        """How many replications say the same, and how many say nothing; empty for a claim without a verdict that could be repeated."""
        if self.kind not in ("supported", "refuted", "equivalent") or self.claim.exact:
            return ""
        done = [again for again in self.replications if again.kind != "not decided yet"]
        open_ = sum(again.kind == "undecided" for again in done)
        undecided = f", {open_} undecided" if open_ else ""
        return f"{self.agreeing} of {len(done)} replications agree{undecided}" if done else "not replicated yet"


def verdicts(records: Records) -> dict[str, Verdict]:
    """Every claim of the project's register with its verdict; none where there is no register."""
    if not (records.project / FILE).is_file():
        return {}
    return judge(records, read_register(records))


def judge(records: Records, register: Register) -> dict[str, Verdict]:
    """Every claim with its verdict, by id."""
    claims, told = register.claims, registered(records.project)
    waiting = Counter(claim.family for claim in claims.values() if not claim.held and not claim.exact)
    first = _families([(claim, claim.study, records.of(claim)) for claim in claims.values()], waiting, register.looks)
    again = _families([(claim, study, records.report(study)) for claim in claims.values() for study in claim.replicate])
    return {name: replace(_verdict(claim, records, first, again), deviations=tuple(deviations(claim, told)))
            for name, claim in claims.items()}  # fmt: skip


def _families(
    asked: Iterable[tuple[Claim, str, Report | None]], waiting: Mapping[str, int] = MappingProxyType({}), looks: int = 1
) -> dict[tuple[str, str], tuple[Contrast, ...]]:
    """(claim, study) -> its contrasts, all that have the same `family` adjusted together; `waiting` claims of it have no contrast yet, and
    each counts as one; all count `looks` times."""
    questions: dict[str, list] = {}
    for claim, study, report in asked:
        for pair in claim.pairs:
            d = paired(report.values, *pair) if report else np.empty(0)
            questions.setdefault(claim.family, []).append(((claim.id, study), (*pair, d, claim.margin)))
    found: dict[tuple[str, str], tuple[Contrast, ...]] = {}
    for name, members in questions.items():
        pairs = {(study, arm, against) for (_, study), (arm, against, *_) in members}
        extra = looks * waiting.get(name, 0) + (looks - 1) * len(pairs)
        for (place, _), contrast in zip(members, family([question for _, question in members], extra), strict=True):
            found[place] = (*found.get(place, ()), contrast)
    return found


def _verdict(claim: Claim, records: Records, first: dict, again: dict) -> Verdict:
    if claim.exact:
        return _asserted(claim, records)
    if not claim.held:
        return Verdict(claim, "not decided yet", f"not decided yet: no rows ({claim.study.removeprefix('none yet: ')})")
    report, regime = records.of(claim), regime_of(records, claim.study, claim.second)
    if report is None:
        said = f"not decided yet: study {claim.study} has no rows"
        return Verdict(claim, "not decided yet", said, absent=tuple(claim.missing), regime=regime)
    contrasts = first[claim.id, claim.study]
    kind, text, absent = judged(claim, contrasts, report)
    found = Verdict(claim, kind, text, contrasts, absent, regime=regime)
    if (pair := found.deciding) is not None:
        images = on_images(report.rows, pair.arm, pair.against)
        found = replace(found, images=images, cost=float(report.ledger[pair.arm] / report.ledger[pair.against]))
    return replace(found, replications=tuple(_replication(claim, study, records, again) for study in claim.replicate))


def _replication(claim: Claim, study: str, records: Records, again: dict) -> Replication:
    contrasts, regime = again.get((claim.id, study), ()), regime_of(records, study)
    least = min((c.n for c in contrasts), default=0)
    if least < CLAIM:
        return Replication(study, "not decided yet", f"not decided yet ({least} of {CLAIM} seeds)", contrasts, regime)
    return Replication(study, *decided(claim, contrasts), contrasts, regime)


def judged(claim: Claim, contrasts: tuple[Contrast, ...], report: Report) -> tuple[str, str, tuple[str, ...]]:
    """(kind, text, controls absent). Nothing is decided with fewer than 8 paired seeds in any contrast, or where a control has fewer than
    the 5 that make a number a result."""
    least = min(contrast.n for contrast in contrasts)
    silent = [report.labels[arm] for arm in claim.controls if report.values[arm].count() < RESULT]
    none = [label for arm, label in report.labels.items() if arm in claim.controls and not report.values[arm].count()]
    absent = tuple(none + claim.missing)
    if least < CLAIM:
        return "not decided yet", f"not decided yet ({least} of {CLAIM} seeds)", absent
    if lacking := [*silent, *claim.missing]:
        count = "1 control" if len(lacking) == 1 else f"{len(lacking)} controls"
        return "not decided yet", f"not decided yet: {count} missing ({'; '.join(lacking)})", absent
    return *decided(claim, contrasts), absent


def decided(claim: Claim, found: tuple[Contrast, ...]) -> tuple[str, str]:
    """(kind, text): one contrast that comes out otherwise is enough to refute."""
    against = [c for c in found if c.reading in DECIDED and c.reading not in claim.expects]
    if any(c.reading != Reading.EQUIVALENT for c in against):
        return "refuted", "refuted"
    if against:
        return "equivalent", f"equivalent within {claim.margin:g} points: no such difference"
    if all(c.reading in claim.expects for c in found):
        return "supported", "supported"
    power = max(c.detectable for c in found if c.reading == Reading.UNDECIDED)
    return "undecided", f"undecided (would have found {power:.1f} points with 80 % power)"


def rows_of(found: Verdict) -> list[tuple[str, str]]:
    """The contrasts of the claim, then every control against what the first contrast is against: one figure."""
    pairs = [tuple(pair) for pair in found.claim.pairs]
    base = pairs[0][1]
    return pairs + [(arm, base) for arm in found.claim.controls if arm != base and (arm, base) not in pairs]


def _asserted(claim: Claim, records: Records) -> Verdict:
    """An exact claim holds where every recorded row says so, and one row is enough to refute it."""
    errors = []
    for report in filter(None, map(records.report, claim.exact.studies)):
        errors += report.ok[claim.exact.columns].max(axis=1).dropna().tolist()
    if not errors:
        return Verdict(claim, "not decided yet", "not decided yet: no rows that say so")
    worst, within = max(errors), claim.exact.within
    kind = "supported" if worst <= within else "refuted"
    beyond = sum(error > within for error in errors)
    said = f"asserted in {len(errors)} rows" if kind == "supported" else f"not so in {beyond} of {len(errors)} rows"
    return Verdict(claim, kind, f"{kind} ({said})", regime=f"studies {', '.join(claim.exact.studies)}", rows=len(errors), worst=worst)


def regime_of(records: Records, name: str, second: str = "") -> str:
    """In what world the rows were made: `fashion-mini; depth 8, width 8; 3 epochs a training; seeds 0 to 7, then 8 to 15`, the latter once
    the second look has rows."""
    study = records.study(name)
    net = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in study.build.items())
    epochs = study.fit.get("epochs")
    looks = [name, second] if second and records.report(second) else [name]
    spans = [records.study(one).replicates for one in looks]
    seeds = "seeds " + ", then ".join(f"{span[0]} to {span[-1]}" for span in spans)
    return "; ".join(filter(None, [study.data, net, f"{epochs} epochs a training" if epochs else "", seeds]))
