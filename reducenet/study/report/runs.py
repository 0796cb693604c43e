"""The executed notebooks behind a report, as they are published: runs/drop-fc.s3.ipynb and, for a browser, runs/drop-fc.s3.html.

What is published of a run is the same wherever and whenever it was played: no times, no ids, no places of a machine, no keys.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from html import escape
from pathlib import Path
from typing import NamedTuple

from reducenet.store import Store
from reducenet.study.plan import Plan, Run
from reducenet.study.read import StudyError
from reducenet.study.report.rows import placeless
from reducenet.study.report.text import html, inline, shell
from reducenet.words import said

SHOWN = ("text/markdown", "image/png", "text/plain")  # of an output: nothing that a page would have to run or to fetch
NAMED = ("seed", "nth_fit", "data", "device", "threads")  # parameters that say something to a reader


class Form(NamedTuple):
    """The two forms of a run: what it ends with, and the page of the report that it leads back to."""

    suffix: str
    report: str


NOTEBOOK, PAGE = Form(".ipynb", "report.md"), Form(".html", "index.html")


def from_store(plan: Plan, store: Store) -> Callable[[Run], dict]:
    """The executed notebook of a run, as the store has it, without the places of this machine."""
    return lambda run: json.loads(placeless((store.entry(run.key) / "run.ipynb").read_text(encoding="utf-8"), plan, store))


def from_report(plan: Plan, folder: Path) -> Callable[[Run], dict]:
    """The executed notebook of a run, as it is published in `folder`, without the title that it got there. The call raises `StudyError`
    where it is missing, or is that of a run which was given something else than the plan's."""

    def read(run: Run) -> dict:
        file = folder / f"{run.file}{NOTEBOOK.suffix}"
        try:
            notebook = json.loads(file.read_text(encoding="utf-8"))
            (given,) = ["".join(cell["source"]) for cell in notebook["cells"] if "injected-parameters" in cell["metadata"].get("tags", [])]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise StudyError(f"{file}: missing or damaged; the runs that are published are committed, take it from there") from None
        if given != parameters(run, plan.study.data):
            raise StudyError(f"{file}: is of another run than {plan.path} says now; `reducenet run {plan.name}`, then publish")
        return notebook | {"cells": notebook["cells"][1:]}

    return read


def publish(plan: Plan, executed: Callable[[Run], dict], names: set[str], folder: Path) -> None:
    """Write both forms of the runs whose files have these names; `executed` reads what was played."""
    folder.mkdir(parents=True, exist_ok=True)
    for run in plan.runs.values():
        if run.file in names:
            played = executed(run)
            for form in (NOTEBOOK, PAGE):
                notebook = published(played, head(plan, run, form, names), parameters(run, plan.study.data))
                shown = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n" if form is NOTEBOOK else page(notebook, title(plan, run))
                (folder / f"{run.file}{form.suffix}").write_text(shown, encoding="utf-8")


def published(executed: dict, first: str, injected: str) -> dict:
    """The executed notebook with `first` for a title and `injected` where papermill put its parameters; of the rest only what is shown."""
    shown = [{"cell_type": "markdown", "metadata": {}, "source": first}, *(_cell(cell, injected) for cell in executed["cells"])]
    cells = [{"id": f"cell-{number:02d}", **cell} for number, cell in enumerate(shown)]
    kernel = {name: executed["metadata"]["kernelspec"][name] for name in ("display_name", "language", "name")}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _cell(cell: dict, injected: str) -> dict:
    tags, source = cell["metadata"].get("tags", []), "".join(cell["source"])
    ours = {"cell_type": cell["cell_type"], "metadata": {"tags": tags} if tags else {}}
    if cell["cell_type"] != "code":
        return ours | {"source": re.sub(r"^# .*\s*", "", source)}  # the title is ours
    outputs = [_output(output) for output in cell["outputs"] if _is_shown(output)]
    return ours | {"source": injected if "injected-parameters" in tags else source, "execution_count": cell["execution_count"],
                   "outputs": outputs}  # fmt: skip


def _is_shown(output: dict) -> bool:
    return output["output_type"] != "stream" or output["name"] == "stdout"


def _output(output: dict) -> dict:
    if output["output_type"] not in ("execute_result", "display_data"):
        return output
    return output | {"data": {kind: _whole(output["data"][kind]) for kind in SHOWN if kind in output["data"]}}


def _whole(text: str | list[str]) -> str:
    """One string, without the addresses of objects."""
    return re.sub(r" at 0x[0-9a-f]+>", ">", "".join(text))


def title(plan: Plan, run: Run) -> str:
    piece = re.search(r"@(\d+)/", run.name)
    return f"{plan.study.label(run.arm)}, seed {run.parameters['seed']}" + (f", piece {piece[1]}" if piece else "")


def head(plan: Plan, run: Run, form: Form, names: set[str]) -> str:
    """Title, the way back to the report and to the runs that this one came from, and how to play it again: the first cell."""
    also = [plan.study.label(arm) for (arm, _), key in plan.ends.items() if key == run.key and arm != run.arm]
    lines = [f"- {role}: {', '.join(_link(plan, other, form, names) for other in runs)}" for role, runs in _origins(plan, run).items()]
    origins = "\n".join(lines) or "- starts afresh: it needs no other run"
    return (f"# {inline(title(plan, run))}\n\nOne run of the study [{inline(plan.study.title)}](../{form.report})"
            f"{''.join(f', the same for {inline(label)}' for label in also)}.\n\n{origins}\n\n"
            f"Play it again, with all that it needs: `reducenet run {plan.study.command} --only {run.name}`")  # fmt: skip


def _origins(plan: Plan, run: Run) -> dict[str, list[Run]]:
    """What each run that this one needs is to it."""
    needs, given = [plan.runs[key] for key in run.needs], run.parameters
    roles = {
        "goes on from": [other for other in needs if other.trained == given["after"]],
        "is taught by": [other for other in needs if other.trained == given["teacher"]],
        "may train as long as these cost": [other for other in needs if other.key in given["paid_by"]],
        "takes the best of": [other for other in needs if other.trained in given["tickets"]],
    }
    return {role: runs for role, runs in roles.items() if runs}


def _link(plan: Plan, run: Run, form: Form, names: set[str]) -> str:
    return f"[{inline(title(plan, run))}]({run.file}{form.suffix})" if run.file in names else inline(title(plan, run))


def parameters(run: Run, data: str) -> str:
    """What papermill was given, as far as it means something elsewhere: the moves without their defaults, a line each, and the data as the
    study calls it."""
    moves = "".join(f"    {said(move)},\n" for move in run.parameters["moves"])
    given = run.parameters | {"data": data}
    return "\n".join([f"moves = [\n{moves}]", *(f"{name} = {given[name]!r}" for name in NAMED)])


def page(notebook: dict, title: str) -> str:
    """The notebook as a page of its own, without the cell of defaults: nbconvert's simplest form, in the clothes of the report."""
    import nbformat

    cells = [cell for cell in notebook["cells"] if "parameters" not in cell["metadata"].get("tags", [])]
    body, _ = _exporter().from_notebook_node(nbformat.from_dict(notebook | {"cells": cells}))
    return shell(title, body.replace("<pre>", '<pre tabindex="0">'))


@cache
def _exporter():
    from nbconvert import HTMLExporter

    filters = {
        "markdown2html": lambda source, **_: html(source),
        "highlight_code": lambda source, **_: f"<pre>{escape(source, quote=False)}</pre>",
    }
    return HTMLExporter(template_name="basic", filters=filters)
