import subprocess
import sys

import pytest
from studies import ROOT, TINY, make

from reducenet.cli import main
from reducenet.study.plan import plan
from reducenet.study.store import Store


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
    assert "unknown data set 'mnist'; known: fashion-mini" in fails([command, str(file)], capsys)
    assert "no such study file" in fails([command, str(tmp_path / "none.toml")], capsys)
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
        (["plan"], "required: study"),
        (["run", "quick", "--worker", "x"], "x"),
        (["run", "quick", "--workers", "0"], "--workers must be at least 1"),
        (["data", "mnist"], "unknown data set 'mnist'"),
    ],
)
def test_bad_commands(arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert message in fails(arguments, capsys)


def test_reporting_before_running_says_what_to_do(tmp_path, capsys):
    assert "nothing to report yet" in fails(["report", str(make(tmp_path))], capsys)


def test_data_that_is_here_needs_no_network(capsys):
    assert main(["data", "fashion-mini"]) == 0
    assert "fashion-mini is in" in capsys.readouterr().out


def test_the_console_script_is_installed():
    done = subprocess.run([sys.executable, "-m", "reducenet.cli", "--help"], capture_output=True, text=True, check=True)
    assert "plan" in done.stdout
