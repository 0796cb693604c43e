"""A study of the reader's own, played as `reducenet` plays it, in a folder that is thrown away: real runs, on synthetic images."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from reducenet.course.evidence import project
from reducenet.study.read import read
from reducenet.study.report.answer import answer
from reducenet.study.report.prose import Report
from reducenet.study.report.tables import read_rows

STUDY = """
title = "Does my arm beat the plain student?"
data = "synthetic"
seeds = {seeds}
build = {{ depth = 8, width = 4, stem_stride = 2 }}
fit = {{ epochs = 1 }}
compare = {{ baseline = "plain", margin = 0.5 }}

[arms.plain]
label = "plain student"
chain = [{{ build = "plain" }}, "fit"]

"""


def play_own(arm: str, seeds: int = 2) -> Report:
    """The report of a study of two arms, the plain student and yours: `arm` is its table in TOML, or several.

    What `reducenet run` and `reducenet report` do, one run after the other. Raises `StudyError`, one line, for an arm that makes no sense,
    and `RuntimeError` with what was printed where a run fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ablations" / "mine.toml"
        for notebook in ("ablations/fit.ipynb", "ablations/latency.ipynb", "reports/report.ipynb"):
            (Path(folder) / notebook).parent.mkdir(exist_ok=True)
            shutil.copy(project() / notebook, Path(folder) / notebook)
        file.write_text(STUDY.format(seeds=seeds) + arm, encoding="utf-8")
        study = read(file)
        out = Path(folder) / "reports" / "mine"
        for command, *more in (("run", "--serial"), ("report", "--out", str(out))):
            call = [sys.executable, "-m", "reducenet.cli", command, str(file), *more]
            done = subprocess.run(call, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stdout + done.stderr)
        return Report(study, read_rows(out))


def sentence(report: Report) -> str:
    """The sentence that such a report starts with."""
    return answer(report)
