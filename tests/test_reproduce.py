"""`reducenet reproduce`: a published study played again from nothing, compared to the last digit; the published folder stays as it is."""

import numpy as np
import pytest
from finished import Project, files, finish, right

from reducenet.cli import main
from reducenet.study import reproduce
from reducenet.study.report import runs
from reducenet.study.report.images import pack_answers
from reducenet.words import lock


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("project"), lost={"lora@2/s4": "diverged"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "publish", lambda *_: None)
        made.report()
    return made


@pytest.fixture(autouse=True)
def accepted(monkeypatch):
    """The sources of the words are those of the lock: that is looked at elsewhere."""
    monkeypatch.setattr(lock, "check", lambda _: None)


def again(project, monkeypatch, capsys, accuracy=right, *options: str, **machine) -> tuple[int, list[str]]:
    """The exit code and the lines, where training comes out as `accuracy` says."""
    lost = machine.pop("lost", {"lora@2/s4": "diverged"})
    monkeypatch.setattr(reproduce, "drive", lambda plan, store, workers: finish(plan, store, accuracy, lost, **machine))
    before = files(project.out)
    code = main(["reproduce", str(project.file), *options])
    assert files(project.out) == before
    return code, capsys.readouterr().out.splitlines()


def test_equal_rows_are_counted(project, monkeypatch, capsys):
    assert again(project, monkeypatch, capsys, right, pid=5, processor="Another") == (0, ["25 of 25 rows equal to the last digit"])


def test_a_row_that_differs_is_named_with_both_values_and_both_processors(project, monkeypatch, capsys):
    def other(arm: str, seed: int) -> float:
        return right(arm, seed) + (0.0002 if (arm, seed) == ("drop", 3) else 0)

    code, lines = again(project, monkeypatch, capsys, other, processor="Intel Xeon", instructions="AVX2")
    assert code == 1
    assert lines[0] == "24 of 25 rows equal to the last digit"
    (said,) = [line for line in lines if line.startswith("drop, seed 3: ")]
    assert "test_accuracy 0.309 there, 0.3092 here" in said
    assert "images answered otherwise" in said
    assert "published on AMD EPYC (cpu, AVX512, threads: 1, torch 2.14.1)" in lines
    assert "played here on Intel Xeon (cpu, AVX2, threads: 1, torch 2.14.1)" in lines
    assert lines[-1].startswith("other instructions round otherwise, and training")
    _, lines = again(project, monkeypatch, capsys, other, processor="Intel Xeon")
    assert lines[-1].startswith("another processor can round otherwise, with the same instructions too, and training")
    _, lines = again(project, monkeypatch, capsys, other)
    assert "round otherwise" not in lines[-1]


def test_equal_accuracies_with_other_answers_differ(project, monkeypatch, capsys):
    published = (project.out / "answers.npz").read_bytes()
    turned = np.load(project.out / "answers.npz")["answers"]
    turned[0] = turned[0][::-1]
    (project.out / "answers.npz").write_bytes(pack_answers(turned))
    try:
        code, lines = again(project, monkeypatch, capsys)
    finally:
        (project.out / "answers.npz").write_bytes(published)
    assert code == 1
    assert lines[0] == "24 of 25 rows equal to the last digit"
    assert lines[1].startswith("teacher, seed 0: ")
    assert "images answered otherwise" in lines[1]
    assert "other instructions" not in lines[-1]


def test_what_failed_or_went_missing_differs(project, monkeypatch, capsys):
    code, lines = again(project, monkeypatch, capsys, right, lost={"lora@2/s4": "diverged", "plain/s2": "failed"})
    assert code == 1
    assert any(line.startswith("plain, seed 2: status ok there, failed here") for line in lines)


def test_a_store_that_is_named_stays(project, monkeypatch, capsys, tmp_path):
    assert again(project, monkeypatch, capsys, right, "--store", str(tmp_path / "mine"))[0] == 0
    assert len(list((tmp_path / "mine").iterdir())) > 25


def test_what_was_not_published_cannot_be_compared(tmp_path, capsys):
    project = Project(tmp_path)
    assert main(["reproduce", str(project.file)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "results.csv: missing, so there is nothing to compare with; `reducenet publish tiny` writes it" in said
