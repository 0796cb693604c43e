"""Predict before you look. An answer is optional: Run All goes on without one."""

import ipywidgets as widgets
from IPython.display import HTML


def predict(question: str, options: list[str]) -> widgets.RadioButtons:
    """The question with its options, none chosen. Hand what it returns to `reveal`."""
    style = {"description_width": "initial"}
    radio = widgets.RadioButtons(options=options, value=None, description=question, style=style, layout={"width": "auto"})
    radio.add_class("prediction")
    return radio


def reveal(prediction: widgets.RadioButtons, measured: str) -> HTML:
    """What you said beside what was measured."""
    said = prediction.value or "nothing yet: choose above and run this cell again"
    return HTML(f"<p><b>You said:</b> {said}<br><b>Measured:</b> {measured}</p>")
