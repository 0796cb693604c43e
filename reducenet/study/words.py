"""What a report says: every table cell and every sentence, made from a study file and its rows, none typed."""

from pathlib import Path

import pandas as pd

from reducenet.study.grammar import read
from reducenet.study.plan import sentence
from reducenet.study.statistics import CLAIM, LEVEL, RESULT, Contrast, compare, t_interval

MANY = 12  # more names than this are a number
MARK = {"higher": "▲ higher", "lower": "▼ lower", "equivalent": "= equivalent", "undecided": "? undecided", "no result": "— no result"}


def read_rows(file: Path) -> pd.DataFrame:
    """The rows of `results.csv`; a `ValueError` that names what is missing."""
    rows = pd.read_csv(file, dtype={"key": str, "needs": str, "error": str, "device": str})
    missing = {"arm", "seed", "status", "test_accuracy", "val_accuracy", "ledger_macs"} - set(rows)
    if missing:
        raise ValueError(f"{file}: columns missing: {', '.join(sorted(missing))}")
    return rows


class Report:
    """Everything that can be said about one study."""

    def __init__(self, study_file: Path, rows: pd.DataFrame):
        self.path = Path(study_file)
        self.study, self.chains = read(self.path)
        self.rows, self.ok = rows, rows[rows.status == "ok"]
        self.labels = {name: arm.label or name for name, arm in self.study.arms.items()}
        self.baseline, self.margin = self.study.compare.baseline, self.study.compare.margin
        self.base = self.labels[self.baseline]
        self.measure = {"test": "test accuracy", "val": "validation accuracy"}[self.study.compare.on]
        table = self.ok.pivot(index="seed", columns="arm", values=f"{self.study.compare.on}_accuracy") * 100
        self.values = table.reindex(columns=list(self.labels)).astype(float)  # per cent: an arm a column, a seed a row
        if not self.values[self.baseline].notna().any():
            raise ValueError(f"{self.path}: nothing to report yet, the baseline arm {self.baseline!r} has no finished run")
        self.contrasts = compare(self.values, self.baseline, self.margin, self.study.compare.also)
        self.ledger = self.ok.groupby("arm").ledger_macs.mean()

    @property
    def seeds(self) -> str:
        """How many seeds the means rest on: "5 seeds", or "4 to 5 seeds" where arms lost some."""
        counts = self.values.count()
        counts = counts[counts > 0]
        if counts.max() == 1:
            return "1 seed"
        return f"{counts.min()} seeds" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()} seeds"

    def against_baseline(self, arm: str) -> Contrast | None:
        return next((c for c in self.contrasts if (c.arm, c.against) == (arm, self.baseline)), None)

    def setting(self) -> str:
        where = (
            f"{self.study.data}, {int(self.ok.test_images.iloc[0]):,} test images" if self.study.compare.on == "test" else self.study.data
        )
        return (f"{len(self.labels)} arms, {self.seeds} each, on {where}. A seed replicates the whole chain, teacher and student; "
                "arms of one seed see the same images in the same order, so differences are paired.")  # fmt: skip

    def machine(self) -> str:
        columns = ["processor", "device", "threads", "torch", "python"]
        kinds = [f"{r.processor} ({r.device}, threads: {int(r.threads)}), torch {r.torch}, Python {r.python}"
                 for r in self.ok[columns].drop_duplicates().itertuples()]  # fmt: skip
        return f"Trained on {'; '.join(kinds)}."

    def summary(self) -> str:
        """How the pairs that were asked for came out, what beat the baseline, what fell behind, what stays open."""
        best = f"Highest mean: {self.labels[self.values.mean().idxmax()]}."
        if all(c.reading == "no result" for c in self.contrasts):
            chosen = f" {best}" if self.study.compare.on == "val" else ""  # a study that chooses has to say what
            return f"No result: {self.seeds} an arm, and a number needs {RESULT}.{chosen}"
        parts = []
        others = dict.fromkeys(c.against for c in self.contrasts if c.against != self.baseline)
        for against in (*others, self.baseline):
            for reading, verb in (("higher", "above"), ("equivalent", "equivalent to"), ("lower", "below")):
                found = [c for c in self.contrasts if c.reading == reading and c.against == against]
                if found:
                    names = joined([f"{self.labels[c.arm]} ({signed(c.mean, 1)})" for c in sorted(found, key=lambda c: -c.mean)])
                    parts.append(f"{verb} *{self.labels[against]}*: {names}")
        if open_ := [c for c in self.contrasts if c.reading in ("undecided", "no result")]:
            names = [self.labels[c.arm] + ("" if c.against == self.baseline else f" against {self.labels[c.against]}") for c in open_]
            parts.append(f"not decided: {joined(names) if len(names) <= MANY else f'{len(names)} comparisons of {len(self.contrasts)}'}")
        text = "; ".join(parts)
        return f"{text[:1].upper()}{text[1:]} (points of {self.measure}). {best}"

    def decided(self) -> list[str]:
        """One sentence a comparison, and what none of them decides."""
        order = ["higher", "equivalent", "lower", "undecided", "no result"]
        lines = []
        for c in sorted(self.contrasts, key=lambda c: (c.against == self.baseline, order.index(c.reading), -c.mean if c.n else 0)):
            name, other, gap = self.labels[c.arm], self.labels[c.against], interval(c)
            lines.append({
                "higher": f"**{name}** is *higher* than {other}: {gap} points, {p_value(c.p)}.",
                "lower": f"**{name}** is *lower* than {other}: {gap} points, {p_value(c.p)}.",
                "equivalent": f"**{name}** is *equivalent* to {other} within ±{self.margin:g} points: {gap}.",
                "undecided": f"**{name}** against {other} is *undecided*: {gap} points; {c.detectable:.1f} would surely have been found "
                             "(80 % power in the worst place of the family).",
                "no result": f"**{name}** against {other} is *no result*: {c.n} paired seeds, and a number needs {RESULT}.",
            }[c.reading])  # fmt: skip
        silent = [c for c in self.contrasts if c.reading == "no result"]
        if len(silent) > MANY:
            lines = [line for line in lines if "*no result*" not in line]
            counts = sorted({c.n for c in silent})
            lines.append(
                f"{len(silent)} comparisons are *no result*: {' or '.join(map(str, counts))} paired seeds, and a number needs {RESULT}."
            )
        if self.values.count().max() < CLAIM:
            lines.append(f"No claim of the article is decided here: that takes {CLAIM} paired seeds and all of the claim's controls; "
                         f"these are results of {self.seeds} at one small budget.")  # fmt: skip
        return lines

    def rule(self) -> str:
        """How a reading comes about."""
        tested = sum(c.n >= 2 for c in self.contrasts)
        return (f"Mean with its 95 % t interval, difference with its 95 % paired t interval, from {RESULT} seeds on; p adjusted by "
                f"Holm over all {tested} comparisons. A difference is *higher* or *lower* where p < {LEVEL:g}, *equivalent* where two "
                f"one-sided tests find it within ±{self.margin:g} points, *undecided* otherwise, *no result* with fewer than {RESULT} "
                "paired seeds.")  # fmt: skip

    def accuracy_row(self, arm: str) -> dict:
        mean, low, high = t_interval(self.values[arm].dropna(), least=RESULT)
        row = dict(label=self.labels[arm], mean="not run" if pd.isna(mean) else f"{mean:.2f}", difference="", p="", reading="baseline")
        if not pd.isna(low):
            row["mean"] += f" [{low:.2f}, {high:.2f}]"
        if contrast := self.against_baseline(arm):
            row |= dict(difference=interval(contrast), reading=MARK[contrast.reading],
                        p="" if contrast.n < RESULT else p_value(contrast.p).removeprefix("p ").removeprefix("= "))  # fmt: skip
        return row

    def cost_row(self, arm: str) -> dict:
        rows = self.ok[self.ok.arm == arm]
        names = ("parameters", "macs", "latency_1", "latency_64", "ledger", "seconds", "fuse_error", "rounding_error", "move_error")
        row = dict.fromkeys(names, "") | {"label": self.labels[arm]}
        if len(rows):
            row |= dict(
                parameters=f"{int(rows.parameters.iloc[0]):,}",
                macs=f"{rows.macs.iloc[0] / 1e3:,.0f}",
                seconds=f"{rows.ledger_seconds.mean():.0f}",
                ledger=f"{self.ledger[arm] / self.ledger[self.baseline]:.2f}",
            )
            for column in ("fuse_error", "rounding_error", "move_error"):
                worst = rows[column].max()
                row[column] = "" if pd.isna(worst) else "0" if worst == 0 else f"{worst:.0e}"
            for column in ("latency_1", "latency_64"):
                row[column] = "" if pd.isna(rows[column].iloc[0]) else f"{rows[column].iloc[0] * 1e3:.2f}"
        return row

    def every_row(self, arm: str) -> dict:
        """Each seed's number, linked to the executed notebook behind it; or why there is none."""
        cells = []
        for r in self.rows[self.rows.arm == arm].sort_values("seed").itertuples():
            value = getattr(r, f"{self.study.compare.on}_accuracy")
            cells.append(f"[{100 * value:.2f}](runs/{r.key}.ipynb)" if r.status == "ok" else r.status)
        sd = self.values[arm].std()
        return dict(label=self.labels[arm], cells=cells, sd="" if pd.isna(sd) else f"{sd:.2f}")

    def chain_row(self, arm: str) -> dict:
        defaults = {"build": self.study.build, "fit": self.study.fit}
        return dict(label=self.labels[arm], arm=arm, sentence=sentence(self.chains[arm], defaults))

    def defaults(self) -> str:
        """What the chains leave out: the study's own defaults of build and fit, every other parameter being the word's."""
        said = [f"{word}: {', '.join(f'{key} {value}' for key, value in given.items())}" for word in ("build", "fit")
                if (given := getattr(self.study, word))]  # fmt: skip
        return f"Where a chain does not say otherwise, {'; '.join(said)}." if said else "The chains say all that is not a word's default."

    def threats(self) -> list[str]:
        lines = []
        troubled = self.rows[self.rows.status != "ok"]
        if len(troubled):
            counts = troubled.groupby(["arm", "status"]).size()
            named = [f"{self.labels[arm]}: {count} {status}" for (arm, status), count in counts.items()]
            lines.append(f"Rows without a number, left out of every mean: {'; '.join(named)}.")
        span = self.ledger.max() / self.ledger.min()
        if span > 1.01:
            lines.append(
                f"The arms do not cost the same to train: the dearest costs {span:.1f} times the cheapest. Read accuracy and cost together."
            )
        lines.append("The intervals speak of other seeds on the same images, not of other images or another data set.")
        return lines + [" ".join(note.split()) for note in self.study.notes]


def interval(contrast: Contrast) -> str:
    if pd.isna(contrast.mean):
        return ""
    bounds = "" if pd.isna(contrast.low) or contrast.n < RESULT else f" [{signed(contrast.low)}, {signed(contrast.high)}]"
    return f"{signed(contrast.mean)}{bounds}"


def signed(value: float, digits: int = 2) -> str:
    """With a plus, or with a minus that is as wide as one."""
    return f"{value:+.{digits}f}".replace("-", "−")


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
