"""What the recorded rows say: every number in a page's prose and figures comes from a committed study, and none is typed.

One page reads one study, whose comparisons are one family for Holm: a pair has one reading wherever it stands.
"""

import textwrap
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from IPython.display import Markdown
from matplotlib.figure import Figure

from reducenet.course.figures import Drawn
from reducenet.study.claims.records import Records, compared_with
from reducenet.study.claims.verdict import Verdict, verdicts
from reducenet.study.read import Study, read
from reducenet.study.report.figures import OFF_SCALE
from reducenet.study.report.prose import Report, interval, signed
from reducenet.study.report.statistics import CLAIM, DECIDED, RESULT, Contrast, Reading, paired, t_interval
from reducenet.study.report.tables import read_rows
from reducenet.style import GREY, arm_styles, drawing


def project() -> Path:
    """The folder with ablations/ and reports/: around the notebook, wherever it was started from."""
    for start in (Path.cwd(), Path(__file__).parents[2]):
        for folder in (start, *start.parents):
            if (folder / "reports" / "report.ipynb").is_file():
                return folder
    raise FileNotFoundError("no reports/ folder found above this notebook; start the page inside a copy of the project")


@cache
def records() -> Records:
    """The published rows of the project."""
    return Records(project())


@cache
def claims() -> dict[str, Verdict]:
    """Every claim of the article with its verdict, from the recorded rows."""
    return verdicts(records())


class Evidence:
    """A study as recorded: its `study` file, and `report`, what its committed rows say; None while there are no rows."""

    def __init__(self, name: str):
        self.name = name

    @cached_property
    def study(self) -> Study:
        return read(project() / "ablations" / f"{self.name}.toml")

    @cached_property
    def report(self) -> Report | None:
        folder = project() / "reports" / self.name
        return Report(self.study, read_rows(folder)) if (folder / "results.csv").is_file() else None

    def against(self, arm: str) -> list[str]:
        """The arms that the study compares this one with: those of its own pairs, then its baseline."""
        return compared_with(self.study, arm)

    def contrast(self, arm: str, against: str) -> Contrast | None:
        """A pair that the study compares; `KeyError` where it does not, so that no page has a reading of its own. A pair that is a claim's
        has the reading that the register gives it."""
        if against not in self.against(arm):
            raise KeyError(
                f"study {self.name} does not compare {arm!r} with {against!r}; it does with its baseline, and the pairs in `also`"
            )
        if self.report is None:
            return None
        claimed = self._claimed.get((arm, against))
        return claimed[0] if claimed else self.report.contrast(arm, against)

    def behind(self, arm: str, against: str) -> Report | None:
        """The rows that the contrast of a pair is read from: of a claim's pair those of its second look too."""
        claimed = self._claimed.get((arm, against))
        return claimed[1] if claimed else self.report

    @cached_property
    def _claimed(self) -> dict[tuple[str, str], tuple[Contrast, Report]]:
        found = [one for one in claims().values() if one.claim.study == self.name]
        return {(c.arm, c.against): (c, records().of(one.claim)) for one in found for c in one.contrasts}

    def verdict(self, arm: str, against: str) -> str:
        """Does `arm` beat `against`? Yes, no, or not decided, with the numbers, in one Markdown sentence."""
        found, names = self.contrast(arm, against), (self.study.label(arm), self.study.label(against))
        if found is None or found.reading == Reading.NO_RESULT:
            there = found.n if found is not None else 0
            so_far = f" So far {signed(found.mean)} points." if found is not None and found.n else ""
            return f"**Not decided yet:** {names[0]} against {names[1]}, {there} of {CLAIM} paired seeds.{so_far}"
        said = f"{names[0]} is {_place(found, names[1], self.report.margin)}: {interval(found)} points"
        if found.n < CLAIM:
            return f"**Not decided yet:** {found.n} of {CLAIM} paired seeds. So far {said}."
        head = {Reading.HIGHER: "Yes", Reading.LOWER: "No", Reading.EQUIVALENT: "No"}.get(found.reading, "Undecided")
        power = f"; {found.detectable:.1f} would have been found with 80 % power" if head == "Undecided" else ""
        return f"**{head}:** {said} (n = {found.n}{power})."

    def say(self, *pairs: tuple[str, str] | str) -> Markdown:
        """A line for each pair (arm, against), or for each arm against the baseline, and where the rows are."""
        pairs = [(pair, self.study.compare.baseline) if isinstance(pair, str) else pair for pair in pairs]
        lines = "\n".join(f"- {self.verdict(*pair)}" for pair in pairs)
        return Markdown(f"{lines}\n\nRows: `reports/{self.name}/results.csv`.")

    def mean(self, arm: str) -> str:
        """`82.7 %`, or what is known of an arm without a number."""
        values = None if self.report is None else self.report.values[arm].dropna()
        return "not measured yet" if values is None or values.empty else f"{values.mean():.1f} %"

    def figure(self, *pairs: tuple[str, str] | str, live: dict[str, float] | None = None) -> Drawn:
        """The paired differences of these pairs, every seed drawn, with their intervals.

        `live` are accuracies of this page's own run, in per cent by arm: where it has both of a pair, their difference is one more point.
        """
        baseline, live = self.study.compare.baseline, live or {}
        pairs = [(pair, baseline) if isinstance(pair, str) else pair for pair in pairs]
        found = [self.contrast(*pair) for pair in pairs]
        with drawing():
            figure = Figure(figsize=(5.0, 1.0 + 0.78 * len(pairs)))
            axes, styles = figure.subplots(), arm_styles([arm for arm in self.study.arms if arm != baseline])
            for place, (pair, contrast) in enumerate(zip(pairs, found, strict=True)):
                self._row(axes, place, pair, contrast, styles[pair[0]])
                if pair[0] in live and pair[1] in live and abs(live[pair[0]] - live[pair[1]]) < OFF_SCALE:
                    axes.plot(live[pair[0]] - live[pair[1]], place, "o", mfc="#ffffff", mec="#262626", ms=8, mew=1.5, zorder=4)
            axes.axvspan(-self.study.compare.margin, self.study.compare.margin, color=GREY, alpha=0.15, lw=0, zorder=0)
            axes.axvline(0, color="#4d4d4d", lw=1, zorder=1)
            axes.set(ylim=(len(pairs) - 0.6, -0.75), yticks=[], xlabel=f"difference in {self._measure}, same seed (points)")
            return Drawn(figure, self._alt(pairs, found), self._caption(found, any(a in live and b in live for a, b in pairs)))

    @property
    def _measure(self) -> str:
        return {"test": "test accuracy", "val": "validation accuracy"}[self.study.compare.on]

    def _row(self, axes, place: int, pair: tuple[str, str], contrast: Contrast | None, style: tuple[str, str]) -> None:
        arm, against = pair
        name = f"{self.study.label(arm)} minus {self.study.label(against)}"
        reading = ("no rows yet" if contrast is None else contrast.reading.marked).replace(" ", "\u00a0")
        paper = {"facecolor": "#ffffff", "edgecolor": "none", "pad": 1.5}  # no grid line runs through a name
        left = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 10, "bbox": paper, "zorder": 3}
        axes.text(0, place - 0.36, textwrap.fill(f"{name}: {reading}", 58), linespacing=1.05, **left)
        if contrast is None or not contrast.n:
            return
        seeds, (colour, marker) = paired(self.behind(arm, against).values, arm, against), style
        mean, low, high = t_interval(seeds, least=RESULT)
        if abs(mean) >= OFF_SCALE:
            axes.text(0, place + 0.04, f"{'◂' if mean < 0 else '▸'} off the scale: {interval(contrast)}", **left)
            return
        axes.plot(seeds, np.full(len(seeds), place), "|", color=colour, ms=12, alpha=0.6, mew=1.5)
        axes.plot([low, high], [place, place], color=colour, lw=2.5, solid_capstyle="round")
        axes.plot(mean, place, marker, color=colour, ms=9, mew=2)

    def _alt(self, pairs: list[tuple[str, str]], found: list[Contrast | None]) -> str:
        said = [
            f"{self.study.label(arm)} minus {self.study.label(against)} "
            + ("no rows yet" if c is None or not c.n else f"{interval(c)} points, {c.reading}")
            for (arm, against), c in zip(pairs, found, strict=True)
        ]
        return f"Dot plot of paired differences with intervals. {'; '.join(said)}."

    def _caption(self, found: list[Contrast | None], with_live: bool) -> str:
        if self.report is None:
            return f"Not decided yet: study {self.name} has no rows. `reducenet run {self.name}`, then `reducenet publish {self.name}`."
        counts = sorted({c.n for c in found if c is not None})
        n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
        own = " Ring: this page's own run, not counted." if with_live else ""
        return (
            f"{self.study.data}, study {self.name}, {n} paired seeds: strokes are seeds, lines 95 % t intervals, the grey band is "
            f"what does not matter (±{self.report.margin:g}). Readings are adjusted by Holm over all {len(self.report.contrasts)} "
            f"comparisons of the study, of a claim's own contrast over the register.{own} Rows: reports/{self.name}/results.csv."
        )


def _place(contrast: Contrast, against: str, margin: float) -> str:
    if contrast.reading not in DECIDED:
        return f"neither above nor below {against} for sure"
    side = {Reading.HIGHER: "above", Reading.LOWER: "below"}.get(contrast.reading, f"equivalent within ±{margin:g} to")
    return f"{side} {against}"
