"""Everything that was measured, whatever study it stands in: an arm is a sentence, its seeds, and what it costs."""

import json
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from IPython.display import Markdown

from reducenet.course.evidence import Evidence, project
from reducenet.study.report.tables import read_rows
from reducenet.study.report.text import code, inline
from reducenet.words import caption


@dataclass(frozen=True)
class Recorded:
    """An arm with rows: in the `studies` that have it, called `name` in the first; accuracies in per cent, seed by seed."""

    names: dict[str, str]  # what each study calls it
    name: str  # what the first of them calls it
    label: str
    sentence: str
    seeds: tuple[int, ...]
    test: tuple[float, ...]
    val: tuple[float, ...]
    cost: float  # MACs of all its training, its teacher's included
    macs: float  # of one image, as deployed

    @property
    def studies(self) -> tuple[str, ...]:
        return tuple(self.names)

    @cached_property
    def mean(self) -> float:
        return sum(self.test) / len(self.test)

    @cached_property
    def chosen(self) -> float:
        """What a choice goes by: mean validation accuracy."""
        return sum(self.val) / len(self.val)


def studies() -> list[str]:
    """The studies with rows that speak of test images, quick before all; those that chose a recipe on validation images are left out."""
    names = [file.parent.name for file in (project() / "reports").glob("[!.]*/results.csv")]  # "." is one being written
    names.sort(key=lambda name: (name != "quick", name))  # whose names are the plainest
    return [name for name in names if Evidence(name).study.compare.on == "test"]


def arms(data: str = "fashion-mini") -> list[Recorded]:
    """Every arm of every study on `data`, once: arms of two studies with one sentence, and one network for the first seed, are one arm."""
    found: dict[tuple, list] = {}
    for name in studies():
        evidence = Evidence(name)
        if evidence.study.data != data:
            continue
        finished = read_rows(project() / "reports" / name).query("status == 'ok'").sort_values("seed")
        for arm in evidence.study.arms:
            rows = finished[finished.arm == arm]
            if len(rows):
                first = rows.iloc[0]
                key = (json.dumps(evidence.study.chains[arm]), first.seed, first.network)
                found.setdefault(key, []).append((evidence, arm, rows))
    return [_one(same) for same in found.values()]


def _one(same: list[tuple[Evidence, str, pd.DataFrame]]) -> Recorded:
    evidence, arm, _ = same[0]
    rows = pd.concat([rows for *_, rows in same]).drop_duplicates("seed").sort_values("seed")
    return Recorded(
        names={evidence.name: name for evidence, name, _ in same},
        name=arm,
        label=evidence.study.label(arm),
        sentence=caption(evidence.study.chains[arm]),
        seeds=tuple(map(int, rows.seed)),
        test=tuple(100 * rows.test_accuracy),
        val=tuple(100 * rows.val_accuracy),
        cost=float(rows.ledger_macs.mean()),
        macs=float(rows.macs.iloc[0]),
    )


def plain(study: str = "quick") -> Recorded:
    """The plain student as `study` trains it, with all seeds that any study has of it."""
    return next(arm for arm in arms() if arm.names.get(study) == "plain")


def table(study: str, *names: str) -> Markdown:
    """These arms of a study: their sentences, what they cost in units of its baseline, their means, and how many seeds those rest on."""
    evidence = Evidence(study)
    there = {arm.names[study]: arm for arm in arms(evidence.study.data) if study in arm.names}
    base = there[evidence.study.compare.baseline]
    lines = [
        "| arm | sentence | training, × " + inline(base.label) + " | deployed | test accuracy | seeds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name in names:
        label, sentence = inline(evidence.study.label(name)), code(caption(evidence.study.chains[name], evidence.study.defaults))
        arm = there.get(name)
        told = (
            f"{arm.cost / base.cost:.2f} | {arm.macs / base.macs:.2f} | {arm.mean:.1f} % | {len(arm.seeds)}" if arm else "| | no rows | 0"
        )
        lines.append(f"| {label} | {sentence} | {told} |")
    return Markdown("\n".join(lines) + f"\n\nRows: `reports/{study}/results.csv`. Both costs in units of {inline(base.label)}.")
