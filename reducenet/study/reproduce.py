"""A published study played again from nothing: how many of its rows are equal to the last digit, and which are not."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from reducenet.store import Store
from reducenet.study.plan import Plan
from reducenet.study.read import StudyError
from reducenet.study.report.rows import Row, Timing, answers, collect
from reducenet.study.report.tables import RESULTS, read_rows
from reducenet.study.run.drive import drive

# What a run computes; the rest of a row says where it was computed, or what it is called.
COMPUTED = ("status", "test_accuracy", "val_accuracy", "test_images", "parameters", "macs", "epochs", "ledger_macs", "fuse_error",
            "rounding_error", "move_error", "network")  # fmt: skip
WHERE = ("instructions", "device", "threads", "torch")


def reproduce(plan: Plan, store: Path | None = None, workers: int | None = None) -> int:
    """Train all of the plan in a store of its own and compare with `reports/STUDY`, which stays as it is. The exit code: 1 where a row
    differs. `StudyError` where the study was not published, or where the store holds something else."""
    published = plan.path.absolute().parents[1] / "reports" / plan.name
    if not (published / RESULTS).is_file():
        raise StudyError(f"{published / RESULTS}: missing, so there is nothing to compare with; `reducenet publish {plan.name}` writes it")
    there = read_rows(published)
    with _place(store) as folder:
        drive(plan, Store(folder), workers)
        rows, took = collect(plan, Store(folder))
        for line in compared(there, rows, took, _answers(plan, Store(folder), rows)):
            print(line)
        return int(bool(differing(there, rows, _answers(plan, Store(folder), rows))))


@contextlib.contextmanager
def _place(store: Path | None) -> Iterator[Path]:
    """The folder that was named, to go on in after an interruption, or one that goes away."""
    if store is not None:
        yield store
    else:
        with tempfile.TemporaryDirectory(prefix="reproduce-") as folder:
            yield Path(folder)


def _answers(plan: Plan, store: Store, rows: list[Row]) -> np.ndarray | None:
    return answers(plan, store, rows) if any(row.status == "ok" for row in rows) else None


def differing(there: pd.DataFrame, rows: list[Row], packed: np.ndarray | None) -> dict[tuple[str, int], list[str]]:
    """(arm, seed) -> what of the row is not equal: columns with both values, and how many images are answered otherwise."""
    found, known = {}, there.set_index(["arm", "seed"])
    for place, row in enumerate(rows):
        name = (row.arm, row.seed)
        if name not in known.index:
            found[name] = ["not published"]
            continue
        old, lines = known.loc[name], []
        for column in COMPUTED:
            before, now = (
                None if value is None or value != value or value == "" else value for value in (old[column], getattr(row, column))
            )
            if before != now:
                lines.append(f"{column} {before} there, {now} here")
        if old.answers is not None and packed is not None and row.status == "ok":
            other = int(np.unpackbits(old.answers ^ packed[place]).sum())
            lines += [f"{other} images answered otherwise"] if other else []
        if lines:
            found[name] = lines
    lost = set(known.index) - {(row.arm, row.seed) for row in rows}
    return found | {name: ["published, and not in the study any more"] for name in sorted(lost)}


def compared(there: pd.DataFrame, rows: list[Row], took: list[Timing], packed: np.ndarray | None) -> list[str]:
    """What there is to say, a line each: the count first, then every row that differs, then the processors if any does."""
    found = differing(there, rows, packed)
    names = {(row.arm, row.seed) for row in rows} | set(zip(there.arm, there.seed, strict=True))
    lines = [f"{len(names) - len(found)} of {len(names)} rows equal to the last digit"]
    lines += [f"{arm}, seed {seed}: {'; '.join(said)}" for (arm, seed), said in found.items()]
    if found:
        ours = dict.fromkeys(
            " ".join([t.processor, *(str(getattr(r, w)) for w in WHERE)]) for r, t in zip(rows, took, strict=True) if t.processor
        )
        ok = there[there.status == "ok"]
        theirs = dict.fromkeys(" ".join([r.processor, *(str(getattr(r, w)) for w in WHERE)]) for r in ok.itertuples())
        lines += [f"published on {'; '.join(theirs)}", f"played here on {'; '.join(ours) or 'nothing'}"]
        if set(ok.instructions) != {r.instructions for r in rows if r.status == "ok"}:
            lines.append(
                "other instructions round otherwise, and training makes another run of it: differences of this kind are to be expected"
            )
    return lines
