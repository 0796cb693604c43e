"""The table that is made of results.json, and docs/benchmarks.md around it. Every number is a row's."""

from pathlib import Path

from benchmarks.figures import FIGURES
from benchmarks.harness import Row
from reducenet.store import whole

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = """\
<!-- made by `make bench` of benchmarks/results.json, do not edit -->
# Benchmarks

How fast this project is, against what you would use without it. Both sides of a row are measured in one run, in turn, every other round
backwards; *ours* and *reference* are medians over the rounds, *ratio* is the median of the rounds' ratios, *spread* the lowest and the
highest of them. Rows compare on one machine; elsewhere the numbers are others, and the ratios may be.

`make bench` measures again and takes minutes; `make bench ALL=1` runs a whole study too, `make bench-gpu` what needs CUDA. What cannot be
measured keeps the row that it had.

`fit` compiles nothing: a training of seconds ends before its step is compiled. Where it goes on for longer, hand it a compiled loss,
`fit(net, data, epochs=200, loss=torch.compile(cross_entropy))`, the one of `reducenet.learn.losses`; `--only gpu-compiled` says how many
epochs pay for that.
"""


def table(rows: list[Row]) -> str:
    """Rows as markdown."""
    lines = ["| figure | unit | ours | reference | ratio | reach | met | runs | spread |", "|:--|:--|--:|--:|--:|--:|:--|--:|--:|"]
    for row in rows:
        reach = f"{'≥' if row.direction == 'at least' else '≤'} {row.reach:g}" if row.reach is not None else ""
        met = {True: "yes", False: "no", None: ""}[row.met]
        spread = " to ".join(f"{ratio:.2f}" for ratio in row.spread)
        lines.append(f"| {row.figure} | {row.unit} | {number(row.ours)} | {number(row.reference)} | {row.ratio:.2f} | {reach} | {met} "
                     f"| {row.runs} | {spread} |")  # fmt: skip
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits or more, no powers of ten."""
    places = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{places}f}"


def page(rows: list[Row]) -> str:
    """docs/benchmarks.md: a table for each machine, what is out of reach and why, what is compared, what has never been measured."""
    parts = [HEAD]
    for machine, versions in dict.fromkeys((row.machine, row.versions) for row in rows):
        parts.append(
            f"## {machine}\n\n{versions}\n\n{table([row for row in rows if (row.machine, row.versions) == (machine, versions)])}\n"
        )
    out = [row for row in rows if row.met is False]
    if out:
        parts.append(
            "## Out of reach, and what holds it back\n\n" + "\n".join(f"- **{row.figure}.** {row.holds_back}" for row in out) + "\n"
        )
    if rows:
        compared = ["| figure | ours | reference | the same numbers? | again |", "|:--|:--|:--|:--|:--|"]
        compared += [f"| {row.figure} | {row.ours_is} | {row.reference_is} | {row.agrees} | `--only {row.by}` |" for row in rows]
        parts.append("## What is compared\n\n" + "\n".join(compared) + "\n")
    never = [name for name in FIGURES if name not in {row.by for row in rows}]
    if never:
        parts.append("## Not measured yet\n\n" + "\n".join(f"- `python -m benchmarks --only {name}`" for name in never) + "\n")
    return "\n".join(parts)


def write(rows: list[Row], file: Path = PAGE) -> None:
    with whole(file) as partial:
        partial.write_text(page(rows), encoding="utf-8")
