import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from studies import ROOT, TINY, make

from reducenet import home
from reducenet.study import identity
from reducenet.study.execute import inherited
from reducenet.study.grammar import StudyError
from reducenet.study.plan import plan, sentence


@pytest.fixture
def tiny(tmp_path):
    return plan(make(tmp_path), device="cpu")


def test_shared_beginnings_are_planned_once(tiny):
    names = [run.name for run in tiny.runs.values()]
    assert names.count("teacher/s0") == 1
    assert len(tiny.runs) == 2 * 6 + 1  # per seed: teacher, plain, long, drop, lora's fit, lora's fold; and the timing
    teacher, lora, drop = (tiny.ends[arm, 1] for arm in ("teacher", "lora", "drop"))
    assert tiny.runs[drop].needs == (teacher,)
    assert teacher in tiny.lineage(lora)
    assert len({key for (_, seed), key in tiny.ends.items() if seed == 0}) == 5


def test_every_run_comes_after_what_it_needs(tiny):
    seen = set()
    for key, run in tiny.runs.items():
        assert set(run.needs) <= seen
        seen.add(key)


def test_a_fit_sees_the_views_of_its_place_in_the_chain(tiny):
    stages = {arm: tiny.runs[tiny.ends[arm, 0]].parameters["stage"] for arm in ("teacher", "plain", "drop")}
    assert stages == {"teacher": 0, "plain": 0, "drop": 1}
    fold = tiny.runs[tiny.ends["lora", 0]]
    assert tiny.runs[fold.needs[0]].parameters["stage"] == 1


def test_budget_is_the_whole_lineage_of_the_arm_it_names(tiny):
    long = tiny.runs[tiny.ends["long", 0]].parameters
    assert long["budget"] == tiny.lineage(tiny.ends["lora", 0])
    assert tiny.lineage(tiny.ends["long", 0]) == [tiny.ends["long", 0]]  # the budget's runs are not its own cost


TICKETS = TINY.replace("[arms.long]", '[arms.best]\nchain = [{ best_of = { arm = "plain", tickets = 3 } }]\n\n[arms.long]')


def test_tickets_are_replicates_of_their_own_and_all_are_paid_for(tmp_path):
    with_tickets = plan(make(tmp_path, TICKETS), device="cpu")
    best = with_tickets.runs[with_tickets.ends["best", 1]]
    tickets = [with_tickets.runs[key] for key in best.parameters["tickets"]]
    assert [run.parameters["seed"] for run in tickets] == [1, 1001, 2001]
    assert [run.name for run in tickets] == ["plain/s1", "plain/s1001", "plain/s2001"]
    assert tickets[0].key == with_tickets.ends["plain", 1]  # the first is the arm's own
    assert best.needs == tuple(run.key for run in tickets)
    assert with_tickets.lineage(best.key) == [*best.needs, best.key]


def test_a_ticket_that_diverged_is_a_blank_and_no_more(tmp_path):
    with_tickets = plan(make(tmp_path, TICKETS), device="cpu")
    best = with_tickets.runs[with_tickets.ends["best", 0]]

    def upstream(*states):
        return [{"key": key, "state": state} for key, state in zip(best.needs, states, strict=True)]

    assert inherited(best, upstream("ok", "diverged", "ok")) == ("", "")
    assert inherited(best, upstream("diverged", "diverged", "diverged"))[0] == "diverged"
    assert inherited(best, upstream("ok", "failed", "ok"))[0] == "blocked"


def test_one_run_has_one_teacher(tmp_path):
    two = TINY.replace('"drop_branch"]', '"drop_branch", { ridge = "plain" }, { fit = { loss = "kd", teacher = "teacher" } }]')
    with pytest.raises(StudyError, match="arms.drop: one run has one teacher, not plain and teacher"):
        plan(make(tmp_path, two), device="cpu")
    plan(make(tmp_path / "same", two.replace('ridge = "plain"', 'ridge = "teacher"')), device="cpu")


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("lr = 0.05", "lr = 0.1", {"teacher", "plain", "long", "drop", "lora"}),
        ('{ expansion = 2 } }, "fit"]', '{ expansion = 3 } }, "fit"]', {"teacher", "drop", "lora", "long"}),
        ("{ expansion = 2 } }, {", "{ expansion = 3 } }, {", {"lora", "long"}),
        ("epochs = 1, lr", "epochs = 1, temperature = 2.0, lr", {"lora", "long"}),
        ("width = 4 }", "width = 4, scaler = 0.5 }", {"teacher", "drop", "lora", "long"}),
        ('label = "the teacher"', 'label = "another name"', set()),
        ('baseline = "plain"', 'baseline = "plain"\nmargin = 1.0', set()),
        ("seeds = 2", "seeds = 3", set()),
    ],
)
def test_keys_change_with_what_comes_before_and_with_nothing_else(old, new, changed, tmp_path):
    before = plan(make(tmp_path / "a"), device="cpu").ends
    after = plan(make(tmp_path / "b", TINY.replace(old, new, 1)), device="cpu").ends
    assert {arm for (arm, seed), key in before.items() if seed == 0 and after[arm, 0] != key} == changed


def test_comments_do_not_change_a_keys_code_but_code_does(tmp_path):
    notebook = json.loads((ROOT / "ablations" / "fit.ipynb").read_text())
    files = {}
    for name, line in {"same": "# a comment\n", "other": "x_new = 1\n"}.items():
        cells = [dict(c, source=[line, *c["source"]]) if c["cell_type"] == "code" else c for c in notebook["cells"]]
        files[name] = tmp_path / f"{name}.ipynb"
        files[name].write_text(json.dumps({**notebook, "cells": cells}))
    real = identity.notebook_code(ROOT / "ablations" / "fit.ipynb")
    assert identity.notebook_code(files["same"]) == real
    assert identity.notebook_code(files["other"]) != real


def test_key_is_canonical():
    written_out = hashlib.sha256(b'{"a":1,"b":[1.0,"x"]}').hexdigest()[:16]
    assert identity.key(a=1, b=[1.0, "x"]) == identity.key(b=[1.0, "x"], a=1) == written_out
    with pytest.raises(ValueError, match="JSON"):
        identity.key(a=float("nan"))


def test_the_core_in_the_key_is_the_core_that_a_fit_imports():
    """Every module of the package that fit.ipynb's imports load is hashed, but for names, paths and the store."""
    code = (
        "import sys; from reducenet import chain, checkpoint, measure, moves; from reducenet.train import fit; "
        "from reducenet.deploy import fuse; from reducenet.side import fold; "
        "from reducenet.data import load; print(*[m for m in sys.modules if m.startswith('reducenet.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {module.removeprefix("reducenet.") for module in done.stdout.split()}
    assert loaded - {"datasets", "home"} == set(identity.CORE)


def test_a_method_is_in_the_keys_of_the_runs_that_use_it_and_of_no_other(monkeypatch):
    moves = {
        "repopt": [{"repopt": {}}],
        "depth": [{"search_depth": {}}],
        "plain": [{"drop_branch": {}}],
        "super": [{"fit": {"loss": "sandwich"}}],
    }
    before = {name: identity.code_of(sentence) for name, sentence in moves.items()}
    assert before["plain"] == ""
    meaning = identity._meaning

    def changed(of):
        monkeypatch.setattr(identity, "_meaning", lambda source: meaning(source) + ("# changed" if of in source else ""))
        return {name for name, sentence in moves.items() if identity.code_of(sentence) != before[name]}

    assert changed("def repopt(") == {"repopt"}
    assert changed("def groups(") == {"depth"}  # what the searches share
    assert changed("def sandwich(") == {"super"}


def test_a_word_without_a_home_and_a_home_that_is_not_there(tmp_path, monkeypatch):
    file = make(tmp_path, TINY.replace('"drop_branch"]', '"drop_branch", "recalibrate"]'))
    monkeypatch.setitem(home.TUNES, "recalibrate", "rivals.nowhere")
    with pytest.raises(StudyError, match=r"rivals/nowhere\.py is not there; see reducenet/home\.py"):
        plan(file, device="cpu")
    monkeypatch.delitem(home.TUNES, "recalibrate")
    with pytest.raises(StudyError, match="the word 'recalibrate' has no home: reducenet/home.py"):
        plan(file, device="cpu")


def test_a_changed_method_changes_the_keys_of_its_arms_alone(tmp_path, monkeypatch):
    file = make(tmp_path, TINY.replace('"drop_branch"]', '"drop_branch", "recalibrate"]'))
    before = plan(file, device="cpu").ends
    code_of = identity.code_of
    monkeypatch.setattr(identity, "code_of", lambda moves: code_of(moves) + "changed" * bool(code_of(moves)))
    after = plan(file, device="cpu").ends
    assert {arm for arm, seed in before if before[arm, seed] != after[arm, seed]} == {"drop"}


def test_planning_imports_no_torch():
    code = (
        "import sys, reducenet; from reducenet.cli import main; code = main(['plan', 'ablations/quick.toml']); "
        "sys.exit(code or sum(m in sys.modules for m in ('torch', 'pandas', 'scipy', 'papermill', 'distributed')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_sentence_shows_what_differs_from_the_defaults(tmp_path):
    from reducenet.study.grammar import read

    study, chains = read(make(tmp_path))
    defaults = {"build": study.build, "fit": study.fit}
    assert sentence(chains["plain"], defaults) == "build(block plain) → fit"
    assert sentence(chains["drop"], defaults) == "build(block scaler, expansion 2) → fit → drop_branch"


def test_auto_device_without_a_driver_is_the_cpu(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert identity.device("auto") == "cpu"
    assert identity.device("cuda") == "cuda"


def test_renaming_an_arm_changes_no_key(tmp_path):
    before = plan(make(tmp_path / "a"), device="cpu").ends
    renamed = TINY.replace("arms.teacher", "arms.tutor").replace('= "teacher"', '= "tutor"')
    after = plan(make(tmp_path / "b", renamed), device="cpu").ends
    assert after["tutor", 0] == before["teacher", 0]
    assert all(after[arm, 0] == before[arm, 0] for arm in ("lora", "long", "drop", "plain"))


def test_what_paying_for_others_costs_is_known_to_the_order_of_runs(tiny):
    long = tiny.runs[tiny.ends["long", 0]]
    assert long.epochs == 2  # the teacher's and the student's


def test_a_broken_notebook_is_one_line(tmp_path):
    file = make(tmp_path)
    (file.parent / "fit.ipynb").write_text("{")
    with pytest.raises(StudyError, match=r"fit\.ipynb: not a readable notebook .*build\.py"):
        plan(file, device="cpu")
