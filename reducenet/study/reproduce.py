"""A published study played again from nothing: how many of its rows are equal to the last digit, and which are not."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
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


def reproduce(plan: Plan, store: Path | None = None, workers: int | None = None) -> int:
    """Train all of the plan in a store of its own and compare with `reports/STUDY`, which stays as it is. The exit code: 1 where a row
    differs. `StudyError` where the study was not published, or where the store holds something else."""
    published = plan.path.absolute().parents[1] / "reports" / plan.name
    if not (published / RESULTS).is_file():
        raise StudyError(f"{published / RESULTS}: missing, so there is nothing to compare with; `reducenet publish {plan.name}` writes it")
    there = read_rows(published)
    with _place(store) as folder:
        made = Store(folder)
        drive(plan, made, workers)
        rows, took = collect(plan, made)
        found = differing(there, rows, _answers(plan, made, rows))
        print("\n".join(compared(there, rows, took, found)))
        return int(bool(found))


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


def compared(there: pd.DataFrame, rows: list[Row], took: list[Timing], found: dict[tuple[str, int], list[str]]) -> list[str]:
    """What there is to say, a line each: the count first, then every row that differs, then the processors if any does."""
    names = {(row.arm, row.seed) for row in rows} | set(zip(there.arm, there.seed, strict=True))
    lines = [f"{len(names) - len(found)} of {len(names)} rows equal to the last digit"]
    lines += [f"{arm}, seed {seed}: {'; '.join(said)}" for (arm, seed), said in found.items()]
    if found:
        ok, here = there[there.status == "ok"], {(t.arm, t.seed): t for t in took if t.processor}
        ours = [(r, here[r.arm, r.seed].processor) for r in rows if (r.arm, r.seed) in here]
        lines.append(f"published on {_machines((r, r.processor) for r in ok.itertuples())}")
        lines.append(f"played here on {_machines(ours) or 'nothing'}")
        why = ""
        if set(ok.instructions) != {r.instructions for r, _ in ours}:
            why = "other instructions round otherwise"
        elif not {name for _, name in ours} <= set(ok.processor):
            why = "another processor can round otherwise, with the same instructions too"
        lines += [f"{why}, and training makes another run of it: such differences are to be expected"] if why else []
    return lines


def _machines(rows: Iterable[tuple]) -> str:
    """Every machine of these rows once: `AMD EPYC (cpu, AVX512, threads: 1, torch 2.14.1)`."""
    return "; ".join(
        dict.fromkeys(f"{name} ({r.device}, {r.instructions}, threads: {int(r.threads)}, torch {r.torch})" for r, name in rows)
    )
