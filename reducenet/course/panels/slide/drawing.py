"""The pair around a LambdaReLU, and what it is at lam 1: a drawing as the text of an SVG file."""

from reducenet.course.drawing import OUTSIDE, PAPER, WAY, box, line, plus, sheet, text, upright
from reducenet.style import BLUE, GREEN, GREY

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
        box(180, 6, 50, "x", OUTSIDE), line(180, 28, two, 50),
        f'<path d="M205 17H{edge}V290H190" stroke="{WAY}" stroke-width="1.5" fill="none"/>',
        box(two, 50, 60 + 12 * expansion, f"conv3 × {expansion} · BN", BLUE), line(two, 72, two, 88),
        f'<rect x="{two - 40}" y="88" width="80" height="60" rx="4" fill="{PAPER}" stroke="{BLUE}"/>',
        f'<g fill="none" stroke="{BLUE}" stroke-width="2">{arms}</g>', line(two, 148, two, 162), box(two, 162, 84, "conv1 · BN", BLUE),
        line(two, 184, 172, 210), text(two - 74, 122, "λ"), text(one + 36, 144, "at λ = 1"), box(one, 102, 70, "conv3", GREEN),
        f'<path d="M180 28L{one} 102M{one} 124L188 210" stroke="{WAY}" stroke-width="1.5" stroke-dasharray="4 4" fill="none"/>',
        text(176, 122, "="), box(180, 210, 60, "ReLU", GREY), line(180, 232, 180, 244), box(180, 244, 84, "conv3 · BN", GREY),
        line(180, 266, 180, 280), plus(180, 290),
        line(180, 300, 180, 312), box(180, 312, 60, "ReLU", GREY),
        upright(edge - 6, 170, "shortcut"),
    ]  # fmt: skip
    return sheet(360, 340, *parts), alt
