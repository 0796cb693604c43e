"""The pair around a LambdaReLU, and what it is at lam 1: a drawing as the text of an SVG file."""

from reducenet.style import BLUE, GREEN, GREY

INK, PAPER = "#1b1b1b", "#ffffff"
SLOPES = (0.0, 0.25, 0.5, 0.75, 1.0)


def pair_and_one(expansion: int = 4) -> tuple[str, str]:
    """(svg, alt): the lambda block; beside its pair the one conv that it becomes."""
    alt = (
        f"Lambda block. On the left the pair: conv3 to {expansion} times as many channels, BN, an activation whose left arm rises in steps "
        "from flat to straight, conv1 back, BN. On the right one conv3 in its place. Then ReLU, conv3, BN, plus the shortcut, ReLU."
    )
    two, one, edge = 110, 250, 335
    arms = "".join(f'<path d="M{two - 34} {118 + 24 * lam:.0f}L{two} 118L{two + 34} 94" opacity="{0.25 + 0.75 * lam}"/>' for lam in SLOPES)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 340" width="360" font-family="sans-serif" font-size="12" '
        'text-anchor="middle">', f'<rect width="360" height="340" fill="{PAPER}"/>',
        _box(180, 6, 50, "x", "#bbbbbb"), _line(180, 28, two, 50),
        f'<path d="M205 17H{edge}V290H190" stroke="#666666" stroke-width="1.5" fill="none"/>',
        _box(two, 50, 60 + 12 * expansion, f"conv3 × {expansion} · BN", BLUE), _line(two, 72, two, 88),
        f'<rect x="{two - 40}" y="88" width="80" height="60" rx="4" fill="{PAPER}" stroke="{BLUE}"/>',
        f'<g fill="none" stroke="{BLUE}" stroke-width="2">{arms}</g>', _line(two, 148, two, 162), _box(two, 162, 84, "conv1 · BN", BLUE),
        _line(two, 184, 172, 210), _text(two - 74, 122, "λ"), _text(one + 36, 144, "at λ = 1"), _box(one, 102, 70, "conv3", GREEN),
        f'<path d="M180 28L{one} 102M{one} 124L188 210" stroke="#666666" stroke-width="1.5" stroke-dasharray="4 4" fill="none"/>',
        _text(176, 122, "="), _box(180, 210, 60, "ReLU", GREY), _line(180, 232, 180, 244), _box(180, 244, 84, "conv3 · BN", GREY),
        _line(180, 266, 180, 280), f'<circle cx="180" cy="290" r="10" fill="{PAPER}" stroke="{INK}"/>', _text(180, 294, "+"),
        _line(180, 300, 180, 312), _box(180, 312, 60, "ReLU", GREY),
        f'<text transform="translate({edge - 6} 170) rotate(-90)" fill="{INK}">shortcut</text>', "</svg>",
    ]  # fmt: skip
    return "".join(parts), alt


def _box(x: float, y: float, width: float, text: str, colour: str) -> str:
    return (f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="22" rx="4" fill="{colour}" fill-opacity="0.25" '
            f'stroke="{colour}"/>' + _text(x, y + 15, text))  # fmt: skip


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#666666" stroke-width="1.5"/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{INK}">{text}</text>'
