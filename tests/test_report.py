"""From a store to a folder under reports/: rows, timings, and when the folder is written anew."""

import json
import re
import shutil
import subprocess
import sys

import matplotlib
import nbformat
import pytest
from finished import MARKS, TEXT, Project, files
from studies import ROOT

from reducenet.cli import main
from reducenet.study.read import read
from reducenet.study.report import publish
from reducenet.study.report.page import render
from reducenet.study.report.prose import Report
from reducenet.study.report.rows import Row, Timing, _own_seconds, collect
from reducenet.study.report.tables import filled, read_rows, to_csv


def but(found: dict[str, bytes], *names: str) -> dict[str, bytes]:
    return {name: content for name, content in found.items() if name not in names}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("project"))
    made.report()
    return made


ELSEWHERE = dict(pid=99, processor="Intel Xeon", python="3.13.1", torch="2.14.1+cpu", peak_memory_mb=9)
MACHINES = ("timings.csv", "report.md", "index.html", "summary.json")  # what shows, or holds a hash of, times and the processor


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The same study, played on another machine."""
    return Project(tmp_path_factory.mktemp("elsewhere"), **ELSEWHERE)


def test_a_row_holds_what_was_measured_and_what_all_of_the_way_cost(project):
    rows = project.rows()
    assert list(rows) == [(arm, seed) for arm in ("teacher", "plain", "long", "drop", "lora") for seed in range(5)]
    lora = rows["lora", 3]
    assert (lora.test_accuracy, lora.val_accuracy) == (0.709, pytest.approx(0.699))
    assert (lora.run, lora.needs) == ("lora.s3", "teacher.s3 lora@2.s3")
    assert (lora.epochs, lora.ledger_macs) == (2, 3000)  # the teacher's training once, and its forward passes
    assert (lora.status, lora.instructions, lora.torch, lora.threads, lora.error) == ("ok", "AVX512", "2.14.1", 1, "")
    assert rows["drop", 0].ledger_macs == rows["teacher", 0].ledger_macs == 1000
    long = rows["long", 0]
    assert (long.epochs, long.ledger_macs, long.needs) == (2, 2000, "")  # what only sets a budget is not paid twice


def test_who_was_trained_together_is_in_the_rows_and_in_words(project, tmp_path):
    assert {row.together for row in project.rows().values()} == {1}
    assert "together" not in Report(read(project.file), read_rows(project.out)).setting()
    text = TEXT.replace("together = 1", "together = 2").replace(
        "[arms.long]", '[arms.alone]\nchain = [{ build = { block = "plain" } }]\n\n[arms.long]'
    )
    other = Project(tmp_path, text, lambda arm, seed: 0.5 + len(arm) / 50 + (7 * len(arm) * (seed + 1) % 11) / 1000)
    other.report()
    rows = other.rows()
    assert {(arm, seed): row.together for (arm, seed), row in rows.items()} == {
        (arm, seed): 1 if seed == 4 or arm == "alone" else 2 for arm, seed in rows
    }
    said = Report(read(other.file), read_rows(other.out)).setting()
    assert "Seeds were trained together, at most 2 at a time, as one grouped network" in said
    assert said.endswith("; one by one: alone.")


def test_timings_are_apart_and_say_which_seed_was_timed(project):
    timings = {(t.arm, t.seed): t for t in collect(project.plan, project.store)[1]}
    assert timings["lora", 0] == Timing("lora", 0, 0.00432, 0.0432, 21.6, 60.0, "AMD EPYC", "3.11.7")
    assert timings["lora", 1] == Timing("lora", 1, None, None, 21.6, 60.0, "AMD EPYC", "3.11.7")
    assert sum(t.own_seconds for t in timings.values()) == 30.0 * len(project.plan.runs)  # a run that several rows need counts once
    assert not set(Row._fields) & {"latency_1", "ledger_seconds", "processor", "python", "key"}


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    lost = {"teacher/s1": "diverged", "plain/s2": "failed", "drop/s3": "missing", "lora@2/s4": "failed"}
    return Project(tmp_path_factory.mktemp("troubled"), lost=lost)


def test_what_has_no_number_says_why(troubled):
    rows = troubled.rows()
    states = {name: row.status for name, row in rows.items() if row.status != "ok"}
    assert states == {
        ("teacher", 1): "diverged", ("drop", 1): "diverged", ("lora", 1): "diverged", ("plain", 2): "failed", ("drop", 3): "missing",
        ("lora", 4): "failed", ("long", 4): "failed", ("long", 1): "missing",
    }  # fmt: skip
    assert (rows["teacher", 1].run, rows["drop", 1].run) == ("teacher.s1", "")  # the notebook of a divergence is evidence too
    assert rows["lora", 4].error == "MoveError: no | in store/lora@2/s4 <script>"  # no place, no process id, no key


def test_the_report_of_a_troubled_study_is_partial_and_complete(troubled):
    found = troubled.report("--out", str(troubled.folder / "looked at"))
    text, page = found["report.md"].decode(), found["index.html"].decode()
    assert text.startswith("# tiny (partial: 17 of 25 rows)")
    assert "long, seed 1: not run, left out of every mean." in text
    assert "lora, seed 4: failed, left out of every mean; MoveError: no \\| in store/lora@2/s4 \\<script\\>." in text
    assert "[diverged](runs/teacher.s1.ipynb)" in text
    assert "<script" not in page
    assert "runs/teacher.s1.html" in found or "runs/teacher.s1.html" in page
    assert not [name for name in found if "lora.s4" in name or "drop.s3" in name]


def test_what_is_not_run_yet_is_not_published_and_what_can_never_be_is_an_end(tmp_path, capsys):
    unfinished = Project(tmp_path / "a", lost={"drop/s3": "missing"})
    assert main(["publish", str(unfinished.file)]) == 2
    said = capsys.readouterr().err
    assert "drop/s3 is not run yet; `reducenet run tiny` first" in said
    assert said.count("\n") == 1
    assert not unfinished.out.exists()
    assert unfinished.readme.read_text() == MARKS
    troubled = Project(tmp_path / "b", lost={"lora@2/s4": "failed", "plain/s2": "diverged", "teacher/s1": "diverged"})
    troubled.report()  # long/s4 and long/s1 have nobody to pay for them
    assert troubled.out.exists()


def test_tables_come_back_as_they_were_and_no_cell_is_a_formula(tmp_path):
    rows = [Row("=1+1", "-arm", 0, "failed", error="@SUM(A1), \"x\" and 'y'"), Row("'s", "NA", 1, "ok", 0.5, threads=1)]
    (tmp_path / "results.csv").write_text(to_csv(rows))
    (tmp_path / "timings.csv").write_text(to_csv([Timing("-arm", 0, python="+3"), Timing("NA", 1, latency_1=0.1)]))
    assert not re.search(r'(^|,)"?[=+@-]', (tmp_path / "results.csv").read_text(), re.MULTILINE)
    table = read_rows(tmp_path)
    assert table[["study", "arm", "error", "python"]].to_numpy().tolist() == [
        ["=1+1", "-arm", "@SUM(A1), \"x\" and 'y'", "+3"], ["'s", "NA", "", ""],
    ]  # fmt: skip
    assert table.test_accuracy.isna().tolist() == [True, False]
    assert filled((tmp_path / "timings.csv").read_text()) >= {("NA", "1", "latency_1")}


@pytest.mark.parametrize(("lost", "named"), [("ledger_macs", "results.csv: columns missing: ledger_macs"), ("python", "timings.csv")])
def test_missing_columns_are_named(tmp_path, lost, named):
    for name, kind in (("results.csv", Row), ("timings.csv", Timing)):
        (tmp_path / name).write_text(",".join(column for column in kind._fields if column != lost) + "\n")
    with pytest.raises(ValueError, match=named):
        read_rows(tmp_path)


# ---- when a report is written, and what of it depends on the machine


def test_a_second_report_writes_nothing(project, capsys):
    before = {file: file.stat().st_mtime_ns for file in project.out.rglob("*")}
    project.report()
    assert "(up to date)" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in project.out.rglob("*")} == before


def test_all_but_the_timings_is_the_same_on_another_machine(project, elsewhere):
    here, there = project.report(), elsewhere.report()
    assert set(here) == set(there)
    assert but(here, *MACHINES) == but(there, *MACHINES)
    assert here["timings.csv"] != there["timings.csv"]
    assert project.readme.read_text() == elsewhere.readme.read_text()


def test_played_again_on_another_machine_what_is_committed_stays(project, elsewhere, tmp_path, capsys):
    shutil.copytree(project.out, tmp_path / "tiny")
    before = files(tmp_path / "tiny")
    assert elsewhere.report("--out", str(tmp_path / "tiny")) == before
    assert "(up to date)" in capsys.readouterr().out
    assert elsewhere.report("--out", str(tmp_path / "tiny"), "--force") == before  # written anew, to the byte
    assert "(up to date)" not in capsys.readouterr().out


def test_timings_are_written_anew_when_asked_for_lost_or_when_the_results_differ(project, elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr(publish.runs, "publish", lambda *_: None)
    monkeypatch.setattr(publish, "render", lambda *_: None)
    ours, theirs = files(project.out), to_csv(collect(elsewhere.plan, elsewhere.store)[1]).encode()

    def now(*options: str, **there: bytes | None) -> bytes:
        """The timings after a report elsewhere, where `there` lay instead of our files."""
        shutil.copytree(project.out, tmp_path / "tiny", dirs_exist_ok=True)
        for name, content in there.items():
            (tmp_path / "tiny" / f"{name}.csv").unlink()
            if content is not None:
                (tmp_path / "tiny" / f"{name}.csv").write_bytes(content)
        return elsewhere.report("--out", str(tmp_path / "tiny"), *options)["timings.csv"]

    assert now("--force") == ours["timings.csv"] != theirs
    assert now("--timings") == theirs
    assert now(timings=None) == theirs
    assert now(timings=re.sub(rb"lora,0,[\d.]+", b"lora,0,", ours["timings.csv"])) == theirs  # not timed yet when that was written
    assert now(results=ours["results.csv"].replace(b"0.709", b"0.708")) == theirs


@pytest.mark.parametrize("changed", ["label", "report", "template", "comment"])
def test_a_report_is_stale_when_the_study_or_the_code_says_something_else(changed, project, monkeypatch, tmp_path):
    tables = {name: (project.out / name).read_bytes() for name in publish.TABLES}
    key = json.loads((project.out / "summary.json").read_text())["key"]
    assert publish.freshness(project.plan, tables) == key
    assert publish.freshness(project.plan, tables | {"timings.csv": b"other"}) != key
    package = tmp_path / "package"
    shutil.copytree(publish.PACKAGE, package, ignore=shutil.ignore_patterns("fashion_mini", "nets", "__pycache__"))
    monkeypatch.setattr(publish, "PACKAGE", package)
    study, report = project.plan.study, package / "study" / "report"
    if changed == "label":
        monkeypatch.setitem(study.arms, "plain", study.arms["plain"].model_copy(update={"label": "another"}))
    else:
        file, old, new = {
            "report": ("prose.py", "FEW = 3", "FEW = 4"), "template": ("report.md.j2", "Every seed", "All seeds"),
            "comment": ("prose.py", "FEW = 3", "FEW = 3  # names"),
        }[changed]  # fmt: skip
        (report / file).write_text((report / file).read_text().replace(old, new))
    assert (publish.freshness(project.plan, tables) == key) == (changed == "comment")


def test_the_page_follows_from_the_two_tables_whoever_renders_it(project, tmp_path, monkeypatch, capsys):
    """By `render`, by the cells of report.ipynb, and with a reader's own taste in figures."""
    render(Report(read(project.file), read_rows(project.out)), tmp_path / "rendered")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "text.usetex": True}):
        notebook = nbformat.read(project.folder / "reports" / "report.ipynb", 4)
        given = {"study": str(project.file), "rows": str(project.out), "out": str(tmp_path / "cells")}
        for cell in notebook.cells:
            if cell.cell_type == "code":
                exec(cell.source, given if "parameters" not in cell.metadata.get("tags", []) else {})
        assert matplotlib.rcParams["font.size"] == 30
    committed = but(files(project.out), *publish.TABLES, "summary.json")
    pages = {name: content for name, content in committed.items() if not name.startswith("runs/")}
    assert len(pages) == 5
    assert files(tmp_path / "rendered") == files(tmp_path / "cells") == pages


def test_the_old_report_stays_when_a_new_one_cannot_be_made(project, monkeypatch):
    before = files(project.folder / "reports")
    monkeypatch.setattr(publish, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["publish", str(project.file), "--force"])
    assert files(project.folder / "reports") == before


def test_a_folder_that_is_no_report_is_left_alone(project, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["report", str(project.file), "--out", str(tmp_path)]) == 2
    assert "exists and is no report of this project" in capsys.readouterr().err
    assert files(tmp_path) == {"thesis.tex": b"years of work"}


def test_reporting_loads_no_torch():
    code = "import sys, reducenet.study.report.publish; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_seconds_of_a_run_are_its_share_of_training_and_its_measuring():
    """Alone, as the first of two that train at once, as the second, and measured anew: training took 8 seconds, measuring 1."""

    def cost(seconds, train, together=()):
        return {"cost": {"seconds": seconds, "train_seconds": train}} | ({"together": together} if together else {})

    assert _own_seconds(cost(9.0, 8.0)) == 9.0
    assert _own_seconds(cost(1.0, 8.0)) == 9.0
    assert _own_seconds(cost(9.0, 4.0, [0, 1])) == _own_seconds(cost(1.0, 4.0, [0, 1])) == 5.0
    assert _own_seconds(cost(1.0, 0.0)) == 1.0
