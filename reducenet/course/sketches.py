"""Sketches of pages 05 and 06, as text of an SVG file, each with what it shows in words."""

from reducenet.course.drawing import INK, OUTSIDE, PAPER, box, line, plus, sheet, text
from reducenet.style import BLUE, GREEN, GREY, ORANGE


def parallel() -> tuple[str, str]:
    """(svg, alt): three scaled branches side by side, and the one conv that learns as they do."""
    left, middle, right, one = 50, 130, 210, 305
    parts = [
        text(middle, 16, "RepVGG's structure"), text(one, 16, "RepOptimizer"),
        box(middle, 26, 50, "x", OUTSIDE), box(one, 26, 50, "x", OUTSIDE),
        *(line(middle, 48, place, 74) for place in (left, middle, right)), line(one, 48, one, 100),
        box(left, 74, 66, "conv 3×3", BLUE), box(middle, 74, 66, "conv 1×1", GREEN), box(right, 74, 66, "u · x", ORANGE),
        text(left, 114, "× s₃"), text(middle, 114, "× s₁"), text(right, 114, "× s₀"),
        *(line(place, 120, middle, 150) for place in (left, middle, right)), plus(middle, 158), line(middle, 168, middle, 184),
        box(one, 100, 80, "conv 3×3", BLUE), text(one, 140, "gradient × M"), line(one, 146, one, 184),
        box(middle, 184, 50, "y", OUTSIDE), box(one, 184, 50, "y", OUTSIDE),
    ]  # fmt: skip
    return sheet(360, 214, *parts), (
        "Left: x goes through a 3 by 3 conv, a 1 by 1 conv and a factor per channel, each times its own scale, and the three are added. "
        "Right: x goes through one 3 by 3 conv whose gradient is multiplied by M. Both give the same y."
    )


def interval() -> tuple[str, str]:
    """(svg, alt): seeds on a line, their mean, the t interval around it, and the band of what does not matter."""
    seeds, mean, half = (150, 196, 214, 252, 268), 216, 58
    parts = [
        f'<rect x="90" y="30" width="60" height="100" fill="{GREY}" fill-opacity="0.2"/>',
        line(120, 30, 120, 130), line(20, 130, 340, 130),
        text(120, 148, "0"), text(120, 22, "does not matter"),
        *(f'<line x1="{x}" x2="{x}" y1="52" y2="74" stroke="{BLUE}" stroke-width="2"/>' for x in seeds),
        f'<line x1="{mean - half}" x2="{mean + half}" y1="98" y2="98" stroke="{BLUE}" stroke-width="4" stroke-linecap="round"/>',
        f'<circle cx="{mean}" cy="98" r="7" fill="{BLUE}" stroke="{PAPER}" stroke-width="2"/>',
        text(mean, 44, "a difference for every seed"), text(mean + 6, 122, "mean ± t · s / √n"),
        f'<text x="300" y="148" fill="{INK}">points →</text>',
    ]  # fmt: skip
    return sheet(360, 158, *parts), (
        "A line of points with a grey band around 0. Five strokes are the differences of five seeds; under them a dot, their mean, in a "
        "thick line, the interval, which lies right of 0 and of the band."
    )
