"""One run through papermill, in this process. Whatever happens, it comes back as a status; only `result.json` means success."""

import contextlib
import os
import time
from pathlib import Path

from reducenet.store import Store
from reducenet.study.plan import Run

PINNED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextlib.contextmanager
def pinned(threads: int, **more: str):
    """An environment in which every executor gives the same numbers: threads and hash seed fixed; restored afterwards.

    Dask tells malloc to hand memory back at every chance; training then spends its time on page faults, so not here.
    """
    fixed = dict.fromkeys(PINNED, str(threads)) | {
        "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        **more,
    }
    before = {name: os.environ.get(name) for name in (*fixed, "MALLOC_TRIM_THRESHOLD_")}
    os.environ.update(fixed)
    os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def ended(run: Run, state: str, seconds: float = 0.0, error: str = "") -> dict:
    """How a run ended, in the form that all who wait for it read."""
    return {"key": run.key, "trained": run.trained, "name": run.name, "state": state, "seconds": seconds, "error": error}


def execute(run: Run, store_folder: str, upstream: list[dict] | None = None, beside: list[dict] | None = None) -> dict:
    """Run one notebook into the store. The status: {"key", "name", "state": ok | diverged | failed | blocked, "seconds", "error"}.

    `upstream` are the statuses of the runs it needs; if one of them has no network to go on from, this run is blocked. Those of the runs
    `beside` it are only waited for.
    """
    store, start = Store(store_folder), time.monotonic()

    def status(state: str, error: str = "") -> dict:
        return ended(run, state, time.monotonic() - start, error)

    state, why = ("", "") if run.exclusive else inherited(run, upstream or [])
    if state:
        return status(state, why)
    if done := store.result(run.key):
        return status(done["status"])
    folder = store.begin(run.key)
    error = _papermill(run, store, folder)
    if error is None and not (folder / "result.json").is_file():
        error = {"type": "NoResult", "message": "the notebook ended without writing result.json"}
    if error is not None:
        store.reject(run.key, folder, {"key": run.key, "name": run.name, **error})
        return status("failed", f"{error['type']}: {error['message']}")
    store.publish(run.key, folder)
    return status(store.result(run.key)["status"])


def inherited(run: Run, upstream: list[dict]) -> tuple[str, str]:
    """("", "") where the run can go ahead; else its state and why: what it goes on from diverged, or something it needs did not run."""
    troubled = {need["key"]: need for need in upstream if need["state"] != "ok"}
    if run.parameters["tickets"]:  # what picks the best does without those that diverged
        if all(troubled.get(key, {}).get("state") == "diverged" for key in run.needs):
            return "diverged", "all of its tickets diverged"
        troubled = {key: need for key, need in troubled.items() if need["state"] != "diverged"}
    goes_on_from = {run.parameters["after"], run.parameters["teacher"]}
    if any(need["state"] == "diverged" and need["trained"] in goes_on_from for need in troubled.values()):
        return "diverged", "goes on from a run that diverged"
    if troubled:
        return "blocked", f"needs {', '.join(sorted({need.get('name', key) for key, need in troubled.items()}))}"
    return "", ""


def _papermill(run: Run, store: Store, folder: Path) -> dict | None:
    """Execute the notebook; None, or what went wrong: type, one-line message, cell."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from reducenet.study.run.kernels import ENVIRONMENT, SocketKernelManager

    parameters = {**run.parameters, "key": run.key, "store": str(store.folder), "out": str(folder)}
    if run.trained:
        parameters["trained"] = run.trained
    try:
        with pinned(run.parameters["threads"], **ENVIRONMENT):
            papermill.execute_notebook(
                str(run.notebook.absolute()), str(folder / "run.ipynb"), parameters,
                kernel_name="python3", progress_bar=False, cwd=str(folder), kernel_manager_class=SocketKernelManager)  # fmt: skip
    except PapermillExecutionError as error:
        return {"type": error.ename, "message": one_line(error.evalue), "cell": error.cell_index}
    except Exception as error:  # a dead kernel, a time-out, a kernel that never started: each its own class
        return {"type": type(error).__name__, "message": one_line(error), "cell": None}
    return None


def one_line(text: object) -> str:
    return " ".join(str(text).split())[:500]
