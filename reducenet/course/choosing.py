"""Choosing among recorded rows where a kernel is: two arms of a study, their paired seeds, and the reading that the study gives them."""

from html import escape

import ipywidgets as widgets

from reducenet.course.evidence import Evidence
from reducenet.study.report.text import html


def paired_rows(evidence: Evidence, arm: str, other: str) -> list[tuple[int, float, float, float]]:
    """(seed, accuracy of `arm`, of `other`, difference) in per cent and points, for every seed that both have."""
    report = evidence.behind(arm, other)
    if report is None:
        return []
    both = report.values[[arm, other]].dropna()
    return [(int(seed), row[arm], row[other], row[arm] - row[other]) for seed, row in both.iterrows()]


class Choosing(widgets.VBox):
    """Two dropdowns, `arm` and `other`, of what the study compares; a table of the paired seeds and the reading follow them."""

    def __init__(self, evidence: Evidence, arm: str | None = None):
        self.evidence, study = evidence, evidence.study
        wide = {"style": {"description_width": "7rem"}, "layout": widgets.Layout(width="32rem", max_width="100%")}
        compared = [(study.label(one), one) for one in study.arms if evidence.against(one)]
        self.arm = widgets.Dropdown(options=compared, value=arm or compared[0][1], description="does this arm", **wide)
        self.other = widgets.Dropdown(description="beat this one?", **wide)
        self.table, self.reading = widgets.HTML(), widgets.HTML()
        self.arm.observe(self._offer, "value")
        self.other.observe(self._show, "value")
        super().__init__([self.arm, self.other, self.reading, self.table])
        self._offer()

    def _repr_mimebundle_(self, **given):
        return super()._repr_mimebundle_(**given) | {
            "text/plain": "Choosing among rows needs a kernel: open this page in JupyterLab, and run it."
        }

    def _offer(self, change=None) -> None:
        """The second list holds what the study compares the first arm with."""
        there = [(self.evidence.study.label(one), one) for one in self.evidence.against(self.arm.value)]
        self.other.options = there
        self.other.value = there[0][1]
        self._show()

    def _show(self, change=None) -> None:
        if self.other.value is None or self.other.value not in self.evidence.against(self.arm.value):
            return  # between two lists
        self.reading.value = html(self.evidence.verdict(self.arm.value, self.other.value))
        rows = paired_rows(self.evidence, self.arm.value, self.other.value)
        names = [escape(self.evidence.study.label(one)) for one in (self.arm.value, self.other.value)]
        head = "".join(f'<th scope="col">{name}</th>' for name in ("seed", f"{names[0]} (%)", f"{names[1]} (%)", "difference (points)"))
        body = "".join(f"<tr><td>{seed}</td><td>{a:.2f}</td><td>{b:.2f}</td><td>{d:+.2f}</td></tr>" for seed, a, b, d in rows)
        self.table.value = f"<table><thead><tr>{head}</tr></thead><tbody>{body.replace('-', '−')}</tbody></table>"
