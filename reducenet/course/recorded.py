"""Numbers in prose come from recorded rows: `Recorded("quick").say("drop-fc")`. None is typed."""

from functools import cached_property

from IPython.display import Markdown

from reducenet.course.parameters import reports
from reducenet.study.read import read
from reducenet.study.report.prose import Report, interval
from reducenet.study.report.tables import read_rows


class Recorded:
    """A committed study under reports/, with the sentences a page makes of it."""

    def __init__(self, study: str):
        self.study = study

    @cached_property
    def report(self) -> Report:
        folder = reports()
        return Report(read(folder.parent / "ablations" / f"{self.study}.toml"), read_rows(folder / self.study))

    def mean(self, arm: str) -> float:
        """Mean test accuracy in per cent."""
        return self.report.values[arm].mean()

    def clause(self, arm: str) -> str:
        """`drop + train all: 83.0 % (n = 5), +3.90 [+3.14, +4.65] points against the plain student: higher`, with this study's numbers."""
        text = f"{self.report.names[arm]}: {self.mean(arm):.1f} % (n = {int(self.report.values[arm].count())})"
        return text if arm == self.report.baseline else f"{text}, {self.gap(arm, self.report.baseline)}"

    def gap(self, arm: str, against: str) -> str:
        """The recorded difference of two arms, and how it reads."""
        contrast = self.report.contrast(arm, against)
        return f"{interval(contrast)} points against the {self.report.names[against]}: **{contrast.reading}**"

    def say(self, *arms: str | tuple[str, str]) -> Markdown:
        """A line for each arm, or for each pair (arm, against), and where the rows are."""
        lines = [self.clause(a) if isinstance(a, str) else f"{self.report.names[a[0]]}, {self.gap(*a)}" for a in arms]
        listed = "\n".join(f"- {line}" for line in lines)
        return Markdown(f"{listed}\n\nRecorded rows: `reports/{self.study}/results.csv`; 95 % paired t intervals.")
