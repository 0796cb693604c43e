"""The gate that a mask puts in the place of a ReLU: a drawing as the text of an SVG file."""

from reducenet.style import BLUE, GREEN, GREY, ORANGE

INK, PAPER = "#1b1b1b", "#ffffff"


def gate() -> tuple[str, str]:
    """(svg, alt): x goes through a ReLU or past it, a switch says which; the gradient comes back to the score all the same."""
    alt = (
        "A gate between conv3 and conv1. The value x goes into a ReLU and past it; a switch lets one of the two on, the ReLU where the "
        "score is among the k highest. A dashed arrow leads back from the output to the score, whichever way the switch stands."
    )
    left, right, middle, score = 90, 200, 145, 300
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 300" width="360" font-family="sans-serif" font-size="12" '
        'text-anchor="middle">', f'<rect width="360" height="300" fill="{PAPER}"/>',
        _box(middle, 10, 84, "conv3 · BN", BLUE), _line(middle, 32, middle, 56), _text(middle + 12, 50, "x"),
        _line(middle, 56, left, 84), _line(middle, 56, right, 84), _box(left, 84, 60, "ReLU", ORANGE), _line(right, 84, right, 150),
        _text(right + 30, 112, "as it is"), _line(left, 106, left, 150),
        f'<circle cx="{left}" cy="153" r="4" fill="{INK}"/><circle cx="{right}" cy="153" r="4" fill="{PAPER}" stroke="{INK}"/>',
        f'<path d="M{left} 153L{middle} 190" stroke="{INK}" stroke-width="3" stroke-linecap="round"/>', _line(middle, 190, middle, 224),
        f'<circle cx="{middle}" cy="190" r="4" fill="{INK}"/>', _text(middle + 14, 212, "y"), _box(middle, 224, 84, "conv1 · BN", BLUE),
        _line(middle, 246, middle, 270), _box(middle, 270, 60, "ReLU", GREY),
        _box(score, 142, 70, "score s", GREEN), f'<path d="M{score - 35} 153H{right + 14}" stroke="{GREEN}" stroke-width="2"/>',
        _text(score, 132, "top k: kept"),
        f'<path d="M{middle + 16} 216C240 232 290 214 {score} 172" fill="none" stroke="{GREEN}" stroke-width="2" stroke-dasharray="5 4"/>',
        f'<path d="M{score - 5} 178L{score} 168L{score + 6} 177" fill="none" stroke="{GREEN}" stroke-width="2"/>',
        _text(282, 236, "gradient, always"), "</svg>",
    ]  # fmt: skip
    return "".join(parts), alt


def _box(x: float, y: float, width: float, text: str, colour: str) -> str:
    return (f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="22" rx="4" fill="{colour}" fill-opacity="0.25" '
            f'stroke="{colour}"/>' + _text(x, y + 15, text))  # fmt: skip


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#666666" stroke-width="1.5"/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{INK}">{text}</text>'
