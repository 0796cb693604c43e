"""How far a run of a study is, told while it runs."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from studies import make

from reducenet.store import Store
from reducenet.study.plan import plan
from reducenet.study.run.execute import ended
from reducenet.study.run.progress import Progress


@pytest.fixture
def progress(tmp_path):
    made = plan(make(tmp_path), device="cpu")
    console = Console(file=io.StringIO(), force_terminal=False, width=200, markup=False)
    clock = SimpleNamespace(now=1000.0)
    return Progress(made, Store(tmp_path / "store"), console), made, clock


def test_time_left_counts_down_between_events(progress, monkeypatch):
    from reducenet.study.run import progress as module

    shown, made, clock = progress
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    with shown.over({}):
        assert shown.time_left() == "?"
        keys = list(made.runs)
        for key in keys[:6]:
            clock.now += 5  # two at a time: ten seconds each, one ends every five
            shown.report(ended(made.runs[key], "ok", 10.0))
        assert shown.time_left() == f"{5 * len(keys[6:])} s"
        clock.now += 3
        assert shown.time_left() == f"{5 * len(keys[6:]) - 3} s"


def test_events_are_lines_and_odd_errors_do_no_harm(progress):
    shown, made, _ = progress
    with shown.over({}):
        shown.report(ended(next(iter(made.runs.values())), "failed", 1.0, "[/x] enforce fail at [a]"))
    printed = shown.console.file.getvalue()
    assert printed.count("\n") == 1
    assert "teacher/s0 FAILED in 1.0 s: [/x] enforce fail at [a] · 1/13" in printed


def test_the_table_counts_done_running_left(progress):
    shown, made, _ = progress
    keys = list(made.runs)
    shown.store.begin(keys[1])
    shown.states = {keys[0]: ended(made.runs[keys[0]], "ok", 1.0)}
    shown.console.print(shown.table())
    last = [line.split() for line in shown.console.file.getvalue().splitlines() if " all " in line]
    assert [part for part in last[0] if part.isdigit()] == ["1", "1", "10", "0"]
