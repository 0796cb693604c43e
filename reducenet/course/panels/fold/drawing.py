"""The side branch as the text of an SVG file, beside what it shows in words."""

from reducenet.course.drawing import OUTSIDE, box, line, plus, sheet, text
from reducenet.style import GREEN, ORANGE


def side_block(expansion: int) -> tuple[str, str]:
    """(svg, alt): a conv and its side branch between x and the BN; conv3 is drawn as wide as the expansion makes it."""
    wide, left, right = 50 + 13 * expansion, 100, 250
    parts = [
        box(175, 6, 50, "x", OUTSIDE), line(175, 28, left, 58), line(175, 28, right, 80),
        box(left, 58, wide, "conv3 A", ORANGE), line(left, 80, left, 100), box(left, 100, 60, "conv1 B", ORANGE),
        box(right, 80, 70, "conv3 W", GREEN), text(right + 58, 95, "frozen"), text(left - 46, 50, f"m = {expansion} × out"),
        line(left, 122, 167, 152), line(right, 102, 183, 152),
        plus(175, 158),
        line(175, 168, 175, 190), box(175, 190, 80, "BN·ReLU", OUTSIDE),
    ]  # fmt: skip
    alt = f"A conv3 with kernel W, frozen, and beside it the side branch: conv3 A, {expansion} times as wide, then conv1 B; both are added."
    return sheet(330, 236, *parts), alt
