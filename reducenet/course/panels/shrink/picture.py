"""The picture that stands beside the panel, for hosts without scripts."""

from matplotlib.figure import Figure

from reducenet.course.figures import png
from reducenet.style import BLUE, GREEN, GREY, drawing


def drawn(given: dict) -> tuple[bytes, str]:
    """A PNG and what it says: parameters, multiply-adds and images right at every step."""
    steps, of = given["steps"], given["held"]["of"]
    columns = {
        "parameters": ([step["parameters"] for step in steps], GREY, "{:,}"),
        "multiply-adds an image": ([step["macs"] for step in steps], BLUE, "{:,}"),
        f"% of {of} images right": ([100 * step["right"] / of for step in steps], GREEN, "{:.1f}"),
    }
    with drawing():
        figure = Figure(figsize=(9.5, 2.8))
        for axes, (name, (values, colour, form)) in zip(figure.subplots(1, 3, sharey=True), columns.items(), strict=True):
            bars = axes.barh([step["title"] for step in steps], values, color=colour)
            axes.bar_label(bars, [form.format(value) for value in values], padding=3, fontsize=10)
            axes.set(xlabel=name, xticks=[], xlim=(0, 1.35 * max(values)))
            axes.grid(False)
            axes.invert_yaxis() if axes.get_ylim()[0] < axes.get_ylim()[1] else None
        file = png(figure)
    said = "; ".join(
        f"{step['title']}: {step['parameters']:,} parameters, {100 * step['right'] / of:.1f} % of {of} held-out images right"
        for step in steps
    )
    return file, f"A trained network loses its branches, a picture of the live panel. {said}."
