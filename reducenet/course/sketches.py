"""Sketches of pages 05 and 06, as text of an SVG file, each with what it shows in words."""

from reducenet.course.drawing import INK, PAPER, _box, _line, _plus, _text
from reducenet.style import BLUE, GREEN, GREY, ORANGE


def _svg(width: int, height: int, *parts: str) -> str:
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" font-family="sans-serif" '
            f'font-size="12" text-anchor="middle"><rect width="{width}" height="{height}" fill="{PAPER}"/>')  # fmt: skip
    return "".join([head, *parts, "</svg>"])


def parallel() -> tuple[str, str]:
    """(svg, alt): three scaled branches side by side, and the one conv that learns as they do."""
    left, middle, right, one = 50, 130, 210, 305
    parts = [
        _text(middle, 16, "RepVGG's structure"), _text(one, 16, "RepOptimizer"),
        _box(middle, 26, 50, "x", "#bbbbbb"), _box(one, 26, 50, "x", "#bbbbbb"),
        *(_line(middle, 48, place, 74) for place in (left, middle, right)), _line(one, 48, one, 100),
        _box(left, 74, 66, "conv 3×3", BLUE), _box(middle, 74, 66, "conv 1×1", GREEN), _box(right, 74, 66, "u · x", ORANGE),
        _text(left, 114, "× s₃"), _text(middle, 114, "× s₁"), _text(right, 114, "× s₀"),
        *(_line(place, 120, middle, 150) for place in (left, middle, right)), _plus(middle, 158), _line(middle, 168, middle, 184),
        _box(one, 100, 80, "conv 3×3", BLUE), _text(one, 140, "gradient × M"), _line(one, 146, one, 184),
        _box(middle, 184, 50, "y", "#bbbbbb"), _box(one, 184, 50, "y", "#bbbbbb"),
    ]  # fmt: skip
    return _svg(360, 214, *parts), (
        "Left: x goes through a 3 by 3 conv, a 1 by 1 conv and a factor per channel, each times its own scale, and the three are added. "
        "Right: x goes through one 3 by 3 conv whose gradient is multiplied by M. Both give the same y."
    )


def interval() -> tuple[str, str]:
    """(svg, alt): seeds on a line, their mean, the t interval around it, and the band of what does not matter."""
    seeds, mean, half = (150, 196, 214, 252, 268), 216, 58
    parts = [
        f'<rect x="90" y="30" width="60" height="100" fill="{GREY}" fill-opacity="0.2"/>',
        _line(120, 30, 120, 130), _line(20, 130, 340, 130),
        _text(120, 148, "0"), _text(120, 22, "does not matter"),
        *(f'<line x1="{x}" x2="{x}" y1="52" y2="74" stroke="{BLUE}" stroke-width="2"/>' for x in seeds),
        f'<line x1="{mean - half}" x2="{mean + half}" y1="98" y2="98" stroke="{BLUE}" stroke-width="4" stroke-linecap="round"/>',
        f'<circle cx="{mean}" cy="98" r="7" fill="{BLUE}" stroke="{PAPER}" stroke-width="2"/>',
        _text(mean, 44, "a difference for every seed"), _text(mean + 6, 122, "mean ± t · s / √n"),
        f'<text x="300" y="148" fill="{INK}">points →</text>',
    ]  # fmt: skip
    return _svg(360, 158, *parts), (
        "A line of points with a grey band around 0. Five strokes are the differences of five seeds; under them a dot, their mean, in a "
        "thick line, the interval, which lies right of 0 and of the band."
    )
