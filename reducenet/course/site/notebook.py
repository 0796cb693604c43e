"""An executed notebook as a page of the site: cells in our clothes, panels beside it, formulas as MathML, links to pages."""

import re
from collections.abc import Callable
from functools import cache
from html import unescape
from pathlib import Path

from nbconvert import HTMLExporter
from nbformat import NotebookNode

from reducenet.course.site.formulas import with_mathml

HERE = Path(__file__).parent
FRAME = re.compile(r'(<iframe\b[^>]*?) srcdoc="([^"]*)"', re.DOTALL)
STILL = re.compile(r"<img data-without-scripts[^>]*>", re.DOTALL)
ROWS = re.compile(r"<code>reports/([\w-]+)/results\.csv</code>")
SHOWN = ["text/html", "text/markdown", "image/svg+xml", "image/png", "text/plain"]  # of an output, the first: no widgets, no scripts
SETTING_UP = ("parameters", "injected-parameters", "opening")
HIDDEN = "<style>iframe { display: none; }</style>"  # without scripts, the picture stands for the frame


def body(notebook: NotebookNode, panel: Callable[[str], str], link: Callable[[str], str]) -> str:
    """The page's HTML without head and navigation. `panel(html)` files a panel and says where; `link(href)` is where a link leads here."""
    notebook.cells = _panel_first(notebook.cells)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = _framed(output.data["text/html"], panel)
    html, _ = _exporter().from_notebook_node(notebook)
    html = re.sub(r'<a class="anchor-link"[^>]*>.*?</a>', "", html)
    html = re.sub(r'<a ([^>]*?)href="([^"]*)"', lambda m: f'<a {m[1]}href="{link(unescape(m[2]))}"', html)
    html = ROWS.sub(r'<a href="reports/\1/index.html">\g<0></a>', html)
    html = html.replace("<table", '<div class="wide" tabindex="0"><table').replace("</table>", "</table></div>")
    return with_mathml(re.sub(r"<p>(?=中文)", '<p lang="zh">', html))


def _panel_first(cells: list[NotebookNode]) -> list[NotebookNode]:
    """What sets the page up comes behind the panel that it leads to: there is no kernel here, and the first screen is for what moves."""
    tags = [(cell.metadata.get("tags") or [""])[0] for cell in cells]
    if "panel" not in tags:
        return cells
    first = tags.index("panel")
    early = [i for i in range(first) if tags[i] in SETTING_UP]
    return [cells[i] for i in range(first + 1) if i not in early] + [cells[i] for i in early] + cells[first + 1 :]


def _framed(html: str, panel: Callable[[str], str]) -> str:
    """A frame refers to its panel, which lies beside the page once; the picture is for those without scripts."""
    html = FRAME.sub(lambda m: f'{m[1]} class="panel" src="{panel(unescape(m[2]))}"', html)
    return STILL.sub(lambda m: f"<noscript>{HIDDEN}{m[0]}</noscript>", html)


@cache
def _exporter() -> HTMLExporter:
    exporter = HTMLExporter(template_name="cells", extra_template_basedirs=[str(HERE)])
    exporter.config.NbConvertBase.display_data_priority = SHOWN
    return exporter
