import subprocess
import sys
from pathlib import Path

import pytest
from studies import ROOT, TINY, make

from reducenet.cli import main
from reducenet.store import Store, write_result
from reducenet.study.plan import plan
from reducenet.study.run import drive
from reducenet.words import lock


def fails(arguments, capsys):
    """The one line on stderr; the exit code was 2."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize("command", ["plan", "run", "status", "report"])
def test_bad_studies_are_one_line_and_nothing_is_written(command, tmp_path, capsys):
    file = make(tmp_path, TINY.replace('data = "synthetic"', 'data = "mnist"'))
    assert "unknown data set 'mnist'; known: cifar10, cifar100, fashion-mini" in fails([command, str(file)], capsys)
    assert "no such study file" in fails([command, str(tmp_path / "none.toml")], capsys)
    assert not (file.parent / "store").exists()


@pytest.mark.parametrize("command", ["plan", "run", "status", "report"])
def test_a_gpu_that_is_not_there_is_one_line(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    file = make(tmp_path)
    assert 'device "cuda" was asked for, but there is no CUDA device here' in fails([command, str(file), "--device", "cuda"], capsys)
    assert not (file.parent / "store").exists()


def test_absent_data_is_found_before_anything_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("REDUCENET_DATA", str(tmp_path))
    file = make(tmp_path, TINY.replace('data = "synthetic"', 'data = "cifar10"'))
    assert "get it with `reducenet data cifar10`" in fails(["run", str(file)], capsys)


def test_a_damaged_store_stops_the_run_and_loses_nothing(tmp_path, capsys):
    file = make(tmp_path)
    made, store = plan(file, device="cpu"), Store(file.parent / "store")
    entry = store.entry(next(iter(made.runs)))
    entry.mkdir(parents=True)
    (entry / "result.json").write_text("not json")
    line = fails(["run", str(file), "--device", "cpu"], capsys)
    assert str(entry / "result.json") in line
    assert "move" in line
    assert [f.name for f in store.folder.iterdir()] == [entry.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explode"], "invalid choice: 'explode'"),
        ([], "required: COMMAND"),
        (["plan"], "required: study"),
        (["run", "quick", "--worker", "x"], "x"),
        (["run", "quick", "--workers", "0"], "--workers must be at least 1, not 0"),
        (["run", "quick", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["plan", "quik"], "ablations/quik.toml: no such study file"),
        (["plan", "quick", "--words", "none.py"], "none.py: no such file of words"),
        (["words", "fould"], "unknown word 'fould' (did you mean 'fold'?)"),
        (["data", "mnist"], "unknown data set 'mnist'"),
    ],
)
def test_bad_commands(arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert message in fails(arguments, capsys)


def test_reporting_before_running_says_what_to_do(tmp_path, capsys):
    assert "nothing to report yet" in fails(["report", str(make(tmp_path)), "--device", "cpu"], capsys)


def test_data_that_is_here_needs_no_network(capsys):
    assert main(["data", "fashion-mini"]) == 0
    assert "fashion-mini is in" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["words", "fold"]])
def test_the_console_script_is_installed(arguments):
    """The script itself, beside this Python."""
    script = Path(sys.executable).with_name("reducenet")
    done = subprocess.run([script, *arguments], capture_output=True, text=True, check=True)
    assert ("plan" if arguments == ["--help"] else "fold (move") in done.stdout


# ---- what the commands do


def test_plan_says_each_arm_as_a_sentence_and_what_is_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("reducenet.study.preview.refusals", lambda planned, store: iter(()))
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["plan", str(make(tmp_path)), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert all(column in printed.splitlines()[2] for column in ("arm", "moves", "own runs", "to do"))
    said = " ".join(printed.split())
    assert "build(block scaler, expansion 2) → fit → drop_branch" in said
    assert "2 seeds · synthetic · cpu, 1 thread · 13 runs with the one that times the arms · 13 to do" in said


def test_plan_says_what_cannot_work_and_run_refuses_it(tmp_path, capsys, monkeypatch):
    lines = ["arms.drop: fold: no conv has a side branch", "arms.lora: fold: none"]
    monkeypatch.setattr("reducenet.study.preview.refusals", lambda planned, store: iter(lines))
    monkeypatch.setattr(lock, "check", lambda every: None)
    monkeypatch.setattr(drive, "drive", None)  # whoever runs something now fails
    file = make(tmp_path)
    assert main(["plan", str(file), "--device", "cpu"]) == 2
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("refused")] == [f"refused: {line}" for line in lines]
    assert "tiny.toml: arms.drop: fold: no conv has a side branch (and 1 more" in fails(["run", str(file), "--device", "cpu"], capsys)


class Driven:
    """What `run` hands to the driver, and how that ends."""

    def __init__(self, monkeypatch, ends=("ok",)):
        self.asked, self.checked, self.ends = [], [], ends
        monkeypatch.setattr("reducenet.study.preview.check", lambda planned, store: self.checked.append("preview"))
        monkeypatch.setattr(lock, "check", lambda every: self.checked.append("lock"))
        monkeypatch.setattr(drive, "drive", self.drive)

    def drive(self, planned, store, workers, serial, only):
        self.asked.append((planned, store.folder, workers, serial, only))
        return {str(i): {"state": state} for i, state in enumerate(self.ends)}


def test_run_hands_on_what_it_is_told(tmp_path, monkeypatch, capsys):
    file, driven = make(tmp_path), Driven(monkeypatch)
    assert main(["run", str(file), "--device", "cpu", "--workers", "3", "--only", "lora/s0", "--store", str(tmp_path / "kept")]) == 0
    assert main(["run", str(file), "--device", "cpu", "--serial"]) == 0
    (planned, *first), (_, *second) = driven.asked
    assert planned.name == "tiny"
    assert first == [tmp_path / "kept", 3, False, ["lora/s0"]]
    assert second == [file.parent / "store", None, True, []]
    assert driven.checked == ["lock", "preview"] * 2
    assert f"tiny: 1 of 1 runs are in {tmp_path / 'kept'}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        (["ok", "diverged"], 0, "tiny: 2 of 2 runs are in"),
        (["ok", "failed", "blocked"], 1, "tiny: 1 of 3 runs are in"),
        (["ok", "blocked"], 1, "1 failed or blocked, `reducenet status"),
    ],
)
def test_a_run_that_failed_is_an_exit_code(ends, code, said, tmp_path, monkeypatch, capsys):
    Driven(monkeypatch, ends)
    assert main(["run", str(make(tmp_path)), "--device", "cpu"]) == code
    assert said in capsys.readouterr().out


def test_an_interrupt_is_no_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("reducenet.study.plan.plan", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["run", str(make(tmp_path))]) == 130
    assert "interrupted; what is finished is in the store" in capsys.readouterr().err


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path, monkeypatch, capsys):
    def full(*given):
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr("reducenet.study.plan.plan", full)
    assert fails(["run", str(make(tmp_path))], capsys) == "reducenet: error: /some/file: No space left on device\n"


def test_a_study_may_be_called_by_its_name(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["status", "quick", "--device", "cpu"]) in (0, 1)
    assert capsys.readouterr().out.startswith("quick: ")


def test_status_says_what_became_of_each_run(tmp_path, capsys):
    file = make(tmp_path)
    made, store = plan(file, device="cpu"), Store(file.parent / "store")
    store.note_failure(made.called("plain/s0").key, {"type": "MoveError", "message": "[/x] no"})
    store.begin(made.called("plain/s1").key)
    for name, state in (("teacher/s0", "ok"), ("teacher/s1", "diverged")):
        folder = store.begin(made.called(name).key)
        for part in ("run.ipynb", "correct.npy"):
            (folder / part).write_text("")
        write_result(folder, {"kind": "measured", "key": made.called(name).key, "status": state})
        store.publish(made.called(name).key, folder)
    assert main(["status", str(file), "--device", "cpu"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("tiny: 1 done, 1 running, 4 diverged, 1 failed, 6 left\n")  # and what goes on from the teacher
    assert said.count("its training diverged; see") == 1
    assert f"plain/s0: MoveError: [/x] no; see {store.failed(made.called('plain/s0').key) / 'run.ipynb'}" in said
