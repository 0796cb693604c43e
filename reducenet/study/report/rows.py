"""The rows behind a report, an arm and seed each, in the order of the study; what failed or is missing has a row too.

A `Row` is the same on every machine that rounds alike; what differs from machine to machine is a `Timing`. Their fields are the
columns of `results.csv` and `timings.csv`: they stand here and nowhere else.
"""

import re
from typing import NamedTuple

import numpy as np

from reducenet.store import Store
from reducenet.study.plan import Plan
from reducenet.study.run.drive import known, timing_of

Share = Seconds = float


class Row(NamedTuple):
    """`run` and `needs` are stems of published notebooks: the one that was measured, and the others that the ledger adds up."""

    study: str
    arm: str
    seed: int
    status: str  # ok, diverged, failed or missing
    test_accuracy: Share | None = None
    val_accuracy: Share | None = None
    test_images: int | None = None
    parameters: int | None = None
    macs: int | None = None  # of one image
    epochs: int | None = None
    ledger_macs: int | None = None  # of all training on the way, every run once
    fuse_error: float | None = None
    rounding_error: float | None = None
    move_error: float | None = None
    network: str = ""
    run: str = ""
    needs: str = ""
    instructions: str = ""
    device: str = ""
    threads: int | None = None
    together: int | None = None  # replicates that were trained at once, at most, on the way
    torch: str = ""
    error: str = ""


class Timing(NamedTuple):
    """The latencies are those of the one seed that is timed. `own_seconds` are those of the row's own runs, start to end: a run that
    several rows need counts in the first of them, so that the column adds up to what the study took, on one core."""

    arm: str
    seed: int
    latency_1: Seconds | None = None
    latency_64: Seconds | None = None
    ledger_seconds: Seconds | None = None
    own_seconds: Seconds | None = None
    processor: str = ""
    python: str = ""


def collect(plan: Plan, store: Store) -> tuple[list[Row], list[Timing]]:
    """The rows of the plan as far as it has been run, and what its runs took."""
    states, results = known(plan, store), {key: store.result(key) for key in plan.runs}
    timing = timing_of(plan, states)
    timed = ((timing and store.result(timing.key)) or {}).get("latency", {})
    rows, timings, counted = [], [], set()
    for arm in plan.study.arms:
        for seed in plan.study.replicates:
            key, row, took = plan.ends[arm, seed], Row(plan.name, arm, seed, "missing"), Timing(arm, seed)
            lineage = plan.lineage(key)
            if any(other not in states for other in lineage):
                row = _unfinished(row, plan, store, key)
            elif results[key] is None:
                row = row._replace(status=states[key]["state"])
            else:
                row = _measured(row, plan, results, lineage)
                took = _took(took, results, lineage, timed.get(arm, {}) if seed == plan.study.first_seed else {})
                own = [_own_seconds(results[other]) for other in lineage if results[other] and other not in counted]
                took = took._replace(own_seconds=round(sum(own), 2))
                counted.update(lineage)
            rows.append(row)
            timings.append(took)
    return rows, timings


def answers(plan: Plan, store: Store, rows: list[Row]) -> np.ndarray:
    """[rows, images / 8] uint8: for every row one bit a test image, 1 where it was right; all zero where there is no number."""
    width = max(-(-row.test_images // 8) for row in rows if row.status == "ok")
    packed = np.zeros((len(rows), width), np.uint8)
    for place, row in enumerate(rows):
        if row.status == "ok":
            packed[place] = np.load(store.entry(plan.ends[row.arm, row.seed]) / "correct.npy", allow_pickle=False)
    return packed


def _unfinished(row: Row, plan: Plan, store: Store, key: str) -> Row:
    """A row without an end: something on the way failed, or has not been run."""
    failure = next(filter(None, map(store.failure, plan.ancestry(key))), None)
    if failure is None:
        return row
    return row._replace(status="failed", error=placeless(f"{failure['type']}: {failure['message']}", plan, store))


def _measured(row: Row, plan: Plan, results: dict, lineage: list[str]) -> Row:
    result, costs = results[lineage[-1]], _costs(results, lineage)
    where = result["environment"]
    return row._replace(
        status=result["status"],
        **result["metrics"],
        epochs=sum(cost["epochs"] for cost in costs),
        ledger_macs=sum(cost["train_macs"] for cost in costs),
        network=result["network"] or "",
        run=plan.runs[lineage[-1]].file,
        needs=" ".join(plan.runs[key].file for key in lineage[:-1] if results[key]),
        **{name: where[name] for name in ("instructions", "device", "threads")},
        together=max(len(results[key].get("together", [])) or 1 for key in lineage if results[key]),
        torch=where["torch"].split("+")[0],
    )


def _took(timing: Timing, results: dict, lineage: list[str], latency: dict[str, float]) -> Timing:
    where = results[lineage[-1]]["environment"]
    seconds = {f"latency_{batch}": float(f"{median:.4g}") for batch, median in latency.items()}
    spent = sum(cost["train_seconds"] for cost in _costs(results, lineage))
    return timing._replace(**seconds, ledger_seconds=round(spent, 2), processor=where["processor"], python=where["python"])


def _own_seconds(result: dict) -> float:
    """Training, a share of it where several were trained at once, and measuring, whether that came at once or later: a run that found
    what it measures trained already took less than the training."""
    cost, at_once = result["cost"], len(result.get("together", [])) or 1
    later = cost["seconds"] < cost["train_seconds"]
    return cost["train_seconds"] + (cost["seconds"] if later else max(0.0, cost["seconds"] - at_once * cost["train_seconds"]))


def _costs(results: dict, lineage: list[str]) -> list[dict]:
    """What each run of the lineage cost; one that could not start, since what it goes on from diverged, cost nothing itself."""
    return [results[key]["cost"] for key in lineage if results[key]]


def placeless(text: str, plan: Plan, store: Store) -> str:
    """`text` without the places of this machine, process ids and keys: runs by their names, files from the project on."""
    text = text.replace(str(store.folder), "store").replace(str(plan.path.absolute().parents[1]), ".")
    names = {key: run.name for run in plan.runs.values() for key in (run.key, run.trained)}
    return re.sub(r"[0-9a-f]{16}", lambda found: names.get(found[0], found[0]), re.sub(r"\.tmp-([0-9a-f]+)-\d+", r"\1", text))
