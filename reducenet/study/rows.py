"""The table behind a report, `results.csv`: one row an arm and seed, in the order of the study, what failed or is missing included."""

import csv
from pathlib import Path

from reducenet.study.plan import Plan
from reducenet.study.store import Store

COLUMNS = (
    "study", "arm", "seed", "status", "test_accuracy", "val_accuracy", "test_images", "parameters", "macs", "latency_1", "latency_64",
    "epochs", "ledger_macs", "ledger_seconds", "fuse_error", "rounding_error", "move_error", "key", "needs", "processor", "device",
    "threads", "python", "torch", "error",
)  # fmt: skip


def collect(plan: Plan, store: Store) -> list[dict]:
    """The rows of the plan as far as it has been run. Accuracies are shares, latencies and times seconds, MACs for one image;
    the ledger sums the training of an arm with that of its teacher, each run once."""
    results = {key: store.result(key) for key in plan.runs}
    latency = (results[plan.latency] or {}).get("latency", {})
    rows = []
    for arm in plan.study.arms:
        for seed in range(plan.study.first_seed, plan.study.first_seed + plan.study.seeds):
            key = plan.ends[arm, seed]
            row = dict.fromkeys(COLUMNS, "") | {"study": plan.name, "arm": arm, "seed": seed, "key": key}
            lineage = plan.lineage(key)
            row["needs"] = " ".join(lineage[:-1])
            if results[key] is None:
                troubled = next((k for k in plan.ancestry(key) if store.failure(k)), None)
                diverged = next((k for k in plan.ancestry(key) if (results[k] or {}).get("status") == "diverged"), None)
                failure = store.failure(troubled) if troubled else None
                row["status"] = "failed" if failure else "diverged" if diverged else "missing"
                row["error"] = f"{failure['type']}: {failure['message']}" if failure else ""
            else:
                row |= _measured(results, key, lineage)
                for batch in ("1", "64"):
                    row[f"latency_{batch}"] = latency.get(arm, {}).get(batch, "")
            rows.append(row)
    return rows


def _measured(results: dict, key: str, lineage: list[str]) -> dict:
    result = results[key]
    environment = result["environment"]
    costs = [results[k]["cost"] for k in lineage]
    return {
        "status": result["status"],
        **{k: "" if v is None else v for k, v in result["metrics"].items()},
        "epochs": sum(cost["epochs"] for cost in costs),
        "ledger_macs": sum(cost["train_macs"] for cost in costs),
        "ledger_seconds": round(sum(cost["train_seconds"] for cost in costs), 2),
        **{k: environment[k] for k in ("processor", "device", "threads", "python", "torch")},
    }


def write_csv(rows: list[dict], file: Path) -> None:
    with open(file, "w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
