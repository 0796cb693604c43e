"""What is said of a verdict: every sentence and table cell of the claims' pages, Markdown, made from rows."""

from bisect import bisect_left
from pathlib import Path

import numpy as np

from reducenet.study.claims import rates
from reducenet.study.claims.records import Records
from reducenet.study.claims.verdict import KINDS, Replication, Verdict
from reducenet.study.report.answer import answer as report_answer
from reducenet.study.report.prose import bare, by_itself, interval, joined, signed
from reducenet.study.report.statistics import LEVEL, RESULT, Contrast, Reading, detectable, paired
from reducenet.study.report.text import code, inline

SIDES = {Reading.HIGHER: "above", Reading.LOWER: "below"}


def pair(records: Records, study: str, c: Contrast) -> str:
    """`drop + frozen classifier minus plain student`."""
    there = records.study(study)
    return f"{inline(there.label(c.arm))} minus {inline(there.label(c.against))}"


def answer(records: Records, found: Verdict) -> str:
    """One sentence: the verdict, and the contrast that it rests on."""
    if found.claim.exact and found.worst is not None:
        return (f"{found.kind.capitalize()}: over {found.rows} rows the largest difference of a logit is {found.worst:.0e} in float64, and "
                f"{found.claim.exact.within:.0e} is allowed.")  # fmt: skip
    c = found.deciding
    if c is None:
        return f"{inline(found.text).capitalize()}."
    there = records.study(found.claim.study)
    arm, against = inline(there.label(c.arm)), inline(there.label(c.against))
    held = f"{signed(c.mean)} points [{signed(c.low)}, {signed(c.high)}], n = {c.n}"
    as_claimed = sum(one.reading in found.claim.expects for one in found.contrasts)
    rest = f", {as_claimed} of {len(found.contrasts)} contrasts as claimed" if 0 < as_claimed < len(found.contrasts) else ""
    if found.kind == "not decided yet":
        return f"{inline(found.text).capitalize()}. So far {arm} minus {against}: {held if c.n >= RESULT else 'no result'}."
    if found.kind == "undecided":
        power = f"{c.detectable:.1f} points would have been found with 80 % power"
        return f"Undecided{rest}: {arm} minus {against} is {held}{by_itself(c)}; {power}."
    where = SIDES.get(c.reading, f"equivalent within ±{found.claim.margin:g} points to")
    head = "No such difference" if found.kind == "equivalent" else found.kind.capitalize()
    return f"{head}{rest}: {arm} is {where} {against}: {held}, {p_of(c)}."


def p_of(c: Contrast) -> str:
    """The p that the reading rests on, adjusted by Holm over the register."""
    return equals(c.p_equivalent if c.reading == Reading.EQUIVALENT else c.p)


def equals(p: float) -> str:
    """A p for a sentence: `p < 0.001`, `p = 0.043`."""
    said = bare(p)
    return f"p {said}" if said.startswith("<") else f"p = {said}"


def other_images(found: Verdict) -> str:
    """Whether other images would say the same, of the deciding contrast."""
    on, c = found.images, found.deciding
    if on is None or c is None or c.n < RESULT:
        return ""
    holds = (on.low > 0) == (on.high > 0)
    return (f"With the test images drawn anew as well as the seeds the interval is [{signed(on.low)}, {signed(on.high)}]"
            f"{'' if c.reading not in SIDES else ', and still has no 0 in it' if holds else ', which has 0 in it'}. On the same images "
            f"McNemar's exact test finds the first better in {on.better} and worse in {on.worse} of {on.n} seeds. The exact sign-flip test "
            f"of this pair alone: {equals(c.p_flip)}.")  # fmt: skip


def contrast_row(records: Records, study: str, c: Contrast) -> dict:
    """A line of a table of contrasts: the one reading of the pair on its page."""
    p, same, flip = (bare(p) if c.n >= RESULT else "" for p in (c.p, c.p_equivalent, c.p_flip))
    mde = f"{c.detectable:.1f}" if c.detectable == c.detectable else ""
    return dict(pair=pair(records, study, c), n=c.n, points=interval(c), p=p, same=same, flip=flip, mde=mde, reading=c.reading.marked)


def replication_row(records: Records, again: Replication) -> dict:
    held = "; ".join(f"{pair(records, again.study, c)}: {interval(c)}" for c in again.contrasts if c.n)
    return dict(study=f"[{again.study}](../{again.study}/report.md)" if again.contrasts and again.contrasts[0].n else code(again.study),
                regime=inline(again.regime), said=f"{KINDS[again.kind]} {inline(again.text)}", points=held)  # fmt: skip


def seed_rows(records: Records, found: Verdict) -> list[dict]:
    """Every seed of the deciding contrast: both accuracies, each linked to its executed run, and their difference."""
    c = found.deciding
    report = records.of(found.claim) if c is not None else None
    if report is None:
        return []
    ok = report.ok.set_index(["arm", "seed"])
    lines = []
    for seed in sorted(report.rows.seed.unique()):
        cells = {}
        for arm in (c.arm, c.against):
            there = (arm, seed) in ok.index
            own = ok.loc[arm, seed] if there else None
            cells[arm] = f"[{100 * own.test_accuracy:.2f}](../{own.study}/runs/{own.run}.ipynb)" if there else ""
        both = all(cells.values())
        gap = report.values.loc[seed, c.arm] - report.values.loc[seed, c.against] if both else None
        lines.append(dict(seed=seed, arm=cells[c.arm], against=cells[c.against], gap=signed(gap) if both else "no pair"))
    return lines


def control_rows(records: Records, found: Verdict, pairs: list[tuple[str, str]]) -> list[dict]:
    """Every arm of the figure: its mean and what it cost."""
    report = records.of(found.claim)
    arms = dict.fromkeys(arm for one in pairs for arm in one)
    rows = {arm: report.accuracy_row(arm) for arm in arms}
    role = {**dict.fromkeys(found.claim.controls, "control"), **{arm: "contrast" for one in found.claim.pairs for arm in one}}
    return [dict(name=row["name"], role=role[arm], mean=row["mean"] + row["interval"], n=row["n"], cost=report.cost_row(arm)["ledger"])
            for arm, row in rows.items()]  # fmt: skip


def further_controls(records: Records, study: str) -> dict | None:
    """A study of further controls as a claim's page names it: its title, linked, and its answer; None before it has rows."""
    report = records.report(study)
    return report and dict(study=f"[{inline(report.study.title)}](../{study}/report.md)", answer=report_answer(report))


def threats(records: Records, found: Verdict) -> list[str]:
    """What to bear in mind, from the rows and the register."""
    claim, lines = found.claim, []
    if found.absent:
        lines.append(f"Controls that are missing: {inline('; '.join(found.absent))}.")
    if found.kind == "undecided":
        lines.append(more_seeds(records, found))
    if claim.second:
        lines.append(again_at(records, found))
    if lost := lost_seeds(records, found):
        lines.append(f"Lost seeds: {joined(lost)}. They are in no mean, and what is left of such an arm is no fair sample of it.")
    if collapsed := collapsed_seeds(records, found):
        lines.append(f"Collapsed seeds, with less than half of their arm's median: {joined(collapsed)}. They are in every mean"
                     f"{middle_of(records, found)}.")  # fmt: skip
    if found.regime:
        lines.append(f"One regime: {inline(found.regime)}. What holds in it need not hold in another.")
    if found.kind in ("supported", "refuted", "equivalent") and not claim.exact and not found.agreeing:
        lines.append(f"Replications: {found.replicated}. A result is what happens again.")
    if found.cost is not None and abs(found.cost - 1) > 0.05:
        lines.append(f"The two arms of the deciding contrast do not cost the same to train: {found.cost:.2f} to 1, teachers included.")
    if claim.held and found.contrasts:
        lines.append(rates.said(records, records.study(claim.study), claim.arms))
        lines += [inline(note) for note in records.study(claim.study).notes]
    if claim.exact:
        lines.append(
            "The rows assert the networks of these studies on validation images of one size; the algebra is proved and tested apart."
        )
    return [line for line in lines if line]


def seeds_for(c: Contrast, points: float) -> int:
    """The seeds that would find a difference of `points` with 80 % power, were the spread as it was measured; those there are, at least."""
    level = LEVEL / c.family
    spread = c.detectable / detectable(c.n, level)
    n = c.n

    def enough(n: int) -> bool:
        return detectable(n, level) * spread <= points

    while not enough(n):
        n *= 2
    return n if n == c.n else bisect_left(range(n), True, lo=n // 2, key=enough)


def more_seeds(records: Records, found: Verdict) -> str:
    """What a decision would cost: why it stays open."""
    c, report = found.deciding, records.of(found.claim)
    hours, n = report.rows.own_seconds.sum() / 3600, seeds_for(c, found.claim.margin)
    whole = hours * n / report.rows.seed.nunique()
    return (f"Why not more seeds: to find {found.claim.margin:g} points with 80 % power would take {n:,} of them at the spread that was "
            f"measured, {whole:,.1f} core hours for all arms of the study; {hours:.1f} were spent.")  # fmt: skip


def lost_seeds(records: Records, found: Verdict) -> list[str]:
    """`side branch, rank 2: 8 of 16 diverged`, of every arm of the contrasts and controls that lost some."""
    report = records.of(found.claim)
    if report is None:
        return []
    states = {arm: report.rows[report.rows.arm == arm].status for arm in found.claim.arms}
    lost = [(arm, state, int((states[arm] == state).sum())) for arm in states for state in ("diverged", "failed")]
    return [f"{inline(report.study.label(arm))}: {count} of {len(states[arm])} {state}" for arm, state, count in lost if count]


def collapsed_seeds(records: Records, found: Verdict) -> list[str]:
    """`one new conv: 2 of 16`, of every arm of the contrasts and controls in which some networks learned and others did not."""
    report = records.of(found.claim)
    if report is None:
        return []
    ends = {arm: report.values[arm].dropna() for arm in found.claim.arms}
    counts = {arm: int((values < values.median() / 2).sum()) for arm, values in ends.items()}
    return [f"{inline(report.study.label(arm))}: {count} of {len(ends[arm])}" for arm, count in counts.items() if count]


def middle_of(records: Records, found: Verdict) -> str:
    """The deciding contrast without its ends: its median, and how many seeds agree with it."""
    c = found.deciding
    if c is None or c.n < RESULT:
        return ""
    d = paired(records.of(found.claim).values, c.arm, c.against)
    middle = float(np.median(d))
    agree = f"{(d > 0).sum()} of {len(d)} seeds are above 0" if middle > 0 else f"{(d < 0).sum()} of {len(d)} seeds are below 0"
    return f"; the median difference of the deciding contrast is {signed(middle)} points, and {agree}"


def again_at(records: Records, found: Verdict) -> str:
    """That there is a second look, and what it costs the first."""
    there, seeds = records.report(found.claim.second), records.study(found.claim.second).replicates
    ran = f"were run ([study {found.claim.second}](../{found.claim.second}/report.md))" if there else "are to be run"
    return (f"The first seeds left this undecided, so seeds {seeds[0]} to {seeds[-1]} {ran}, to be read with the first as one; that a "
            "contrast may be read twice, and no more, makes every reading of the register stricter.")  # fmt: skip


def course_pages(project: Path, notebooks: list[str]) -> list[tuple[str, str]]:
    """(title, path from reports/claims) of those of these notebooks that are there."""
    sources = [project / "notebooks" / "src" / f"{name}.py" for name in notebooks]
    texts = {source.stem: source.read_text(encoding="utf-8") for source in sources if source.is_file()}
    titles = {name: next(line for line in text.splitlines() if line.startswith("# # ")) for name, text in texts.items()}
    return [(inline(title.removeprefix("# # ")), f"../../notebooks/{name}.ipynb") for name, title in titles.items()]


def tally(verdicts: dict[str, Verdict]) -> str:
    """`1 supported, 1 refuted, 3 undecided, 19 not decided yet`."""
    counts = {kind: sum(found.kind == kind for found in verdicts.values()) for kind in KINDS}
    return joined([f"{count} {kind}" for kind, count in counts.items() if count])


def decided(verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    return {name: found for name, found in verdicts.items() if found.kind in ("supported", "refuted", "equivalent")}
