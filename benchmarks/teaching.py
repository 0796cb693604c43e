"""What a student pays for what it learns from, and for what it carries beside it: soft labels, a side branch on a frozen base."""

import itertools
import tempfile
from pathlib import Path

from benchmarks.crew import Crew
from benchmarks.harness import Row, Size, Turn, at_most, interleave, row
from benchmarks.training import STUDENT, TEACHER, fitting
from benchmarks.usual import shape
from reducenet import attach, build, fit, freeze, load_data
from reducenet.learn.answers import Answers


def asking(number: int, data: str, images: int, known: bool) -> Turn:
    """A turn: a student learns from a teacher for an epoch, whose answers lie there from the turn before or are asked for; the seconds."""
    given, folder = load_data(data).subset(images), tempfile.TemporaryDirectory()
    net, teacher = (build(**made, **shape(given), seed=number) for made in (STUDENT, TEACHER))
    fresh = itertools.count()

    def turn() -> float:
        answers = Answers(teacher, Path(folder.name) / ("known" if known else f"{next(fresh)}"))
        fitted = fit(net, given, loss="kd", teacher=answers, epochs=1, seed=number, device="cpu", progress=False)
        answers.keep()
        return fitted.rows[0]["seconds"]

    return turn


def beside(number: int, data: str, images: int, space: str) -> Turn:
    """A turn: a side branch on a network that is frozen, an epoch; the seconds."""
    given = load_data(data).subset(images)
    net = attach(freeze(build(**STUDENT, **shape(given), seed=number), "all"), expansion=2, space=space)
    return lambda: fit(net, given, epochs=1, lr=0.02, seed=number, device="cpu", progress=False).rows[0]["seconds"]


def kd(size: Size) -> list[Row]:
    with Crew(2, 1) as pair:
        sides = {
            "known": pair.turn(asking, size.data, size.images, True),
            "asked": pair.turn(asking, size.data, size.images, False),
            "ce": pair.turn(fitting, STUDENT, size.data, size.images),
        }
        took = interleave(sides, size.rounds)
    return [
        row("KD student, the teacher's answers known", "s an epoch", took["known"], took["ce"], reach=at_most(1.05),
            ours_is='fit(loss="kd") with answers that another arm has asked for', reference_is="the same student with CE",
            agrees="bitwise, known or asked: tests/test_answers.py",
            holds_back="A batch is hashed to be found, and the loss has two softmaxes more."),
        row("KD student, the first that asks", "s an epoch", took["asked"], took["ce"], reach=at_most(1.05),
            ours_is='fit(loss="kd") and a teacher that nobody has asked', reference_is="the same student with CE",
            holds_back="Somebody has to ask: a forward pass of the teacher, which is larger than the student, comes with every batch. "
            "Only the arms after the first find its answers."),
    ]  # fmt: skip


def side(size: Size) -> list[Row]:
    with Crew(2, 1) as pair:
        sides = {
            "weight": pair.turn(beside, size.data, size.images, "weight"),
            "branch": pair.turn(beside, size.data, size.images, "branch"),
            "conv": pair.turn(fitting, STUDENT, size.data, size.images),
        }
        took = interleave(sides, size.rounds)
    return [
        row("frozen base and side branch", "s an epoch", took["weight"], took["conv"], reach=at_most(0.9),
            ours_is='freeze "all", attach(expansion=2), fit', reference_is="fit of the plain network, all of it",
            holds_back="Freezing saves the gradients of kernels and little else: views, BatchNorm, ReLU and the gradients of maps do not "
            "shrink, and the kernel is summed anew at every step."),
        row("side branch in weight space", "s an epoch", took["weight"], took["branch"],
            ours_is="one conv with the summed kernel", reference_is="the branch as two convs beside it",
            agrees="to rounding, outputs and gradients: tests/test_side.py"),
    ]  # fmt: skip
