"""Numbers in prose come from recorded rows: `Recorded("quick").say("drop-fc")`. None is typed."""

from functools import cached_property

from IPython.display import Markdown

from reducenet.course.parameters import reports
from reducenet.study.words import Report, interval, read_rows


class Recorded:
    """A committed study under reports/, with the sentences a page makes of it."""

    def __init__(self, study: str):
        self.study = study

    @cached_property
    def report(self) -> Report:
        folder = reports()
        return Report(folder.parent / "ablations" / f"{self.study}.toml", read_rows(folder / self.study / "results.csv"))

    def mean(self, arm: str) -> float:
        """Mean test accuracy in per cent."""
        return self.report.values[arm].mean()

    def clause(self, arm: str) -> str:
        """`drop + train all: 83.0 % (n = 5), +3.90 [+3.14, +4.65] points against the plain student: higher`."""
        report = self.report
        n = int(report.values[arm].count())
        text = f"{report.labels[arm]}: {self.mean(arm):.1f} % (n = {n})"
        if contrast := report.against_baseline(arm):
            text += f", {interval(contrast)} points against the {report.base}: **{contrast.reading}**"
        return text

    def say(self, *arms: str) -> Markdown:
        """A line for each arm, and where the rows are."""
        lines = "\n".join(f"- {self.clause(arm)}" for arm in arms)
        return Markdown(f"{lines}\n\nRecorded rows: `reports/{self.study}/results.csv`; 95 % paired t intervals.")
