"""What the live panel of page 03 is handed: trained teachers as programs, images, and what was measured beforehand.

The networks are handed over with their BNs unfolded, since the reader may measure those anew. What runs over hundreds of images is
recorded: `python -m reducenet.course.panels.fade.material` writes the shipped teachers' curves to record.json; others are measured when
asked for.
"""

from pathlib import Path

import torch
from torch import nn

from reducenet.course import nets
from reducenet.course.live import record
from reducenet.course.live.images import handed, limits, picked, pixels
from reducenet.course.live.program import program
from reducenet.course.panels.fade.bench import Bench
from reducenet.data.tensors import Data, Split
from reducenet.data.tensors import load as load_data
from reducenet.deploy.fuse import fuse
from reducenet.learn import evaluate, measure
from reducenet.learn.batchnorm import recalibrate
from reducenet.moves.branch import drop_branch, set_scaler
from reducenet.nets.blocks import ScalerBlock

RECORD = Path(__file__).with_name("record.json")
STEPS = 21
SCALERS = tuple(i / (STEPS - 1) for i in range(STEPS))
BATCH = 128  # training images, on which the statistics are measured anew
MAPS = 8  # of each branch of the first block, at most, are shown


def material(bench: Bench, scaler: float = 1.0, expansion: int = 4) -> dict:
    """All that the panel shows, as JSON; `scaler` and `expansion` are where it starts."""
    held, sample = picked(bench.held, len(bench.data.classes)), _sample(bench.data).train
    expansion = expansion if expansion in bench.teachers else max(bench.teachers)
    return {
        "start": {"scaler": round(scaler * (STEPS - 1)), "expansion": expansion, "image": telling(bench, held, expansion)},
        "steps": STEPS,
        **handed(bench.data, bench.held, held),
        "batch": {"pixels": pixels(sample.images), "count": len(sample.labels)},
        "limits": limits(evaluate.logits(set_scaler(net, s), bench.data, held) for net in bench.teachers.values() for s in (0, 0.5, 1)),
        "nets": {e: _net(teacher, bench) for e, teacher in bench.teachers.items()},
    }


def anew(teacher: nn.Module, data: Data, scaler: float) -> nn.Module:
    """The teacher at this scaler with the statistics of the first `BATCH` training images: what net.js measures, and torch too."""
    return recalibrate(set_scaler(teacher, scaler), _sample(data), images=BATCH, batch=len(_sample(data).train.labels))


def curves(teacher: nn.Module, bench: Bench, at: tuple[int, ...]) -> dict:
    """How many held-out images are right at every scaler: with the statistics as trained, and measured anew at each of the scalers `at`."""

    def right(net: nn.Module) -> list[int]:
        return [int(evaluate.correct(set_scaler(net, scaler), bench.data, bench.held).sum()) for scaler in SCALERS]

    return {"trained": right(teacher), "measured": {str(i): right(anew(teacher, bench.data, SCALERS[i])) for i in at}}


def digest(teacher: nn.Module, bench: Bench) -> str:
    """Names a curve: the weights, and every image that has to do with it."""
    parts = (*teacher.state_dict().values(), *bench.held, _sample(bench.data).train.images)
    return record.digest(parts)


def recorded(teacher: nn.Module, bench: Bench) -> dict:
    """The curves from the record; a teacher that is not in it is measured now, with statistics anew at scaler 0 alone."""
    return record.read(RECORD).get(digest(teacher, bench)) or curves(teacher, bench, at=(0,))


def _sample(data: Data) -> Data:
    return data.subset(BATCH)


def _net(teacher: nn.Module, bench: Bench) -> dict:
    name, block = next((name, block) for name, block in teacher.named_modules() if isinstance(block, ScalerBlock))
    told = program(teacher, bench.shape)
    one, two = (f"{name}.{branch}.{len(getattr(block, branch)) - 1}" for branch in ("branch1", "branch2"))
    student = drop_branch(teacher)
    costs = {
        what: [measure.parameters(net), measure.macs(net, bench.shape)]
        for what, net in (("teacher", teacher), ("fused", fuse(teacher)), ("student", student), ("deployed", fuse(student)))
    }
    channels, height, width = told["ops"][told["names"][two]]["shape"]
    return {
        "program": told,
        "branches": [one, two],
        "maps": [min(channels, MAPS), height, width],
        "home": block.scaler,
        "costs": costs,
        "curves": recorded(teacher, bench),
    }


def telling(bench: Bench, held: Split, expansion: int) -> int:
    """The image that the teacher is surest of among those that the student gets wrong: there is something to see at once."""
    teacher = bench.teachers[expansion]
    best = evaluate.logits(teacher, bench.data, held).topk(2).values
    lost = evaluate.correct(teacher, bench.data, held) & ~evaluate.correct(set_scaler(teacher, 0), bench.data, held)
    return int(torch.where(lost, best[:, 0] - best[:, 1], -1).argmax())


def shipped() -> Bench:
    """The shipped teachers with the images that the record speaks of."""
    return Bench(nets.teachers(), load_data("fashion-mini"))


if __name__ == "__main__":
    bench, everywhere = shipped(), tuple(range(STEPS))
    record.write(RECORD, {digest(teacher, bench): curves(teacher, bench, everywhere) for teacher in bench.teachers.values()})
