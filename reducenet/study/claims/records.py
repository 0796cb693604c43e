"""The published rows of a project's studies, each read once."""

from functools import cache
from pathlib import Path

import pandas as pd

from reducenet.study.read import Study, read
from reducenet.study.report.prose import Report
from reducenet.study.report.tables import RESULTS, read_rows


class Records:
    """`records.study("quick")` and `records.report("quick")`: what its file says, and what its published rows say."""

    def __init__(self, project: Path):
        self.project = project
        self.study = cache(self._study)
        self.report = cache(self._report)
        self.both = cache(self._both)

    def _study(self, name: str) -> Study:
        return read(self.project / "ablations" / f"{name}.toml")

    def _report(self, name: str) -> Report | None:
        """None where the study has no published rows yet."""
        folder = self.project / "reports" / name
        return Report(self.study(name), read_rows(folder)) if (folder / RESULTS).is_file() else None

    def of(self, claim) -> Report | None:
        """The rows that a claim of the register is read from, those of its second look included; None where there are none."""
        return self.both(claim.study, claim.second) if claim.held else None

    def _both(self, name: str, second: str) -> Report | None:
        """The rows of a study and, after them, those of the study that looks again at further seeds, as one; `second` may be ""."""
        first, again = self.report(name), self.report(second) if second else None
        if first is None or again is None:
            return first
        rows = pd.concat([first.rows, again.rows[again.rows.arm.isin([*first.labels])]], ignore_index=True)
        rows.attrs = first.rows.attrs
        return Report(first.study, rows)


def compared_with(study: Study, arm: str) -> list[str]:
    """The arms that the study compares this one with: those of its own pairs, then its baseline."""
    own, baseline = [other for one, other in study.compare.also if one == arm], study.compare.baseline
    return own + [baseline] * (arm in study.arms and arm != baseline and baseline not in own)
