"""The side branch as the text of an SVG file, beside what it shows in words."""

from reducenet.course.drawing import INK, PAPER
from reducenet.style import GREEN, ORANGE


def side_block(expansion: int) -> tuple[str, str]:
    """(svg, alt): a conv and its side branch between x and the BN; conv3 is drawn as wide as the expansion makes it."""
    wide, left, right = 50 + 13 * expansion, 100, 250
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 330 236" width="330" font-family="sans-serif" font-size="12" '
        'text-anchor="middle">', f'<rect width="330" height="236" fill="{PAPER}"/>',
        _box(175, 6, 50, "x", "#bbbbbb"), _line(175, 28, left, 58), _line(175, 28, right, 80),
        _box(left, 58, wide, "conv3 A", ORANGE), _line(left, 80, left, 100), _box(left, 100, 60, "conv1 B", ORANGE),
        _box(right, 80, 70, "conv3 W", GREEN), _text(right + 58, 95, "frozen"), _text(left - 46, 50, f"m = {expansion} × out"),
        _line(left, 122, 167, 152), _line(right, 102, 183, 152),
        f'<circle cx="175" cy="158" r="10" fill="{PAPER}" stroke="{INK}"/>', _text(175, 162, "+"),
        _line(175, 168, 175, 190), _box(175, 190, 80, "BN·ReLU", "#bbbbbb"), "</svg>",
    ]  # fmt: skip
    alt = f"A conv3 with kernel W, frozen, and beside it the side branch: conv3 A, {expansion} times as wide, then conv1 B; both are added."
    return "".join(parts), alt


def _box(x: float, y: float, width: float, text: str, colour: str) -> str:
    return (f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="22" rx="4" fill="{colour}" fill-opacity="0.25" '
            f'stroke="{colour}"/>{_text(x, y + 15, text)}')  # fmt: skip


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#666666" stroke-width="1.5"/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{INK}">{text}</text>'
