"""From the store to `reports/STUDY/`: collect the rows, publish the executed notebooks, let `report.ipynb` write the page.

    reports/STUDY/   index.html  report.md  results.csv  figures/*.svg  runs/KEY.ipynb  summary.json

The folder is made anew beside the old one and takes its place when it is whole.
"""

import dataclasses
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from reducenet.study import identity
from reducenet.study.execute import one_line, pinned
from reducenet.study.grammar import StudyError
from reducenet.study.plan import Plan
from reducenet.study.rows import collect, write_csv
from reducenet.study.store import Store

BLOCK = "<!-- results of {name}: made by `reducenet report {name}`, do not edit -->\n{text}<!-- end of results -->"


def write(plan: Plan, store: Store, out: Path | None = None, force: bool = False) -> tuple[Path, bool]:
    """The page of the study, and whether it was written now. Does nothing where rows, study file and report code are as they were.

    A whole report in its usual place is also what README shows of the study.
    """
    project = plan.path.absolute().parents[1]
    usual = project / "reports" / plan.name
    out = (out or usual).absolute()
    notebook = project / "reports" / "report.ipynb"
    if not notebook.is_file():
        raise StudyError(f"{notebook}: the notebook that renders reports is missing; `python notebooks/build.py` makes it")
    if out.exists() and not (out / "summary.json").is_file():
        raise StudyError(
            f"{out}: exists and is no report of this project (it has no summary.json), so it is left alone; choose another --out"
        )
    rows = collect(plan, store)
    if not any(row["status"] == "ok" and row["arm"] == plan.study.compare.baseline for row in rows):
        raise StudyError(f"{plan.path}: nothing to report yet: the baseline arm {plan.study.compare.baseline!r} has no finished run; "
                         f"`reducenet run {plan.name}` first")  # fmt: skip
    key = identity.key(
        rows=rows, code=identity.report_code(), notebook=identity.notebook_code(notebook), study=plan.path.read_text("utf-8")
    )
    fresh = force or not _is_current(out, key)
    if fresh:
        _make(rows, key, plan, store, notebook, out)
    if out == usual and not any(row["status"] == "missing" for row in rows):
        refresh_readme(project / "README.md", plan.path, out / "results.csv")
    return out / "index.html", fresh


def _make(rows: list[dict], key: str, plan: Plan, store: Store, notebook: Path, out: Path) -> None:
    """The report, made beside `out`; it takes that place when it is whole, and the old one goes last."""
    made, old = (out.with_name(f".{out.name}.{what}.{os.getpid()}") for what in ("new", "old"))
    shutil.rmtree(made, ignore_errors=True)
    (made / "runs").mkdir(parents=True)
    try:
        write_csv(rows, made / "results.csv")
        _publish_notebooks(rows, plan, store, made / "runs")
        compare = plan.study.compare
        summary = {"key": key, "baseline": compare.baseline, "margin": compare.margin, "contrasts": _render(notebook, plan.path, made)}
        (made / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        if out.exists():
            out.rename(old)
        made.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)


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
        with pinned(1), tempfile.TemporaryDirectory() as cwd:  # where the kernel leaves its log
            papermill.execute_notebook(str(notebook.absolute()), str(executed), parameters, kernel_name="python3", progress_bar=False,
                                        cwd=cwd, kernel_manager_class=SocketKernelManager)  # fmt: skip
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
    return [{k: None if v != v else v for k, v in dataclasses.asdict(c).items()} for c in report.contrasts]


def readme_block(study_file: Path, rows_file: Path) -> str:
    """The results of a study as README shows them, from its rows."""
    from reducenet.study.words import Report, read_rows

    report = Report(study_file, read_rows(rows_file))
    lines = [f"| arm | {report.measure} (%) | minus {report.base} (points) | reading | training cost (×) |", "|---|---:|---:|---|---:|"]
    for arm in report.labels:
        row, cost = report.accuracy_row(arm), report.cost_row(arm)
        lines.append(f"| {row['label']} | {row['mean'].split(' ')[0]} | {row['difference']} | {row['reading']} | {cost['ledger']} |")
    note = f"{report.study.data}, {report.seeds}. {report.rule()} {report.machine()}"
    return f"**In short.** {report.summary()}\n\n" + "\n".join(lines) + f"\n\n{note}\n"


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
