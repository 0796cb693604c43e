"""Rows as files and back: `results.csv` and `timings.csv`. A text that a spreadsheet would run as a formula is guarded by a quote."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reducenet.study.report.images import read_answers
from reducenet.study.report.rows import Row, Timing

RESULTS, TIMINGS = "results.csv", "timings.csv"
IMAGES = "images.json"  # of one's own: what there is to know of them
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(rows: Sequence[NamedTuple]) -> str:
    """The rows, a header first; what is not known is empty. The same rows give the same text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0]._fields)
    writer.writerows([_guarded(cell) for cell in row] for row in rows)
    return text.getvalue()


def read_rows(folder: Path) -> pd.DataFrame:
    """Both files of a report and its answers, a row an arm and seed; a `ValueError` that names the file and what is missing in it."""
    results, timings = _read(folder / RESULTS, Row), _read(folder / TIMINGS, Timing)
    if (folder / IMAGES).is_file():
        results.attrs["images"] = json.loads((folder / IMAGES).read_text(encoding="utf-8"))
    results["answers"] = pd.Series(read_answers(folder, len(results)), index=results.index, dtype=object)
    merged = results.merge(timings, on=["arm", "seed"], how="left", validate="one_to_one")
    merged.attrs = results.attrs
    return merged


def filled(text: str) -> set[tuple[str, str, str]]:
    """(arm, seed, column) of every cell of a table of timings that is not empty."""
    return {(row["arm"], row["seed"], column) for row in csv.DictReader(io.StringIO(text)) for column in row if row[column]}


def _read(file: Path, kind: type[NamedTuple]) -> pd.DataFrame:
    texts = [name for name, type_ in kind.__annotations__.items() if type_ is str]
    try:
        columns = pd.read_csv(file, nrows=0).columns
    except FileNotFoundError:
        raise ValueError(f"{file}: missing; `reducenet publish` writes it") from None
    if missing := [name for name in kind._fields if name not in columns]:
        raise ValueError(f"{file}: columns missing: {', '.join(missing)}")
    empty = {name: [""] for name in kind._fields if name not in texts}
    table = pd.read_csv(file, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=empty)
    table[texts] = table[texts].map(_unguarded)
    return table[list(kind._fields)]


def _guarded(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("'", *FORMULA)) else cell


def _unguarded(cell: str) -> str:
    return cell.removeprefix("'")
