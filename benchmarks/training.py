"""`fit` against the usual recipe: images a second of both cores."""

from benchmarks.crew import Crew
from benchmarks.harness import Reach, Row, Size, Turn, at_least, interleave, row
from benchmarks.usual import at_its_best, shape, speed
from reducenet import build, fit, load_data

STUDENT = {"block": "plain", "width": 8, "stem_stride": 2}
TEACHER = {"block": "scaler", "expansion": 4, "width": 8, "stem_stride": 2}


def fitting(number: int, made: dict, data: str, images: int) -> Turn:
    """A turn: `fit` for one epoch on the first `images` of `data`; the seconds of its steps."""
    given = load_data(data).subset(images)
    net = build(**made, **shape(given), seed=number)
    return lambda: fit(net, given, epochs=1, seed=number, device="cpu", progress=False).rows[0]["seconds"]


def student(size: Size) -> list[Row]:
    return _against_the_usual("training, student, width 8", STUDENT, size.data, size.images, size.rounds, at_least(5.5))


def teacher(size: Size) -> list[Row]:
    return _against_the_usual("training, teacher, width 8", TEACHER, size.data, size.images // 2, size.rounds, at_least(2.9))


def _against_the_usual(figure: str, made: dict, data: str, images: int, rounds: int, reach: Reach) -> list[Row]:
    """Against the recipe as it is run, in one process, and against two of it at once, which nobody does."""
    with Crew(1, 2) as alone, Crew(2, 1) as pair:
        usual, twice = (at_its_best((crew,), made, data, images) for crew in (alone, pair))
        ours = speed(pair, images, pair.turn(fitting, made, data, images))
        given = interleave({"ours": ours, "usual": usual.rate, "twice": twice.rate}, rounds)
    said = dict(
        ours_is="fit, two processes of one thread",
        holds_back="Views are made in one call for a whole batch, so what is left is the network itself: BatchNorm, ReLU and additions "
        "read and write every map again, each operation has a fixed cost, and convolutions take what they take.",
    )
    return [
        row(figure, "images/s", given["ours"], given["usual"], reach=reach, reference_is=usual.said, **said),
        row(f"{figure}, against two at once", "images/s", given["ours"], given["twice"], reference_is=twice.said, **said),
    ]
