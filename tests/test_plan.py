import hashlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from studies import ROOT, TINY, make

from reducenet.data import sources
from reducenet.study import key as keys
from reducenet.study.plan import arm_of, plan, words_used
from reducenet.study.read import StudyError
from reducenet.words import lock


@pytest.fixture
def tiny(tmp_path):
    return plan(make(tmp_path), device="cpu")


def changed(before, after, what=lambda made, key: key):
    """The arms whose last run of seed 0 has another key."""
    return {arm for (arm, seed), key in before.ends.items() if seed == 0 and what(after, after.ends[arm, 0]) != what(before, key)}


def trained(made, key):
    return made.runs[key].trained


EVERY = {"teacher", "plain", "long", "drop", "lora"}


# ---- which runs there are


def test_shared_beginnings_are_planned_once(tiny):
    names = [run.name for run in tiny.runs.values()]
    assert names.count("teacher/s0") == 1
    assert len(tiny.runs) == 2 * 6  # per seed: teacher, plain, long, drop, lora's fit, lora's fold
    teacher, lora, drop = (tiny.ends[arm, 1] for arm in ("teacher", "lora", "drop"))
    assert tiny.runs[drop].needs == (teacher,)
    assert teacher in tiny.lineage(lora)
    assert len({key for (_, seed), key in tiny.ends.items() if seed == 0}) == 5


def test_runs_are_named_by_arm_place_and_seed(tiny):
    assert {run.name for run in tiny.runs.values() if run.parameters["seed"] == 1} == {
        "teacher/s1", "plain/s1", "long/s1", "drop/s1", "lora@2/s1", "lora/s1",
    }  # fmt: skip
    assert tiny.called("lora@2/s1").file == "lora@2.s1"
    assert {tiny.called(name).arm for name in ("lora@2/s1", "lora/s1")} == {"lora"}
    assert arm_of("a.b-c/s10") == "a.b-c"
    with pytest.raises(StudyError, match=r"unknown run 'lora/s2' \(did you mean 'lora/s.'\?\); known: teacher/s0"):
        tiny.called("lora/s2")


def test_every_run_comes_after_what_it_needs(tiny):
    seen = set()
    for key, run in tiny.runs.items():
        assert set(run.needs) <= seen
        seen.add(key)


def test_a_run_goes_on_from_its_arms_network_and_learns_from_its_teachers(tiny):
    """The two are told apart: here they happen to be one run, in `other` they are not."""
    fit, fold = tiny.called("lora@2/s0"), tiny.called("lora/s0")
    assert fit.parameters["after"] == fit.parameters["teacher"] == tiny.called("teacher/s0").trained
    assert (fold.parameters["after"], fold.parameters["teacher"]) == (fit.trained, "")
    assert fold.needs == (fit.key,)
    assert [next(iter(move)) for move in fit.parameters["moves"]] == ["drop_branch", "freeze", "attach", "fit"]
    assert [next(iter(move)) for move in fold.parameters["moves"]] == ["fold"]


def test_a_teacher_that_is_not_the_start_of_the_chain(tmp_path):
    other = plan(make(tmp_path, TINY.replace('loss = "kd", teacher = "teacher"', 'loss = "kd", teacher = "plain"')), device="cpu")
    fit = other.called("lora@2/s1")
    assert fit.parameters["after"] == other.called("teacher/s1").trained
    assert fit.parameters["teacher"] == other.called("plain/s1").trained
    assert fit.needs == (other.ends["teacher", 1], other.ends["plain", 1])
    assert set(other.lineage(fit.key)) == {other.ends["teacher", 1], other.ends["plain", 1], fit.key}


def test_a_fit_sees_the_views_of_its_place_in_the_chain(tiny):
    nth = {run.name: run.parameters["nth_fit"] for run in tiny.runs.values() if run.parameters["seed"] == 0}
    assert nth == {"teacher/s0": 0, "plain/s0": 0, "long/s0": 0, "drop/s0": 1, "lora@2/s0": 1, "lora/s0": 2}


def test_a_run_has_the_seed_data_and_numerics_of_its_study(tmp_path):
    made = plan(make(tmp_path, TINY.replace("seeds = 2", "seeds = 2\nfirst_seed = 5\nthreads = 2")), device="cpu")
    assert {run.parameters["seed"] for run in made.runs.values()} == {5, 6}
    for run in [*made.runs.values(), made.timing(["plain"])]:
        assert (run.parameters["data"], run.parameters["threads"], run.parameters["device"]) == ("synthetic", 2, "cpu")
    assert made.timing(["plain"]).parameters["arms"] == {"plain": made.called("plain/s5").trained}


def test_the_timing_run_needs_the_arms_it_times_and_runs_alone(tiny):
    timing = tiny.timing(["plain", "drop"])
    assert timing.exclusive
    assert timing.needs == (tiny.ends["plain", 0], tiny.ends["drop", 0])
    assert timing.key not in tiny.runs
    assert timing.key != tiny.timing(["plain"]).key
    assert timing.key == tiny.timing(["plain", "drop"]).key
    assert timing.notebook.name == "latency.ipynb"
    assert not any(run.exclusive for run in tiny.runs.values())


def test_the_cost_is_paid_for_by_the_whole_lineage_of_the_arm_it_names(tiny):
    for seed in (0, 1):
        long = tiny.runs[tiny.ends["long", seed]]
        assert long.parameters["paid_by"] == [tiny.called(f"{name}/s{seed}").key for name in ("teacher", "lora@2", "lora")]
        assert set(long.parameters["paid_by"]) <= set(long.needs)
        assert tiny.lineage(long.key) == [long.key]  # what pays is not its own cost
        assert set(tiny.ancestry(long.key)) == {*long.parameters["paid_by"], long.key}
        assert long.epochs == 2  # the teacher's and the student's
    assert tiny.runs[tiny.ends["lora", 0]].parameters["paid_by"] == []


def test_what_an_arm_goes_on_or_learns_from_is_its_cost_though_it_set_the_budget_too(tmp_path):
    more = (
        '\n[arms.on]\nafter = "plain"\nchain = [{ fit = { cost_of = "plain" } }]\n'
        '\n[arms.taught]\nchain = [{ build = "plain" }, { fit = { cost_of = "lora", loss = "kd", teacher = "teacher" } }]\n'
    )
    made = plan(make(tmp_path, TINY + more), device="cpu")
    for seed in (0, 1):
        teacher, plain, on, taught = (made.ends[arm, seed] for arm in ("teacher", "plain", "on", "taught"))
        assert made.lineage(on) == [plain, on]
        assert made.lineage(taught) == [teacher, taught]
        assert set(made.ancestry(taught)) == {*made.ancestry(made.ends["lora", seed]), taught}


TICKETS = TINY.replace("[arms.long]", '[arms.best]\nchain = [{ best_of = { arm = "plain", tickets = 3 } }]\n\n[arms.long]')


def test_tickets_are_replicates_of_their_own_and_all_are_paid_for(tmp_path):
    with_tickets = plan(make(tmp_path, TICKETS), device="cpu")
    best = with_tickets.runs[with_tickets.ends["best", 1]]
    tickets = [with_tickets.called(name) for name in ("plain/s1", "plain/s1001", "plain/s2001")]
    assert best.parameters["tickets"] == [run.trained for run in tickets]
    assert [run.parameters["seed"] for run in tickets] == [1, 1001, 2001]
    assert tickets[0].key == with_tickets.ends["plain", 1]  # the first is the arm's own
    assert best.needs == tuple(run.key for run in tickets)
    assert with_tickets.lineage(best.key) == [*best.needs, best.key]
    assert (best.parameters["after"], best.parameters["teacher"]) == ("", "")


def test_tickets_are_in_the_key_of_what_chooses_between_them(tmp_path):
    """The name of their arm is not."""
    before = plan(make(tmp_path / "a", TICKETS), device="cpu")
    other = plan(make(tmp_path / "b", TICKETS.replace('best_of = { arm = "plain"', 'best_of = { arm = "teacher"')), device="cpu")
    assert changed(before, other) == changed(before, other, trained) == {"best"}
    longer = TICKETS.replace('chain = [{ build = "plain" }, "fit"]', 'chain = [{ build = "plain" }, { fit = 2 }]')
    assert changed(before, plan(make(tmp_path / "c", longer), device="cpu"), trained) == {"plain", "best"}


def test_one_run_has_one_teacher(tmp_path):
    two = TINY.replace('"drop_branch"]', '"drop_branch", { ridge = "plain" }, { fit = { loss = "kd", teacher = "teacher" } }]')
    with pytest.raises(StudyError, match="arms.drop: one run has one teacher, not plain and teacher; put a fit between them"):
        plan(make(tmp_path, two), device="cpu")
    plan(make(tmp_path / "same", two.replace('ridge = "plain"', 'ridge = "teacher"')), device="cpu")


# ---- what a key holds


@pytest.mark.parametrize(
    ("old", "new", "arms"),
    [
        ("lr = 0.05", "lr = 0.1", EVERY),
        ('{ expansion = 2 } }, "fit"]', '{ expansion = 3 } }, "fit"]', {"teacher", "drop", "lora", "long"}),
        ("{ expansion = 2 } }, {", "{ expansion = 3 } }, {", {"lora", "long"}),
        ("epochs = 1, lr", "epochs = 1, temperature = 2.0, lr", {"lora", "long"}),
        ("width = 4 }", "width = 4, scaler = 0.5 }", {"teacher", "drop", "lora", "long"}),
        ('cost_of = "lora"', 'cost_of = "teacher"', {"long"}),
        ('loss = "kd", teacher = "teacher"', 'loss = "kd", teacher = "plain"', {"lora", "long"}),
        ('loss = "kd"', 'loss = "features"', {"lora", "long"}),
        ('"drop_branch"]', '"drop_branch", "recalibrate"]', {"drop"}),
        ("seeds = 2", "seeds = 2\nthreads = 2", EVERY),
        ("seeds = 2", "seeds = 2\nfirst_seed = 1", None),
        ('label = "the teacher"', 'label = "another name"', set()),
        ('baseline = "plain"', 'baseline = "plain"\nmargin = 1.0', set()),
        ("seeds = 2", "seeds = 3", set()),
        ('title = "tiny"', 'title = "tinier"\nquestion = "?"\nnotes = ["x"]', set()),
    ],
)
def test_keys_change_with_what_comes_before_and_with_nothing_else(old, new, arms, tmp_path):
    assert old in TINY
    before = plan(make(tmp_path / "a"), device="cpu")
    after = plan(make(tmp_path / "b", TINY.replace(old, new, 1)), device="cpu")
    if arms is None:  # replicates 1 and 2: the first is known already
        assert all(after.ends[arm, 1] == before.ends[arm, 1] for arm in EVERY)
        assert not {after.ends[arm, 2] for arm in EVERY} & set(before.runs)
        return
    assert changed(before, after) == arms
    assert changed(before, after, trained) == arms


def test_no_two_seeds_share_a_key(tiny):
    assert not {run.key for run in tiny.runs.values() if run.parameters["seed"] == 0} & {
        run.key for run in tiny.runs.values() if run.parameters["seed"] == 1
    }
    assert len({run.trained for run in tiny.runs.values()}) == len(tiny.runs) == len({run.key for run in tiny.runs.values()})


def test_a_place_in_the_chain_is_in_the_key(tmp_path, monkeypatch):
    """The second fit of a sentence sees other views than the first."""
    asked, made_key = [], keys.trained
    monkeypatch.setattr(
        keys, "trained", lambda moves, *given, **more: asked.append((moves, more["nth_fit"])) or made_key(moves, *given, **more)
    )
    made = plan(make(tmp_path), device="cpu")
    assert {(run.name, nth) for run in made.runs.values() for moves, nth in asked if moves == run.parameters["moves"]} == {
        (run.name, run.parameters["nth_fit"]) for run in made.runs.values()
    }
    numerics = keys.numerics("cpu", 1)
    same = dict(paid_by=[], seed=0, after="", teacher="", tickets=[])
    one, two = (keys.trained([{"fit": {"epochs": 1}}], "synthetic", numerics, nth_fit=nth, **same) for nth in (0, 1))
    assert one != two


@pytest.mark.parametrize("what", ["device", "threads", "torch"])
def test_numerics_are_in_the_keys_of_all_that_is_trained(what, tmp_path, monkeypatch):
    file = make(tmp_path)
    before, numerics = plan(file, device="cpu"), keys.numerics
    monkeypatch.setattr(keys, "numerics", lambda device, threads: numerics(device, threads) | {what: "other"})
    after = plan(file, device="cpu")
    assert changed(before, after) == changed(before, after, trained) == EVERY
    assert before.timing(["plain"]).key != after.timing(["plain"]).key


def test_numerics_are_device_threads_and_torchs_minor_version(monkeypatch):
    version = importlib.metadata.version
    assert keys.numerics("cpu", 3) == {"device": "cpu", "threads": 3, "torch": ".".join(version("torch").split(".")[:2])}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.99.1+rocm6.4" if name == "torch" else version(name))
    assert keys.numerics("cpu", 1)["torch"] == "2.99"


def test_the_data_is_in_the_keys(tmp_path, monkeypatch):
    file = make(tmp_path)
    before, fingerprint = plan(file, device="cpu"), sources.fingerprint
    monkeypatch.setattr(sources, "fingerprint", lambda name: fingerprint(name) + "!")
    assert changed(before, plan(file, device="cpu"), trained) == EVERY


def test_versions_of_words_are_in_the_keys_of_the_runs_that_use_them_and_of_no_other(tmp_path, monkeypatch):
    file = make(tmp_path)
    before, version = plan(file, device="cpu"), lock.version

    def raised(*names):
        monkeypatch.setattr(lock, "version", lambda word: version(word) + "!" * (lock.name_of(word) in names))
        return changed(before, plan(file, device="cpu"), trained)

    assert raised("drop_branch") == {"drop", "lora", "long"}
    assert raised("loss kd") == raised("attach") == {"lora", "long"}
    assert raised("block plain") == {"plain", "long"}
    assert raised("block scaler") == {"teacher", "drop", "lora", "long"}
    assert raised("build") == raised("fit") == raised("loss ce") == raised("dataset synthetic") == EVERY
    assert raised("snap", "loss features", "block lambda", "dataset fashion-mini") == set()


def test_what_all_runs_share_is_in_all_keys_and_what_measures_only_in_those_of_the_measured(tmp_path, monkeypatch):
    text = TINY.replace('"drop_branch"]', '"drop_branch", "recalibrate"]')
    file = make(tmp_path, text)
    before, shared_version = plan(file, device="cpu"), lock.shared_version
    notebook = file.parent / "latency.ipynb"
    timed = keys.timed({}, {}, notebook)

    def raised(name):
        monkeypatch.setattr(lock, "shared_version", lambda part: shared_version(part) + "!" * (part == name))
        after = plan(file, device="cpu")
        return changed(before, after), changed(before, after, trained)

    assert raised("train") == (EVERY, EVERY)
    assert raised("measure") == (EVERY, set())
    assert raised("count") == (EVERY, {"long", "drop"})  # a cost sets its epochs; its tune was counted
    assert keys.timed({}, {}, notebook) == timed  # counting times nothing
    raised("measure")
    assert keys.timed({}, {}, notebook) != timed


def test_a_default_that_is_said_is_the_same_run(tmp_path):
    """So that a parameter that is new leaves old keys alone."""
    before = plan(make(tmp_path / "a"), device="cpu")
    said = TINY.replace("lr = 0.05 }", "lr = 0.05, momentum = 0.9, temperature = 4.0, batch = 128 }").replace(
        "width = 4", "width = 4, depth = 8"
    )
    after = plan(make(tmp_path / "b", said), device="cpu")
    assert after.study.chains["plain"] == before.study.chains["plain"]
    assert changed(before, after) == set()
    moves = [{"fit": {"epochs": 1, "lr": 0.05}}]
    numerics, same = keys.numerics("cpu", 1), dict(paid_by=[], seed=0, nth_fit=0, after="", teacher="", tickets=[])
    whole = before.called("plain/s0").parameters["moves"][-1:]
    assert len(whole[0]["fit"]) > 5
    assert keys.trained(whole, "synthetic", numerics, **same) == keys.trained(moves, "synthetic", numerics, **same)


def test_renaming_an_arm_changes_no_key(tmp_path):
    before = plan(make(tmp_path / "a"), device="cpu").ends
    renamed = TINY.replace("arms.teacher", "arms.tutor").replace('= "teacher"', '= "tutor"')
    after = plan(make(tmp_path / "b", renamed), device="cpu").ends
    assert after["tutor", 0] == before["teacher", 0]
    assert all(after[arm, 0] == before[arm, 0] for arm in ("lora", "long", "drop", "plain"))


def test_where_a_file_lies_changes_no_key(tmp_path):
    assert plan(make(tmp_path / "a"), device="cpu").ends == plan(make(tmp_path / "b", name="other"), device="cpu").ends


def edited(folder, name, change):
    """The notebook beside a study, with `change(cell)` made to each of its cells."""
    file = folder / "ablations" / name
    notebook = json.loads(file.read_text())
    for cell in notebook["cells"]:
        change(cell)
    file.write_text(json.dumps(notebook))


def test_what_the_notebook_says_trains_nothing_and_what_it_does_measures_again(tmp_path, anew):
    file = make(tmp_path)
    before = plan(file, device="cpu")
    timed = before.timing(["plain"]).key

    def prose(cell):
        cell["source"] = ["Other words."] if cell["cell_type"] == "markdown" else ["# a comment\n", *cell["source"]]

    edited(tmp_path, "fit.ipynb", prose)
    anew()
    assert changed(before, plan(file, device="cpu")) == set()
    edited(tmp_path, "fit.ipynb", lambda cell: cell["cell_type"] == "code" and cell["source"].insert(0, "x_new = 1\n"))
    anew()
    after = plan(file, device="cpu")
    assert changed(before, after) == EVERY
    assert changed(before, after, trained) == set()
    assert before.timing(["plain"]).key == timed
    edited(tmp_path, "latency.ipynb", lambda cell: cell["cell_type"] == "code" and cell["source"].insert(0, "x_new = 1\n"))
    anew()
    assert before.timing(["plain"]).key != timed


@pytest.mark.parametrize("module", ["reducenet.play.show", "reducenet.style"])
def test_how_a_run_is_shown_is_in_the_key_of_the_measured(module, tmp_path, monkeypatch):
    file = make(tmp_path)
    before, hash_of = plan(file, device="cpu"), lock.hash_of
    monkeypatch.setattr(lock, "hash_of", lambda *modules: hash_of(*modules) + "!" * (module in modules))
    after = plan(file, device="cpu")
    assert changed(before, after) == EVERY
    assert changed(before, after, trained) == set()


def test_a_key_is_canonical():
    written_out = hashlib.sha256(b'{"a":1,"b":[1.0,"x"]}').hexdigest()[:16]
    assert keys.key(a=1, b=[1.0, "x"]) == keys.key(b=[1.0, "x"], a=1) == written_out
    with pytest.raises(ValueError, match="JSON"):
        keys.key(a=float("nan"))


def test_the_words_that_a_plan_uses(tiny):
    assert {lock.name_of(word) for word in words_used(tiny)} == {
        "build", "block scaler", "block plain", "fit", "loss ce", "loss kd", "drop_branch", "freeze", "attach", "fold", "dataset synthetic",
    }  # fmt: skip
    assert len(words_used(tiny)) == 11


# ---- where it is planned


def test_planning_imports_no_torch():
    code = (
        "import sys, reducenet, reducenet.cli; from reducenet.study.plan import plan; from reducenet.study.run import drive, execute; "
        "plan('ablations/quick.toml', 'cpu'); "
        "print(*[m for m in ('torch', 'pandas', 'scipy', 'papermill', 'distributed') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([], "")


def driver(monkeypatch, there, version="2.14.1+cu130", hidden=None):
    """A machine with or without NVIDIA's driver."""
    monkeypatch.setattr(Path, "exists", lambda self: there and str(self) == "/proc/driver/nvidia/version")
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([Path("/dev/nvidia0")] * (there and str(self) == "/dev")))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"torch": version}[name])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)


def test_auto_is_the_gpu_where_there_is_one(monkeypatch):
    driver(monkeypatch, there=True)
    assert [keys.device(asked) for asked in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


@pytest.mark.parametrize(
    "machine",
    [dict(there=False), dict(there=True, version="2.14.1+cpu"), dict(there=True, hidden=""), dict(there=True, hidden="-1")],
    ids=["no driver", "torch without CUDA", "hidden", "hidden too"],
)
def test_without_one_auto_is_the_cpu_and_asking_for_it_is_refused(machine, monkeypatch):
    driver(monkeypatch, **machine)
    assert [keys.device(asked) for asked in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(
        StudyError, match='device "cuda" was asked for, but there is no CUDA device here, or a torch without CUDA; use "cpu"'
    ):
        keys.device("cuda")


def test_the_device_that_is_asked_for_goes_before_the_studys_own(tmp_path, monkeypatch):
    file = make(tmp_path, TINY.replace("seeds = 2", 'seeds = 2\ndevice = "cuda"'))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert plan(file, device="cpu").numerics["device"] == "cpu"
    with pytest.raises(StudyError, match='device "cuda" was asked for'):
        plan(file)


def test_a_broken_notebook_is_one_line(tmp_path):
    file = make(tmp_path)
    (file.parent / "fit.ipynb").write_text("{")
    with pytest.raises(StudyError, match=r"fit\.ipynb: not a readable notebook .*build\.py"):
        plan(file, device="cpu")


@pytest.mark.parametrize("name", ["fit", "latency"])
def test_a_study_without_notebooks_has_the_projects_and_where_these_are_missing_it_is_one_line(name, tmp_path, monkeypatch):
    file = make(tmp_path)
    made = plan(file, device="cpu")
    (file.parent / f"{name}.ipynb").unlink()
    lent = plan(file, device="cpu")
    assert lent.notebook(name) == ROOT / "ablations" / f"{name}.ipynb"
    assert lent.ends == made.ends
    monkeypatch.setattr("reducenet.study.plan.PROJECT", tmp_path)
    with pytest.raises(StudyError, match=rf"{name}\.ipynb: the notebook that runs a study is missing: .*build\.py"):
        plan(file, device="cpu")
