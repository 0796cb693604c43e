"""A published study is drawn anew from what is published: without a store, to the last byte, and only while it is the same study."""

import json
import shutil

import pytest
from finished import Project, files

from reducenet.cli import main
from reducenet.study.report import page, publish


@pytest.fixture
def made(tmp_path):
    project = Project(tmp_path, lost={"lora@2/s3": "diverged"})
    project.report()
    shutil.rmtree(project.store.folder)
    return project


def redraw(project: Project) -> int:
    return main(["publish", str(project.file), "--redraw"])


def test_drawn_anew_it_is_the_same_to_the_last_byte(made):
    before = files(made.out)
    assert {name.split("/")[0] for name in before} >= {"runs", "figures", "index.html", "answers.npz", "summary.json"}
    for name in ("index.html", "report.md", "figures/cost.svg", "runs/lora@2.s0.html"):
        (made.out / name).unlink(missing_ok=True)
    assert redraw(made) == 0
    assert files(made.out) == before


def test_what_looks_otherwise_now_does_after_it(made, monkeypatch):
    before = files(made.out)
    monkeypatch.setattr(page, "lead", lambda report: "**Said otherwise.**")
    assert redraw(made) == 0
    after = files(made.out)
    assert b"Said otherwise." in after["report.md"]
    assert b"Said otherwise." in after["index.html"]
    assert {name for name in after if after[name] != before.get(name)} == {"report.md", "index.html"}
    assert set(after) == set(before)


def refused(made, capsys, says: str) -> None:
    """One line, and nothing has changed."""
    before = files(made.out)
    assert redraw(made) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert files(made.out) == before
    assert not [one for one in made.out.parent.iterdir() if one.name.startswith(".")]


@pytest.mark.parametrize(
    ("there", "instead", "says"),
    [
        ("seeds = 5", "seeds = 6", "has other arms or seeds than"),
        ("seeds = 5", "seeds = 5\nfirst_seed = 1", "has other arms or seeds than"),
        ("[arms.long]", "[arms.longer]", "has other arms or seeds than"),
        ("lr = 0.05", "lr = 0.1", "is of another run than"),
        ("expansion = 2 } }, { fit", "expansion = 3 } }, { fit", "is of another run than"),
        ('data = "synthetic"', 'data = "fashion-mini"', "is of another run than"),
    ],
)
def test_another_study_is_refused(made, capsys, there, instead, says):
    text = made.file.read_text()
    assert there in text
    made.file.write_text(text.replace(there, instead))
    refused(made, capsys, says)


def test_what_is_missing_or_damaged_is_named(made, capsys):
    run = next(file for file in sorted((made.out / "runs").glob("*.ipynb")))
    whole = run.read_text()
    for text in ("{}", "not json", '{"cells": []}', '{"cells": [{"metadata": 1}]}'):
        run.write_text(text)
        refused(made, capsys, f"{run.name}: missing or damaged")
    run.unlink()
    refused(made, capsys, f"{run.name}: missing or damaged")
    run.write_text(whole)
    (made.out / "answers.npz").rename(made.out / "gone.npy")
    assert redraw(made) == 0  # a report of older days has none
    assert "seeds apart on the images" not in (made.out / "report.md").read_text()
    (made.out / "results.csv").unlink()
    refused(made, capsys, "results.csv: missing")


def test_a_study_that_was_never_published_is_one_line(tmp_path, capsys):
    project = Project(tmp_path)
    assert redraw(project) == 2
    assert "results.csv: missing" in capsys.readouterr().err
    assert not project.out.exists()


@pytest.mark.parametrize("published", [None, b"of other days"])
def test_rates_that_were_chosen_anew_are_of_other_runs(made, capsys, monkeypatch, published):
    if published is not None:
        (made.out / "tuned.json").write_bytes(published)
    monkeypatch.setattr(publish, "chosen", lambda plan: {"tuned.json": b"of today"})
    refused(made, capsys, "tuned.json: learning rates were chosen anew since")
    (made.out / "tuned.json").write_bytes(b"of today")
    monkeypatch.setattr(publish, "render", lambda report, out: None)
    assert redraw(made) == 0
    assert (made.out / "tuned.json").read_bytes() == b"of today"


@pytest.mark.parametrize("beside", ["--force", "--timings"])
def test_it_is_said_alone(made, capsys, beside):
    before = files(made.out)
    with pytest.raises(SystemExit) as caught:
        main(["publish", str(made.file), "--redraw", beside])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "reducenet publish: error: --redraw makes the pages anew anyway and keeps the timings; say it alone\n"
    assert files(made.out) == before


def test_the_summary_is_that_of_the_code_of_today(made):
    told = json.loads((made.out / "summary.json").read_text())
    (made.out / "summary.json").write_text(json.dumps(told | {"key": "old"}))
    assert redraw(made) == 0
    assert json.loads((made.out / "summary.json").read_text()) == told
