"""The pages of the claims, as Markdown and from it as HTML: an overview, one a claim, and the same as a short paper."""

from pathlib import Path
from typing import NamedTuple

from reducenet.study.claims import central, figures, say
from reducenet.study.claims.records import Records
from reducenet.study.claims.register import Claim, ClaimError, Register
from reducenet.study.claims.registered import SEEN, digest, registered
from reducenet.study.claims.verdict import KINDS, Verdict, regime_of, rows_of
from reducenet.study.report.answer import answer
from reducenet.study.report.page import Drawn, to_html
from reducenet.study.report.prose import Report, interval
from reducenet.study.report.statistics import CLAIM
from reducenet.study.report.text import code, inline, template

HERE = Path(__file__).parent


class Told(NamedTuple):
    """All that the pages are made of."""

    records: Records
    register: Register
    verdicts: dict[str, Verdict]
    version: str  # of the results

    @property
    def ladder(self) -> Report:
        """What the central figure is drawn from. `ClaimError` where none of its studies has rows."""
        there = (report for report in map(self.records.report, self.register.central) if report)
        if (report := next(there, None)) is None:
            raise ClaimError(f"none of the central figure's studies is published yet: {', '.join(self.register.central)}; publish one")
        return report

    @property
    def waterfalls(self) -> list[dict]:
        """The register's studies that change one thing after the other: question, answer, every step."""
        reports = {name: self.records.report(name) for name in self.register.studies}
        return [dict(study=name, title=inline(report.study.title), answer=answer(report), steps=report.step_rows())
                for name, report in reports.items() if report and report.steps]  # fmt: skip


def render(told: Told, out: Path) -> None:
    """Write every page, its figures, into `out`. The same rows give the same bytes."""
    (out / "figures").mkdir(parents=True)
    main = central.central(told.ladder)
    bars = {f"bar-{name}": figures.bar(found.deciding, found.claim.margin) for name, found in told.verdicts.items() if _barred(found)}
    own = {name: figures.figure(found, told.records) for name, found in told.verdicts.items()}
    drawn = {"central": main, **bars, **{name: figure for name, figure in own.items() if figure}}
    for name, figure in drawn.items():
        (out / "figures" / f"{name}.svg").write_text(figure.svg, encoding="utf-8")
    shared = {"sentence": inline(central.sentence(told.ladder)), "tally": say.tally(told.verdicts),
              "count": len(told.verdicts), "central": {"alt": inline(main.alt), "caption": main.caption}, "rule": _rule(told),
              "digest": digest(told.records.project) or "none"}  # fmt: skip
    script, said = (HERE / "sort.js").read_text(encoding="utf-8"), _overview(told) | shared
    _write(out, "report", drawn, "Which of the article's claims hold?", "overview.md.j2", script, **said)
    _write(out, "paper", drawn, "The claims put to the test", "paper.md.j2", **_paper(told), **shared)
    for name, found in told.verdicts.items():
        _write(out, name, drawn, f"{name}: {found.claim.wording}", "claim.md.j2", **_claim(told, found, own[name]))


def _write(out: Path, name: str, drawn: dict[str, Drawn], title: str, form: str, script: str = "", **given) -> None:
    markdown = template(form, HERE).render(**given)
    (out / f"{name}.md").write_text(markdown, encoding="utf-8")
    page = "index" if name == "report" else name
    (out / f"{page}.html").write_text(to_html(markdown, drawn, title, script), encoding="utf-8")


def _barred(found: Verdict) -> bool:
    return found.deciding is not None and found.deciding.n >= 2


def _rule(told: Told) -> str:
    """How a verdict comes about, in the words of the first claim's rule and the register's family."""
    held = len({(found.claim.study, *pair) for found in told.verdicts.values() for pair in found.claim.pairs})
    waiting = sum(not found.claim.held and found.claim.exact is None for found in told.verdicts.values())
    counted = f"{held} contrasts" + (f", and {waiting} claims that have none yet and count" if waiting else "")
    again = f"; each {told.register.looks} times, for it may be read again with more seeds" if told.register.looks > 1 else ""
    return (
        f"A contrast is read by its paired t interval, p adjusted by Holm over the register ({counted}{again}); nothing is decided with "
        f"fewer than {CLAIM} paired seeds or without every control."
    )


def _line(told: Told, name: str, found: Verdict) -> dict:
    c = found.deciding
    points = f"largest error {found.worst:.0e}" if found.worst is not None else interval(c) if c is not None else ""
    return dict(id=name, wording=inline(found.claim.wording), mark=found.mark, kind=found.kind, replicated=found.replicated,
                bar=f"![{inline(interval(c))}](figures/bar-{name}.svg)" if _barred(found) else "", points=points,
                n=c.n if c is not None else found.rows or "", p=say.p_of(c) if c is not None else "",
                answer=say.answer(told.records, found))  # fmt: skip


def _overview(told: Told) -> dict:
    first = sorted(told.verdicts.items(), key=lambda one: list(KINDS).index(one[1].kind))  # what is decided stands first
    return dict(claims=[_line(told, name, found) for name, found in first], waterfalls=told.waterfalls, hours=_hours(told),
                total=_total(told), registered=_registered(told))  # fmt: skip


def _registered(told: Told) -> str:
    then = registered(told.records.project)
    seen = [name for name, one in then.items() if one.get(SEEN)]
    name = digest(told.records.project)
    said = (
        f"What would decide a claim was registered before the runs that decide it; the hash of what was registered is {code(name)}."
        if name
        else ""
    )
    late = f" Of {', '.join(seen)} some seeds had been seen by then, and their pages say how many." if seen else ""
    return f"{said}{late} What was changed afterwards is listed on each claim's page as a deviation."


def _paper(told: Told) -> dict:
    lines = {name: _line(told, name, found) for name, found in told.verdicts.items()}
    decided = say.decided(told.verdicts)
    read = [found.claim for found in told.verdicts.values() if found.claim.held and found.contrasts]
    studies = sorted({name for claim in read for name in (claim.study, claim.second) if name})
    reports = [(name, told.records.report(name)) for name in studies]
    kinds = [found.kind for found in told.verdicts.values()]
    troubles = [
        f"Study {name}: {line}" for name, report in reports if report for line in report.threats() if "left out of every mean" in line
    ]
    return dict(
        results=[line for name, line in lines.items() if told.verdicts[name].contrasts or told.verdicts[name].worst is not None],
        decided=[lines[name] for name, found in decided.items() if found.contrasts], waterfalls=told.waterfalls,
        troubles=troubles, total=_total(told),
        open=kinds.count("not decided yet"), undecided=kinds.count("undecided"),
        deviating=sum(bool(found.deviations) for found in told.verdicts.values()), version=told.version,
        regime=" ".join(f"Study {name}: {inline(regime_of(told.records, name))}." for name in studies),
    )  # fmt: skip


def _claim(told: Told, found: Verdict, figure: Drawn | None) -> dict:
    records, claim = told.records, found.claim
    report = records.of(claim) if found.contrasts else None
    c = found.deciding
    studies = [*filter(None, (claim.study, claim.second)), *claim.replicate] if claim.held else claim.exact.studies if claim.exact else []
    given = dict(
        id=claim.id, wording=inline(claim.wording), chinese=inline(claim.chinese), answer=say.answer(records, found),
        replicated=f"{found.replicated[0].upper()}{found.replicated[1:]}." if found.replicated else "",
        figure=figure and {"alt": inline(figure.alt), "caption": figure.caption},
        contrasts=[say.contrast_row(records, claim.study, one) for one in found.contrasts], images=say.other_images(found),
        beside=[row for name in claim.beside if (row := say.further_controls(records, name))],
        replications=[say.replication_row(records, again) for again in found.replications],
        measure=report.measure if report else "", base=report.base if report else "",
        arms=say.control_rows(records, found, rows_of(found)) if report else [], seeds=say.seed_rows(records, found),
        deciding={side: inline(records.study(claim.study).label(getattr(c, side))) for side in ("arm", "against")} if c is not None else {},
        threats=say.threats(records, found), studies=studies, pages=say.course_pages(records.project, claim.notebooks),
        deviations=[inline(line) for line in found.deviations],
    )  # fmt: skip
    return given | _decides(claim)


def _decides(claim: Claim) -> dict:
    exact = ""
    if claim.exact:
        columns, studies = " or ".join(map(code, claim.exact.columns)), ", ".join(claim.exact.studies)
        exact = f"no {columns} above {claim.exact.within:.0e} in any row of {studies}"
    return dict(expects=" or ".join(claim.expects), margin=f"{claim.margin:g}", metric=inline(claim.metric), rule=inline(claim.rule),
                family=inline(claim.family), exact=exact)  # fmt: skip


def _hours(told: Told) -> list[dict]:
    """Every study that a claim, a replication or the central figure rests on: what was planned, and what its runs took."""
    rows = []
    for name in told.register.studies:
        report = told.records.report(name)
        spent = f"{report.rows.own_seconds.sum() / 3600:.2f}" if report else "not run"
        planned = told.register.planned.get(name)
        link = f"[{name}](../{name}/report.md)" if report else code(name)
        rows.append(dict(study=link, planned="not planned" if planned is None else f"{planned:.2f}", spent=spent))
    return [row for row in rows if row["spent"] != "not run" or row["planned"] != "not planned"]


def _total(told: Told) -> str:
    spent = sum(report.rows.own_seconds.sum() for name in told.register.studies if (report := told.records.report(name))) / 3600
    planned = {name: hours for name, hours in told.register.planned.items() if told.records.report(name)}
    took = sum(told.records.report(name).rows.own_seconds.sum() for name in planned) / 3600
    said = (
        f"The studies behind the claims took {spent:.1f} core hours on the machine named in the reports; a run that two of them share "
        f"counts in both, and what chose the learning rates is not in it."
    )
    return said + (f" Of the studies with a plan: {took:.2f} spent, {sum(planned.values()):.2f} planned." if planned else "")
