"""A plan carried out: what runs when, with what, and what becomes of failures. A fake stands for the kernels."""

import os
import subprocess
import sys

import distributed
import papermill
import pytest
from distributed.scheduler import KilledWorker
from papermill.exceptions import PapermillExecutionError
from studies import TINY, make

from reducenet.store import Store, write_result
from reducenet.study.plan import plan
from reducenet.study.read import StudyError
from reducenet.study.run import drive as driving
from reducenet.study.run import execute as executing
from reducenet.study.run.drive import drive, known, longest_first, timing_of
from reducenet.study.run.execute import ended, execute, inherited, pinned

ONE = TINY.replace("seeds = 2", "seeds = 1")


class Kernels:
    """Runs end as `ends` says by name: "ok", "diverged", "failed" or "silent"; `started` are their names in order."""

    def __init__(self, monkeypatch):
        self.started, self.ends = [], {}
        monkeypatch.setattr(executing, "_papermill", self.run)

    def run(self, run, store, folder):
        self.started.append(run.name)
        end = self.ends.get(run.name, "ok")
        if end == "failed":
            return {"type": "MoveError", "message": "no", "cell": 3}
        (folder / "run.ipynb").write_text("{}")
        (folder / "correct.npy").write_bytes(b"")
        if end != "silent":
            kind = "timed" if run.exclusive else "measured"
            write_result(folder, {"kind": kind, "key": run.key, "status": end, "cost": {"seconds": 1.0}})
        return None


@pytest.fixture
def kernels(monkeypatch):
    return Kernels(monkeypatch)


@pytest.fixture
def tiny(tmp_path):
    return plan(make(tmp_path, ONE), device="cpu"), Store(tmp_path / "store")


def states(made, found):
    names = {key: run.name for key, run in made.runs.items()}
    return {names.get(key, "latency"): state["state"] for key, state in found.items()}


# ---- one after the other


def test_every_run_once_and_the_timing_at_the_end(tiny, kernels):
    made, store = tiny
    found = drive(made, store, serial=True)
    assert kernels.started == ["teacher/s0", "plain/s0", "lora@2/s0", "lora/s0", "long/s0", "drop/s0", "latency"]
    assert set(states(made, found).values()) == {"ok"}
    assert len(found) == 7
    assert drive(made, store, serial=True).keys() == found.keys()
    assert len(kernels.started) == 7  # nothing runs twice
    assert known(made, store).keys() == found.keys()


def test_only_what_the_store_does_not_have_is_run(tiny, kernels):
    made, store = tiny
    drive(made, store, serial=True, only=["plain/s0"])
    kernels.started.clear()
    drive(made, store, serial=True)
    assert kernels.started == ["teacher/s0", "lora@2/s0", "lora/s0", "long/s0", "drop/s0", "latency"]


def test_one_run_is_played_with_all_it_needs_and_nothing_is_timed(tiny, kernels):
    made, store = tiny
    found = drive(made, store, serial=True, only=["lora@2/s0"])
    assert kernels.started == ["teacher/s0", "lora@2/s0"]
    assert states(made, found) == {"teacher/s0": "ok", "lora@2/s0": "ok"}
    assert drive(made, store, serial=True, only=["lora@2/s0"]) == {**found, **known(made, store)}
    assert len(kernels.started) == 2
    with pytest.raises(StudyError, match="unknown run 'lora/s9'"):
        drive(made, store, serial=True, only=["lora/s9"])


def test_a_failure_blocks_what_needs_it_and_nothing_else_and_is_tried_again(tiny, kernels):
    made, store = tiny
    kernels.ends = {"lora@2/s0": "failed"}
    found = drive(made, store, serial=True)
    assert states(made, found) == {"teacher/s0": "ok", "plain/s0": "ok", "lora@2/s0": "failed", "lora/s0": "blocked", "long/s0": "blocked",
                                   "drop/s0": "ok", "latency": "ok"}  # fmt: skip
    errors = {state["name"]: state["error"] for state in found.values() if state["error"]}
    assert errors["lora@2/s0"] == "MoveError: no"
    assert errors["lora/s0"] == "needs lora@2/s0"
    assert errors["long/s0"] == "needs lora/s0, lora@2/s0"
    assert store.failure(made.called("lora@2/s0").key) == {
        "key": made.called("lora@2/s0").key, "name": "lora@2/s0", "type": "MoveError", "message": "no", "cell": 3,
    }  # fmt: skip
    timed = timing_of(made, found)
    assert set(timed.parameters["arms"]) == {"teacher", "plain", "drop"}
    kernels.started.clear()
    kernels.ends = {}
    assert set(states(made, drive(made, store, serial=True)).values()) == {"ok"}
    assert kernels.started == ["lora@2/s0", "lora/s0", "long/s0", "latency"]  # side by side again, now with all
    assert store.failure(made.called("lora@2/s0").key) is None


def test_what_goes_on_from_a_divergence_has_diverged_too_and_is_not_run(tiny, kernels):
    made, store = tiny
    kernels.ends = {"teacher/s0": "diverged"}
    found = drive(made, store, serial=True)
    assert kernels.started == ["teacher/s0", "plain/s0", "latency"]
    assert states(made, found) == {"teacher/s0": "diverged", "plain/s0": "ok", "lora@2/s0": "diverged", "lora/s0": "diverged",
                                   "drop/s0": "diverged", "long/s0": "blocked", "latency": "ok"}  # fmt: skip
    assert found[made.ends["drop", 0]]["error"] == "goes on from a run that diverged"
    again = known(made, store)
    assert states(made, again) == {name: state for name, state in states(made, found).items() if name != "long/s0"}
    kernels.started.clear()
    drive(made, store, serial=True)
    assert kernels.started == []


def test_a_notebook_that_ends_without_a_result_has_failed(tiny, kernels):
    made, store = tiny
    kernels.ends = {"plain/s0": "silent"}
    state = execute(made.called("plain/s0"), str(store.folder))
    assert state["state"] == "failed"
    assert state["error"] == "NoResult: the notebook ended without writing result.json"
    assert store.result(state["key"]) is None
    assert (store.failed(state["key"]) / "run.ipynb").is_file()


def test_where_nothing_ended_well_nothing_is_timed(tiny, kernels):
    made, store = tiny
    kernels.ends = dict.fromkeys([run.name for run in made.runs.values()], "failed")
    drive(made, store, serial=True)
    assert "latency" not in kernels.started
    assert timing_of(made, {}) is None


def test_a_run_that_another_process_finished_meanwhile_is_not_run_again(tiny, kernels):
    made, store = tiny
    run = made.called("plain/s0")
    assert execute(run, str(store.folder))["state"] == execute(run, str(store.folder))["state"] == "ok"
    assert kernels.started == ["plain/s0"]
    again = execute(run, str(store.folder))
    assert again["trained"] == run.trained
    assert 0 <= again["seconds"] < 60


def test_what_dead_processes_left_is_swept_away_first(tiny, kernels):
    made, store = tiny
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (store.folder / f".tmp-abc-{dead.pid}").mkdir(parents=True)
    drive(made, store, serial=True, only=["plain/s0"])
    assert not list(store.folder.glob(".tmp-*"))


# ---- what troubles upstream mean


def test_trouble_upstream(tiny):
    made, _ = tiny
    lora, long = made.called("lora@2/s0"), made.called("long/s0")

    def meets(run, **ends):
        return inherited(run, [ended(made.called(f"{name}/s0"), state) for name, state in ends.items()])

    assert meets(lora, teacher="ok") == ("", "")
    assert meets(lora, teacher="diverged") == ("diverged", "goes on from a run that diverged")
    assert meets(lora, teacher="failed") == ("blocked", "needs teacher/s0")
    assert meets(lora, teacher="blocked") == ("blocked", "needs teacher/s0")
    assert meets(long, lora="diverged", teacher="ok") == ("blocked", "needs lora/s0")  # it only pays
    assert meets(long, lora="failed", teacher="blocked") == ("blocked", "needs lora/s0, teacher/s0")
    assert inherited(long, []) == ("", "")


def test_a_teacher_that_diverged_teaches_nothing(tmp_path):
    made = plan(make(tmp_path, ONE.replace('loss = "kd", teacher = "teacher"', 'loss = "kd", teacher = "plain"')), device="cpu")
    run = made.called("lora@2/s0")
    upstream = {name: ended(made.called(name), "ok") for name in ("teacher/s0", "plain/s0")}
    assert inherited(run, list(upstream.values())) == ("", "")
    for name in upstream:
        assert inherited(run, list((upstream | {name: ended(made.called(name), "diverged")}).values()))[0] == "diverged"


TICKETS = ONE.replace("[arms.long]", '[arms.best]\nchain = [{ best_of = { arm = "plain", tickets = 3 } }]\n\n[arms.long]')


def test_a_ticket_that_diverged_is_a_blank_and_no_more(tmp_path, kernels):
    made, store = plan(make(tmp_path, TICKETS), device="cpu"), Store(tmp_path / "store")
    best = made.runs[made.ends["best", 0]]

    def upstream(*found):
        return [ended(made.runs[key], state) for key, state in zip(best.needs, found, strict=True)]

    assert inherited(best, upstream("ok", "diverged", "ok")) == ("", "")
    assert inherited(best, upstream("diverged", "diverged", "diverged")) == ("diverged", "all of its tickets diverged")
    assert inherited(best, upstream("ok", "failed", "ok")) == ("blocked", "needs plain/s1000")
    assert inherited(best, upstream("diverged", "failed", "diverged"))[0] == "blocked"
    kernels.ends = {"plain/s0": "diverged", "plain/s1000": "diverged"}
    assert states(made, drive(made, store, serial=True))["best/s0"] == "ok"


# ---- the environment of a run


def test_threads_and_hashes_are_pinned_while_it_lasts_and_everything_is_as_before_afterwards(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # what Dask sets
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    before = dict(os.environ)
    inside = {}

    def run():
        with pinned(3, MORE="x"):
            inside.update(os.environ)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert {name: inside[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "3"
    )
    assert inside["PYTHONHASHSEED"] == "0"
    assert inside["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert inside["MORE"] == "x"
    assert "MALLOC_TRIM_THRESHOLD_" not in inside  # or training spends its time on page faults
    assert dict(os.environ) == before


class Notebooks:
    """What papermill is asked to execute, and the environment then."""

    def __init__(self, monkeypatch, error=None):
        self.asked, self.error = [], error
        monkeypatch.setattr(papermill, "execute_notebook", self.execute)

    def execute(self, source, target, parameters, **more):
        self.asked.append((source, target, parameters, more, dict(os.environ)))
        if self.error:
            raise self.error


def test_a_run_gets_its_parameters_its_folders_and_a_pinned_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    made, store = plan(make(tmp_path, ONE.replace("seeds = 1", "seeds = 1\nthreads = 2")), device="cpu"), Store(tmp_path / "store")
    run, folder, notebooks = made.called("lora@2/s0"), tmp_path / "out", Notebooks(monkeypatch)
    assert executing._papermill(run, store, folder) is None
    ((source, target, parameters, more, environment),) = notebooks.asked
    assert (source, target) == (str(made.path.parent / "fit.ipynb"), str(folder / "run.ipynb"))
    assert parameters == {**run.parameters, "key": run.key, "trained": run.trained, "store": str(store.folder), "out": str(folder)}
    assert more["cwd"] == str(folder)
    assert more["kernel_name"] == "python3"
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["PYTHONHASHSEED"] == "0"
    assert "MALLOC_TRIM_THRESHOLD_" not in environment
    executing._papermill(made.timing(["plain"]), store, folder)
    assert "trained" not in notebooks.asked[1][2]
    assert notebooks.asked[1][0].endswith("latency.ipynb")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            PapermillExecutionError(3, 4, "", "MoveError", "no\n  such move", []),
            {"type": "MoveError", "message": "no such move", "cell": 3},
        ),
        (RuntimeError("Kernel\ndied"), {"type": "RuntimeError", "message": "Kernel died", "cell": None}),
        (RuntimeError("x" * 900), {"type": "RuntimeError", "message": "x" * 500, "cell": None}),
    ],
    ids=["in a cell", "around it", "long"],
)
def test_what_goes_wrong_is_one_line(error, found, tiny, tmp_path, monkeypatch):
    made, store = tiny
    Notebooks(monkeypatch, error)
    assert executing._papermill(made.called("plain/s0"), store, tmp_path) == found


# ---- side by side


def test_the_longest_way_goes_first_seed_by_seed(tmp_path):
    made = plan(make(tmp_path, TINY.replace("epochs = 1", "epochs = 4")), device="cpu")
    batch = list(made.runs.values())
    urgency = {run.name: longest_first(batch)[run.key] for run in batch}
    # teacher (4 epochs) -> lora's fit (4) -> lora's fold -> long (which pays for both: 8): each run counts one more than its epochs
    assert {name: value for name, value in urgency.items() if name.endswith("/s0")} == {
        "teacher/s0": 5 + 5 + 1 + 9, "lora@2/s0": 5 + 1 + 9, "lora/s0": 1 + 9, "long/s0": 9, "plain/s0": 5, "drop/s0": 1,
    }  # fmt: skip
    assert urgency["teacher/s0"] - urgency["teacher/s1"] == 10_000
    assert min(value for name, value in urgency.items() if name.endswith("/s0")) > max(
        value for name, value in urgency.items() if name.endswith("/s1")
    )


class Cluster:
    """Dask's, in this process: what is submitted runs at once, in the order of its urgency; `killed` by name die instead."""

    def __init__(self, monkeypatch, killed=()):
        self.options, self.submitted, self.killed, self.environments = None, [], killed, []
        monkeypatch.setattr(distributed, "LocalCluster", self.open)
        monkeypatch.setattr(distributed, "Client", lambda cluster: cluster)
        monkeypatch.setattr(distributed, "as_completed", lambda futures: iter(sorted(futures, key=lambda future: -future.priority)))

    def open(self, **options):
        self.options = options
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def submit(self, function, run, folder, needs=(), beside=(), *, key="", pure=True, priority=0):
        named = [[n.run.name if isinstance(n, Future) else n["name"] for n in some] for some in (needs, beside)]
        self.submitted.append((run.name, *named, priority, pure))
        self.environments.append(dict(os.environ))
        return Future(self, function, run, folder, needs, key or run.name, priority)


class Future:
    def __init__(self, cluster, function, run, folder, needs, key, priority):
        self.cluster, self.call, self.run, self.needs, self.key, self.priority = cluster, (function, run, folder), run, needs, key, priority
        self.done = None

    def result(self):
        for future in (self, *(need for need in self.needs if isinstance(need, Future))):
            if future.run.name in self.cluster.killed:
                raise KilledWorker(task=future.key, last_worker=None, allowed_failures=3)
        if self.done is None:
            function, run, folder = self.call
            self.done = function(run, folder, [need.result() if isinstance(need, Future) else need for need in self.needs])
        return self.done


def test_the_pool_runs_all_with_their_urgency_and_times_last(tmp_path, kernels, monkeypatch):
    made, store, cluster = plan(make(tmp_path), device="cpu"), Store(tmp_path / "store"), Cluster(monkeypatch)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    before = dict(os.environ)
    found = drive(made, store, workers=3)
    assert set(states(made, found).values()) == {"ok"}
    assert len(found) == len(made.runs) + 1
    urgency = longest_first(list(made.runs.values()))
    submitted = {name: (needs, beside, priority) for name, needs, beside, priority, _ in cluster.submitted}
    for run in made.runs.values():
        needs, beside = ([made.runs[key].name for key in keys] for keys in (run.needs, run.beside))
        assert submitted[run.name] == (needs, beside, urgency[run.key])
    assert cluster.submitted[-1][0] == kernels.started[-1] == "latency"
    assert not any(pure for *_, pure in cluster.submitted)  # Dask would take equal calls for one
    assert {name: cluster.options[name] for name in ("n_workers", "threads_per_worker", "processes", "memory_limit")} == {
        "n_workers": 3, "threads_per_worker": 1, "processes": True, "memory_limit": 0,
    }  # fmt: skip
    assert (cluster.options["host"], cluster.options["dashboard_address"]) == ("127.0.0.1", "127.0.0.1:0")  # nobody else's business
    assert all(
        "MALLOC_TRIM_THRESHOLD_" not in environment and environment["OMP_NUM_THREADS"] == "1" for environment in cluster.environments
    )
    assert dict(os.environ) == before


def test_what_is_in_the_store_is_handed_on_as_it_ended(tmp_path, kernels, monkeypatch):
    made, store = plan(make(tmp_path, ONE), device="cpu"), Store(tmp_path / "store")
    drive(made, store, serial=True, only=["teacher/s0"])
    cluster = Cluster(monkeypatch)
    drive(made, store)
    assert [name for name, *_ in cluster.submitted] == ["plain/s0", "lora@2/s0", "lora/s0", "long/s0", "drop/s0", "latency"]
    assert kernels.started.count("teacher/s0") == 1


@pytest.mark.parametrize(
    ("cores", "threads", "device", "workers"), [(8, 1, "cpu", 6), (4, 1, "cpu", 4), (8, 2, "cpu", 4), (1, 2, "cpu", 1), (8, 1, "cuda", 1)]
)
def test_a_process_a_core_and_one_alone_on_a_gpu(cores, threads, device, workers, tmp_path, kernels, monkeypatch):
    made = plan(make(tmp_path, ONE.replace("seeds = 1", f"seeds = 1\nthreads = {threads}")), device="cpu")
    made.numerics["device"] = device
    monkeypatch.setattr(driving, "usable_cores", lambda: cores)
    cluster = Cluster(monkeypatch)
    drive(made, Store(tmp_path / "store"))
    assert cluster.options["n_workers"] == workers  # never more than runs


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    assert driving.usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert driving.usable_cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert driving.usable_cores() == 1


def test_a_process_that_is_killed_again_and_again_is_a_failure_of_its_run(tmp_path, kernels, monkeypatch):
    made, store = plan(make(tmp_path, ONE), device="cpu"), Store(tmp_path / "store")
    Cluster(monkeypatch, killed=("teacher/s0",))
    found = drive(made, store)
    assert states(made, found) == {"teacher/s0": "failed", "plain/s0": "ok", "lora@2/s0": "blocked", "drop/s0": "blocked",
                                   "lora/s0": "blocked", "long/s0": "blocked", "latency": "ok"}  # fmt: skip
    failure = store.failure(made.called("teacher/s0").key)
    assert failure["type"] == "KilledWorker"
    assert "is there enough memory?" in failure["message"]
    assert "needs teacher/s0" in found[made.called("drop/s0").key]["error"]
