"""What drawings are made of, as SVG text: a sheet, boxes, lines, words. A drawing is (svg, alt), the second saying what it shows."""

INK, PAPER, OUTSIDE, WAY = "#1b1b1b", "#ffffff", "#bbbbbb", "#666666"


def sheet(width: int, height: int, *parts: str) -> str:
    """The text of an SVG file with these parts on paper."""
    size = f'viewBox="0 0 {width} {height}" width="{width}" font-family="sans-serif" font-size="12" text-anchor="middle"'
    paper = f'<rect width="{width}" height="{height}" fill="{PAPER}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{paper}{"".join(parts)}</svg>'


def box(x: float, y: float, width: float, says: str, colour: str) -> str:
    """`x` is its middle, `y` its upper edge."""
    return (f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="22" rx="4" fill="{colour}" fill-opacity="0.25" '
            f'stroke="{colour}"/>' + text(x, y + 15, says))  # fmt: skip


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{WAY}" stroke-width="1.5"/>'


def text(x: float, y: float, says: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{INK}">{says}</text>'


def upright(x: float, y: float, says: str) -> str:
    """Along a vertical line, read from below."""
    return f'<text transform="translate({x} {y}) rotate(-90)" fill="{INK}">{says}</text>'


def plus(x: float, y: float) -> str:
    return f'<circle cx="{x}" cy="{y}" r="10" fill="{PAPER}" stroke="{INK}"/>{text(x, y + 4, "+")}'
