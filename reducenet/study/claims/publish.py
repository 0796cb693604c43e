"""From the published rows to `reports/claims/`, README's opening and CITATION.cff: nothing else writes them.

reports/claims/   index.html  report.md  paper.html  paper.md  H1.html  H1.md  ...  verdicts.json  figures/*.svg
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from reducenet.study.claims import central, pages, say
from reducenet.study.claims.records import Records
from reducenet.study.claims.register import FILE, read_register
from reducenet.study.claims.registered import digest
from reducenet.study.claims.verdict import Replication, Verdict, judge
from reducenet.study.report.statistics import Contrast, Reading
from reducenet.study.report.tables import RESULTS
from reducenet.study.report.text import inline

COLUMNS = ("claim", "verdict", "n", "estimate", "low", "high", "margin", "mde", "p", "cost", "regime", "deviation")
START, END = "<!-- verdicts: made by `reducenet claims --publish`, do not edit -->\n", "<!-- end of verdicts -->"


def publish(project: Path) -> Path | None:
    """The folder of the claims, made anew beside the old one; None for a project without a register. What would be the same stays."""
    if not (project / FILE).is_file():
        return None
    told, out = gather(project), project / "reports" / "claims"
    made = out.with_name(f".claims.{os.getpid()}")
    shutil.rmtree(made, ignore_errors=True)
    try:
        pages.render(told, made)
        (made / "verdicts.json").write_text(json.dumps(verdicts_json(told), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        made.rename(out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    _renew(project / "README.md", f"{re.escape(START)}.*?{re.escape(END)}", START + opening(told) + END)
    _renew(project / "CITATION.cff", r'"results-\w+"', f'"{told.version}"')
    return out


def gather(project: Path) -> pages.Told:
    """The register and its rows, joined."""
    records = Records(project)
    register = read_register(records)
    return pages.Told(records, register, judge(records, register), version_of(project, register.studies))


def version_of(project: Path, studies: list[str]) -> str:
    """The version of the results: a hash of the rows of these studies and of what was registered."""
    files = {name: project / "reports" / name / RESULTS for name in studies}
    told = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items() if file.is_file()}
    return "results-" + hashlib.sha256(json.dumps([digest(project), told], sort_keys=True).encode()).hexdigest()[:10]


def verdicts_json(told: pages.Told) -> dict:
    """For programs: one row a claim with the columns of `COLUMNS`, and what each rests on."""
    contrasts = {name: [_contrast(c) for c in found.contrasts] for name, found in told.verdicts.items() if found.contrasts}
    again = {name: [_again(one) for one in found.replications] for name, found in told.verdicts.items() if found.replications}
    return {
        "version": told.version,
        "register": digest(told.records.project),
        "rows": [row(found) for found in told.verdicts.values()],
        "contrasts": contrasts,
        "replications": again,
    }


def row(found: Verdict) -> dict:
    """The line of a claim, its numbers those of the contrast that the verdict rests on. Of an exact claim n are rows, the estimate is the
    largest error and the margin what is allowed."""
    c, claim = found.deciding, found.claim
    margin = claim.exact.within if claim.exact else claim.margin
    told = [claim.id, found.kind, found.rows, found.worst, None, None, margin, None, None, _rounded(found.cost), found.regime]
    known = dict(zip(COLUMNS, [*told, "; ".join(found.deviations)], strict=True))
    if c is not None:
        p = c.p_equivalent if c.reading == Reading.EQUIVALENT else c.p
        numbers = dict(estimate=c.mean, low=c.low, high=c.high, mde=c.detectable, p=p)
        known |= {"n": c.n} | {name: _rounded(value) for name, value in numbers.items()}
    return known


def _again(one: Replication) -> dict:
    return {"study": one.study, "verdict": one.kind, "regime": one.regime, "contrasts": [_contrast(c) for c in one.contrasts]}


def _contrast(c: Contrast) -> dict:
    numbers = dict(estimate=c.mean, low=c.low, high=c.high, mde=c.detectable, p=c.p, p_equivalent=c.p_equivalent, p_flip=c.p_flip)
    return {"arm": c.arm, "against": c.against, "n": c.n, "reading": str(c.reading)} | {name: _rounded(v) for name, v in numbers.items()}


def _rounded(value: float | None) -> float | None:
    """Six digits; None for what is not known."""
    return None if value is None or value != value else float(f"{value:.6g}")


def opening(told: pages.Told) -> str:
    """What README opens with: one sentence, the central figure, the verdict counts."""
    report = told.ladder
    drawn = central.central(report)
    figure = f"[![{inline(drawn.alt)}](reports/claims/figures/central.svg)](reports/claims/report.md)"
    links = "[Every claim: interval, controls, cost, executed runs](reports/claims/report.md); [as a paper](reports/claims/paper.md)"
    counts = f"Of the article's {len(told.verdicts)} claims: {say.tally(told.verdicts)}"
    return f"**{inline(central.sentence(report))}**\n\n{figure}\n\n{counts}. {links}.\n"


def _renew(file: Path, pattern: str, text: str) -> None:
    """Put `text` in place of the one match of `pattern` in the file, if it is there."""
    if not file.is_file():
        return
    there = file.read_text(encoding="utf-8")
    renewed = re.sub(pattern, lambda _: text, there, count=1, flags=re.DOTALL if "\n" in text else re.MULTILINE)
    if renewed != there:
        file.write_text(renewed, encoding="utf-8")
