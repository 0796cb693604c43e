"""What you wait for before anything trains, and the memory of a process that does."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.crew import Crew
from benchmarks.harness import CannotRun, Row, Size, Turn, at_most, interleave, row
from benchmarks.training import STUDENT
from benchmarks.usual import shape
from reducenet import build, fit, load_data
from reducenet.play.machine import environment
from reducenet.store import Store

NAMES = "from reducenet import build, fit, drop_branch, freeze, attach, fold, fuse, merge"  # as README shows a builder
MEMORY = 1.5  # GB a process may take
WAIT = 5.0  # seconds until the first result
PROJECT = Path(__file__).parents[1]  # where `reducenet run quick` finds its study
PATIENCE = 300  # seconds until something is wrong


def imports(size: Size) -> list[Row]:
    sides = {code: lambda code=code: _python(code) for code in (NAMES, "import torch")}
    took = interleave(sides, size.rounds)
    return [row("import of reducenet's names", "s", took[NAMES], took["import torch"], reach=at_most(1.10),
                ours_is=f"python -c '{NAMES}'", reference_is="python -c 'import torch'",
                holds_back="Names are found by reading the package's sources, and the modules behind them are imported too.")]  # fmt: skip


def _python(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def peak(number: int, data: str) -> Turn:
    """A turn: the student trains on all of `data` for an epoch; the peak memory of the process by then, GB."""

    def turn() -> float:
        given = load_data(data)
        fit(build(**STUDENT, **shape(given), seed=number), given, epochs=1, seed=number, device="cpu", progress=False)
        return environment("cpu")["peak_memory_mb"] / 1024

    return turn


def memory(size: Size) -> list[Row]:
    with Crew(size.rounds, cores=1) as crew:  # memory does not mind that they share cores
        took = crew.each(peak, size.whole)()
    return [row(f"peak memory, all of {size.whole}", "GB a process", took, [MEMORY] * len(took), reach=at_most(1.0),
                ours_is="load_data and fit of the student, an epoch, torch included", reference_is="what a process may take",
                holds_back="The mean and the standard deviation are taken of all images as float32 at once.")]  # fmt: skip


def first(size: Size) -> list[Row]:
    took = [_until_the_first(size.study) for _ in range(size.rounds)]
    return [row(f"first result of study {Path(size.study).stem}", "s", took, [WAIT] * len(took), reach=at_most(1.0),
                ours_is="from `reducenet run` on an empty store to the first finished run", reference_is="what one likes to wait",
                holds_back="Torch is imported, every chain is played in miniature so that none fails later, processes and kernels start; "
                "then the first run trains for as long as it trains.")]  # fmt: skip


def _until_the_first(study: str) -> float:
    """Seconds until a run of the study is in an empty store; then the study is interrupted."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "reducenet.cli", "run", study, "--store", folder]
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        running = subprocess.Popen(command, **quiet, cwd=PROJECT, start_new_session=True)
        try:
            while not _measured(Path(folder)):
                if running.poll() is not None:
                    raise CannotRun(f"`reducenet run {study}` ended before a result: {last_line(running.stderr.read())}")
                if time.perf_counter() - start > PATIENCE:
                    raise CannotRun(f"`reducenet run {study}` has no result after {PATIENCE} s")
                time.sleep(0.02)
            return time.perf_counter() - start
        finally:
            _stop(running)


def _measured(folder: Path) -> bool:
    store = Store(folder)
    keys = [entry.parent.name for entry in folder.glob("[0-9a-f]*/result.json")]
    return any((store.result(key) or {}).get("kind") == "measured" for key in keys)


def _stop(running: subprocess.Popen) -> None:
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGINT)
    try:
        running.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()


def last_line(text: str) -> str:
    """What a failed command said last."""
    return (text.strip().splitlines() or ["it said nothing"])[-1]
