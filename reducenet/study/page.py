"""A report from its rows: words, tables and figures, once as Markdown and, from that, once as a page that needs nothing else."""

import re
from pathlib import Path

import jinja2
import pandas as pd
from markdown_it import MarkdownIt

from reducenet.study import figures
from reducenet.study.grammar import read
from reducenet.study.plan import sentence
from reducenet.study.statistics import CLAIM, RESULT, Contrast, compare, t_interval
from reducenet.style import svg, theme

HERE = Path(__file__).parent
MARK = {"higher": "▲ higher", "lower": "▼ lower", "equivalent": "= equivalent", "undecided": "? undecided", "no result": "— no result"}


def read_rows(file: Path) -> pd.DataFrame:
    """The rows of `results.csv`; a `ValueError` that names what is missing."""
    rows = pd.read_csv(file, dtype={"key": str, "needs": str, "error": str, "device": str})
    missing = {"arm", "seed", "status", "test_accuracy", "ledger_macs"} - set(rows)
    if missing:
        raise ValueError(f"{file}: columns missing: {', '.join(sorted(missing))}")
    return rows


def values_of(rows: pd.DataFrame, arms: list[str]) -> pd.DataFrame:
    """Test accuracy in per cent: an arm a column, a seed a row; what is not "ok" is missing."""
    table = rows[rows.status == "ok"].pivot(index="seed", columns="arm", values="test_accuracy") * 100
    return table.reindex(columns=arms).astype(float)


class Report:
    """Everything that a report says about one study, from its study file and its rows alone."""

    def __init__(self, study_file: Path, rows: pd.DataFrame):
        self.path = Path(study_file)
        self.study, self.chains = read(self.path)
        self.rows = rows
        self.labels = {name: arm.label or name for name, arm in self.study.arms.items()}
        self.baseline, self.margin = self.study.compare.baseline, self.study.compare.margin
        self.values = values_of(rows, list(self.labels))
        if not self.values[self.baseline].notna().any():
            raise ValueError(f"{self.path}: nothing to report yet, the baseline arm {self.baseline!r} has no finished run")
        self.contrasts = {c.arm: c for c in compare(self.values, self.baseline, self.margin)}

    def figures(self) -> dict[str, tuple[str, str, str]]:
        """name -> (SVG, alt text, caption)."""
        theme()
        n, data = int(self.values.count().max()), self.study.data
        ledger = self.rows.groupby("arm").ledger_macs.mean()
        drawn = {
            "accuracy": figures.accuracy(self.values, self.labels, self.baseline),
            "difference": figures.difference(self.values, self.labels, self.baseline, self.margin),
            "cost": figures.cost(self.values, ledger, self.labels, self.baseline),
        }
        alt = {
            "accuracy": f"Dot plot of test accuracy by arm. Means: {figures.in_words(self.values, self.labels, 'per cent')}.",
            "difference": f"Dot plot of differences to {self.labels[self.baseline]}: "
                          f"{figures.gap_in_words(self.values, self.labels, self.baseline)}.",
            "cost": "Scatter plot of mean test accuracy against training cost; the table below holds the same numbers.",
        }  # fmt: skip
        caption = {
            "accuracy": f"Test accuracy on {data}, n = {n} seeds. Strokes: seeds; mark: mean; line: 95 % t interval.",
            "difference": f"Difference to {self.labels[self.baseline]} of the same seed, n = {n} pairs. Line: 95 % paired t interval; "
                          f"band: ±{self.margin:g} points.",
            "cost": f"Mean test accuracy and 95 % t interval (n = {n}) against the MACs of all training on the way, teacher included.",
        }  # fmt: skip
        return {name: (svg(figure, alt[name]), alt[name], caption[name]) for name, figure in drawn.items()}

    def markdown(self, drawn: dict[str, tuple[str, str, str]]) -> str:
        ok = self.rows[self.rows.status == "ok"]
        first = ok.iloc[0]
        words = dict(
            title=self.study.title, question=" ".join(self.study.question.split()), setting=self._setting(first),
            partial=len(ok) < len(self.rows), done=len(ok), total=len(self.rows),
            summary=self.summary(), labels=self.labels, baseline=self.baseline, margin=f"{self.margin:g}",
            contrasts=len(self.contrasts), alt={k: v[1] for k, v in drawn.items()}, caption={k: v[2] for k, v in drawn.items()},
            accuracy=[self.accuracy_row(arm) for arm in self.labels], decided=self._decided(), threads=str(int(first.threads)),
            costs=[self.cost_row(arm) for arm in self.labels], seeds=sorted(self.rows.seed.unique()), every=self._every(),
            chains=[dict(label=self.labels[arm], arm=arm, sentence=self._sentence(arm)) for arm in self.labels], threats=self._threats(),
            path=self.path.name.removesuffix(".toml"), machine=self._machine(first),
        )  # fmt: skip
        return _template("report.md.j2").render(words)

    def _sentence(self, arm: str) -> str:
        return sentence(self.chains[arm], {"build": self.study.build, "fit": self.study.fit})

    def _setting(self, first) -> str:
        counts = f"{int(first.test_images):,} test images"
        arms = f"{len(self.labels)} arms, {self.study.seeds} paired seeds each, on {self.study.data} ({counts})."
        return f"{arms} A seed replicates the whole chain, teacher and student; arms of one seed see the same images in the same order."

    def _machine(self, first) -> str:
        return f"Trained on {first.processor} ({first.device}, threads: {int(first.threads)}), torch {first.torch}, Python {first.python}."

    def accuracy_row(self, arm: str) -> dict:
        mean, low, high = t_interval(self.values[arm].dropna())
        row = dict(label=self.labels[arm], mean="not run" if pd.isna(mean) else f"{mean:.2f}", difference="", p="", reading="baseline")
        if not pd.isna(low):
            row["mean"] += f" [{low:.2f}, {high:.2f}]"
        if contrast := self.contrasts.get(arm):
            row["difference"] = interval(contrast)
            row["p"] = "" if pd.isna(contrast.p) else p_value(contrast.p).removeprefix("p ").removeprefix("= ")
            row["reading"] = MARK[contrast.reading]
            if contrast.reading == "undecided":
                row["reading"] += f" (would find {contrast.detectable:.1f})"
        return row

    def _by_reading(self, *readings: str) -> list[Contrast]:
        return [contrast for contrast in self.contrasts.values() if contrast.reading in readings]

    def summary(self) -> str:
        """One or two sentences made from the contrasts: what beat the baseline, what fell behind, what stays open."""
        base = self.labels[self.baseline]
        parts = []
        for reading, verb in (("higher", "above"), ("equivalent", "equivalent to"), ("lower", "below")):
            found = sorted(self._by_reading(reading), key=lambda c: -c.mean)
            if found:
                names = _and([f"{self.labels[c.arm]} ({c.mean:+.1f})" for c in found])
                parts.append(f"{verb} the {base}: {names}")
        if open_ := self._by_reading("undecided", "no result"):
            parts.append(f"not decided: {_and([self.labels[c.arm] for c in open_])}")
        best = self.values.mean().idxmax()
        return f"{_sentence_case('; '.join(parts))} (points of test accuracy). The highest mean is that of: {self.labels[best]}."

    def _decided(self) -> list[str]:
        n, base = int(self.values.count().max()), self.labels[self.baseline]
        lines = []
        for contrast in sorted(self.contrasts.values(), key=lambda c: (c.reading, -c.mean if c.mean == c.mean else 0)):
            name, gap = self.labels[contrast.arm], interval(contrast)
            lines.append({
                "higher": f"**{name}** is *higher* than the {base}: {gap} points, {p_value(contrast.p)}.",
                "lower": f"**{name}** is *lower* than the {base}: {gap} points, {p_value(contrast.p)}.",
                "equivalent": f"**{name}** is *equivalent* to the {base} within ±{self.margin:g} points: {gap}.",
                "undecided": f"**{name}** against the {base} is *undecided*: {gap} points; a difference of "
                             f"{contrast.detectable:.1f} would have been found with 80 % power.",
                "no result": f"**{name}** has *no result*: {contrast.n} paired seeds, and a number needs {RESULT}.",
            }[contrast.reading])  # fmt: skip
        if n < CLAIM:
            lines.append(f"No claim of the article is decided here: that takes {CLAIM} paired seeds and all of the claim's controls; "
                         f"these are results of {n} seeds at one small budget.")  # fmt: skip
        return lines

    def cost_row(self, arm: str) -> dict:
        rows = self.rows[(self.rows.arm == arm) & (self.rows.status == "ok")]
        row = dict.fromkeys(("parameters", "macs", "latency_1", "latency_64", "ledger", "seconds", "fuse_error", "move_error"), "")
        row["label"] = self.labels[arm]
        if len(rows):
            base = self.rows[(self.rows.arm == self.baseline) & (self.rows.status == "ok")]
            row |= dict(parameters=f"{int(rows.parameters.iloc[0]):,}", macs=f"{rows.macs.iloc[0] / 1e3:,.0f}",
                        ledger=f"{rows.ledger_macs.mean() / base.ledger_macs.mean():.2f}", seconds=f"{rows.ledger_seconds.mean():.0f}",
                        fuse_error=_error(rows.fuse_error.max()), move_error=_error(rows.move_error.max()))  # fmt: skip
            for column in ("latency_1", "latency_64"):
                row[column] = "" if pd.isna(rows[column].iloc[0]) else f"{rows[column].iloc[0] * 1e3:.2f}"
        return row

    def _every(self) -> list[dict]:
        table = []
        for arm in self.labels:
            rows = self.rows[self.rows.arm == arm].sort_values("seed")
            cells = [f"[{100 * r.test_accuracy:.2f}](runs/{r.key}.ipynb)" if r.status == "ok" else r.status for r in rows.itertuples()]
            table.append(dict(label=self.labels[arm], cells=cells))
        return table

    def _threats(self) -> list[str]:
        ledger = self.rows[self.rows.status == "ok"].groupby("arm").ledger_macs.mean()
        span = ledger.max() / ledger.min()
        lines = [
            f"The arms do not cost the same to train: the dearest costs {span:.1f} times the cheapest. Read accuracy and cost together.",
            "One data set, one small network, short training: what holds here need not hold at another size.",
            "The intervals speak of other seeds on the same test images, not of other images.",
            "All arms share one training recipe, its learning rates chosen on validation images; no arm was tuned further.",
        ]
        troubled = self.rows[~self.rows.status.isin(["ok"])]
        if len(troubled):
            counts = troubled.groupby(["arm", "status"]).size()
            named = [f"{self.labels[arm]}: {count} {status}" for (arm, status), count in counts.items()]
            lines.insert(0, f"Rows without a number, left out of every mean: {'; '.join(named)}.")
        return lines


def interval(contrast: Contrast) -> str:
    if pd.isna(contrast.mean):
        return ""
    bounds = "" if pd.isna(contrast.low) else f" [{contrast.low:+.2f}, {contrast.high:+.2f}]"
    return f"{contrast.mean:+.2f}{bounds}"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def to_html(markdown: str, svgs: dict[str, str], title: str) -> str:
    """The Markdown as one self-contained page: figures inlined, no script, nothing fetched."""
    body = MarkdownIt("commonmark").enable("table").render(markdown)
    for name, text in svgs.items():
        body = re.sub(rf'<img src="figures/{name}\.svg"[^>]*>', lambda _, text=text: text, body)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    css = (HERE / "report.css").read_text(encoding="utf-8")
    return _template("report.html.j2").render(title=title, css=css, body=body)


def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(HERE)
    return jinja2.Environment(loader=loader, keep_trailing_newline=True, undefined=jinja2.StrictUndefined).get_template(name)


def render(study_file: Path, rows_file: Path, out: Path) -> Report:
    """Write figures/*.svg, report.md and index.html into `out`. The same rows give the same bytes."""
    report = Report(study_file, read_rows(rows_file))
    drawn = report.figures()
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for name, (text, _, _) in drawn.items():
        (out / "figures" / f"{name}.svg").write_text(text, encoding="utf-8")
    markdown = report.markdown(drawn)
    (out / "report.md").write_text(markdown, encoding="utf-8")
    page = to_html(markdown, {name: text for name, (text, _, _) in drawn.items()}, report.study.title)
    (out / "index.html").write_text(page, encoding="utf-8")
    return report


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _error(value: float) -> str:
    return "" if pd.isna(value) else "0" if value == 0 else f"{value:.0e}"
