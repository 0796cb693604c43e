"""Live panels: thin views over plain functions. A panel holds no logic; what it shows, `scaler.Bench.read` says."""

import ipywidgets as widgets

from reducenet.course import drawing
from reducenet.course.scaler import Bench, ReadOut


class ScalerPanel(widgets.VBox):
    """Move the scaler (0 to 1), the expansion and the image; every read-out follows. Keyboard: Tab to a slider, then the arrow keys."""

    def __init__(self, bench: Bench, scaler: float = 1.0, expansion: int = 4):
        self.bench = bench
        style = {"description_width": "6em"}
        wide = widgets.Layout(width="min(26em, 95%)")
        options = list(bench.teachers)
        self.scaler = widgets.FloatSlider(value=scaler, min=0, max=1, step=0.05, description="scaler", continuous_update=False,
                                          tooltip="factor on branch1: 1 teacher, 0 student", style=style, layout=wide)  # fmt: skip
        self.expansion = widgets.SelectionSlider(options=options, value=expansion if expansion in options else options[-1],
                                                 description="expansion", continuous_update=False,
                                                 tooltip="inner width of branch1 over planes", style=style, layout=wide)  # fmt: skip
        self.image = widgets.IntSlider(value=0, min=0, max=len(bench.held.labels) - 1, description="image", continuous_update=False,
                                       tooltip="which held-out image", style=style, layout=wide)  # fmt: skip
        self.numbers, self.block, self.logits = widgets.HTML(), widgets.HTML(), widgets.HTML()
        for name in ("scaler", "expansion", "image", "numbers", "block", "logits"):
            getattr(self, name).add_class(f"panel-{name}")
        for control in (self.scaler, self.expansion, self.image):
            control.observe(self._redraw, "value")
        half = widgets.Layout(width="min(22em, 100%)", min_height="250px")
        self.block.layout = self.logits.layout = half
        drawings = widgets.Box([self.block, self.logits], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([self.scaler, self.expansion, self.image, self.numbers, drawings])
        self.add_class("scaler-panel")
        self._redraw()

    def _redraw(self, _=None) -> None:
        state = self.bench.read(self.scaler.value, self.expansion.value, self.image.value)
        classes = self.bench.data.classes
        self.numbers.value = numbers(state)
        self.block.value = drawing.block(state.scaler, state.expansion)
        picture = drawing.picture(self.bench.held.images[self.image.value], f"held-out image {self.image.value}: {classes[state.label]}")
        self.logits.value = picture + drawing.logits(state.logits, classes, state.label)


def numbers(state: ReadOut) -> str:
    """The read-outs of one state as an HTML list that a screen reader announces when it changes."""
    what = "student, branch1 is gone" if state.dropped else "teacher" if state.as_trained else "between the two"
    items = {
        "network": what,
        f"accuracy on {state.images} held-out images": f"{100 * state.accuracy:.1f} %",
        "parameters": f"{state.parameters:,}",
        "MACs": f"{state.macs:,}",
        "latency, one image": f"{1e3 * state.latency:.2f} ms",
    }
    cells = "".join(f'<div style="margin-right:1.5em"><small>{name}</small><br><b>{value}</b></div>' for name, value in items.items())
    return f'<div role="status" aria-live="polite" style="display:flex;flex-wrap:wrap">{cells}</div>'
