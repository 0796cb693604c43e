"""Two replicates as one grouped network against one after the other: the rule of reducenet/study/together.py, measured."""

from benchmarks.crew import Crew
from benchmarks.harness import Row, Size, Turn, interleave, row
from benchmarks.training import STUDENT, TEACHER
from benchmarks.usual import shape, speed
from reducenet import build, fit, fit_replicates, load_data

TOGETHER = 2


def together(number: int, made: dict, data: str, images: int) -> Turn:
    """A turn: two replicates as one, an epoch; the seconds of its steps."""
    given, seeds, nets = _start(number, made, data, images)
    how = dict(epochs=1, device="cpu", progress=False)
    return lambda: sum(fitted.rows[0]["seconds"] for fitted in fit_replicates(nets, given, seeds=seeds, **how))


def apart(number: int, made: dict, data: str, images: int) -> Turn:
    """A turn: the same two, one after the other."""
    given, seeds, nets = _start(number, made, data, images)
    how = dict(epochs=1, device="cpu", progress=False)
    return lambda: sum(fit(net, given, seed=seed, **how).rows[0]["seconds"] for net, seed in zip(nets, seeds, strict=True))


def _start(number: int, made: dict, data: str, images: int):
    given = load_data(data).subset(images)
    seeds = [TOGETHER * number + s for s in range(TOGETHER)]
    return given, seeds, [build(**made, **shape(given), seed=seed) for seed in seeds]


def replicates(size: Size) -> list[Row]:
    rows = []
    with Crew(2, 1) as pair:
        for width in (8, 16):
            for name, made in (("student", STUDENT), ("teacher", TEACHER)):
                images = size.images // (width // 4)  # as many seconds for the wide ones
                given = {"made": made | {"width": width}, "data": size.data, "images": images}
                sides = {how.__name__: speed(pair, TOGETHER * images, pair.turn(how, **given)) for how in (together, apart)}
                took = interleave(sides, size.rounds)
                rows.append(row(
                    f"two replicates as one, {name}, width {width}", "images/s", took["together"], took["apart"],
                    ours_is="fit_replicates, two processes of one thread", reference_is="fit, one after the other, the same processes",
                    agrees="to rounding, step by step: tests/test_replicates.py"))  # fmt: skip
    return rows
