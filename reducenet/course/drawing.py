"""Drawings as the text of an SVG file, each beside what it shows in words."""

from reducenet.style import BLUE, GREEN, GREY

INK, PAPER = "#1b1b1b", "#ffffff"


def scaler_block(scaler: float, expansion: int) -> tuple[str, str]:
    """(svg, alt): the scaler block; branch1 fades with the scaler and is as wide as the expansion makes it."""
    shown = 0.1 + 0.9 * scaler
    state = "gone: this is the student" if scaler == 0 else f"times {scaler:.2f}"
    name = f"Scaler block: branch 1, expansion {expansion}, {state}; beside it branch 2 and the shortcut."
    wide = 40 + 11 * expansion
    left, middle, right, edge = 95, 175, 255, 335
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 330" width="360" font-family="sans-serif" font-size="12" '
        'text-anchor="middle">', f'<rect width="360" height="330" fill="{PAPER}"/>',
        _box(middle, 6, 50, "x", "#bbbbbb"),
        _line(middle, 28, right, 58), _line(middle, 28, edge, 40), _line(edge, 40, edge, 262), _line(edge, 262, middle + 10, 274),
        f'<g opacity="{shown:.2f}">',
        _line(middle, 28, left, 58), _box(left, 58, wide, "conv3" if expansion == 1 else f"conv3 × {expansion}", BLUE),
        _box(left, 84, wide, "BN·ReLU", BLUE), _line(left, 106, left, 116), _box(left, 116, 60, "conv1", BLUE),
        _box(left, 142, 60, "BN·ReLU", BLUE), _line(left, 164, middle - 8, 196), _text(left - 40, 46, "branch1"), "</g>",
        _text(left - 12, 186, f"× {scaler:.2f}"),
        _box(right, 58, 60, "conv3", GREEN), _box(right, 84, 60, "BN·ReLU", GREEN), _line(right, 106, middle + 8, 196),
        _text(right + 30, 124, "branch2"), _plus(middle, 202), _line(middle, 212, middle, 220), _box(middle, 220, 80, "conv3·BN", GREY),
        _line(middle, 242, middle, 264), _plus(middle, 274), _line(middle, 284, middle, 296), _box(middle, 296, 60, "ReLU", GREY),
        f'<text transform="translate({edge - 6} 150) rotate(-90)" fill="{INK}">shortcut</text>', "</svg>",
    ]  # fmt: skip
    return "".join(parts), name


def _box(x: float, y: float, width: float, text: str, colour: str) -> str:
    return (f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="22" rx="4" fill="{colour}" fill-opacity="0.25" '
            f'stroke="{colour}"/><text x="{x}" y="{y + 15}" fill="{INK}">{text}</text>')  # fmt: skip


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#666666" stroke-width="1.5"/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{INK}">{text}</text>'


def _plus(x: float, y: float) -> str:
    return f'<circle cx="{x}" cy="{y}" r="10" fill="{PAPER}" stroke="{INK}"/><text x="{x}" y="{y + 4}" fill="{INK}">+</text>'
