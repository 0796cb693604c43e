"""A report from its rows: figures and words, once as Markdown and, from that, once as a page that needs nothing else."""

import re
from pathlib import Path
from typing import NamedTuple

from reducenet.study.report import figures, tuned
from reducenet.study.report.answer import lead
from reducenet.study.report.prose import Report
from reducenet.study.report.statistics import RESULT
from reducenet.study.report.text import html, inline, shell, template
from reducenet.style import drawing, svg


class Drawn(NamedTuple):
    svg: str
    alt: str  # bare, as `svg` says it
    caption: str  # Markdown


def render(report: Report, out: Path) -> str:
    """Write figures/*.svg, report.md and index.html into `out`; the text of report.md. The same rows give the same bytes."""
    drawn = draw(report)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        (out / "figures" / f"{name}.svg").write_text(figure.svg, encoding="utf-8")
    markdown = to_markdown(report, drawn)
    (out / "report.md").write_text(markdown, encoding="utf-8")
    (out / "index.html").write_text(to_html(markdown, drawn, report.study.title), encoding="utf-8")
    return markdown


def draw(report: Report) -> dict[str, Drawn]:
    values, labels, baseline, measure = report.values, report.labels, report.baseline, report.measure
    with drawing():
        drawn = {
            "accuracy": figures.accuracy(values, labels, baseline, measure, report.absent),
            "difference": figures.difference(values, labels, baseline, report.margin, measure, report.absent),
            "cost": figures.cost(values, report.ledger, labels, baseline, measure),
        }
        if report.steps:
            drawn["steps"] = figures.steps(values, labels, report.steps, report.margin, measure)
        said = {name: (alt(report, name), caption(report, name)) for name in drawn}
        return {name: Drawn(named_apart(svg(figure, said[name][0]), name), *said[name]) for name, figure in drawn.items()}


def named_apart(text: str, name: str) -> str:
    """The same SVG with ids of its own: on a report's page it stands beside others."""
    text = re.sub(r'\bid="', f'id="{name}-', text)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)


def alt(report: Report, name: str) -> str:
    """What the figure shows, for those who cannot see it."""
    values, labels, baseline = report.values, report.labels, report.baseline
    return {
        "accuracy": f"Dot plot of {report.measure} by arm. Means: {figures.in_words(values, labels, 'per cent')}.",
        "difference": f"Dot plot of differences to {labels[baseline]}: {figures.gap_in_words(values, labels, baseline)}.",
        "steps": f"Waterfall of differences: {figures.steps_in_words(values, labels, report.steps)}.",
        "cost": f"Scatter plot of mean {report.measure} against training cost; the tables of the report hold the same numbers.",
    }[name]


def caption(report: Report, name: str) -> str:
    values, measure, seeds = report.values, report.measure, report.seeds
    sure = values.count().max() >= RESULT  # intervals are drawn
    hidden = [report.names[arm] for arm in values if arm not in figures.on_scale(values, report.baseline) and values[arm].notna().any()]
    left_out = f" Too low for the figure: {', '.join(hidden)}." if hidden else ""
    return {
        "accuracy": f"{measure.capitalize()} on {inline(report.study.data)}, {seeds}. Strokes: seeds; mark: mean"
                    f"{'; line: 95 % t interval' if sure else ''}.",
        "difference": f"Difference to {report.base} of the same seed, {seeds}. "
                      f"{'Line: 95 % paired t interval; band' if sure else 'Band'}: ±{report.margin:g} points.",
        "steps": f"Difference of the same seed, {seeds}, one change after the other. Strokes: seeds; mark: mean"
                 f"{'; line: 95 % paired t interval' if sure else ''}; grey bar: what the change changes; band: ±{report.margin:g} points.",
        "cost": f"Mean {measure}{' and 95 % t interval' if sure else ''} ({seeds}) against the MACs of all training on the way, "
                f"teacher included.{left_out}",
    }[name]  # fmt: skip


def to_markdown(report: Report, drawn: dict[str, Drawn]) -> str:
    arms = list(report.labels)
    costs = [report.cost_row(arm) for arm in arms]
    return template("report.md.j2").render(
        report=report, lead=lead(report),
        alt={name: inline(figure.alt) for name, figure in drawn.items()}, caption={name: figure.caption for name, figure in drawn.items()},
        accuracy=[report.accuracy_row(arm) | {"ledger": cost["ledger"]} for arm, cost in zip(arms, costs, strict=True)], costs=costs,
        comparisons=[report.comparison_row(c) for c in sorted(report.contrasts, key=lambda c: c.against == report.baseline)],
        seeds=sorted(report.rows.seed.unique()), every=[report.every_row(arm) for arm in arms],
        steps=report.step_rows(), chains=[report.chain_row(arm) for arm in arms], tuned=tuned.rows(report), tuning=tuned.sentence(report),
    )  # fmt: skip


def to_html(markdown: str, drawn: dict[str, Drawn], title: str, script: str = "") -> str:
    """The Markdown as one page: figures inlined, nothing fetched, links to pages where those of the Markdown lead to other forms."""
    body = html(markdown)
    for name, figure in drawn.items():
        body = re.sub(rf'<img src="figures/{re.escape(name)}\.svg"[^>]*>', lambda _, text=figure.svg: text, body)
    return shell(title, re.sub(r'<a href="([^":]+)"', lambda link: f'<a href="{_page(link[1])}"', body), script)


def _page(link: str) -> str:
    """Where a page links to: the page of a report, of a run, of a claim."""
    if "notebooks/" in link:
        return link
    return re.sub(r"\.(ipynb|md)$", ".html", re.sub(r"(^|/)report\.md$", r"\1index.html", link))
