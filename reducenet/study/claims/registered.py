"""What was registered, before its runs: a copy of every claim as it was then, in `ablations/claims/registered.json`.

`reducenet claims --register` takes new claims into it, and those that have got contrasts since; nothing else ever changes it. What the
register says otherwise today is listed as a deviation, and so is a claim that was registered when some of its seeds had been seen.
"""

import hashlib
import json
from pathlib import Path

from reducenet.store import whole
from reducenet.study.claims.records import Records
from reducenet.study.claims.register import Claim, ClaimError, read_register

FIXED = ("wording", "study", "pairs", "expects", "controls", "missing", "metric", "margin", "family", "rule", "exact")
SEEN = "seeds_seen"  # paired seeds that had been published when the claim was registered


def place(project: Path) -> Path:
    return project / "ablations" / "claims" / "registered.json"


def registered(project: Path) -> dict[str, dict]:
    """Every claim as it was registered, with `seeds_seen`; nothing where nothing was."""
    file = place(project)
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ClaimError(f"{file.name}: cannot be read as JSON: {error}; it is committed, take it from there") from None


def digest(project: Path) -> str:
    """12 hex digits that name what was registered; empty where nothing was."""
    told = registered(project)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12] if told else ""


def take(project: Path) -> list[str]:
    """Register what is new: claims without a record, and claims that have got their contrasts, or their assertion, since. Their ids."""
    records, there = Records(project), registered(project)
    new = {
        name: claim
        for name, claim in read_register(records).claims.items()
        if name not in there or _decidable(claim) > _was_decidable(there[name])
    }
    if new:
        told = there | {name: fixed(claim) | {SEEN: seen(claim, records)} for name, claim in new.items()}
        with whole(place(project)) as partial:
            partial.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return list(new)


def fixed(claim: Claim) -> dict:
    """What of a claim is fixed by registering it."""
    return claim.model_dump(mode="json", include=set(FIXED))


def seen(claim: Claim, records: Records) -> int:
    """The paired seeds that are published of the claim's contrasts, at most."""
    report = records.of(claim)
    return max((report.contrast(*pair).n for pair in claim.pairs), default=0) if report else 0


def deviations(claim: Claim, told: dict[str, dict]) -> list[str]:
    """What is not as it was registered, a line each."""
    if claim.id not in told:
        return ["not registered"]
    then, now = told[claim.id], fixed(claim)
    lines = [f"{then[SEEN]} paired seeds had been seen when it was registered"] if then.get(SEEN) else []
    for name in FIXED:
        old, new = then.get(name), now.get(name)
        if (old or None) != (new or None):
            lines.append(f"{name}: was {said(old)}, is {said(new)}")
    return lines


def said(value: object) -> str:
    """A value of the register on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {said(own)}" for name, own in value.items())
    if isinstance(value, list):
        return "; ".join(" minus ".join(one) if isinstance(one, list) else str(one) for one in value) or "nothing"
    return "nothing" if value in (None, "") else f"“{' '.join(str(value).split())}”" if isinstance(value, str) else str(value)


def _decidable(claim: Claim) -> bool:
    return claim.held or claim.exact is not None


def _was_decidable(told: dict) -> bool:
    return bool(told.get("pairs")) or told.get("exact") is not None
