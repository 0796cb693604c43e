"""The gate that a mask puts in the place of a ReLU: a drawing as the text of an SVG file."""

from reducenet.course.drawing import INK, PAPER, box, line, sheet, text
from reducenet.style import BLUE, GREEN, GREY, ORANGE


def gate() -> tuple[str, str]:
    """(svg, alt): x goes through a ReLU or past it, a switch says which; the gradient comes back to the score all the same."""
    alt = (
        "A gate between conv3 and conv1. The value x goes into a ReLU and past it; a switch lets one of the two on, the ReLU where the "
        "score is among the k highest. A dashed arrow leads back from the output to the score, whichever way the switch stands."
    )
    left, right, middle, score = 90, 200, 145, 300
    parts = [
        box(middle, 10, 84, "conv3 · BN", BLUE), line(middle, 32, middle, 56), text(middle + 12, 50, "x"),
        line(middle, 56, left, 84), line(middle, 56, right, 84), box(left, 84, 60, "ReLU", ORANGE), line(right, 84, right, 150),
        text(right + 30, 112, "as it is"), line(left, 106, left, 150),
        f'<circle cx="{left}" cy="153" r="4" fill="{INK}"/><circle cx="{right}" cy="153" r="4" fill="{PAPER}" stroke="{INK}"/>',
        f'<path d="M{left} 153L{middle} 190" stroke="{INK}" stroke-width="3" stroke-linecap="round"/>', line(middle, 190, middle, 224),
        f'<circle cx="{middle}" cy="190" r="4" fill="{INK}"/>', text(middle + 14, 212, "y"), box(middle, 224, 84, "conv1 · BN", BLUE),
        line(middle, 246, middle, 270), box(middle, 270, 60, "ReLU", GREY),
        box(score, 142, 70, "score s", GREEN), f'<path d="M{score - 35} 153H{right + 14}" stroke="{GREEN}" stroke-width="2"/>',
        text(score, 132, "top k: kept"),
        f'<path d="M{middle + 16} 216C240 232 290 214 {score} 172" fill="none" stroke="{GREEN}" stroke-width="2" stroke-dasharray="5 4"/>',
        f'<path d="M{score - 5} 178L{score} 168L{score + 6} 177" fill="none" stroke="{GREEN}" stroke-width="2"/>',
        text(282, 236, "gradient, always"),
    ]  # fmt: skip
    return sheet(360, 300, *parts), alt
