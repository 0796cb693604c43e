"""The article's recipe on a network and images of one's own: the study file behind `reducenet try`, four arms, and what it came to.

teacher       my network, widened                       the large one
plain         my network                                as it would be trained anyway
plain-long    my network, for the cost of both stages   the mundane explanation gets its chance
dropped       the teacher without its branches, trained on: my network again
"""

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from reducenet.data.sources import is_own, located
from reducenet.store import whole
from reducenet.study.read import StudyError
from reducenet.study.report.answer import answer
from reducenet.study.report.prose import Report, interval
from reducenet.words import find, unknown, words
from reducenet.words.grammar import toml

STUDY = """\
# Written by `reducenet try`. It is a study as any other: edit it, add arms, `reducenet run {place} --words {file}`.
title = {title}
question = "Beside its convs stands a branch while the network trains; the branch goes, and the network trains on."
data = {data}
seeds = {seeds}

[fit]
epochs = {epochs}
lr = {lr}

[compare]
baseline = "plain"
also = [["dropped", "plain-long"]]

[arms.teacher]
label = {teacher}
chain = [{build}, {widen}, "fit"]

[arms.plain]
label = {plain}
chain = [{build}, "fit"]

[arms.plain-long]
label = {long}
chain = [{build}, {{ fit = {{ cost_of = "dropped" }} }}]

[arms.dropped]
label = {dropped}
after = "teacher"
chain = ["drop_branch", "fit"]
"""


def prepared(file: str, images: str, out: str | None = None, *, net: str | None = None, at: str = "*", expansion: int = 4, epochs: int = 3,
             lr: float = 0.1, seeds: int = 5) -> tuple[Path, bool]:  # fmt: skip
    """The study file for the network that `file` declares on `images`, in the folder `out`, and whether it is new. `StudyError`, one line,
    where it is there already and says something else."""
    name = _network(file, net)
    folder = Path(out or f"{name}-tried")
    place = folder / f"{name}.toml"
    text = STUDY.format(
        place=place, file=file, title=toml(f"Is it worth training {name} larger than it will be?"), data=toml(_seen_from(folder, images)),
        seeds=seeds, epochs=epochs, lr=lr, build=toml(name), widen=toml({"widen": {"at": at, "expansion": expansion}}),
        teacher=toml(f"{name}, widened"), plain=toml(name), long=toml(f"{name} at the cost of both stages"),
        dropped=toml(f"{name}, widened, dropped, trained on"),
    )  # fmt: skip
    new = not place.is_file()
    if not new and place.read_text(encoding="utf-8") != text:
        raise StudyError(f"{place}: is there already and says something else; `reducenet run {place} --words {file}` plays it as it is, "
                         "another --out leaves it alone")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with whole(place) as partial:
        partial.write_text(text, encoding="utf-8")
    return place, new


def _network(file: str, net: str | None) -> str:
    """The name of the network in the file, which is the one that is asked for or the only one."""
    there = [word.name for word in words("build").values() if word.home == str(Path(file).absolute())]
    if net is None and len(there) != 1:
        found = (
            f"several networks are declared there, say which with --net: {', '.join(there)}" if there else "no network is declared there"
        )
        raise StudyError(f"{file}: {found}" + ("" if there else "; put @build from reducenet.words before the function that makes it"))
    if net is not None and net not in there:
        raise StudyError(f"{file}: {unknown('network', net, there)}")
    return find("sentence", net or there[0]).name


def _seen_from(folder: Path, images: str) -> str:
    """A data set's name, or the place of one's own as the study file in `folder` says it."""
    named = located(images, Path.cwd())
    return Path(os.path.relpath(named, folder)).as_posix() + ("/" if named.endswith("/") else "") if is_own(named) else named


def print_outcome(report: Report) -> None:
    """What it buys and what it costs: the answer, and a line for each arm."""
    console = Console(highlight=False, markup=False)
    table = Table(title=answer(report), title_justify="left")
    for column in ("network", f"{report.measure} (%)", "minus plain (points)", "training cost (x plain)", "parameters", "MACs (thousands)"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for arm in report.labels:
        against, cost = report.contrast(arm, report.baseline), report.cost_row(arm)
        difference = interval(against) if against else ""
        table.add_row(report.labels[arm], report.accuracy_row(arm)["mean"], difference, cost["ledger"], cost["parameters"], cost["macs"])
    console.print(table)
