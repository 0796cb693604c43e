"""Figures and drawings for a page: an SVG inside an image, so that no host strips it, and a picture of it for those that would."""

import base64
import io
from html import escape

from reducenet.style import dusk, svg_file


class Drawn:
    """A finished figure: light or dark as the reader's screen is, a PNG for hosts without SVG, `alt` in words, the caption under it."""

    def __init__(self, figure, alt: str, caption: str):
        self.png, self.alt, self.caption = png(figure), alt, caption
        self.svg = dusk(svg_file(figure))

    def _repr_mimebundle_(self, include=None, exclude=None):
        caption = f"<figcaption><small>{self.caption}</small></figcaption>"
        html = f'<figure style="margin:0;max-width:38rem">{image(self.svg, self.alt)}{caption}</figure>'
        return {"text/html": html, "image/png": base64.b64encode(self.png).decode(), "text/plain": f"{self.alt}\n{self.caption}"}


def png(figure) -> bytes:
    """The figure as a PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def image(svg: str, alt: str, style: str = "") -> str:
    """The SVG as an `<img>`: what Lab shows where it does not trust, and what reads `alt` aloud."""
    source = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{source}" style="max-width:100%;height:auto;{style}">'


class Beside:
    """A drawing and the equation that it draws, side by side, one above the other on a phone."""

    def __init__(self, svg: str, alt: str, tex: str):
        self.svg, self.alt, self.tex = dusk(svg), alt, tex

    def _repr_mimebundle_(self, include=None, exclude=None):
        drawing = f'<div style="flex:0 1 330px">{image(self.svg, self.alt)}</div>'
        equation = f'<div style="min-width:0;overflow-x:auto">$$ {escape(self.tex)} $$</div>'
        html = f'<div style="display:flex;flex-wrap:wrap;gap:1rem;align-items:center">{drawing}{equation}</div>'
        return {"text/html": html, "text/plain": f"{self.alt}\n{self.tex}"}
