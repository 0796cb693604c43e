"""Run a plan: skip what the store has, give the rest to one process (serial) or to one process a core (a Dask local cluster).

State lives on disk, so a plan can be stopped anywhere and run again; every finished run is kept.
"""

import logging
import os
from collections.abc import Collection, Iterator

from reducenet.store import Store
from reducenet.study.plan import Plan, Run
from reducenet.study.read import StudyError
from reducenet.study.run.execute import ended, execute, inherited, pinned
from reducenet.study.run.progress import Progress


def drive(plan: Plan, store: Store, workers: int | None = None, serial: bool = False, progress: Progress | None = None,
          only: Collection[str] = ()) -> dict[str, dict]:  # fmt: skip
    """The status of every run of the plan, by key. Trains nothing that the store has; a run that failed before is tried again.

    `workers` processes of `study.threads` threads each; by default one a core, and one alone on a GPU. At the end, alone, the arms are
    timed side by side: all that have a network, whatever became of the others. `only` names runs: these are played with all they need,
    and nothing is timed.
    """
    progress = progress or Progress(plan, store)
    asked = {key for name in only for key in plan.ancestry(plan.called(name).key)} or set(plan.runs)
    wanted = {key: run for key, run in plan.runs.items() if key in asked}
    states = {key: state for key, state in known(plan, store).items() if key in wanted or not only}
    left = [run for run in wanted.values() if run.key not in states]
    timing = None if only else timing_of(plan, states) if not left else plan.timing(plan.study.arms)
    if not left and (timing is None or timing.key in states):
        return states
    store.running()  # sweep away what dead processes left
    with progress.over(states):
        for status in _serial(left, store, states, plan, only) if serial else _pool(left, store, states, plan, workers, only):
            states[status["key"]] = status
            progress.report(status)
            store.forget_answers(unasked(plan, states))
    return states


def unasked(plan: Plan, states: dict[str, dict]) -> set[str]:
    """The teachers of the plan that no run which is left will ask."""
    asked = {run.parameters["teacher"] for key, run in plan.runs.items() if key not in states}
    return {run.parameters["teacher"] for run in plan.runs.values()} - asked - {""}


def timing_of(plan: Plan, states: dict[str, dict]) -> Run | None:
    """The run that times every arm that has a network by now; None where none has."""
    arms = [arm for arm in plan.study.arms if states.get(plan.ends[arm, plan.study.first_seed], {}).get("state") == "ok"]
    return plan.timing(arms) if arms else None


def known(plan: Plan, store: Store) -> dict[str, dict]:
    """The status of every run whose end is in the store; a run that goes on from one that diverged has diverged too."""
    states: dict[str, dict] = {}
    for key, run in plan.runs.items():
        result = store.result(key)
        state, error = (result["status"], "") if result else inherited(run, [states[need] for need in run.needs if need in states])
        if result or state == "diverged":
            states[key] = ended(run, state, error=error)
    timing = timing_of(plan, states)
    if timing and store.result(timing.key):
        states[timing.key] = ended(timing, "ok")
    return states


def check_finished(plan: Plan, store: Store) -> None:
    """`StudyError`, one line, while there is a run to play; what failed, or waits for what failed or diverged, is an end."""
    states = known(plan, store)
    left = [run for key, run in plan.runs.items() if key not in states and store.failure(key) is None
            and all(states.get(need, {}).get("state") == "ok" for need in run.needs)]  # fmt: skip
    if left:
        raise StudyError(f"{plan.path}: {left[0].name} is not run yet; `reducenet run {plan.name}` first, or "
                         f"`reducenet report {plan.name}` to look at what there is")  # fmt: skip


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serial(batch: list[Run], store: Store, states: dict[str, dict], plan: Plan, only: Collection[str]) -> Iterator[dict]:
    for run in batch:
        yield execute(run, str(store.folder), [states[key] for key in run.needs])
    timing = None if only else timing_of(plan, states)
    if timing and timing.key not in states:
        yield execute(timing, str(store.folder))


def _pool(
    batch: list[Run], store: Store, states: dict[str, dict], plan: Plan, workers: int | None, only: Collection[str]
) -> Iterator[dict]:
    import dask
    from distributed import Client, LocalCluster, as_completed
    from distributed.scheduler import KilledWorker

    study = plan.study
    count = workers or (1 if plan.numerics["device"] == "cuda" else max(1, usable_cores() // study.threads))
    # A daemon may not fork the kernels; Dask would leave its own thread settings behind in this process.
    with dask.config.set({"distributed.worker.daemon": False}), pinned(study.threads):
        count = min(count, len(batch) or 1)
        cluster = LocalCluster(n_workers=count, threads_per_worker=1, processes=True, memory_limit=0, host="127.0.0.1",
                               dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL)  # fmt: skip
        with cluster, Client(cluster) as client:
            urgency = longest_first(batch)
            futures: dict = {}
            for run in batch:  # every run comes after what it needs
                needs = [futures.get(key) or states[key] for key in run.needs]
                beside = [futures[key] for key in run.beside if key in futures]
                futures[run.key] = client.submit(execute, run, str(store.folder), needs, beside, key=f"{run.name}-{run.key}", pure=False,
                                                 priority=urgency[run.key])  # fmt: skip
            keys = {future.key: key for key, future in futures.items()}
            for future in as_completed(futures.values()):
                run = plan.runs[keys[future.key]]
                try:
                    yield future.result()
                except KilledWorker as error:  # also what every run that needed it raises
                    killed = error.task == future.key
                    if killed:
                        message = "its process was killed again and again; is there enough memory?"
                        store.note_failure(run.key, {"name": run.name, "type": "KilledWorker", "message": message})
                    state, why = ("failed", f"KilledWorker: {message}") if killed else ("blocked", f"needs {error.task}")
                    yield ended(run, state, error=why)
            timing = None if only else timing_of(plan, states)
            if timing and timing.key not in states:
                yield client.submit(execute, timing, str(store.folder), pure=False).result()


SEED = 10_000  # more epochs than any run has


def longest_first(batch: list[Run]) -> dict[str, float]:
    """Seed by seed, so that an interrupted study is balanced; within a seed, the run with the longest way to go first.

    Of those that ask one teacher the same, the first goes before all others of its seed, and the rest after them: they find its answers.
    """
    ahead: dict[str, float] = {}
    for run in reversed(batch):  # every run comes after what it needs
        ahead.setdefault(run.key, 0)
        ahead[run.key] += 1 + run.epochs
        for key in (*run.needs, *run.beside):
            ahead[key] = max(ahead.get(key, 0), ahead[run.key])
    asked: set[tuple] = set()
    for run in sorted(batch, key=lambda run: -ahead[run.key]):
        question = (run.parameters["teacher"], run.parameters["nth_fit"])
        if question in asked:
            ahead[run.key] -= SEED / 2
        asked |= {question} if run.parameters["teacher"] else set()
    return {run.key: ahead[run.key] - SEED * run.parameters["seed"] for run in batch}
