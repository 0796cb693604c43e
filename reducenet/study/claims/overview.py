"""The verdicts as a table: on a terminal, and as Markdown on a page of the course."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from reducenet.study.claims import say
from reducenet.study.claims.records import Records
from reducenet.study.claims.verdict import Verdict, verdicts
from reducenet.study.report.prose import interval
from reducenet.study.report.text import inline


def print_verdicts(project: Path) -> int:
    """Every claim, its verdict, and the contrast that it rests on."""
    found, console = verdicts(Records(project)), Console(highlight=False, markup=False)
    table = Table(title=f"{len(found)} claims: {say.tally(found)}", title_justify="left")
    for column in ("claim", "what the article says", "verdict", "points", "replicated"):
        table.add_column(column, overflow="fold")
    for name, one in found.items():
        table.add_row(name, one.claim.wording, f"{one.mark} {one.text}", _so_far(one), one.replicated)
    console.print(table)
    return 0


def table(found: dict[str, Verdict], *names: str) -> str:
    """Every claim, or these, with its verdict, and how the contrast that it rests on stands so far; Markdown."""
    lines = ["| claim | what the article says | verdict | contrast, in points |", "|---|---|---|---|"]
    for name, one in found.items():
        if not names or name in names:
            lines.append(f"| {name} | {inline(one.claim.wording)} | {one.mark} {inline(one.text)} | {_so_far(one)} |")
    return "\n".join(lines)


def _so_far(one: Verdict) -> str:
    c = one.deciding
    return f"{interval(c)}, {c.reading}" if c is not None and c.n else ""
