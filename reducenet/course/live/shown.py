"""A live panel as one self-contained file, and as an object for notebooks.

A panel is a folder of course/panels: `panel.html.j2` (a block in live/base.html.j2), `panel.css`, `panel.js`, and `panel.py`, which hands
over its material. What all panels share lies here: the executor, the pad, the chart, the bars, how things look.
"""

import base64
import json
from html import escape
from pathlib import Path

import jinja2

HERE = Path(__file__).parent
PANELS = HERE.parent / "panels"
SCRIPTS = ("common.js", "net.js", "views.js", "pad.js", "picker.js", "chart.js")


def page(panel: str, title: str, material: dict) -> str:
    """The panel as one HTML file that asks for nothing: no request leaves it. `material` is what its script finds as `given`.

    Where images are shown, `material` has what `images.handed` gives.
    """
    folder = PANELS / panel
    loader = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, HERE]), keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    own = sorted(set(folder.glob("*.js")) - {folder / "panel.js"})  # what panel.js is made of comes before it
    scripts = [*(HERE / name for name in SCRIPTS), *own, folder / "panel.js"]
    return loader.get_template("panel.html.j2").render(
        given=material,
        title=title,
        css="".join((place / name).read_text() for place, name in ((HERE, "base.css"), (folder, "panel.css"))),
        material=json.dumps(material, separators=(",", ":")).replace("<", "\\u003c"),  # so that no text in it ends the script
        scripts="".join(script.read_text().replace('"use strict";\n\n', "") for script in scripts),
    )


class Live:
    """A panel for a notebook: a frame that runs without a kernel, and a picture where frames are stripped (GitHub, untrusted Lab)."""

    def __init__(self, panel: str, title: str, material: dict, png: bytes, alt: str, height: int = 1200):
        self.title, self.html = title, page(panel, title, material)
        self.png, self.alt, self.height = png, alt, height

    def _repr_mimebundle_(self, include=None, exclude=None):
        image = base64.b64encode(self.png).decode()
        style = f"width:100%;height:{self.height}px;border:0"
        frame = f'<iframe title="{escape(self.title)}: a live panel" srcdoc="{escape(self.html)}" style="{style}"></iframe>'
        still = f'<img data-without-scripts alt="{escape(self.alt)}" src="data:image/png;base64,{image}" style="max-width:100%">'
        return {"text/html": f"<div>{frame}{still}</div>", "image/png": image, "text/plain": self.alt}
