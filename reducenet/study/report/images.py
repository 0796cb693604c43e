"""Two arms on the same test images: what other images would say, beside what other seeds do.

`answers.npz` of a report has a row for every row of `results.csv`: one bit an image, 1 where the network was right, as the run stored it.
"""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from reducenet.study.report.statistics import LEVEL

ANSWERS = "answers.npz"


@dataclass(frozen=True)
class OnImages:
    """`better` and `worse` of `n` seeds: where McNemar's exact test, seed by seed, finds arm and `against` apart on the images, and which
    way. `low`, `high`, in points: the mean difference over seeds *and* images."""

    n: int
    better: int
    worse: int
    low: float
    high: float


def pack_answers(packed: np.ndarray) -> bytes:
    """The bytes of the file that `read_answers` reads: uint8 [rows, images / 8], compressed."""
    file = io.BytesIO()
    np.savez_compressed(file, answers=packed)
    return file.getvalue()


def read_answers(folder: Path, rows: int) -> list[np.ndarray | None]:
    """The packed bits of every row; None for all where the report has none. A `ValueError` names a file that is of other rows."""
    file = folder / ANSWERS
    if not file.is_file():
        return [None] * rows
    try:
        packed = np.load(io.BytesIO(file.read_bytes()), allow_pickle=False)["answers"]
    except (ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file}: cannot be read ({type(error).__name__}); `reducenet publish` writes it") from None
    if packed.ndim != 2 or packed.dtype != np.uint8 or len(packed) != rows:
        raise ValueError(f"{file}: has {packed.shape} {packed.dtype}, and results.csv has {rows} rows; `reducenet publish` writes both")
    return list(packed)


def bits(rows: pd.DataFrame, arm: str, seeds: list[int]) -> np.ndarray | None:
    """[seeds, images] bool; None where the rows have no answers."""
    if "answers" not in rows:
        return None
    own = rows[(rows.arm == arm) & rows.seed.isin(seeds)].sort_values("seed")
    if any(packed is None for packed in own.answers):
        return None
    return np.stack([np.unpackbits(packed, count=int(count)) for packed, count in zip(own.answers, own.test_images, strict=True)]).astype(
        bool
    )


def on_images(rows: pd.DataFrame, arm: str, against: str) -> OnImages | None:
    """Both arms on the same images, by the seeds that both have; None for fewer than two seeds, or without stored answers."""
    finished = rows[rows.status == "ok"]
    seeds = sorted(set(finished[finished.arm == arm].seed) & set(finished[finished.arm == against].seed))
    ours, theirs = bits(finished, arm, seeds) if len(seeds) > 1 else None, bits(finished, against, seeds) if len(seeds) > 1 else None
    if ours is None or theirs is None:
        return None
    found = [_apart(one, other) for one, other in zip(ours, theirs, strict=True)]
    return OnImages(len(seeds), found.count(1), found.count(-1), *two_way(100 * (ours.astype(float) - theirs)))


def _apart(ours: np.ndarray, theirs: np.ndarray) -> int:
    """1, -1 or 0: McNemar's exact test at level 0.05, and which of the two is right more often."""
    gained, lost = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    p = mcnemar([[0, gained], [lost, 0]], exact=True).pvalue if gained + lost else 1.0
    return int(np.sign(gained - lost)) if p < LEVEL else 0


def two_way(d: np.ndarray) -> tuple[float, float]:
    """(low, high) of the mean of `d` [seeds, images] when both are drawn anew: the bootstrap over seeds and over images, crossed.

    Its variance has a closed form, so nothing is drawn: with counts A of the seeds and B of the images, multinomial and independent,
    E[A_i A_k] = 1 - 1/n + (i = k). As in a sample's variance n - 1 stands for n, and the interval reaches t(n - 1) of the root to both
    sides: it is never shorter than that over seeds. It is wider than need be, since the noise of one answer is counted both ways (Owen,
    The pigeonhole bootstrap, 2007).
    """
    n, m = d.shape
    total, mean = d.sum(), d.mean()
    squares = (
        (1 - 1 / n) * (1 - 1 / m) * total**2 + (1 - 1 / m) * (d.sum(1) ** 2).sum() + (1 - 1 / n) * (d.sum(0) ** 2).sum() + (d**2).sum()
    )
    variance = max(0.0, squares / (n * m) ** 2 - mean**2) * n / (n - 1)
    half = stats.t.ppf(1 - LEVEL / 2, n - 1) * variance**0.5
    return float(mean - half), float(mean + half)
