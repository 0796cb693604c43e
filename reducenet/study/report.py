"""From the store to `reports/STUDY/`: collect the rows, publish the executed notebooks, let `report.ipynb` write the page.

    reports/STUDY/   index.html  report.md  results.csv  figures/*.svg  runs/KEY.ipynb  summary.json

The folder is made anew beside the old one and takes its place when it is whole.
"""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

from reducenet.study import identity
from reducenet.study.execute import one_line, pinned
from reducenet.study.grammar import StudyError
from reducenet.study.plan import Plan
from reducenet.study.rows import collect, write_csv
from reducenet.study.store import Store

BLOCK = "<!-- results of {name}: made by `reducenet report {name}`, do not edit -->\n{text}<!-- end of results -->"


def write(plan: Plan, store: Store, out: Path, force: bool = False) -> tuple[Path, bool]:
    """The page of the study, and whether it was written now. Does nothing where rows, study file and report code are as they were."""
    notebook = out.parent / "report.ipynb"
    if not notebook.is_file():
        notebook = plan.path.parent.parent / "reports" / "report.ipynb"
    if not notebook.is_file():
        raise StudyError(f"{notebook}: the notebook that renders reports is missing; `python notebooks/build.py` makes it")
    rows = collect(plan, store)
    if not any(row["status"] == "ok" and row["arm"] == plan.study.compare.baseline for row in rows):
        raise StudyError(f"{plan.path}: nothing to report yet: the baseline arm {plan.study.compare.baseline!r} has no finished run; "
                         f"`reducenet run {plan.name}` first")  # fmt: skip
    key = identity.key(
        rows=rows, code=identity.report_code(), notebook=identity.notebook_code(notebook), study=plan.path.read_text("utf-8")
    )
    if not force and _is_current(out, key):
        return out / "index.html", False
    fresh = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "runs").mkdir(parents=True)
    try:
        write_csv(rows, fresh / "results.csv")
        _publish_notebooks(rows, plan, store, fresh / "runs")
        contrasts = _render(notebook, plan.path, fresh)
        summary = {"key": key, "baseline": plan.study.compare.baseline, "margin": plan.study.compare.margin, "contrasts": contrasts}
        (fresh / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    refresh_readme(plan.path.parent.parent / "README.md", plan.path, out / "results.csv")
    return out / "index.html", True


def _is_current(out: Path, key: str) -> bool:
    try:
        return json.loads((out / "summary.json").read_text("utf-8"))["key"] == key and (out / "index.html").is_file()
    except (OSError, ValueError, KeyError):
        return False


def _render(notebook: Path, study_file: Path, out: Path) -> list[dict]:
    """Run the report notebook; the contrasts it found."""
    import papermill

    from reducenet.study.kernels import SocketKernelManager

    executed = out / ".report.ipynb"
    parameters = {"study": str(study_file.absolute()), "rows": str(out.absolute() / "results.csv"), "out": str(out.absolute())}
    try:
        with pinned(1):
            papermill.execute_notebook(str(notebook), str(executed), parameters, kernel_name="python3", progress_bar=False,
                                        kernel_manager_class=SocketKernelManager)  # fmt: skip
    except Exception as error:  # whatever stops the notebook, the old report stays
        raise StudyError(f"{notebook}: the report could not be rendered: {one_line(getattr(error, 'evalue', error))}") from error
    executed.unlink()
    contrasts = out / ".contrasts.json"
    found = json.loads(contrasts.read_text("utf-8"))
    contrasts.unlink()
    return found


def _publish_notebooks(rows: list[dict], plan: Plan, store: Store, folder: Path) -> None:
    """Copy the executed notebooks behind the rows, without the places where this machine keeps things."""
    keys = {key for row in rows if row["status"] == "ok" for key in (row["key"], *row["needs"].split())}
    places = {str(store.folder): "store", str(plan.path.parent.absolute()): "ablations"}
    for key in sorted(keys):
        text = (store.entry(key) / "run.ipynb").read_text("utf-8")
        for place, name in places.items():
            text = text.replace(place, name)
        content = json.loads(text)
        content["metadata"] = {"kernelspec": content["metadata"].get("kernelspec", {})}
        for cell in content["cells"]:
            cell["metadata"] = {"tags": cell["metadata"].get("tags", [])}
        (folder / f"{key}.ipynb").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def contrasts_of(report) -> list[dict]:
    """The contrasts of a rendered report as plain data, for `summary.json`."""
    return [{k: None if v != v else v for k, v in dataclasses.asdict(c).items()} for c in report.contrasts.values()]


def readme_block(study_file: Path, rows_file: Path) -> str:
    """The results of a study as README shows them, from its rows."""
    from reducenet.study.page import Report, read_rows

    report = Report(study_file, read_rows(rows_file))
    base = report.labels[report.baseline]
    lines = [f"| arm | test accuracy (%) | minus {base} (points) | reading | training cost (×) |", "|---|---:|---:|---|---:|"]
    for arm in report.labels:
        row, cost = report.accuracy_row(arm), report.cost_row(arm)
        lines.append(
            f"| {row['label']} | {row['mean'].split(' ')[0]} | {row['difference']} | {row['reading'].split(' (')[0]} | {cost['ledger']} |"
        )
    first = report.rows[report.rows.status == "ok"].iloc[0]
    note = (f"{report.study.data}, {int(report.values.count().max())} paired seeds, 95 % paired t intervals, "
            f"Holm over {len(report.contrasts)} comparisons; {first.processor}, torch {first.torch}. {report.summary()}")  # fmt: skip
    return "\n".join(lines) + f"\n\n{note}\n"


def refresh_readme(readme: Path, study_file: Path, rows_file: Path) -> None:
    """Put the results into README's block for this study, if it has one."""
    name = study_file.stem
    if not readme.is_file():
        return
    text = readme.read_text(encoding="utf-8")
    pattern = re.escape(BLOCK.format(name=name, text="\0")).replace("\0", ".*?")
    if re.search(pattern, text, re.DOTALL):
        block = BLOCK.format(name=name, text=readme_block(study_file, rows_file))
        readme.write_text(re.sub(pattern, lambda _: block, text, flags=re.DOTALL), encoding="utf-8")
