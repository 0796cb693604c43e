"""The engine as a user runs it: real papermill, real kernels, a real Dask cluster, on a tiny study. Few of each: they take seconds."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from studies import ROOT, TINY, forget, here, make

from reducenet.cli import main
from reducenet.data.tensors import load
from reducenet.learn import evaluate, measure
from reducenet.play import checkpoint, piece
from reducenet.store import Store
from reducenet.study.plan import plan
from reducenet.study.report.rows import collect
from reducenet.study.run import drive, execute
from reducenet.words import lock

ONE = TINY.replace("seeds = 2", "seeds = 1")


@pytest.fixture(scope="module", autouse=True)
def _no_lock(tmp_path_factory):
    """The engine runs while the source is being worked on; that a study does not is tested with the lock."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lock, "FILE", tmp_path_factory.mktemp("lock") / "lock.json")
        forget()
        yield
    forget()


def settings():
    """The environment of this process, without Dask's note to itself."""
    return {name: value for name, value in os.environ.items() if name != "__DASK_PARENT_PID"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny study with one seed, run by Dask with two processes and reported once."""
    file = make(tmp_path_factory.mktemp("finished"), ONE)
    before = settings()
    assert main(["run", str(file), "--device", "cpu", "--workers", "2"]) == 0
    assert settings() == before  # Dask's thread settings do not leak
    assert main(["publish", str(file), "--device", "cpu"]) == 0
    return file


def rows_of(file, table="results"):
    with open(file.parents[1] / "reports" / file.stem / f"{table}.csv", newline="") as rows:
        return {(row["arm"], int(row["seed"])): row for row in csv.DictReader(rows)}


class TestFinished:
    """What is left of a study that a cluster has run."""

    pytestmark = pytest.mark.engine

    def test_rows_hold_every_arm_and_seed(self, finished):
        rows, timings = rows_of(finished), rows_of(finished, "timings")
        assert set(rows) == set(timings) == {(arm, 0) for arm in ("teacher", "plain", "long", "drop", "lora")}
        for row in rows.values():
            assert row["status"] == "ok"
            assert float(row["fuse_error"]) < 1e-10
        assert all(float(row["latency_1"]) > 0 for row in timings.values())
        assert float(rows["lora", 0]["move_error"]) < 1e-10
        small, large = (int(rows[arm, 0]["parameters"]) for arm in ("plain", "teacher"))
        assert {int(rows[arm, 0]["parameters"]) for arm in ("drop", "lora", "long")} == {small}
        assert small < large

    def test_a_row_is_what_the_kept_network_gives_on_the_test_images(self, finished):
        made, store, images = plan(finished, device="cpu"), Store(finished.parent / "store"), load("synthetic")
        for (arm, seed), row in rows_of(finished).items():
            net = checkpoint.load(store.entry(made.runs[made.ends[arm, seed]].trained) / "net.safetensors")
            assert float(row["test_accuracy"]) == evaluate.accuracy(net, images, images.test)
            assert float(row["val_accuracy"]) == evaluate.accuracy(net, images, images.val)
            assert row["network"] == checkpoint.digest(net)

    def test_ledgers_add_up(self, finished):
        """A student's cost holds its teacher's, once; the control spends what the arm it is named after cost, to half an epoch."""
        rows = rows_of(finished)
        teacher, lora, drop, long = (int(rows[arm, 0]["ledger_macs"]) for arm in ("teacher", "lora", "drop", "long"))
        assert drop == teacher < lora
        plain = int(rows["plain", 0]["ledger_macs"])  # one epoch
        assert abs(long - lora) <= plain / 2
        assert int(rows["long", 0]["epochs"]) == long // plain

    def test_serial_and_pool_give_the_same_numbers(self, finished, tmp_path):
        file = make(tmp_path, ONE)
        assert main(["run", str(file), "--device", "cpu", "--serial", "--only", "lora/s0"]) == 0
        one, two = Store(file.parent / "store"), Store(finished.parent / "store")
        made = plan(file, device="cpu")
        keys = made.ancestry(made.ends["lora", 0])
        assert len(keys) == 3
        for run in (made.runs[key] for key in keys):
            assert one.result(run.key)["metrics"] == two.result(run.key)["metrics"]
            assert one.result(run.key)["outputs"] == two.result(run.key)["outputs"]  # bit by bit
            kept = [store.result(run.trained)["outputs"]["net.safetensors"] for store in (one, two)]
            assert kept[0] == kept[1]

    def test_a_second_run_trains_nothing_and_a_second_report_writes_nothing(self, finished, capsys, monkeypatch):
        monkeypatch.setattr(execute, "_papermill", None)  # whoever starts a notebook now fails
        written = (finished.parents[1] / "reports" / "tiny" / "index.html").stat().st_mtime_ns
        assert main(["run", str(finished), "--device", "cpu"]) == 0
        assert "7 of 7 runs are in" in capsys.readouterr().out
        assert main(["publish", str(finished), "--device", "cpu"]) == 0
        assert "(up to date)" in capsys.readouterr().out
        assert (finished.parents[1] / "reports" / "tiny" / "index.html").stat().st_mtime_ns == written

    def test_the_report_is_whole_offline_and_links_to_the_notebooks(self, finished):
        folder = finished.parents[1] / "reports" / "tiny"
        page, text = (folder / "index.html").read_text(), (folder / "report.md").read_text()
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
        assert page.count("<svg") == 3
        assert all(re.search(r'aria-label="[^"]{20,}"', svg) for svg in re.findall(r"<svg[^>]*>", page))
        for link in re.findall(r"\]\(([^)]+)\)", text):
            assert (folder / link).is_file(), link
        notebook = json.loads((folder / "runs" / f"{rows_of(finished)['lora', 0]['run']}.ipynb").read_text())
        shown = "".join("".join(o.get("data", {}).get("text/markdown", "")) for cell in notebook["cells"] for o in cell.get("outputs", []))
        assert "7. `fold`" in shown
        assert f"{100 * float(rows_of(finished)['lora', 0]['test_accuracy']):.2f} %" in shown
        everything = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
        assert str(finished.parents[1]).encode() not in everything  # no place of this machine
        assert "a number needs 5" in text  # one seed is no result

    def test_a_report_to_look_at_leaves_what_is_published_alone(self, finished):
        before = {file: file.read_bytes() for file in (finished.parents[1] / "reports").rglob("*") if file.is_file()}
        assert main(["report", str(finished), "--device", "cpu"]) == 0
        assert (finished.parents[1] / "build" / "reports" / "tiny" / "index.html").is_file()
        assert {file: file.read_bytes() for file in (finished.parents[1] / "reports").rglob("*") if file.is_file()} == before

    def test_plan_and_status_say_what_is_there(self, finished, capsys):
        assert main(["plan", str(finished), "--device", "cpu"]) == 0
        assert "7 runs with the one that times the arms · 0 to do" in " ".join(capsys.readouterr().out.split())
        assert main(["status", str(finished), "--device", "cpu"]) == 0
        assert "tiny: 7 done" in capsys.readouterr().out

    def test_the_sentence_in_a_result_is_a_study_file_that_gives_it_again(self, finished):
        """What is recorded is enough: played by hand, it is the same network."""
        made, store = plan(finished, device="cpu"), Store(finished.parent / "store")
        result = store.result(made.ends["drop", 0])
        teacher = store.result(made.runs[made.ends["teacher", 0]].trained)
        assert [next(iter(move)) for move in result["sentence"]] == ["build", "fit", "drop_branch"]
        assert result["sentence"][:2] == teacher["sentence"]
        from reducenet.play.play import Bench, play

        moves = [{"build": {k: v for k, v in m["build"].items() if k not in ("num_classes", "in_channels")}} if "build" in m else m
                 for m in result["sentence"]]  # fmt: skip
        assert checkpoint.digest(play(moves, Bench(load("synthetic"))).net) == result["network"]


BROKEN = """
title = "trouble"
data = "synthetic"
seeds = 1
build = { width = 4 }
fit = { epochs = 1, lr = 0.05 }

[compare]
baseline = "plain"

[arms.plain]
chain = [{ build = "plain" }, "fit"]

[arms.hungry]
after = "plain"
chain = [{ recalibrate = { images = 600, batch = 600 } }, "fit"]

[arms.wild]
chain = [{ build = "plain" }, { fit = { lr = 1e30, epochs = 2 } }]

[arms.wilder]
after = "wild"
chain = [{ freeze = ["classifier"] }, "fit"]
"""


@pytest.mark.engine
def test_failure_and_divergence_stay_with_their_arms(tmp_path, capsys):
    file = make(tmp_path, BROKEN, "trouble")
    assert main(["run", str(file), "--device", "cpu", "--serial"]) == 1
    printed = capsys.readouterr().out
    assert "hungry/s0 FAILED" in printed
    assert "600" in next(line for line in printed.splitlines() if "hungry/s0" in line)
    assert "wild/s0 diverged" in printed
    assert "wilder/s0 diverged in 0.0 s: goes on from a run that diverged" in printed
    assert "latency done" in printed
    assert "trouble: 4 of 5 runs are in" in printed
    assert main(["status", str(file), "--device", "cpu"]) == 1
    status = capsys.readouterr().out
    assert "2 done, 2 diverged, 1 failed" in status
    assert "wild/s0: its training diverged" in status
    assert "_failed" in status
    assert main(["publish", str(file), "--device", "cpu"]) == 0
    assert {arm: row["status"] for (arm, _), row in rows_of(file).items()} == {
        "plain": "ok", "hungry": "failed", "wild": "diverged", "wilder": "diverged",
    }  # fmt: skip
    assert set(rows_of(file, "timings")) == {(arm, 0) for arm in ("plain", "hungry", "wild", "wilder")}
    report = (file.parents[1] / "reports" / "trouble" / "report.md").read_text()
    assert "hungry, seed 0: failed, left out of every mean" in report
    assert "wild, seed 0: diverged, left out of every mean" in report
    shown = json.loads((Store(file.parent / "store").entry(plan(file, device="cpu").ends["wild", 0]) / "run.ipynb").read_text())
    assert "The training diverged" in json.dumps(shown)


@pytest.mark.engine
def test_a_killed_kernel_is_a_failure_not_a_success(tmp_path):
    """Papermill marks the notebook of a dead kernel as completed; the store must not believe it."""
    made = plan(make(tmp_path, TINY.replace("epochs = 1", "epochs = 400")), device="cpu")
    run = made.runs[made.ends["plain", 0]]
    store = Store(tmp_path / "store")
    killer = subprocess.Popen([sys.executable, "-c", KILL_A_KERNEL, str(os.getpid())])
    status = execute.execute(run, str(store.folder))
    killer.wait()
    assert status["state"] == "failed"
    assert "Died" in status["error"] or "Dead" in status["error"]
    assert store.result(run.key) is None
    assert store.result(run.trained) is None
    assert store.failure(run.key)["type"] == "DeadKernelError"
    assert store.running() == set()


KILL_A_KERNEL = """
import os, sys, time
def children(pid):
    found = []
    for other in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(open(f"/proc/{other}/stat").read().rsplit(")", 1)[1].split()[1]) == pid:
                found += [int(other), *children(int(other))]
        except OSError:
            pass
    return found
for _ in range(600):
    kernels = []
    for pid in children(int(sys.argv[1])):
        try:
            if pid != os.getpid() and os.path.basename(os.readlink(f"/proc/{pid}/cwd")).startswith(".tmp-"):
                kernels.append(pid)
        except OSError:
            pass
    if kernels:
        time.sleep(2)
        os.kill(kernels[0], 9)
        break
    time.sleep(0.1)
"""


# ---- without kernels: the same runs in this process


@pytest.fixture
def in_this_process(monkeypatch):
    """With a quarter of the images, and nothing is timed: that run is of another kind."""
    monkeypatch.setattr(execute, "_papermill", here)
    monkeypatch.setattr(drive, "timing_of", lambda made, states: None)
    monkeypatch.setattr(piece, "load", lambda name: load(name).subset(128))


def run(file, *options):
    return main(["run", str(file), "--device", "cpu", "--serial", *options])


@pytest.fixture
def previewed(monkeypatch):
    """The preview has a test of its own."""
    monkeypatch.setattr("reducenet.study.preview.check", lambda made, store: None)


def test_what_is_measured_in_another_way_is_measured_again_and_not_trained_again(tmp_path, in_this_process, previewed, monkeypatch):
    """So is what is shown in another way: the notebook's text is nobody's, its code belongs to what is measured."""
    file, store = make(tmp_path, ONE.split("[arms.long]")[0]), Store(tmp_path / "ablations" / "store")
    assert run(file) == 0
    before = plan(file, device="cpu")
    kept = {other.trained: (store.entry(other.trained) / "result.json").stat().st_mtime_ns for other in before.runs.values()}

    def again():
        assert run(file) == 0
        made = plan(file, device="cpu")
        assert {other.trained: (store.entry(other.trained) / "result.json").stat().st_mtime_ns for other in made.runs.values()} == kept
        for one, two in zip(before.runs.values(), made.runs.values(), strict=True):
            assert store.result(one.key)["metrics"] == store.result(two.key)["metrics"]
        return set(made.runs) - set(before.runs)

    assert again() == set()
    shared_version = lock.shared_version
    with monkeypatch.context() as patched:
        patched.setattr(lock, "shared_version", lambda part: shared_version(part) + "!" * (part == "measure"))
        assert len(again()) == 2
    notebook = json.loads((file.parent / "fit.ipynb").read_text())
    notebook["cells"][0]["source"] = ["# Another title"]
    (file.parent / "fit.ipynb").write_text(json.dumps(notebook))
    forget()
    assert again() == set()
    next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")["source"].append("\nmore = 1")
    (file.parent / "fit.ipynb").write_text(json.dumps(notebook))
    forget()
    assert len(again()) == 2


EVERY_KIND = """
title = "every kind of word"
data = "synthetic"
seeds = 1
build = { width = 4, expansion = 2 }
fit = { epochs = 1, lr = 0.05 }

[compare]
baseline = "plain"

[arms.plain]
chain = [{ build = "plain" }, "fit"]

[arms.best]
chain = [{ best_of = { arm = "plain", tickets = 2 } }]

[arms.wide]
chain = [{ build = "lambda" }, "fit"]

[arms.mask]
after = "wide"
chain = [
    { search_mask = { keep = 1, by = "random" } },
    { recalibrate = { images = 100, batch = 100 } },
    { fit = { loss = "kd", teacher = "wide" } },
    "fuse",
]
"""


def test_a_search_leaves_its_decision_a_tune_its_cost_and_tickets_their_best(tmp_path, in_this_process, previewed, capsys):
    file = make(tmp_path, EVERY_KIND, "kinds")
    assert run(file) == 0
    planned, store = plan(file, device="cpu"), Store(file.parent / "store")
    result = {arm: store.result(planned.ends[arm, 0]) for arm in planned.study.arms}

    words = [next(iter(move)) for move in result["mask"]["sentence"]]
    assert words == ["build", "fit", "settle", "linearise", "recalibrate", "fit", "fuse"]
    removed = result["mask"]["sentence"][3]["linearise"]["at"]
    assert len(removed) == 2
    net = checkpoint.load(store.entry(planned.runs[planned.ends["mask", 0]].trained) / "net.safetensors")
    kept = [name for name, _ in net.named_modules() if name.endswith("pair.2")]
    assert sorted([*kept, *removed]) == [f"stage{i}.0.pair.2" for i in (1, 2, 3)]
    fitted = store.result(planned.runs[planned.ends["mask", 0]].needs[0])
    images = load("synthetic").subset(128)
    assert fitted["cost"]["train_macs"] > measure.training_macs(net, tuple(images.train.images.shape[1:])) * len(images.train.labels)
    assert result["mask"]["metrics"]["move_error"] < 1e-10

    tickets = [store.result(key)["metrics"]["val_accuracy"] for key in planned.runs[planned.ends["best", 0]].needs]
    assert len(tickets) == 2
    assert result["best"]["metrics"]["val_accuracy"] == max(tickets)
    rows, _ = collect(planned, store)
    ledger = {row.arm: row.ledger_macs for row in rows}
    assert ledger["best"] == 2 * ledger["plain"] > 0
    assert ledger["mask"] > 2 * ledger["wide"]


# ---- stopped in the middle


LONG = TINY.replace("epochs = 1, lr = 0.05", "epochs = 30, lr = 0.001")


def command(file):
    return [sys.executable, "-m", "reducenet.cli", "run", str(file), "--device", "cpu"]


def until(happened, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := happened()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


@pytest.mark.slow
def test_ctrl_c_stops_everything_and_is_no_failure(tmp_path):
    """As a terminal does it: the interrupt goes to the whole process group."""
    file = make(tmp_path, LONG)
    store, made = Store(file.parent / "store"), plan_of(file)
    driver = subprocess.Popen(command(file), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    until(lambda: any(store.result(key) for key in made.runs))
    os.killpg(driver.pid, signal.SIGINT)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130, said
    assert "interrupted; what is finished is in the store" in said
    assert not (store.folder / "_failed").exists()
    time.sleep(3)
    assert store.running() == set()
    assert any(store.result(key) for key in made.runs)


def plan_of(file):
    """The plan as a driver in a process of its own sees it: with the project's lock."""
    with pytest.MonkeyPatch.context() as patched, contextlib.ExitStack() as afterwards:
        afterwards.callback(forget)
        patched.setattr(lock, "FILE", ROOT / "reducenet" / "words" / "lock.json")
        forget()
        return plan(file, device="cpu")


def playing(folder):
    """The processes that are at work somewhere in this folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if link.readlink().is_relative_to(folder):
                found.append(int(link.parts[2]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_driver_leaves_a_valid_store_and_the_next_goes_on(end, tmp_path):
    file = make(tmp_path, LONG)
    store, made = Store(file.parent / "store"), plan_of(file)
    driver = subprocess.Popen(command(file), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    until(lambda: sum(store.result(key) is not None for key in made.runs) >= 2)
    until(lambda: playing(file.parent))
    driver.send_signal(end)
    driver.wait()
    assert until(lambda: not playing(file.parent), 20) is True  # nor does anything go on training for nobody
    kept = {key for key in made.runs if store.result(key)}
    assert len(kept) >= 2
    times = {key: (store.entry(key) / "result.json").stat().st_mtime_ns for key in kept}
    time.sleep(3)
    assert subprocess.run(command(file), cwd=ROOT).returncode == 0
    assert all(store.result(key) for key in made.runs)
    assert all((store.entry(key) / "result.json").stat().st_mtime_ns == t for key, t in times.items())
    assert not list(store.folder.glob(".tmp-*"))


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path):
    file = make(tmp_path, LONG)
    store, made = Store(file.parent / "store"), plan_of(file)
    driver = subprocess.Popen(command(file), stdout=subprocess.PIPE, text=True, cwd=ROOT)
    worker = until(lambda: next((int(folder.name.rsplit("-", 1)[1]) for folder in store.folder.glob(".tmp-*-*")), None))
    os.kill(worker, signal.SIGKILL)  # the process that writes a run, in the middle of it
    printed, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, printed
    assert all(store.result(key) for key in made.runs)
