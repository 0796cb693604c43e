"""How long the rest of a study takes: from the recorded seconds of its finished runs, or else from its published report."""

import csv

from reducenet.store import Store
from reducenet.study.plan import Plan
from reducenet.study.run.drive import usable_cores


def seconds_left(plan: Plan, store: Store, finished: dict) -> float | None:
    """Seconds of the clock, with a process a core, for the runs that are not among the `finished`; None where nothing is recorded."""
    spent: dict[str, list[float]] = {}  # seconds for an epoch and the run around it, by arm
    for key, run in plan.runs.items():
        if key in finished and (result := store.result(key)) and result["status"] == "ok":
            spent.setdefault(run.arm, []).append(result["cost"]["seconds"] / (1 + run.epochs))
    rates = {arm: sum(times) / len(times) for arm, times in spent.items()} or published(plan)
    if not rates:
        return None
    usual = sum(rates.values()) / len(rates)
    todo = sum((1 + run.epochs) * rates.get(run.arm, usual) for key, run in plan.runs.items() if key not in finished)
    return todo / max(1, usable_cores() // plan.study.threads)


def published(plan: Plan) -> dict[str, float]:
    """arm -> seconds an epoch, as the published report of the study has them."""
    folder = plan.path.absolute().parents[1] / "reports" / plan.name
    try:
        epochs, seconds = _column(folder / "results.csv", "epochs"), _column(folder / "timings.csv", "ledger_seconds")
    except (OSError, KeyError):
        return {}
    rates: dict[str, list[float]] = {}
    for row, count in epochs.items():
        if float(count or 0) and seconds.get(row):
            rates.setdefault(row[0], []).append(float(seconds[row]) / float(count))
    return {arm: sum(rate) / len(rate) for arm, rate in rates.items()}


def _column(file, name: str) -> dict[tuple[str, str], str]:
    """(arm, seed) -> what stands in this column."""
    with open(file, newline="", encoding="utf-8") as rows:
        return {(row["arm"], row["seed"]): row[name] for row in csv.DictReader(rows)}
