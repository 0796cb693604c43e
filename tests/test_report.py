"""What is committed under reports/ and in README follows from the rows, to the byte."""

import io
import json
import shutil
from types import SimpleNamespace

import matplotlib
import pytest
from rich.console import Console
from studies import ROOT, make

from reducenet.cli import main
from reducenet.study.page import render
from reducenet.study.plan import plan
from reducenet.study.progress import Progress
from reducenet.study.report import BLOCK, readme_block
from reducenet.study.store import Store
from reducenet.study.words import read_rows
from reducenet.style import ARMS, arm_styles

STUDIES = sorted(file.parent.name for file in (ROOT / "reports").glob("*/results.csv"))


def test_the_studies_that_the_course_quotes_are_there():
    assert {"quick", "expansion"} <= set(STUDIES)


@pytest.mark.parametrize("study", STUDIES)
def test_a_committed_report_is_what_its_rows_make(study, tmp_path):
    committed = ROOT / "reports" / study
    report = render(ROOT / "ablations" / f"{study}.toml", committed / "results.csv", tmp_path)
    drawn = ["index.html", *(f"figures/{f.name}" for f in (committed / "figures").iterdir())]
    pinned = f"matplotlib=={matplotlib.__version__}" in (ROOT / "requirements.lock").read_text().splitlines()
    for name in ["report.md", *(drawn if pinned else [])]:  # another matplotlib may draw other bytes
        assert (tmp_path / name).read_text() == (committed / name).read_text(), f"stale: reducenet report {study} --force"
    recorded = json.loads((committed / "summary.json").read_text())["contrasts"]
    assert [(c["arm"], c["against"], c["reading"]) for c in recorded] == [(c.arm, c.against, c.reading) for c in report.contrasts]
    for key in report.ok.key:
        assert (committed / "runs" / f"{key}.ipynb").is_file()


def test_readme_shows_the_rows_of_the_quick_study():
    block = BLOCK.format(name="quick", text=readme_block(ROOT / "ablations" / "quick.toml", ROOT / "reports" / "quick" / "results.csv"))
    assert block in (ROOT / "README.md").read_text(), "stale: reducenet report quick"


def test_a_changed_row_changes_the_readme_block(tmp_path):
    rows = (ROOT / "reports" / "quick" / "results.csv").read_text().splitlines()
    changed = tmp_path / "results.csv"
    changed.write_text("\n".join([*rows[:3], rows[3].replace(",ok,0.8", ",ok,0.7"), *rows[4:]]))
    study = ROOT / "ablations" / "quick.toml"
    assert readme_block(study, changed) != readme_block(study, ROOT / "reports" / "quick" / "results.csv")


def test_missing_columns_are_named(tmp_path):
    (tmp_path / "results.csv").write_text("arm,seed\nplain,0\n")
    with pytest.raises(ValueError, match="columns missing: ledger_macs, status, test_accuracy, val_accuracy"):
        read_rows(tmp_path / "results.csv")


def test_a_folder_that_is_no_report_is_left_alone(tmp_path, capsys):
    file, precious = make(tmp_path), tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    assert main(["report", str(file), "--out", str(precious)]) == 2
    assert "exists and is no report of this project" in capsys.readouterr().err
    assert (precious / "thesis.tex").read_text() == "years of work"


def test_arms_of_one_study_never_look_alike():
    names = [*ARMS, *(f"arm{i}" for i in range(60))]
    styles = arm_styles(names)
    assert len(set(styles.values())) == len(names)
    assert all(styles[arm] == ARMS[arm] for arm in ARMS)
    assert arm_styles(["arm3"]) == {"arm3": arm_styles(["arm3", "plain"])["arm3"]}


@pytest.fixture
def progress(tmp_path):
    made = plan(make(tmp_path), device="cpu")
    console = Console(file=io.StringIO(), force_terminal=False, width=200, markup=False)
    clock = SimpleNamespace(now=1000.0)
    return Progress(made, Store(tmp_path / "store"), console), made, clock


def test_time_left_counts_down_between_events(progress, monkeypatch):
    from reducenet.study import progress as module

    shown, made, clock = progress
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    with shown.over({}):
        assert shown.time_left() == "?"
        keys = list(made.runs)
        for key in keys[:6]:
            clock.now += 5  # two at a time: ten seconds each, one ends every five
            shown.report({"key": key, "state": "ok", "seconds": 10.0, "error": ""})
        assert shown.time_left() == f"{5 * len(keys[6:])} s"
        clock.now += 3
        assert shown.time_left() == f"{5 * len(keys[6:]) - 3} s"


def test_events_are_lines_and_odd_errors_do_no_harm(progress):
    shown, made, _ = progress
    with shown.over({}):
        key = next(iter(made.runs))
        shown.report({"key": key, "state": "failed", "seconds": 1.0, "error": "[/x] enforce fail at [a]"})
    printed = shown.console.file.getvalue()
    assert printed.count("\n") == 1
    assert "teacher/s0 FAILED in 1.0 s: [/x] enforce fail at [a] · 1/13" in printed


def test_the_table_counts_done_running_left(progress):
    shown, made, _ = progress
    keys = list(made.runs)
    shown.store.begin(keys[1])
    shown.states = {keys[0]: {"key": keys[0], "state": "ok", "seconds": 1.0, "error": ""}}
    shown.console.print(shown.table())
    last = [line.split() for line in shown.console.file.getvalue().splitlines() if " all " in line]
    assert [part for part in last[0] if part.isdigit()] == ["1", "1", "11", "0"]


def test_a_report_in_another_place_leaves_readme_alone(tmp_path):
    """README shows the usual report; this is checked without running anything: the block must not change."""
    readme = ROOT / "README.md"
    before = readme.read_bytes()
    shutil.copytree(ROOT / "reports" / "quick", tmp_path / "quick")
    render(ROOT / "ablations" / "quick.toml", tmp_path / "quick" / "results.csv", tmp_path / "quick")
    assert readme.read_bytes() == before
