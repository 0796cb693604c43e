"""The central figure: test accuracy against all that was spent on training, teacher included, a line a recipe over a ladder of budgets.

Its rows are those of one study, whose arms are called `RECIPE-N`, or `plain-as-RECIPE-N` for the plain student at such an arm's cost; new
rungs and recipes appear by themselves. An arm that others start from, a teacher, is no recipe.
"""

import re
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reducenet.study.report.page import Drawn
from reducenet.study.report.prose import Report, joined, signed
from reducenet.study.report.statistics import RESULT, Contrast, Reading, t_interval
from reducenet.style import ARMS, arm_styles, drawing, svg

RUNG = re.compile(r"(?P<recipe>.+?)(-as-.+)?-(?P<number>\d+)")
PLAIN = "plain"
ALIKE = {PLAIN: ("#4d4d4d", ARMS[PLAIN][1]), "two": ARMS["drop-fc"], "kd": ARMS["drop-kd"]}  # drawn as the arms that they are


class Rung(NamedTuple):
    """One arm of a line: every seed's accuracy in per cent, and the MACs of all training on the way."""

    arm: str
    macs: float
    seeds: np.ndarray


def ladders(report: Report) -> dict[str, list[Rung]]:
    """The rungs of every recipe that has rows, cheapest first; the plain student's stand first."""
    begun = {arm.after for arm in report.study.arms.values()}
    found: dict[str, list[Rung]] = {}
    for arm in report.study.arms:
        name, seeds = RUNG.fullmatch(arm), report.values[arm].dropna().to_numpy()
        if name and arm not in begun and len(seeds):
            found.setdefault(name["recipe"], []).append(Rung(arm, float(report.ledger[arm]), seeds))
    return {name: sorted(found[name], key=lambda rung: rung.macs) for name in sorted(found, key=lambda name: name != PLAIN)}


def label(report: Report, rungs: list[Rung]) -> str:
    """What the arms of a line are called, without what tells them apart: "two stages, 3 epochs each, soft labels" is "two stages, soft
    labels"."""
    parts = min((report.labels[rung.arm] for rung in rungs), key=len).split(", ")
    return ", ".join(part for part in parts if not re.search(r"\d", part)) or parts[0]


def at_equal_cost(report: Report) -> dict[str, list[Contrast]]:
    """Of every recipe the study's comparisons with a plain student at its cost, cheapest budget first."""
    also = [report.contrast(*pair) for pair in report.study.compare.also]
    return {
        recipe: [c for rung in rungs for c in also if c.arm == rung.arm and c.against.startswith(f"{PLAIN}-as-")]
        for recipe, rungs in ladders(report).items()
        if recipe != PLAIN
    }


def sentence(report: Report) -> str:
    """The answer in one sentence, plain text: does any recipe beat the plain student that may spend as much, at any budget?"""
    found = {recipe: contrasts for recipe, contrasts in at_equal_cost(report).items() if contrasts}
    rungs = ladders(report)
    everything = [c for contrasts in found.values() for c in contrasts]
    if not everything or any(c.reading == Reading.NO_RESULT for c in everything):
        return f"No result yet: a number needs {RESULT} paired seeds at every budget."
    won, open_ = (sum(c.reading == reading for c in everything) for reading in (Reading.HIGHER, Reading.UNDECIDED))
    gaps = [
        f"{label(report, rungs[recipe])} {joined([signed(c.mean, 1) for c in contrasts])} points" for recipe, contrasts in found.items()
    ]
    tail = f"{'; '.join(gaps)}, from the cheapest budget to the dearest."
    if open_ == len(everything):
        return f"Not decided: {tail[0].lower()}{tail[1:]}"
    head = f"Yes, in {won}" if won else "No, in none"
    left = f" ({open_} undecided)" if open_ else ""
    asked = "does training the large network first beat a plain student that spends no more"
    return f"{head} of {len(everything)} comparisons {asked}{left}: {tail}"


def central(report: Report) -> Drawn:
    """Every seed, every interval, a line through the means."""
    with drawing():
        figure = Figure(figsize=(6.4, 4.6))
        axes, lines = figure.subplots(), ladders(report)
        styles = arm_styles([*lines]) | ALIKE
        for recipe, rungs in lines.items():
            colour, marker = styles[recipe]
            costs = [rung.macs / 1e12 for rung in rungs]
            means = [t_interval(rung.seeds, least=RESULT) for rung in rungs]
            axes.plot(costs, [mean for mean, _, _ in means], "-", color=colour, lw=1.2, alpha=0.7)
            for cost, rung, (mean, low, high) in zip(costs, rungs, means, strict=True):
                axes.plot(np.full(len(rung.seeds), cost), rung.seeds, "_", color=colour, ms=8, alpha=0.45, mew=1.2)
                axes.plot([cost, cost], [low, high], color=colour, lw=2.2, solid_capstyle="round")
                axes.plot(cost, mean, marker, color=colour, ms=7)
            axes.plot([], [], marker + "-", color=colour, label=label(report, rungs))
        axes.set(xscale="log", xlabel="all training, teacher included (trillion multiply-adds)", ylabel=f"{report.measure} (%)")
        axes.margins(x=0.08, y=0.1)
        # What costs more is better: this corner is free but for the grid, which the paper under the names covers.
        axes.legend(loc="lower right", labelcolor="linecolor", fontsize=11, framealpha=1, edgecolor="none")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        return Drawn(svg(figure, _alt(report, lines)), _alt(report, lines), _caption(report))


def _alt(report: Report, lines: dict[str, list[Rung]]) -> str:
    said = [f"{label(report, rungs)}: " + ", ".join(f"{rung.seeds.mean():.1f} per cent at {rung.macs / 1e12:.2f}" for rung in rungs)
            for rungs in lines.values()]  # fmt: skip
    return f"Test accuracy against the training cost in trillion multiply-adds. {'; '.join(said)}."


def _caption(report: Report) -> str:
    return (f"{report.measure.capitalize()} against the multiply-adds of all training on the way, {report.seeds}: strokes are seeds, lines "
            f"95 % t intervals. Study [{report.name}](../{report.name}/report.md).")  # fmt: skip
