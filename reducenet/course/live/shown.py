"""The live panel as one self-contained file, and as an object for notebooks."""

import base64
import json
from html import escape
from pathlib import Path

import jinja2

from reducenet.course.live import picture
from reducenet.course.live.scaler import material, shipped
from reducenet.course.scaler import Bench

HERE = Path(__file__).parent
SCRIPTS = ("net.js", "pad.js", "chart.js", "views.js", "panel.js")


def page(bench: Bench | None = None, scaler: float = 1.0, expansion: int = 4) -> str:
    """The panel as one HTML file that asks for nothing: no request leaves it. Without a bench it shows the shipped teachers."""
    given = material(bench or shipped(), scaler, expansion)
    loader = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    return loader.get_template("panel.html.j2").render(
        given=given,
        css=(HERE / "panel.css").read_text(),
        material=json.dumps(given, separators=(",", ":")).replace("<", "\\u003c"),  # so that no text in it ends the script
        scripts="".join((HERE / name).read_text().replace('"use strict";\n\n', "") for name in SCRIPTS),
    )


class Live:
    """The panel for a notebook: a frame that runs without a kernel, and a picture where frames are stripped (GitHub, untrusted Lab)."""

    def __init__(self, bench: Bench | None = None, scaler: float = 1.0, expansion: int = 4):
        bench = bench or shipped()
        self.html = page(bench, scaler, expansion)
        self.png, self.alt = picture.drawn(bench, expansion)

    def _repr_mimebundle_(self, include=None, exclude=None):
        image = base64.b64encode(self.png).decode()
        title, style = "Fade the branch: a live panel", "width:100%;height:1200px;border:0"
        frame = f'<iframe title="{title}" srcdoc="{escape(self.html)}" style="{style}"></iframe>'
        still = f'<img data-without-scripts alt="{escape(self.alt)}" src="data:image/png;base64,{image}" style="max-width:100%">'
        return {"text/html": f"<div>{frame}{still}</div>", "image/png": image, "text/plain": self.alt}
