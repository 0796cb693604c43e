"""The engine as a user runs it: real papermill, real kernels, a real Dask cluster, on a tiny study."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from studies import ROOT, TINY, make

from reducenet import checkpoint, measure
from reducenet.cli import main
from reducenet.data import load
from reducenet.study import execute
from reducenet.study.plan import plan
from reducenet.study.store import Store


def settings():
    """The environment of this process, without Dask's note to itself."""
    return {name: value for name, value in os.environ.items() if name != "__DASK_PARENT_PID"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny study, run by Dask with two processes and reported once."""
    file = make(tmp_path_factory.mktemp("finished"))
    (file.parents[1] / "README.md").write_text(
        "before\n<!-- results of tiny: made by `reducenet report tiny`, do not edit -->\nstale\n<!-- end of results -->\nafter\n"
    )
    before = settings()
    assert main(["run", str(file), "--device", "cpu", "--workers", "2"]) == 0
    assert settings() == before  # Dask's thread settings do not leak
    assert main(["report", str(file), "--device", "cpu"]) == 0
    return file


def rows_of(file):
    with open(file.parents[1] / "reports" / "tiny" / "results.csv") as rows:
        return {(row["arm"], int(row["seed"])): row for row in csv.DictReader(rows)}


def test_rows_hold_every_arm_and_seed(finished):
    rows = rows_of(finished)
    assert set(rows) == {(arm, seed) for arm in ("teacher", "plain", "long", "drop", "lora") for seed in (0, 1)}
    for row in rows.values():
        assert row["status"] == "ok"
        assert float(row["fuse_error"]) < 1e-10
        assert float(row["latency_1"]) > 0
    assert float(rows["lora", 0]["move_error"]) < 1e-10
    small, large = (int(rows[arm, 0]["parameters"]) for arm in ("plain", "teacher"))
    assert {int(rows[arm, 0]["parameters"]) for arm in ("drop", "lora", "long")} == {small}
    assert small < large


def test_ledgers_add_up(finished):
    """A student's cost holds its teacher's, once; the control spends what the arm it is named after cost, to half an epoch."""
    rows = rows_of(finished)
    teacher, lora, drop, long = (int(rows[arm, 0]["ledger_macs"]) for arm in ("teacher", "lora", "drop", "long"))
    assert drop == teacher < lora
    plain = int(rows["plain", 0]["ledger_macs"])  # one epoch
    assert abs(long - lora) <= plain / 2
    assert int(rows["long", 0]["epochs"]) == long // plain


def test_serial_and_pool_give_the_same_numbers(finished, tmp_path):
    file = make(tmp_path, TINY.replace("seeds = 2", "seeds = 1"))
    assert main(["run", str(file), "--device", "cpu", "--serial"]) == 0
    here, there = Store(file.parent / "store"), Store(finished.parent / "store")
    for key in plan(file, device="cpu").ends.values():
        one, two = here.result(key), there.result(key)
        assert one["metrics"] == two["metrics"]
        assert one["outputs"]["net.safetensors"] == two["outputs"]["net.safetensors"]
        assert one["outputs"]["correct.npy"] == two["outputs"]["correct.npy"]


def test_a_second_run_trains_nothing_and_a_second_report_writes_nothing(finished, capsys, monkeypatch):
    monkeypatch.setattr(execute, "_papermill", None)  # whoever starts a notebook now fails
    written = (finished.parents[1] / "reports" / "tiny" / "index.html").stat().st_mtime_ns
    assert main(["run", str(finished), "--device", "cpu"]) == 0
    assert main(["report", str(finished), "--device", "cpu"]) == 0
    assert "(up to date)" in capsys.readouterr().out
    assert (finished.parents[1] / "reports" / "tiny" / "index.html").stat().st_mtime_ns == written


def test_the_report_is_whole_offline_and_links_to_the_notebooks(finished):
    folder = finished.parents[1] / "reports" / "tiny"
    page, text = (folder / "index.html").read_text(), (folder / "report.md").read_text()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert page.count("<svg") == 3
    assert all(re.search(r'aria-label="[^"]{20,}"', svg) for svg in re.findall(r"<svg[^>]*>", page))
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (folder / link).is_file(), link
    notebook = json.loads((folder / "runs" / f"{rows_of(finished)['lora', 0]['key']}.ipynb").read_text())
    assert any("lora/s0" in "".join(output.get("text", "")) for cell in notebook["cells"] for output in cell.get("outputs", []))
    everything = "".join(file.read_text() for file in folder.rglob("*") if file.is_file())
    assert str(finished.parents[1]) not in everything  # no place of this machine
    assert "a number needs 5" in text  # two seeds are no result


def test_report_puts_the_results_into_the_readme(finished):
    text = (finished.parents[1] / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| the teacher |" in text
    assert "stale" not in text


def test_plan_and_status_say_what_is_there(finished, capsys):
    assert main(["plan", str(finished), "--device", "cpu"]) == 0
    assert "13 runs with the one that times the arms · 0 to do" in " ".join(capsys.readouterr().out.split())
    assert main(["status", str(finished), "--device", "cpu"]) == 0
    assert "tiny: 13 done" in capsys.readouterr().out


BROKEN = """
[arms.twice]
after = "drop"
chain = ["drop_branch", "fit"]

[arms.wild]
chain = [{ build = "plain" }, { fit = { lr = 1e30, epochs = 2 } }]

[arms.wilder]
after = "wild"
chain = [{ freeze = ["classifier"] }, "fit"]
"""


def test_failure_and_divergence_stay_with_their_arms(tmp_path, capsys):
    text = TINY.replace("seeds = 2", "seeds = 1").replace('cost_of = "lora"', "epochs = 1") + BROKEN
    file = make(tmp_path, text)
    assert main(["run", str(file), "--device", "cpu", "--serial"]) == 1
    printed = capsys.readouterr().out
    assert "twice/s0 FAILED" in printed
    assert "MoveError: drop_branch: no block has a branch1" in printed
    assert "wild/s0 diverged" in printed
    assert "latency blocked in 0.0 s: needs twice/s0" in printed
    assert main(["status", str(file), "--device", "cpu"]) == 1
    status = capsys.readouterr().out
    assert "2 diverged, 1 failed" in status
    assert "wild/s0: its training diverged" in status
    assert "_failed" in status
    assert main(["report", str(file), "--device", "cpu"]) == 0
    rows = rows_of(file)
    assert {arm: rows[arm, 0]["status"] for arm in ("plain", "twice", "wild", "wilder")} == {
        "plain": "ok", "twice": "failed", "wild": "diverged", "wilder": "diverged",
    }  # fmt: skip
    report = (file.parents[1] / "reports" / "tiny" / "report.md").read_text()
    assert "twice: 1 failed" in report
    assert "wild: 1 diverged" in report


KILLED = TINY.replace("epochs = 1", "epochs = 400")


def test_a_killed_kernel_is_a_failure_not_a_success(tmp_path):
    """Papermill marks the notebook of a dead kernel as completed; the store must not believe it."""
    made = plan(make(tmp_path, KILLED), device="cpu")
    run = made.runs[made.ends["plain", 0]]
    store = Store(tmp_path / "store")
    killer = subprocess.Popen([sys.executable, "-c", KILL_A_KERNEL, str(os.getpid())])
    status = execute.execute(run, str(store.folder))
    killer.wait()
    assert status["state"] == "failed"
    assert "Died" in status["error"] or "Dead" in status["error"]
    assert store.result(run.key) is None
    assert store.failure(run.key)["type"] == "DeadKernelError"


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


@pytest.mark.slow
def test_ctrl_c_stops_everything_and_is_no_failure(tmp_path):
    """As a terminal does it: the interrupt goes to the whole process group."""
    file = make(tmp_path, TINY.replace("epochs = 1, lr = 0.05", "epochs = 30, lr = 0.001"))
    command = [sys.executable, "-m", "reducenet.cli", "run", str(file), "--device", "cpu"]
    store = Store(file.parent / "store")
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(store.folder.glob("*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(driver.pid, signal.SIGINT)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130, said
    assert "interrupted; what is finished is in the store" in said
    assert not (store.folder / "_failed").exists()
    time.sleep(3)
    assert store.running() == set()
    assert any(store.result(key) for key in plan(file, device="cpu").runs)


@pytest.mark.slow
def test_a_killed_driver_leaves_a_valid_store_and_the_next_goes_on(tmp_path):
    file = make(tmp_path, TINY.replace("epochs = 1, lr = 0.05", "epochs = 30, lr = 0.001"))
    command = [sys.executable, "-m", "reducenet.cli", "run", str(file), "--device", "cpu"]
    store = Store(file.parent / "store")
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    made = plan(file, device="cpu")
    deadline = time.monotonic() + 120
    while sum(store.result(key) is not None for key in made.runs) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = {key for key in made.runs if store.result(key)}
    assert len(kept) >= 2
    times = {key: (store.entry(key) / "result.json").stat().st_mtime_ns for key in kept}
    time.sleep(3)
    assert subprocess.run(command, cwd=ROOT).returncode == 0
    assert all(store.result(key) for key in made.runs)
    assert all((store.entry(key) / "result.json").stat().st_mtime_ns == t for key, t in times.items())
    assert not list(store.folder.glob(".tmp-*"))


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path):
    file = make(tmp_path, TINY.replace("epochs = 1, lr = 0.05", "epochs = 30, lr = 0.001"))
    command = [sys.executable, "-m", "reducenet.cli", "run", str(file), "--device", "cpu"]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    store = Store(file.parent / "store")
    deadline, worker = time.monotonic() + 120, None
    while worker is None and time.monotonic() < deadline:
        worker = next((int(folder.name.rsplit("-", 1)[1]) for folder in store.folder.glob(".tmp-*-*")), None)
        time.sleep(0.2)
    os.kill(worker, signal.SIGKILL)  # the process that writes a run, in the middle of it
    printed, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, printed
    assert all(store.result(key) for key in plan(file, device="cpu").runs)


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
chain = [{ search_mask = { keep = 1, by = "random" } }, "recalibrate", { fit = { loss = "kd", teacher = "wide" } }, "fuse"]
"""


def test_a_search_leaves_its_decision_a_tune_its_cost_and_tickets_their_best(tmp_path, capsys):
    file = make(tmp_path, EVERY_KIND, "kinds")
    assert main(["run", str(file), "--device", "cpu", "--serial"]) == 0
    planned, store = plan(file, device="cpu"), Store(file.parent / "store")
    result = {arm: store.result(planned.ends[arm, 0]) for arm in planned.study.arms}

    words = [next(iter(move)) for move in result["mask"]["chain"]]
    assert words == ["build", "fit", "settle", "linearise", "recalibrate", "fit", "fuse"]
    removed = result["mask"]["chain"][3]["linearise"]["at"]
    assert len(removed) == 2
    net = checkpoint.load(store.folder / planned.ends["mask", 0] / "net.safetensors")
    kept = [name for name, _ in net.named_modules() if name.endswith("pair.2")]
    assert sorted([*kept, *removed]) == [f"stage{i}.0.pair.2" for i in (1, 2, 3)]
    fitted = store.result(planned.runs[planned.ends["mask", 0]].needs[0])
    images = load("synthetic")
    assert fitted["cost"]["train_macs"] > measure.training_macs(net, tuple(images.train.images.shape[1:])) * len(images.train.labels)
    assert result["mask"]["metrics"]["move_error"] < 1e-10

    tickets = [store.result(key)["metrics"]["val_accuracy"] for key in planned.runs[planned.ends["best", 0]].parameters["tickets"]]
    assert result["best"]["metrics"]["val_accuracy"] == max(tickets)
    assert main(["report", str(file), "--device", "cpu"]) == 0
    with open(file.parents[1] / "reports" / "kinds" / "results.csv") as rows:
        ledger = {row["arm"]: float(row["ledger_macs"]) for row in csv.DictReader(rows)}
    assert ledger["best"] == 2 * ledger["plain"]
