"""A waterfall: differences in an order, each one change on from the last, drawn and told as the rows say."""

import re
from itertools import pairwise

import numpy as np
import pytest
from finished import TEXT, Project
from studies import make

from reducenet.study.read import StudyError, read
from reducenet.study.report import figures
from reducenet.study.report.page import draw
from reducenet.study.report.prose import Report
from reducenet.study.report.tables import read_rows

STEPS = '"plain"\nalso = [["lora", "long"]]\nsteps = [["long", "plain"], ["lora", "plain"], ["lora", "long"]]\n'


def accuracy(arm: str, seed: int) -> float:
    base = {"teacher": 0.80, "plain": 0.75, "long": 0.78, "drop": 0.30, "lora": 0.765}[arm]
    return base + (sum(arm.encode()) * (seed + 1) % 9 - 4) / 2000


@pytest.fixture(scope="module")
def stepped(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("stepped"), TEXT.replace('"plain"\n', STEPS, 1), accuracy=accuracy)
    return made, made.report()


def test_the_table_says_every_difference_and_what_the_step_changes(stepped):
    made, files = stepped
    text = files["report.md"].decode()
    values = Report(made.plan.study, read_rows(made.out)).values
    gaps = [values["long"] - values["plain"], values["lora"] - values["plain"], values["lora"] - values["long"]]
    lines = re.findall(r"^\| (\w+ minus \w+) \| (\S+) \[[^|]*\| (\S*) ?(\[[^|]*\])? ?\| (\S+ \w+) \|$", text, flags=re.MULTILINE)
    assert [line[0] for line in lines] == ["long minus plain", "lora minus plain", "lora minus long"]
    assert [float(line[1].replace("−", "-")) for line in lines] == pytest.approx([gap.mean() for gap in gaps], abs=0.006)
    assert lines[0][2] == ""
    for (before, after), line in zip([gaps[:2], gaps[1:]], lines[1:], strict=True):
        change = after - before
        half = 2.7764451 * change.std(ddof=1) / 5**0.5  # t, 4 degrees of freedom
        told = [float(one) for one in re.findall(r"[+-][\d.]+", (line[2] + line[3]).replace("−", "-"))]
        assert told == pytest.approx([change.mean(), change.mean() - half, change.mean() + half], abs=0.006)


def test_the_waterfall_comes_first(stepped):
    made, files = stepped
    text = files["report.md"].decode()
    assert re.findall(r"\]\((figures/\w+\.svg)\)", text) == [f"figures/{name}.svg" for name in ("steps", "accuracy", "difference", "cost")]
    report = Report(made.plan.study, read_rows(made.out))
    alt = draw(report)["steps"].alt
    means = [report.contrast(*pair).mean for pair in report.steps]
    assert [float(one) for one in re.findall(r"([+-][\d.]+) points", alt)] == pytest.approx(means, abs=0.06)
    assert alt.replace("&", "&amp;") in files["figures/steps.svg"].decode()


def test_bars_of_the_waterfall(stepped):
    made, _ = stepped
    report = Report(made.plan.study, read_rows(made.out))
    drawn = figures.steps(report.values, report.labels, report.steps, report.margin, report.measure)
    bars = [line for line in drawn.axes[0].lines if line.get_linewidth() == 9]
    means = [report.contrast(*pair).mean for pair in report.steps]
    assert [list(bar.get_xdata()) for bar in bars] == [pytest.approx(pair) for pair in pairwise(means)]
    assert [set(bar.get_ydata()) for bar in bars] == [{1}, {2}]
    marks = [line for line in drawn.axes[0].lines if line.get_marker() == "o"]
    assert np.ravel([mark.get_xdata() for mark in marks]) == pytest.approx(means)


def test_a_study_without_steps_has_no_waterfall(tmp_path):
    files = Project(tmp_path, TEXT, accuracy=accuracy).report()
    assert "figures/steps.svg" not in files
    assert "changed by" not in files["report.md"].decode()


def test_a_step_that_has_not_been_run_is_a_gap(tmp_path):
    made = Project(tmp_path, TEXT.replace('"plain"\n', STEPS, 1), accuracy=accuracy, lost={f"lora@2/s{s}": "failed" for s in range(5)})
    text = made.report()["report.md"].decode()
    assert re.search(r"^\| lora minus plain \|  \|  \| — no result \|$", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ('["lora", "teacher"]', "compare.steps: 'lora' is not compared with 'teacher'"),
        ('["plain", "plain"]', "compare.steps: 'plain' is not compared with 'plain'"),
        ('["lara", "plain"]', "compare.steps: 'lara' is not compared with 'plain'"),
        ('["long", "lora"]', "compare.steps: 'long' is not compared with 'lora'"),
        ('["long"]', "compare.steps"),
    ],
)
def test_a_step_is_a_pair_that_the_study_compares(tmp_path, wrong, says):
    file = make(tmp_path, TEXT.replace('"plain"\n', STEPS.replace('["long", "plain"]', wrong), 1))
    with pytest.raises(StudyError) as caught:
        read(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
