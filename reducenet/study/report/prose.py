"""What a report says: every table cell and every sentence, made from a study and its rows, none typed.

Everything here is Markdown: names that people wrote have passed `text.inline` or `text.code`. Figures take the bare `labels`.
"""

from functools import cached_property

import pandas as pd

from reducenet.study.read import Study
from reducenet.study.report.images import OnImages, on_images
from reducenet.study.report.statistics import CLAIM, LEVEL, RESULT, Contrast, Reading, compare, t_interval
from reducenet.study.report.text import code, flat, inline
from reducenet.words import caption

FEW = 3  # more names than this are a number


class Report:
    """Everything that can be said about one study: `rows` as `read_rows` gives them."""

    def __init__(self, study: Study, rows: pd.DataFrame):
        self.study, self.rows, self.ok = study, rows, rows[rows.status == "ok"]
        self.name = str(rows.study.iloc[0])
        self.labels = {arm: flat(study.label(arm)) for arm in study.arms}
        self.names = {arm: inline(label) for arm, label in self.labels.items()}
        self.baseline, self.margin = study.compare.baseline, study.compare.margin
        self.base = self.names[self.baseline]
        self.measure = {"test": "test accuracy", "val": "validation accuracy"}[study.compare.on]
        table = self.ok.pivot(index="seed", columns="arm", values=f"{study.compare.on}_accuracy") * 100
        self.values = table.reindex(columns=list(self.labels)).astype(float)  # per cent: an arm a column, a seed a row
        if not self.values[self.baseline].notna().any():
            raise ValueError(f"{self.name}: nothing to report yet, the baseline arm {self.baseline!r} has no finished run")
        self.contrasts = compare(self.values, self.baseline, self.margin, study.compare.also)
        self.steps = [(arm, against) for arm, against in study.compare.steps]
        self.ledger = self.ok.groupby("arm").ledger_macs.mean()

    @cached_property
    def images(self) -> dict[tuple[str, str], OnImages | None]:
        """What the test images say of every comparison."""
        return {(c.arm, c.against): on_images(self.rows, c.arm, c.against) for c in self.contrasts}

    @property
    def absent(self) -> dict[str, str]:
        """Why an arm has no number at all: "diverged", "failed", "not run", or several of these."""
        states = self.rows.groupby("arm", sort=False).status.unique()
        return {arm: joined(sorted({"missing": "not run"}.get(s, s) for s in found)) for arm, found in states.items() if "ok" not in found}

    @property
    def title(self) -> str:
        done, total = len(self.ok), len(self.rows)
        return inline(self.study.title) + (f" (partial: {done} of {total} rows)" if done < total else "")

    @property
    def question(self) -> str:
        return inline(self.study.question)

    @property
    def seeds(self) -> str:
        """How many seeds the means rest on: "5 seeds", or "4 to 5 seeds" where arms lost some."""
        counts = self.values.count()
        counts = counts[counts > 0]
        if counts.max() == 1:
            return "1 seed"
        return f"{counts.min()} seeds" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()} seeds"

    @property
    def threads(self) -> int:
        return int(self.ok.threads.iloc[0])

    def contrast(self, arm: str, against: str) -> Contrast | None:
        return next((c for c in self.contrasts if (c.arm, c.against) == (arm, against)), None)

    def setting(self) -> str:
        where = inline(self.study.data)
        if self.study.compare.on == "test":
            where += f", {int(self.ok.test_images.iloc[0]):,} test images"
        return (f"{len(self.labels)} arms, {self.seeds} each, on {where}. {self.found}A seed replicates the whole chain, "
                "teacher and student; arms of one seed see the same images in the same order, so differences are paired."
                f"{self.together()}")  # fmt: skip

    def together(self) -> str:
        """That seeds were trained together, and whose were not; nothing where none were."""
        most = {arm: rows.together.max() for arm, rows in self.ok.groupby("arm") if rows.together.notna().any()}
        apart = [self.names[arm] for arm in self.labels if most.get(arm) == 1]
        if not any(count > 1 for count in most.values()):
            return ""
        one_by_one = f"; one by one: {joined(apart)}" if apart else ""
        return (f" Seeds were trained together, at most {int(max(most.values()))} at a time, as one grouped network, which no number "
                f"depends on but by rounding{one_by_one}.")  # fmt: skip

    @property
    def found(self) -> str:
        """What was found in images of one's own; nothing of others."""
        about = self.rows.attrs.get("images")
        if not about:
            return ""
        counts, sizes = about["images"], "x".join(map(str, about["shape"]))
        mean, std = (", ".join(f"{value:.3f}" for value in about[name]) for name in ("mean", "std"))
        return (f"There: {counts['train']:,} images to train on, {counts['val']:,} for validation, {counts['test']:,} for testing "
                f"({inline(about['split'])}), of {sizes} (C, H, W), in {len(about['classes'])} classes; mean {mean} and deviation {std} of "
                "the training images, where white is 1. ")  # fmt: skip

    def machine(self) -> str:
        columns = ["processor", "instructions", "device", "threads", "torch", "python"]
        kinds = [inline(f"{r.processor} ({r.device}, {r.instructions}, threads: {int(r.threads)}), torch {r.torch}, Python {r.python}")
                 for r in self.ok[columns].drop_duplicates().itertuples()]  # fmt: skip
        return f"Trained on {'; '.join(kinds)}."

    def undecided(self) -> list[str]:
        """What the comparisons leave open, and what they would have found."""
        lines = [f"{self.against(c)}: {c.detectable:.1f} points would surely have been found (80 % power in the worst place of the family)."
                 for c in self.contrasts if c.reading == Reading.UNDECIDED]  # fmt: skip
        if silent := [c for c in self.contrasts if c.reading == Reading.NO_RESULT]:
            counts = joined([str(n) for n in sorted({c.n for c in silent})], "or")
            lines.append(f"{len(silent)} of {len(self.contrasts)} comparisons are *no result*: {counts} paired seeds, and a number "
                         f"needs {RESULT}.")  # fmt: skip
        if self.values.count().max() < CLAIM:
            lines.append(f"No claim of the article is decided here: that takes {CLAIM} paired seeds and all of the claim's controls; "
                         f"these are results of {self.seeds} at one small budget.")  # fmt: skip
        return lines

    def rule(self) -> str:
        """How a reading comes about."""
        said = (
            f"Difference of the same seed with its 95 % paired t interval, from {RESULT} seeds on; p adjusted by Holm over all "
            f"{len(self.contrasts)} comparisons. It is *higher* or *lower* where p < {LEVEL:g}, *equivalent* where two one-sided tests "
            f"find it within ±{self.margin:g} points, *undecided* otherwise, *no result* with fewer than {RESULT} paired seeds. Beside it, "
            "deciding nothing: the exact sign-flip p of the pair alone"
        )
        if not self.sees_images:
            return f"{said}."
        return (
            f"{said}; in how many seeds McNemar's exact test finds the two apart on the same images (▲ first better, ▼ worse); and the "
            "interval when the test images are drawn anew as well as the seeds (two-way bootstrap)."
        )

    @property
    def sees_images(self) -> bool:
        """The report has every run's answers, and they are on the images that the study compares."""
        return self.study.compare.on == "test" and any(one is not None for one in self.images.values())

    def against(self, c: Contrast) -> str:
        return f"{self.names[c.arm]} minus {self.names[c.against]}"

    def comparison_row(self, c: Contrast) -> dict:
        """One pair: its one reading on the page, and what stands beside it."""
        row = dict(pair=self.against(c), difference=interval(c), p="", flip="", images="", wider="", reading=c.reading.marked)
        if c.n >= RESULT:
            row |= dict(p=bare(c.p), flip=bare(c.p_flip))
            if found := self.images.get((c.arm, c.against)):
                row |= dict(images=f"▲ {found.better} ▼ {found.worse} of {found.n}", wider=f"[{signed(found.low)}, {signed(found.high)}]")
        return row

    def step_rows(self) -> list[dict]:
        return [self._step_row(before, pair) for before, pair in zip([None, *self.steps], self.steps, strict=False)]

    def _step_row(self, before: tuple[str, str] | None, pair: tuple[str, str]) -> dict:
        """One step: its difference, and, paired by seed, what it changes of the one before."""
        contrast, change = self.contrast(*pair), ""
        if before is not None:
            gaps = [self.values[arm] - self.values[against] for arm, against in (before, pair)]
            mean, low, high = t_interval((gaps[1] - gaps[0]).dropna(), least=RESULT)
            change = "" if pd.isna(mean) else signed(mean) + ("" if pd.isna(low) else f" [{signed(low)}, {signed(high)}]")
        return dict(pair=self.against(contrast), difference=interval(contrast), change=change, reading=contrast.reading.marked)

    def accuracy_row(self, arm: str) -> dict:
        mean, low, high = t_interval(self.values[arm].dropna(), least=RESULT)
        known = "" if pd.isna(low) else f" [{low:.2f}, {high:.2f}]"
        return dict(name=self.names[arm], mean=self.absent.get(arm) or f"{mean:.2f}", interval=known,
                    n=int(self.values[arm].count()))  # fmt: skip

    def cost_row(self, arm: str) -> dict:
        """Sizes and latencies are those of the first seed, the ledger is the mean, errors are the largest."""
        rows = self.ok[self.ok.arm == arm].sort_values("seed")
        first = rows.iloc[0] if len(rows) else dict.fromkeys(rows)
        shown = {
            "parameters": (first["parameters"], lambda x: f"{int(x):,}"),
            "macs": (first["macs"], lambda x: f"{x / 1e3:,.0f}"),
            "latency_1": (first["latency_1"], lambda x: f"{x * 1e3:.2f}"),
            "latency_64": (first["latency_64"], lambda x: f"{x * 1e3:.2f}"),
            "ledger": (self.ledger.get(arm), lambda x: f"{x / self.ledger[self.baseline]:.2f}"),
            "seconds": (rows.ledger_seconds.mean(), lambda x: f"{x:.0f}"),
            **{error: (rows[error].max(), lambda x: f"{x:.0e}" if x else "0") for error in ("fuse_error", "rounding_error", "move_error")},
        }
        return {"name": self.names[arm]} | {column: "" if pd.isna(value) else form(value) for column, (value, form) in shown.items()}

    def every_row(self, arm: str) -> dict:
        """Each seed's number, or why there is none, linked to the executed notebook behind it."""
        cells = []
        for r in self.rows[self.rows.arm == arm].sort_values("seed").itertuples():
            said = f"{100 * getattr(r, f'{self.study.compare.on}_accuracy'):.2f}" if r.status == "ok" else r.status
            cells.append(f"[{said}](runs/{r.run}.ipynb)" if r.run else said)
        sd = self.values[arm].std()
        return dict(name=self.names[arm], cells=cells, sd="" if pd.isna(sd) else f"{sd:.2f}")

    def chain_row(self, arm: str) -> dict:
        return dict(name=self.names[arm], arm=code(arm), sentence=code(caption(self.study.chains[arm], self.study.defaults)))

    def defaults(self) -> str:
        """What the chains leave out: the study's own defaults, every other parameter being the word's."""
        given = {word: ", ".join(f"{key} {value}" for key, value in own.items()) for word, own in self.study.defaults.items() if own}
        if not given:
            return "The chains say all that is not a word's default."
        return inline(f"Where a chain does not say otherwise, {'; '.join(f'{word}: {said}' for word, said in given.items())}.")

    def threats(self) -> list[str]:
        lines = []
        troubled = self.rows[self.rows.status != "ok"]
        for (arm, status, error), found in troubled.groupby(["arm", "status", "error"], sort=False):
            seeds = joined([str(seed) for seed in sorted(found.seed)])
            why = "not run" if status == "missing" else status
            said = f"; {inline(error)}" if error else ""
            lines.append(f"{self.names[arm]}, seed{'s' * (len(found) > 1)} {seeds}: {why}, left out of every mean{said}.")
        span = self.ledger.max() / self.ledger[self.ledger > 0].min()  # what trains nothing costs nothing
        if span > 1.01:
            lines.append(
                f"The arms do not cost the same to train: the dearest costs {span:.1f} times the cheapest. Read accuracy and cost together."
            )
        lines.append("The readings speak of other seeds on these test images" + (
            "; the last interval of a comparison speaks of other images of the kind too." if self.sees_images else ", not of other images."
        ) + " None speaks of another data set.")  # fmt: skip
        return lines + [inline(note) for note in self.study.notes]


def interval(contrast: Contrast) -> str:
    if pd.isna(contrast.mean):
        return ""
    bounds = "" if pd.isna(contrast.low) or contrast.n < RESULT else f" [{signed(contrast.low)}, {signed(contrast.high)}]"
    return f"{signed(contrast.mean)}{bounds}"


def by_itself(contrast: Contrast) -> str:
    """Of an interval without zero that decides nothing: why."""
    if contrast.reading != Reading.UNDECIDED or contrast.low <= 0 <= contrast.high:
        return ""
    return f": {Reading.HIGHER if contrast.mean > 0 else Reading.LOWER} by itself, not among {contrast.family} comparisons"


def signed(value: float, digits: int = 2) -> str:
    """With a plus, or with a minus that is as wide as one; what rounds to zero has a plus."""
    return f"{value:+z.{digits}f}".replace("-", "−")


def bare(p: float) -> str:
    """A p for a table: `< 0.001`, `0.043`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def joined(names: list[str], last: str = "and") -> str:
    """`a, b and c`; `a, b; c; and d` where a name has a comma itself."""
    between, end = ("; ", f"; {last} ") if any("," in name for name in names) else (", ", f" {last} ")
    return names[0] if len(names) == 1 else f"{between.join(names[:-1])}{end}{names[-1]}"
