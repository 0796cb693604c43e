"""How far a study is, and how long the rest takes."""

import io
import time

import pytest
from finished import finish
from rich.console import Console
from studies import make

from reducenet.store import Store
from reducenet.study import estimate
from reducenet.study.estimate import published, seconds_left
from reducenet.study.plan import plan
from reducenet.study.run import progress
from reducenet.study.run.drive import known
from reducenet.study.run.execute import ended
from reducenet.study.run.progress import Progress, in_words


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "usable_cores", lambda: 1)
    return plan(make(tmp_path), device="cpu"), Store(tmp_path / "store")


def accuracy(arm, seed):
    return 0.5


# ---- before it runs


def test_nothing_is_said_where_nothing_is_recorded(tiny):
    assert seconds_left(*tiny, {}) is None


def test_what_is_left_takes_as_long_as_what_is_done(tiny):
    """30 seconds a run here, whatever it is: an epoch and the run around it cost the same."""
    made, store = tiny
    lost = {run.name: "missing" for run in made.runs.values() if run.parameters["seed"] == 1}
    finish(made, store, accuracy, lost)
    one_epoch_and_a_run = (30 / 2 + 30 / 1) / 2  # of lora: its fit, and its fold
    assert seconds_left(made, store, known(made, store)) == pytest.approx(4 * 30 + 3 * one_epoch_and_a_run)


def test_an_arm_without_a_finished_run_takes_as_long_as_the_others(tiny):
    made, store = tiny
    lost = {run.name: "missing" for run in made.runs.values() if run.name != "plain/s0"}
    finish(made, store, accuracy, lost)
    left = sum(1 + run.epochs for run in made.runs.values() if run.name != "plain/s0")
    assert seconds_left(made, store, known(made, store)) == pytest.approx(15 * left)


def test_several_processes_share_the_time(tiny, monkeypatch):
    made, store = tiny
    finish(made, store, accuracy, {run.name: "missing" for run in made.runs.values() if run.name != "plain/s0"})
    alone = seconds_left(made, store, known(made, store))
    monkeypatch.setattr(estimate, "usable_cores", lambda: 4)
    assert seconds_left(made, store, known(made, store)) == pytest.approx(alone / 4)


def test_what_diverged_says_nothing_about_time(tiny):
    made, store = tiny
    finish(made, store, accuracy, {run.name: "diverged" for run in made.runs.values()})
    assert seconds_left(made, store, {}) is None


def test_a_published_report_tells_where_the_store_is_empty(tiny, tmp_path):
    made, store = tiny
    folder = tmp_path / "reports" / "tiny"
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text("arm,seed,epochs\nplain,0,1\nplain,1,1\nlong,0,4\nlora,0,\ndrop,0,0\ndrop,1,\n")
    (folder / "timings.csv").write_text("arm,seed,ledger_seconds\nplain,0,3\nplain,1,5\nlong,0,8\nlora,0,\ndrop,0,7\ndrop,1,7\n")
    assert published(made) == {"plain": 4.0, "long": 2.0}
    rates = {"plain": 4.0, "long": 2.0}
    left = sum((1 + run.epochs) * rates.get(run.arm, 3.0) for run in made.runs.values())
    assert seconds_left(made, store, {}) == pytest.approx(left)
    (folder / "timings.csv").write_text("arm,seed\n")
    assert published(made) == {}


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (75.4, "75 s"), (90, "2 min"), (200, "3 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_a_time_in_words(seconds, said):
    assert in_words(seconds) == said


# ---- while it runs


class Clock:
    """`time.monotonic`, moved by hand."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def watched(tiny, monkeypatch):
    made, store = tiny
    clock, said = Clock(monkeypatch), io.StringIO()
    return made, Progress(made, store, Console(file=said, width=200)), clock, said


def test_a_line_an_event_with_the_time_left(watched):
    made, shown, clock, said = watched
    with shown.over({}):
        clock.now += 4
        shown.report(ended(made.called("plain/s0"), "ok", 4.0))
        shown.report(ended(made.called("teacher/s0"), "failed", 1.0, "MoveError: no"))
        clock.now += 4
        shown.report(ended(made.called("plain/s1"), "ok", 4.0))
        shown.report(ended(made.called("drop/s0"), "diverged"))
        shown.report(ended(made.called("drop/s1"), "blocked", error="needs teacher/s1"))
    first, second, third, fourth, fifth = said.getvalue().splitlines()
    assert first == "plain/s0 done in 4.0 s · 1/13 · 44 s left"  # eleven more like it
    assert second == "teacher/s0 FAILED in 1.0 s: MoveError: no · 2/13 · 40 s left"
    assert third.endswith("3/13 · 36 s left")
    assert fourth.startswith("drop/s0 diverged in 0.0 s · 4/13")
    assert fifth.startswith("drop/s1 blocked in 0.0 s: needs teacher/s1 · 5/13")


def test_odd_errors_do_no_harm(tiny):
    made, store = tiny
    said = io.StringIO()
    shown = Progress(made, store, Console(file=said, width=200, markup=False))
    with shown.over({}):
        shown.report(ended(made.called("teacher/s0"), "failed", 1.0, "[/x] enforce fail at [a]"))
    assert said.getvalue().count("\n") == 1
    assert "teacher/s0 FAILED in 1.0 s: [/x] enforce fail at [a] · 1/13" in said.getvalue()


def test_the_time_left_counts_down_between_events(watched):
    made, shown, clock, _ = watched
    runs = list(made.runs.values())
    with shown.over({}):
        for run in runs[:6]:
            clock.now += 5  # two at a time: ten seconds each, one ends every five
            shown.report(ended(run, "ok", 10.0))
        assert shown.time_left() == f"{5 * len(runs[6:])} s"
        clock.now += 3
        assert shown.time_left() == f"{5 * len(runs[6:]) - 3} s"


def test_before_the_first_nobody_knows_and_at_the_end_nothing_is_left(watched):
    made, shown, clock, _ = watched
    with shown.over({}):
        assert shown.time_left() == "?"
        clock.now += 1
        for run in made.runs.values():
            shown.report(ended(run, "ok", 1.0))
        assert shown.time_left() == "0 s"


def test_the_pace_is_that_of_all_processes_together_and_waiting_counts(watched):
    made, shown, clock, _ = watched
    with shown.over({}):
        clock.now += 5  # two processes: ten seconds of runs in five of the clock
        for name in ("plain/s0", "teacher/s0"):
            shown.report(ended(made.called(name), "ok", 5.0))
        assert shown.time_left() == "25 s"  # ten runs of five seconds
        clock.now += 3
        assert shown.time_left() == "22 s"


def test_an_arm_that_takes_longer_is_expected_to(watched):
    made, shown, clock, _ = watched
    with shown.over({}):
        clock.now += 12
        shown.report(ended(made.called("plain/s0"), "ok", 2.0))
        shown.report(ended(made.called("teacher/s0"), "ok", 10.0))
        assert shown.time_left() == f"{2 + 10 + 8 * 6} s"


def test_what_was_in_the_store_is_done(watched):
    made, shown, _, said = watched
    with shown.over({made.called("plain/s0").key: ended(made.called("plain/s0"), "ok")}):
        shown.report(ended(made.called("plain/s1"), "ok", 1.0))
    assert "2/13" in said.getvalue()
    assert shown.cached == 1


def test_the_table_counts_by_arm(watched):
    made, shown, _, _ = watched
    shown.store.begin(made.called("teacher/s1").key)
    ends = {"plain/s0": "ok", "plain/s1": "ok", "teacher/s0": "ok", "drop/s0": "failed", "lora@2/s0": "diverged"}
    shown.states = {made.called(name).key: ended(made.called(name), state) for name, state in ends.items()}
    table = shown.table()
    assert [column.header for column in table.columns] == ["arm", "done", "running", "left", "trouble"]
    rows = list(zip(*[list(column.cells) for column in table.columns], strict=True))
    assert rows == [("teacher", "1", "1", "", ""), ("plain", "2", "", "", ""), ("lora", "", "", "3", "1"), ("long", "", "", "2", ""),
                    ("drop", "", "", "1", "1"), ("all", "3", "1", "6", "2")]  # fmt: skip
    assert "0 were in the store" in table.caption


def test_a_terminal_shows_the_table_and_lines_of_trouble(tiny):
    made, store = tiny
    said = io.StringIO()
    shown = Progress(made, store, Console(file=said, width=200, force_terminal=True, highlight=False))
    with shown.over({}):
        shown.report(ended(made.called("plain/s0"), "ok", 1.0))
        shown.report(ended(made.called("drop/s0"), "failed", 1.0, "MoveError: no"))
        time.sleep(0.05)
    assert "drop/s0 FAILED in 1.0 s: MoveError: no" in said.getvalue()
    assert "plain/s0 done" not in said.getvalue()
    assert "tiny: tiny" in said.getvalue()
