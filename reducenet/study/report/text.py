"""The one boundary between what people write (labels, notes, error texts) and what a page is made of: Markdown, and HTML from Markdown."""

import re
from itertools import pairwise
from pathlib import Path

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token

HERE = Path(__file__).parent
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def flat(text: object) -> str:
    """`text` on one line, without the control characters and half pairs that no page and no drawing can hold."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", str(text)).split())


def inline(text: object) -> str:
    r"""Markdown that shows exactly the characters of `text`, in a sentence, a table cell or a picture's description.

    >>> inline("a | b <script> _c_")
    'a \\| b \\<script\\> \\_c\\_'
    """
    escaped = re.sub(r"([\\`*_\[\]<>|~$&])", r"\\\1", flat(text))
    return re.sub(r"^([#+=-])|^(\d+)([.)])", lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", escaped)


def code(text: object) -> str:
    r"""A code span of `text` for a table cell.

    >>> code("freeze(parts conv3|bn)")
    '`freeze(parts conv3\\|bn)`'
    """
    shown = flat(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", shown)), default=0))
    pad = " " if "`" in (shown[:1], shown[-1:]) else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def html(markdown: str) -> str:
    """The Markdown as HTML; HTML inside it stays text. What is wide scrolls in itself, and can be reached by keyboard; where a screen is
    narrow a table's rows are cards, whose cells say their column."""
    tokens = MARKDOWN.parse(markdown)
    _name_cells(tokens)
    body = MARKDOWN.renderer.render(tokens, MARKDOWN.options, {}).replace("<pre>", '<pre tabindex="0">')
    return body.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")


def _name_cells(tokens: list[Token]) -> None:
    """Every cell of a table's body carries the words of its head, bare."""
    heads, column = [], 0
    for token, inside in pairwise(tokens):
        if token.type == "table_open":
            heads = []
        elif token.type == "tr_open":
            column = 0
        elif token.type == "th_open":
            heads.append("".join(child.content for child in inside.children or []))
        elif token.type == "td_open":
            token.attrSet("data-column", heads[column])
            column += 1


def shell(title: str, body: str, script: str = "") -> str:
    """A whole page, light and dark, that fetches nothing. `script` is the project's own code, never made of what people write."""
    css = (HERE / "report.css").read_text(encoding="utf-8")
    return template("report.html.j2").render(title=flat(title), css=css, body=body, script=script)


def template(name: str, folder: Path = HERE) -> jinja2.Template:
    """A template of this folder; a name that it uses and is not given is an error."""
    loader = jinja2.FileSystemLoader(folder)
    return jinja2.Environment(loader=loader, keep_trailing_newline=True, undefined=jinja2.StrictUndefined).get_template(name)
