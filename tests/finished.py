"""A finished study without a second of training: what the tests of reports read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from studies import TINY, make

from reducenet.cli import main
from reducenet.store import Store, write_result
from reducenet.study.plan import Plan, Run, plan
from reducenet.study.report.rows import Row, collect
from reducenet.study.run.drive import known, timing_of

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


def finish(made: Plan, store: Store, accuracy: Callable[[str, int], float], lost: dict[str, str] | None = None, pid: int = 4711,
           **machine) -> None:  # fmt: skip
    """Every run of the plan as if it had been played, in no time: of test images `accuracy(arm, seed)` are right, of validation images
    some less. `lost` says of runs by name that they are "diverged", "failed" or "missing"; `pid` and `machine` tell machines apart.
    A run costs a thousand MACs and ten seconds an epoch, and another thousand for its teacher; what is timed takes milliseconds by name.
    """
    where = {"python": "3.11.7", "torch": "2.14.1+cu130", "processor": "AMD EPYC", "instructions": "AVX512", "device": "cpu", "threads": 1,
             "peak_memory_mb": 500} | machine  # fmt: skip
    slower = 1 + len(where["processor"]) / 100
    for run in made.runs.values():
        state = (lost or {}).get(run.name, "ok")
        if state == "failed":
            store.note_failure(run.key, {"type": "MoveError", "message": f"no | in {store.folder}/.tmp-{run.key}-{pid} <script>"})
        elif state != "missing" and all(store.result(need) and store.result(need)["status"] == "ok" for need in run.needs):
            diverged, right = state == "diverged", accuracy(run.arm, run.parameters["seed"])
            metrics = {"test_accuracy": right, "val_accuracy": right - 0.01, "test_images": 5000, "parameters": 100 * len(run.arm),
                       "macs": 2000, "fuse_error": 1e-14, "rounding_error": 1e-6, "move_error": None}  # fmt: skip
            cost = {"epochs": run.epochs, "searched_macs": 0, "train_macs": 1000 * (run.epochs + bool(run.parameters["teacher"])),
                    "train_seconds": 10 * run.epochs * slower, "seconds": 30.0}  # fmt: skip
            folder = store.begin(run.key)
            if not diverged:
                np.save(folder / "correct.npy", np.packbits(answered(right, run.parameters["seed"])))
            (folder / "run.ipynb").write_text(_executed(made, run, folder, pid), encoding="utf-8")
            write_result(folder, {"kind": "measured", "key": run.key, "trained": run.trained, "status": state, "sentence": [],
                                  "network": None if diverged else run.trained[::-1], "metrics": {} if diverged else metrics,
                                  "cost": cost, "environment": where, **_beside(run)})  # fmt: skip
            store.publish(run.key, folder)
    if timing := timing_of(made, known(made, store)):
        folder = store.begin(timing.key)
        (folder / "run.ipynb").write_text("{}", encoding="utf-8")
        latency = {arm: {"1": slower * len(arm) / 1000, "64": slower * len(arm) / 100} for arm in timing.parameters["arms"]}
        write_result(folder, {"kind": "timed", "key": timing.key, "status": "ok", "latency": latency})
        store.publish(timing.key, folder)


def _beside(run: Run) -> dict:
    seeds = [other["seed"] for other in run.parameters["together"]]
    return {"together": seeds} if seeds else {}


def answered(right: float, seed: int) -> np.ndarray:
    """[5000] bool: of the images so many are right; which, the seed says."""
    return np.random.default_rng(seed).permutation(5000) < round(5000 * right)


def _executed(made: Plan, run: Run, folder: Path, pid: int) -> str:
    """What papermill would leave behind: times, process ids, places and keys of a machine included."""
    notebook = json.loads((made.path.parent / "fit.ipynb").read_text(encoding="utf-8"))
    times = {"papermill": {"duration": pid / 1000, "start_time": f"2026-01-01T00:00:00.{pid}"}}
    given = {**run.parameters, "key": run.key, "trained": run.trained, "store": str(folder.parent), "out": str(folder)}
    source = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in given.items())
    injected = {"cell_type": "code", "id": f"{pid:08x}", "metadata": {"tags": ["injected-parameters"]}, "source": source, "outputs": []}
    code = [number for number, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"]
    notebook["cells"].insert(code[0] + 1, injected)
    for count, cell in enumerate((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), 1):
        cell.update(execution_count=count, metadata={**cell["metadata"], **times})
    warning = {"output_type": "stream", "name": "stderr", "text": [f"[{pid}] {folder}/fit.py: a warning\n"]}
    bare = {"text/plain": [f"<Object at 0x{pid:08x}>"]}
    shown = [
        {"text/markdown": [f"1. `{run.name}`\n", "\n", "all < that | came, <script>2</script>"]},
        {"image/png": PIXEL},
        {"text/html": "<script>1</script>"},
    ]
    alt = {"image/png": {"alt": "a curve"}}
    results = [{"output_type": "execute_result", "execution_count": 9, "metadata": alt, "data": bare | data} for data in shown]
    notebook["cells"][-1]["outputs"] = [warning, {"output_type": "stream", "name": "stdout", "text": f"in {folder}, {run.key}\n"}, *results]
    notebook["metadata"] |= {"papermill": {**times["papermill"], "parameters": given, "output_path": str(folder)}}
    return json.dumps(notebook, indent=1)


TEXT = TINY.replace("seeds = 2", 'seeds = 5\nthreads = 1\ndevice = "cpu"')
MARKS = "before\n<!-- verdicts: made by `reducenet claims --publish`, do not edit -->\nstale\n<!-- end of verdicts -->\nafter\n"


def right(arm: str, seed: int) -> float:
    return {"teacher": 0.80, "plain": 0.75, "long": 0.78, "drop": 0.30, "lora": 0.70}[arm] + seed**2 / 1000


class Project:
    """A finished tiny study in a folder of its own, shaped like the project's."""

    def __init__(self, folder: Path, text: str = TEXT, accuracy: Callable = right, **more):
        self.file = make(folder, text)
        self.folder, self.out, self.readme = folder, folder / "reports" / "tiny", folder / "README.md"
        self.readme.write_text(MARKS)
        self.plan, self.store = plan(self.file), Store(self.file.parent / "store")
        finish(self.plan, self.store, accuracy, **more)

    def report(self, *options: str) -> dict[str, bytes]:
        """`reducenet report` with an --out, `reducenet publish` without, and every file of the folder by name."""
        assert main(["report" if "--out" in options else "publish", str(self.file), *options]) == 0
        return files(Path(options[options.index("--out") + 1]) if "--out" in options else self.out)

    def rows(self) -> dict[tuple[str, int], Row]:
        return {(row.arm, row.seed): row for row in collect(self.plan, self.store)[0]}


def files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
