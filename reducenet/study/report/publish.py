"""From the store to `reports/STUDY/`: rows, the executed notebooks, and the page that follows from the rows.

    reports/STUDY/   index.html  report.md  results.csv  timings.csv  answers.npz  summary.json  figures/*.svg  runs/*.ipynb  runs/*.html

and tuned.json, what was tried to choose learning rates, where the study tunes.

The folder is made anew beside the old one and takes its place when it is whole. All in it but the timings is the same on every machine that
rounds alike; the timings stay as they are while the results do.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from reducenet.data.sources import is_own
from reducenet.store import Store
from reducenet.study import key as keys
from reducenet.study.plan import Plan, Run
from reducenet.study.read import StudyError
from reducenet.study.report import runs
from reducenet.study.report.answer import answer
from reducenet.study.report.images import ANSWERS, pack_answers
from reducenet.study.report.page import render
from reducenet.study.report.prose import Report
from reducenet.study.report.rows import answers, collect
from reducenet.study.report.tables import IMAGES, RESULTS, TIMINGS, filled, read_rows, to_csv
from reducenet.study.tuning.choices import as_text
from reducenet.words.meaning import meaning

PACKAGE = Path(__file__).parents[2]
TABLES = (RESULTS, TIMINGS, ANSWERS)
TUNED = "tuned.json"
CODE = ("study/report/*", "style.py", "play/show.py", "words/sentence.py")  # what a report looks like


def write(plan: Plan, store: Store, out: Path, force: bool = False, timings: bool = False) -> tuple[Path, bool]:
    """The page of the study, and whether it was written now. Does nothing where rows, study and report code are as they were.

    `timings.csv` is written anew where the results differ, where it lacks a number that is known now, and where `timings` asks for it.
    """
    out = out.absolute()
    if out.exists() and not (out / "summary.json").is_file():
        raise StudyError(
            f"{out}: exists and is no report of this project (it has no summary.json), so it is left alone; choose another --out"
        )
    rows, took = collect(plan, store)
    if not any(row.status == "ok" and row.arm == plan.study.compare.baseline for row in rows):
        raise StudyError(f"{plan.path}: nothing to report yet: the baseline arm {plan.study.compare.baseline!r} has no finished run; "
                         f"`reducenet run {plan.name}` first")  # fmt: skip
    results = to_csv(rows)
    tables = {RESULTS: results.encode(), TIMINGS: _timings(out, results, to_csv(took), timings).encode(),
              ANSWERS: pack_answers(answers(plan, store, rows)), **of_ones_own(plan, store), **chosen(plan)}  # fmt: skip
    key = freshness(plan, tables)
    fresh = force or not _is_current(out, key, tables)
    if fresh:
        _make(plan, runs.from_store(plan, store), tables, named(rows), key, out)
    return out / "index.html", fresh


def redraw(plan: Plan, out: Path) -> Path:
    """The page of a published study, made anew from what is published: its tables and its executed runs. No store is needed.

    `StudyError` where rows or runs are not those of the study as it is now; nothing is changed then.
    """
    out = out.absolute()
    try:
        rows = list(read_rows(out).itertuples())
    except ValueError as error:
        raise StudyError(str(error)) from None
    there = [(row.arm, row.seed) for row in rows]
    if there != [(arm, seed) for arm in plan.study.arms for seed in plan.study.replicates]:
        raise StudyError(f"{out / RESULTS}: has other arms or seeds than {plan.path}; `reducenet run {plan.name}`, then publish")
    tables = {name: (out / name).read_bytes() for name in (*TABLES, IMAGES) if (out / name).is_file()} | chosen(plan)
    for name, said in chosen(plan).items():
        if not (out / name).is_file() or (out / name).read_bytes() != said:
            raise StudyError(f"{out / name}: learning rates were chosen anew since; `reducenet run {plan.name}`, then publish")
    _make(plan, runs.from_report(plan, out / "runs"), tables, named(rows), freshness(plan, tables), out)
    return out / "index.html"


def named(rows: Iterable) -> set[str]:
    """The stems of all runs behind these rows."""
    return {name for row in rows if row.run for name in (row.run, *row.needs.split())}


def of_ones_own(plan: Plan, store: Store) -> dict[str, bytes]:
    """What was found in images of one's own, as a run recorded it; nothing where the images are everybody's."""
    found = [store.result(run.trained) for run in plan.runs.values()] if is_own(plan.study.images) else []
    known = next((result["data"] for result in found if result), None)
    return {IMAGES: (json.dumps(known, indent=1, ensure_ascii=False) + "\n").encode()} if known else {}


def chosen(plan: Plan) -> dict[str, bytes]:
    """What was tried to choose the learning rates of the study's arms, there or in one that it extends; nothing where it says them."""
    return {TUNED: as_text(plan.study.choices).encode()} if plan.study.tune else {}


def freshness(plan: Plan, tables: dict[str, bytes]) -> str:
    """The key of a report: its tables, the study, and the code that makes pages of them, comments and docstrings apart."""
    files = sorted(file for pattern in CODE for file in PACKAGE.glob(pattern) if file.is_file())
    texts = {file.relative_to(PACKAGE).as_posix(): file.read_text(encoding="utf-8") for file in files}
    code = {name: meaning(text) if name.endswith(".py") else text for name, text in texts.items()}
    digest = hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()
    shown = keys.notebook_code(plan.notebook("fit"))
    held = {name: hashlib.sha256(content).hexdigest() for name, content in tables.items()}
    return keys.key(tables=held, name=plan.name, study=plan.study.model_dump(mode="json"), code=digest, shown=shown)


def _timings(out: Path, results: str, now: str, anew: bool) -> str:
    """The timings to publish beside `results`: those that are there, while they belong to the same results and hold all that is known."""
    there = {name: (out / name).read_text(encoding="utf-8") for name in (RESULTS, TIMINGS) if (out / name).is_file()}
    keep = not anew and there.get(RESULTS) == results and filled(now) <= filled(there.get(TIMINGS, ""))
    return there[TIMINGS] if keep else now


def _is_current(out: Path, key: str, tables: dict[str, bytes]) -> bool:
    try:
        same = all((out / name).read_bytes() == content for name, content in tables.items())
        there = all((out / name).is_file() for name in ("index.html", "report.md"))
        return same and there and json.loads((out / "summary.json").read_text(encoding="utf-8"))["key"] == key
    except (OSError, ValueError, KeyError):
        return False


def _make(plan: Plan, executed: Callable[[Run], dict], tables: dict[str, bytes], names: set[str], key: str, out: Path) -> None:
    """The report, made beside `out`; it takes that place when it is whole, and the old one goes last."""
    made, old = (out.with_name(f".{out.name}.{what}.{os.getpid()}") for what in ("new", "old"))
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        for name, content in tables.items():
            (made / name).write_bytes(content)
        runs.publish(plan, executed, names, made / "runs")
        report = Report(plan.study, read_rows(made))
        render(report, made)
        (made / "summary.json").write_text(json.dumps(summary(report, key), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if out.exists():
            out.rename(old)
        made.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def summary(report: Report, key: str) -> dict:
    """The report for programs: what was compared and how it came out, to six digits."""
    contrasts = [{name: _rounded(value) for name, value in dataclasses.asdict(c).items()} for c in report.contrasts]
    return {"key": key, "study": report.name, "answer": answer(report), "measure": report.measure, "baseline": report.baseline,
            "margin": report.margin, "contrasts": contrasts}  # fmt: skip


def _rounded(value: object) -> object:
    if not isinstance(value, float):
        return value
    return None if value != value else float(f"{value:.6g}")
