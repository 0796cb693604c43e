"""Drawings of a state as SVG text, each with a name that can be read aloud: the block whose branch fades, the logits of one image."""

import base64
import io
from html import escape

from reducenet.style import BLUE, GREEN, GREY, RED

INK, PAPER = "#1b1b1b", "#ffffff"


def block(scaler: float, expansion: int) -> str:
    """The scaler block; branch1 fades with the scaler and is as wide as the expansion makes it."""
    shown = 0.1 + 0.9 * scaler
    state = "gone: this is the student" if scaler == 0 else f"times {scaler:.2f}"
    name = f"Scaler block: branch 1, expansion {expansion}, {state}; beside it branch 2 and the shortcut."
    wide = 40 + 11 * expansion
    left, middle, right, edge = 95, 175, 255, 335
    parts = [
        f'<svg class="block" role="img" aria-label="{escape(name)}" viewBox="0 0 360 330" '
        f'style="width:100%;max-width:360px;background:{PAPER}" font-family="sans-serif" font-size="12" text-anchor="middle">',
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
    return "".join(parts)


def logits(values: tuple[float, ...], classes: tuple[str, ...], label: int) -> str:
    """The logits of one image as bars: the true class is named and outlined, the largest bar is the answer."""
    answer = max(range(len(values)), key=values.__getitem__)
    low, high = min(0.0, *values), max(0.0, *values)
    scale = 170 / ((high - low) or 1)
    zero = 110 - low * scale
    verdict = "right" if answer == label else f"wrong, it is: {classes[label]}"
    name = f"Logits of one image: highest for {classes[answer]}, {verdict}."
    rows = []
    for i, (value, title) in enumerate(zip(values, classes, strict=True)):
        y = 6 + 22 * i
        colour = (GREEN if answer == label else RED) if i == answer else GREY
        x, width = zero + min(0.0, value * scale), abs(value * scale)
        rows.append(
            f'<text x="100" y="{y + 13}" text-anchor="end" font-weight="{"bold" if i == label else "normal"}">{escape(title)}</text>'
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="17" fill="{colour}"/>'
            f'<text x="352" y="{y + 13}" text-anchor="end">{value:.1f}</text>'
        )
    return (f'<svg class="logits" role="img" aria-label="{escape(name)}" viewBox="0 0 360 {12 + 22 * len(values)}" '
            f'style="width:100%;max-width:360px;background:{PAPER}" font-family="sans-serif" font-size="12" fill="{INK}">'
            f'{"".join(rows)}<line x1="{zero:.1f}" x2="{zero:.1f}" y1="2" y2="{10 + 22 * len(values)}" stroke="{INK}"/></svg>')  # fmt: skip


def picture(image, title: str) -> str:
    """A uint8 image [C, H, W] as an HTML picture, enlarged, with `title` as its spoken name."""
    from PIL import Image

    pixels = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img alt="{escape(title)}" src="data:image/png;base64,{source}" style="width:84px;image-rendering:pixelated;border-radius:4px">'
    )


def _box(x: float, y: float, width: float, text: str, colour: str) -> str:
    return (f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="22" rx="4" fill="{colour}" fill-opacity="0.25" '
            f'stroke="{colour}"/><text x="{x}" y="{y + 15}" fill="{INK}">{text}</text>')  # fmt: skip


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#666666" stroke-width="1.5"/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{INK}">{text}</text>'


def _plus(x: float, y: float) -> str:
    return f'<circle cx="{x}" cy="{y}" r="10" fill="{PAPER}" stroke="{INK}"/><text x="{x}" y="{y + 4}" fill="{INK}">+</text>'
