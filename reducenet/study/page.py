"""A report from its rows: figures and words, once as Markdown and, from that, once as a page that needs nothing else."""

import re
from pathlib import Path

import jinja2
from markdown_it import MarkdownIt

from reducenet.study import figures
from reducenet.study.statistics import RESULT
from reducenet.study.words import Report, read_rows
from reducenet.style import svg, theme

HERE = Path(__file__).parent


def render(study_file: Path, rows_file: Path, out: Path) -> Report:
    """Write figures/*.svg, report.md and index.html into `out`. The same rows give the same bytes."""
    report = Report(study_file, read_rows(rows_file))
    drawn = draw(report)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for name, (text, _, _) in drawn.items():
        (out / "figures" / f"{name}.svg").write_text(text, encoding="utf-8")
    markdown = to_markdown(report, drawn)
    (out / "report.md").write_text(markdown, encoding="utf-8")
    page = to_html(markdown, {name: text for name, (text, _, _) in drawn.items()}, report.study.title)
    (out / "index.html").write_text(page, encoding="utf-8")
    return report


def draw(report: Report) -> dict[str, tuple[str, str, str]]:
    """name -> (SVG, alt text, caption)."""
    theme()
    values, labels, baseline, measure = report.values, report.labels, report.baseline, report.measure
    drawn = {
        "accuracy": figures.accuracy(values, labels, baseline, measure),
        "difference": figures.difference(values, labels, baseline, report.margin, measure),
        "cost": figures.cost(values, report.ledger, labels, baseline, measure),
    }
    hidden = [labels[arm] for arm in values if arm not in figures.on_scale(values, baseline) and values[arm].notna().any()]
    left_out = f" Too low for the figure: {', '.join(hidden)}." if hidden else ""
    alt = {
        "accuracy": f"Dot plot of {measure} by arm. Means: {figures.in_words(values, labels, 'per cent')}.",
        "difference": f"Dot plot of differences to {report.base}: {figures.gap_in_words(values, labels, baseline)}.",
        "cost": f"Scatter plot of mean {measure} against training cost; the tables of this page hold the same numbers.",
    }
    sure = report.values.count().max() >= RESULT  # intervals are drawn
    caption = {
        "accuracy": f"{measure.capitalize()} on {report.study.data}, {report.seeds}. Strokes: seeds; mark: mean"
                    f"{'; line: 95 % t interval' if sure else ''}.",
        "difference": f"Difference to {report.base} of the same seed, {report.seeds}. "
                      f"{'Line: 95 % paired t interval; band' if sure else 'Band'}: ±{report.margin:g} points.",
        "cost": f"Mean {measure}{' and 95 % t interval' if sure else ''} ({report.seeds}) against the MACs of all training on the way, "
                f"teacher included.{left_out}",
    }  # fmt: skip
    return {name: (svg(figure, alt[name]), alt[name], caption[name]) for name, figure in drawn.items()}


def to_markdown(report: Report, drawn: dict[str, tuple[str, str, str]]) -> str:
    arms = list(report.labels)
    return _template("report.md.j2").render(
        report=report, title=report.study.title, question=" ".join(report.study.question.split()),
        partial=len(report.ok) < len(report.rows), done=len(report.ok), total=len(report.rows),
        alt={k: v[1] for k, v in drawn.items()}, caption={k: v[2] for k, v in drawn.items()},
        accuracy=[report.accuracy_row(arm) for arm in arms], costs=[report.cost_row(arm) for arm in arms],
        seeds=sorted(report.rows.seed.unique()), every=[report.every_row(arm) for arm in arms],
        chains=[report.chain_row(arm) for arm in arms],
        path=report.path.stem, threads=int(report.ok.threads.iloc[0]),
    )  # fmt: skip


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
