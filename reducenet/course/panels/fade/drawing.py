"""The scaler block: a drawing."""

from reducenet.course.drawing import OUTSIDE, box, line, plus, sheet, text, upright
from reducenet.style import BLUE, GREEN, GREY


def scaler_block(scaler: float, expansion: int) -> tuple[str, str]:
    """(svg, alt): the scaler block; branch1 fades with the scaler and is as wide as the expansion makes it."""
    shown = 0.1 + 0.9 * scaler
    state = "gone: this is the student" if scaler == 0 else f"times {scaler:.2f}"
    name = f"Scaler block: branch 1, expansion {expansion}, {state}; beside it branch 2 and the shortcut."
    wide = 40 + 11 * expansion
    left, middle, right, edge = 95, 175, 255, 335
    parts = [
        box(middle, 6, 50, "x", OUTSIDE),
        line(middle, 28, right, 58), line(middle, 28, edge, 40), line(edge, 40, edge, 262), line(edge, 262, middle + 10, 274),
        f'<g opacity="{shown:.2f}">',
        line(middle, 28, left, 58), box(left, 58, wide, "conv3" if expansion == 1 else f"conv3 × {expansion}", BLUE),
        box(left, 84, wide, "BN·ReLU", BLUE), line(left, 106, left, 116), box(left, 116, 60, "conv1", BLUE),
        box(left, 142, 60, "BN·ReLU", BLUE), line(left, 164, middle - 8, 196), text(left - 40, 46, "branch1"), "</g>",
        text(left - 12, 186, f"× {scaler:.2f}"),
        box(right, 58, 60, "conv3", GREEN), box(right, 84, 60, "BN·ReLU", GREEN), line(right, 106, middle + 8, 196),
        text(right + 30, 124, "branch2"), plus(middle, 202), line(middle, 212, middle, 220), box(middle, 220, 80, "conv3·BN", GREY),
        line(middle, 242, middle, 264), plus(middle, 274), line(middle, 284, middle, 296), box(middle, 296, 60, "ReLU", GREY),
        upright(edge - 6, 150, "shortcut"),
    ]  # fmt: skip
    return sheet(360, 330, *parts), name
