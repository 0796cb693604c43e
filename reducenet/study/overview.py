"""What `reducenet plan` and `reducenet status` print."""

from rich.console import Console
from rich.table import Table

from reducenet.store import Store
from reducenet.study.estimate import seconds_left
from reducenet.study.plan import Plan
from reducenet.study.run.drive import known, timing_of
from reducenet.study.run.progress import in_words
from reducenet.words import caption


def print_plan(plan: Plan, store: Store) -> None:
    """Every arm as a sentence of moves, and how many runs are new. Shared beginnings count once, for the arm that comes first."""
    study, console, finished = plan.study, Console(highlight=False, markup=False), known(plan, store)
    table = Table(title=f"{plan.name}: {study.title}", title_justify="left")
    for column in ("arm", "moves", "own runs", "to do"):
        table.add_column(column, justify="right" if column in ("own runs", "to do") else "left", overflow="fold")
    for arm in study.arms:
        own = [run.key for run in plan.runs.values() if run.arm == arm]
        todo = len([key for key in own if key not in finished])
        table.add_row(arm, caption(study.chains[arm], study.defaults), str(len(own)), str(todo or ""))
    console.print(table)
    seeds = f"{study.seeds} seed{'s' * (study.seeds > 1)}"
    todo = len(plan.runs) + 1 - len(finished)
    left = seconds_left(plan, store, finished)
    about = f", about {in_words(left)}" if left else ""
    threads = f"{study.threads} thread{'s' * (study.threads > 1)}"
    at_once = max(len(run.parameters["together"]) for run in plan.runs.values())
    threads += f", {at_once} replicates together" if at_once > 1 else ""
    console.print(f"{seeds} · {study.data} · {plan.numerics['device']}, {threads} · {len(plan.runs) + 1} runs with the one that times the "
                  f"arms · {todo} to do{about}")  # fmt: skip


def print_status(plan: Plan, store: Store) -> int:
    """Done, running, failed, left; a line for every run that failed or diverged. Returns the exit code: 1 where a run has failed."""
    console = Console(highlight=False, markup=False)
    states, running, failures, diverged = known(plan, store), store.running(), [], []
    counts = dict.fromkeys(("done", "running", "diverged", "failed", "left"), 0)
    timing = timing_of(plan, states) or plan.timing(plan.study.arms)
    for key, run in {**plan.runs, timing.key: timing}.items():
        if key in states:
            counts["done" if states[key]["state"] == "ok" else "diverged"] += 1
            if states[key]["state"] == "diverged" and not states[key]["error"]:
                diverged.append(f"{run.name}: its training diverged; see {store.entry(key) / 'run.ipynb'}")
        elif key in running:
            counts["running"] += 1
        elif failure := store.failure(key):
            counts["failed"] += 1
            failures.append(f"{run.name}: {failure['type']}: {failure['message']}; see {store.failed(key) / 'run.ipynb'}")
        else:
            counts["left"] += 1
    console.print(f"{plan.name}: " + ", ".join(f"{count} {word}" for word, count in counts.items() if count))
    for line in failures + diverged:
        console.print(line, soft_wrap=True)
    return int(bool(failures))
