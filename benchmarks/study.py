"""`make study` from nothing: its wall clock against the training in it, and against the usual recipe without a store.

It takes minutes, so it is measured when it is asked for.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.crew import Crew
from benchmarks.harness import CannotRun, Row, Size, at_least, at_most, interleave, row
from benchmarks.start import PROJECT, last_line
from benchmarks.training import STUDENT, TEACHER
from benchmarks.usual import at_its_best
from reducenet import load_data
from reducenet.study.run.drive import usable_cores


class Took(NamedTuple):
    """A study that ran from nothing."""

    wall: float  # seconds of `reducenet run` and `reducenet report`
    results: list[dict]  # what its store has


def from_nothing(study: str, folder: str) -> Took:
    """Run and report, as `make study` does, into an empty store."""
    start = time.perf_counter()
    for verb, more in (("run", []), ("report", ["--out", f"{folder}/report"])):
        command = [sys.executable, "-m", "reducenet.cli", verb, study, "--store", f"{folder}/store", *more]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=PROJECT)
        if done.returncode:
            raise CannotRun(f"`reducenet {verb} {study}` failed: {last_line(done.stderr)}")
    wall = time.perf_counter() - start
    return Took(wall, [json.loads(file.read_text()) for file in sorted(Path(folder, "store").glob("[0-9a-f]*/result.json"))])


def training_seconds(results: list[dict]) -> float:
    """Of all that was trained, each once."""
    return sum(result["cost"]["train_seconds"] for result in results if result["kind"] == "trained")


def beside_seconds(results: list[dict]) -> float:
    """Of what runs do besides training: loading, measuring, keeping."""
    return sum(result["cost"]["seconds"] - result["cost"]["train_seconds"] for result in results if result["kind"] == "measured")


def images_alone(results: list[dict], per_epoch: int) -> dict[str, int]:
    """Images that the teacher and the student would be trained on if every arm trained its own teacher; soft labels for free."""
    count = {"teacher": 0, "student": 0}
    for result in results:
        if result["kind"] == "measured":
            net = "student"
            for move in result["sentence"]:
                if "build" in move:
                    net = "teacher" if move["build"]["block"] == "scaler" else "student"
                elif "drop_branch" in move:
                    net = "student"
                elif "fit" in move:  # where a cost set the epochs, the run says how many they were
                    count[net] += per_epoch * (move["fit"]["epochs"] or result["cost"]["epochs"])
    return count


def study(size: Size) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        took = from_nothing(size.study, folder)
    with Crew(1, 2) as alone, Crew(2, 1) as pair:
        ways = {
            name: at_its_best((alone, pair), made, size.data, size.images) for name, made in (("teacher", TEACHER), ("student", STUDENT))
        }
        rates = interleave({name: way.rate for name, way in ways.items()}, size.rounds)
    name, trained = Path(size.study).stem, training_seconds(took.results)
    alone = images_alone(took.results, len(load_data(size.data).train.labels))
    usual = sum(images / statistics.median(rates[net]) for net, images in alone.items())
    return [
        row(f"study {name}, from nothing", "s", [took.wall], [trained / usable_cores()], reach=at_most(1.25),
            ours_is="`reducenet run` and `reducenet report`, an empty store", reference_is="its training seconds over the cores",
            holds_back="Chains are played in miniature first, kernels start, every network is measured, exact moves prove themselves in "
            "float64, arms are timed alone, and at the end one process waits for the other."),
        row(f"study {name}, against the usual recipe", "studies an hour", [3600 / took.wall], [3600 / usual], reach=at_least(5.0),
            ours_is="`reducenet run` and `reducenet report`, an empty store",
            reference_is=f"every arm with its own teacher, at the rates of {ways['student'].said}; measuring and soft labels for free",
            holds_back="Arms share their teacher and training is faster, each by what the rows above say; their product is what there is, "
            "less what a study does beside training."),
        row(f"study {name}, beside training", "core-seconds", [beside_seconds(took.results)], [trained],
            ours_is="measuring and keeping what was trained, in the runs themselves", reference_is="its training seconds"),
    ]  # fmt: skip
