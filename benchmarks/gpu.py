"""ReduceNet-20, teacher and student, on images of CIFAR-10's shape: what a GPU makes of it. `make bench-gpu`.

The images are noise of that shape; a step takes as long on them. Every function takes a device, and tests call them with "cpu".
"""

import os
import shutil
import statistics
import time

import torch

from benchmarks.crew import Crew
from benchmarks.harness import CannotRun, Row, Size, Turn, interleave, row
from benchmarks.usual import epoch, loader, shape
from reducenet import build, fit, fit_replicates
from reducenet.data.tensors import Data, Split
from reducenet.learn.train import named_loss
from reducenet.nets.seeding import generator
from reducenet.study.run.drive import usable_cores

NETS = {"student": {"block": "plain", "depth": 20, "width": 16}, "teacher": {"block": "scaler", "expansion": 4, "depth": 20, "width": 16}}
EPOCHS, IMAGES = 200, 50_000  # of the whole training
GROUPS = (2, 4, 8, 16)  # replicates at once
HOUR = 3600


def cifar_shaped(images: int) -> Data:
    """Noise: uint8 [images, 3, 32, 32], ten classes, a few of them to validate on."""
    draw = generator("benchmarks", images)
    pixels = torch.randint(0, 256, (images, 3, 32, 32), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 10, (images,), generator=draw)
    few = Split(pixels[:100], labels[:100])
    half = torch.full((3, 1, 1), 0.5)
    return Data("cifar10-shaped", tuple("0123456789"), Split(pixels, labels), few, few, half, half / 2, pad=4)


def fitted(made: dict, data: Data, device: str, loss="ce") -> Turn:
    """A turn: images a second of `fit`."""
    net = build(**made, **shape(data))
    return lambda: len(data.train.labels) / fit(net, data, epochs=1, device=device, progress=False, loss=loss).rows[0]["seconds"]


def grouped(made: dict, data: Data, count: int, device: str) -> Turn:
    """A turn: images a second of `count` replicates as one, all of them together."""
    nets = [build(**made, **shape(data), seed=seed) for seed in range(count)]

    def turn() -> float:
        ends = fit_replicates(nets, data, seeds=range(count), epochs=1, device=device, progress=False)
        return count * len(data.train.labels) / sum(end.rows[0]["seconds"] for end in ends)

    return turn


def usual(made: dict, data: Data, device: str) -> tuple[Turn, str]:
    """A turn: images a second of the usual recipe, with the number of loader processes that is fastest here."""
    cores = usable_cores()

    def with_workers(workers: int) -> Turn:
        batches = loader(data, workers, device)
        return lambda: len(data.train.labels) / epoch(build(**made, **shape(data)).to(device), batches, device)

    ways = {workers: with_workers(workers) for workers in sorted({0, cores // 2, cores})}
    given = interleave(ways, 1)
    best = max(given, key=lambda workers: given[workers][0])
    return ways[best], f"the usual recipe at its best: PIL, a DataLoader with {best or 'no'} processes, eager, mixed precision"


def gpu_training(size: Size, device: str = "cuda") -> list[Row]:
    data, rows, hours = cifar_shaped(size.images), [], {"ours": [0.0] * size.rounds, "usual": [0.0] * size.rounds}
    for name, made in NETS.items():
        reference, said = usual(made, data, device)
        rates = interleave({"ours": fitted(made, data, device), "usual": reference}, size.rounds)
        rows.append(
            row(f"ReduceNet-20 {name}, CIFAR-10-shaped", "images/s", rates["ours"], rates["usual"], ours_is="fit", reference_is=said)
        )
        for side, given in rates.items():
            hours[side] = [before + _hours(rate) for before, rate in zip(hours[side], given, strict=True)]
    rows.append(row(f"ReduceNet-20 teacher + student, {EPOCHS} epochs", "hours", hours["ours"], hours["usual"],
                    ours_is=f"fit, one after the other, {IMAGES:,} images an epoch, from the rates above", reference_is=said))  # fmt: skip
    return rows


def gpu_groups(size: Size, device: str = "cuda") -> list[Row]:
    data, rows = cifar_shaped(size.images), []
    alone = {name: fitted(made, data, device) for name, made in NETS.items()}
    for count in GROUPS:
        sides = {("group", name): grouped(made, data, count, device) for name, made in NETS.items()}
        sides |= {("alone", name): turn for name, turn in alone.items()}
        rates = interleave(sides, size.rounds)
        seeds = {how: [1 / (_hours(one) + _hours(other)) for one, other in zip(rates[how, "student"], rates[how, "teacher"], strict=True)]
                 for how in ("group", "alone")}  # fmt: skip
        rows.append(row(f"ReduceNet-20, {count} seeds as one", "seeds/hour", seeds["group"], seeds["alone"],
                        ours_is=f"fit_replicates, teacher + student, {EPOCHS} epochs each, float32",
                        reference_is="fit, one after the other",
                        agrees="to rounding where fit is float32 too: tests/test_replicates.py"))  # fmt: skip
    return rows


def compiled():
    """Cross-entropy whose passes, forward and backward, are compiled; on CUDA they are recorded as graphs and launched at once."""
    if not shutil.which(os.environ.get("CXX", "g++")):
        raise CannotRun("compiling a step needs a C++ compiler")
    return torch.compile(named_loss("ce"), mode="reduce-overhead")


def gpu_compiled(size: Size, device: str = "cuda") -> list[Row]:
    data, rows = cifar_shaped(size.images), []
    for name, made in NETS.items():
        turn = fitted(made, data, device, compiled())
        start = time.perf_counter()
        turn()
        whole = time.perf_counter() - start
        rates = interleave({"compiled": turn, "eager": fitted(made, data, device)}, size.rounds)
        rows.append(row(f"ReduceNet-20 {name}, the step compiled", "images/s", rates["compiled"], rates["eager"],
                        ours_is="fit with a loss that torch.compile has compiled, CUDA graphs", reference_is="fit",
                        agrees="to rounding: tests/test_train.py"))  # fmt: skip
        epoch_takes = IMAGES / statistics.median(rates["eager"])
        rows.append(row(f"ReduceNet-20 {name}, to compile the step", "s", [whole], [epoch_takes],
                        ours_is="the first training, an epoch, compiling included", reference_is=f"fit, {IMAGES:,} images"))  # fmt: skip
    return rows


def _hours(rate: float) -> float:
    """Of the whole training of one network at so many images a second."""
    return EPOCHS * IMAGES / rate / HOUR


def _on_cpu(number: int, name: str, images: int) -> Turn:
    return fitted(NETS[name], cifar_shaped(images), "cpu")


def cifar(size: Size) -> list[Row]:
    """The same steps, as far as a CPU runs them: two processes of one thread."""
    images = max(128, size.images // 30)
    with Crew(2, 1) as pair:
        turns = {name: pair.each(_on_cpu, name, images) for name in NETS}
        rates = interleave({name: lambda turn=turn: sum(turn()) for name, turn in turns.items()}, size.rounds)
    return [row("ReduceNet-20 on the CPU, CIFAR-10-shaped", "images/s", rates["student"], rates["teacher"],
                ours_is="fit of the student, two processes of one thread", reference_is="fit of the teacher, the same")]  # fmt: skip
