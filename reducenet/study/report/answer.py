"""The one sentence that comes first, and what follows it. The rule, for every study:

1. The first pair in `compare.also` that has been run is what the study asks: does the first arm beat the second? The sentence says by how
   much it does, or that it is not decided, and how the first stands to the baseline.
2. Without such a pair, every arm against the baseline: how many are higher, equivalent, lower, not decided.

"Yes" and "No" are said only of such a pair, and only where the title asks for one of them; elsewhere it is "Found".
"""

from reducenet.study.report.prose import FEW, Report, by_itself, interval, joined, signed
from reducenet.study.report.statistics import DECIDED, RESULT, Contrast, Reading

AUXILIARIES = {"is", "are", "was", "were", "do", "does", "did", "can", "could", "has", "have", "will", "would", "should", "must"}
SIDE = {Reading.HIGHER: "above", Reading.LOWER: "below"}
OPEN = {Reading.UNDECIDED: "not decided", Reading.NO_RESULT: "without a result"}


def answer(report: Report) -> str:
    """One sentence, in Markdown."""
    if not report.contrasts:
        return f"Nothing is compared: {report.base} is alone, at {report.values[report.baseline].mean():.1f} % {report.measure}."
    if all(c.reading == Reading.NO_RESULT for c in report.contrasts):
        return f"No result: {report.seeds} an arm, and a number needs {RESULT}."
    if report.study.compare.also:
        return _pair(report, report.contrast(*_asked(report)))
    return _against_baseline(report)


def _asked(report: Report) -> list[str]:
    """The first pair in `compare.also`, or, while that has not been run, the first that has."""
    pairs = report.study.compare.also
    waiting = {arm for arm, why in report.absent.items() if why == "not run"}
    return next((pair for pair in pairs if not waiting & set(pair)), pairs[0])


def lead(report: Report) -> str:
    """The answer in bold, and what it leaves out: how all comparisons came out, which stay open, the highest mean."""
    return " ".join([f"**{answer(report)}**", *_rest(report)])


def _rest(report: Report) -> list[str]:
    readings, open_ = [c.reading for c in report.contrasts], [c for c in report.contrasts if c.reading not in DECIDED]
    said = [f"Highest mean: {report.names[report.values.mean().idxmax()]}."]
    if all(reading == Reading.NO_RESULT for reading in readings):
        return said if report.study.compare.on == "val" else []  # a study that chooses has to say what
    if 0 < len(open_) <= FEW:
        names = [report.names[c.arm] + ("" if c.against == report.baseline else f" against {report.names[c.against]}") for c in open_]
        said = [f"Not decided: {joined(names)}.", *said]
    if report.study.compare.also:
        tally = [f"{readings.count(reading)} {reading}" for reading in Reading if reading in readings]
        said = [f"Of {len(readings)} comparisons: {', '.join(tally)}.", *said]
    return said


def _pair(report: Report, asked: Contrast) -> str:
    """`No: drop + train all is 3.9 points of test accuracy below the long plain student, but 3.1 above the plain student.`"""
    arm, against = report.names[asked.arm], report.names[asked.against]
    if asked.reading == Reading.NO_RESULT:
        return f"No result: {arm} and {against} share {asked.n} finished seeds, and a number needs {RESULT}."
    if asked.reading == Reading.UNDECIDED:
        return f"Not decided: {arm} against {against}, {interval(asked)} points of {report.measure}{by_itself(asked)}."
    said = ("Yes" if asked.reading == Reading.HIGHER else "No") if _asks_yes_or_no(report) else "Found"
    return f"{said}: {arm} is {_place(report, asked, f' points of {report.measure}')}{_and_the_baseline(report, asked)}."


def _and_the_baseline(report: Report, asked: Contrast) -> str:
    other = report.contrast(asked.arm, report.baseline)
    if other is None or other is asked or other.reading == Reading.NO_RESULT:
        return ""
    if other.reading == Reading.UNDECIDED:
        return f"; against {report.base} it is not decided ({interval(other)})"
    return f", {'and' if other.reading == asked.reading else 'but'} {_place(report, other)}"


def _place(report: Report, c: Contrast, unit: str = "") -> str:
    """`3.9 points of test accuracy below the long plain student`."""
    if c.reading == Reading.EQUIVALENT:
        return f"equivalent to {report.names[c.against]} within ±{report.margin:g}{unit} ({signed(c.mean)})"
    return f"{abs(c.mean):.{1 if abs(c.mean) >= 0.1 else 2}f}{unit} {SIDE[c.reading]} {report.names[c.against]}"


def _against_baseline(report: Report) -> str:
    """`Against the plain student in test accuracy: 4 of 8 arms higher (most: teacher, +2.4 points), 4 lower (most: drop, −64.3 points).`"""
    if len(report.contrasts) == 1:
        return _pair(report, report.contrasts[0])
    said = []
    for reading in Reading:
        if group := [c for c in report.contrasts if c.reading == reading]:
            most = max(group, key=lambda c: abs(c.mean))
            far = f" (most: {report.names[most.arm]}, {signed(most.mean, 1)} points)" if reading in SIDE else ""
            said.append(f"{len(group)}{'' if said else f' of {len(report.contrasts)} arms'} {OPEN.get(reading, reading)}{far}")
    return f"Against {report.base} in {report.measure}: {', '.join(said)}."


def _asks_yes_or_no(report: Report) -> bool:
    """`Does it help?`, and `In wide networks, does it help?`; not `When does it help?`."""
    title = report.study.title.strip()
    begins = {clause.split()[0].lower() for clause in (title.partition(", ")[0], title.rpartition(", ")[2]) if clause.strip()}
    return bool(report.study.compare.also) and title.endswith("?") and not AUXILIARIES.isdisjoint(begins)
