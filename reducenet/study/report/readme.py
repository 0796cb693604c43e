"""What README shows of a study: its answer, its figure, its table, made from the rows of the report."""

import re
from pathlib import Path

from reducenet.study.report.answer import answer
from reducenet.study.report.page import alt
from reducenet.study.report.prose import Report
from reducenet.study.report.text import inline

BLOCK = "<!-- results of {name}: made by `reducenet report {name}`, do not edit -->\n{text}<!-- end of results -->"


def readme_block(report: Report) -> str:
    """The results of a study, in the form that stands between README's two marks."""
    folder = f"reports/{report.name}"
    lines = [f"| arm | {report.measure} (%) | minus {report.base} (points) | reading | training cost (×) |", "|---|---:|---:|---|---:|"]
    for arm in report.labels:
        row, cost = report.accuracy_row(arm), report.cost_row(arm)
        lines.append(f"| {row['name']} | {row['mean']} | {row['difference']} | {row['reading']} | {cost['ledger']} |")
    table = "\n".join(lines)
    return (f"**{answer(report)}**\n\n![{inline(alt(report, 'difference'))}]({folder}/figures/difference.svg)\n\n{table}\n\n"
            f"{report.seeds} on {inline(report.study.data)}; differences are of the same seed, with 95 % intervals. How to read them, "
            f"every seed and every cost: [the report]({folder}/report.md).\n")  # fmt: skip


def refresh_readme(readme: Path, report: Report) -> None:
    """Put the results into README's block for this study, if it has one."""
    if not readme.is_file():
        return
    text = readme.read_text(encoding="utf-8")
    pattern = re.escape(BLOCK.format(name=report.name, text="\0")).replace("\0", ".*?")
    block = BLOCK.format(name=report.name, text=readme_block(report))
    renewed = re.sub(pattern, lambda _: block, text, flags=re.DOTALL)
    if renewed != text:
        readme.write_text(renewed, encoding="utf-8")
