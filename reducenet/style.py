"""How figures look: one theme, one colour and marker an arm across the whole project, SVG that is byte-identical and can be read aloud."""

import contextlib
import hashlib
import io
import re
from html import escape

import matplotlib
import matplotlib.pyplot as plt
import seaborn as sns
from scour import scour

PALETTE = sns.color_palette("colorblind").as_hex()
BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = PALETTE
ARMS = {
    "plain": (GREY, "o"), "plain-long": ("#4d4d4d", "D"), "teacher": (BLUE, "s"), "drop": (BROWN, "x"), "drop-ce": (GREEN, "^"),
    "drop-fc": (ORANGE, "v"), "drop-kd": (PURPLE, "P"), "lora": (RED, "*"),
}  # fmt: skip
MARKERS = "os^vDP*X<>"
# A figure weighs less and looks as it did. Colours stay as they are written: `dusk` looks for them.
LIGHT = scour.parse_args(["--set-precision=5", "--create-groups", "--enable-id-stripping", "--remove-metadata", "--strip-xml-prolog",
                          "--disable-simplify-colors", "--indent=none", "--quiet"])  # fmt: skip


def arm_styles(arms: list[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of every arm: the fixed one, or one that its name picks; where two names pick the same, the later takes the next."""
    styles = {arm: ARMS[arm] for arm in arms if arm in ARMS}
    dark = [colour for colour in PALETTE if colour not in (PINK, YELLOW)]  # those two fade on white
    free = [(colour, marker) for marker in MARKERS for colour in dark]
    for arm in (arm for arm in arms if arm not in ARMS):
        start = int.from_bytes(hashlib.sha256(arm.encode()).digest()[:4], "little")
        choices = [free[(start + i) % len(free)] for i in range(len(free))]
        styles[arm] = next((choice for choice in choices if choice not in styles.values()), choices[0])
    return styles


def theme() -> None:
    """White grid, colour-blind palette, type that is still readable when a phone shrinks the figure."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 11, "axes.labelsize": 11, "axes.titlesize": 12,
        "xtick.labelsize": 10, "ytick.labelsize": 10, "figure.figsize": (6.0, 4.0), "figure.constrained_layout.use": True,
        "figure.facecolor": "white", "savefig.facecolor": "white", "svg.fonttype": "none", "svg.hashsalt": "reducenet",
    })  # fmt: skip


@contextlib.contextmanager
def drawing():
    """`theme()` and nothing else, whatever the reader's own settings are; a `$` in a name is a `$`. Everything is restored afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        theme()
        plt.rcParams["text.parse_math"] = False
        yield


def svg(figure, alt: str) -> str:
    """The figure as SVG text with `alt` as its spoken name; the same figure gives the same bytes. Closes the figure."""
    text = dusk(svg_file(figure))
    # The figure shrinks with the page but never grows past its own width.
    text = re.sub(r'width="([\d.]+)pt" height="[\d.]+pt"', r'style="width:100%;max-width:\1pt;height:auto"', text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(alt, quote=True)}" ', 1)


def svg_file(figure) -> str:
    """The figure as the text of an SVG file of its own; the same figure gives the same bytes. Closes the figure."""
    sns.despine(figure, left=True)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = scour.scourString(buffer.getvalue(), LIGHT)
    return text[text.index("<svg") :]


DUSK = {
    "#ffffff": "#191a1c", "#000000": "#e8e6e3", "#262626": "#e8e6e3", "#1b1b1b": "#e8e6e3", "#4d4d4d": "#c4c2be", "#666666": "#a9a7a2",
    "#cccccc": "#3e4145", "#bbbbbb": "#6a6d72", BLUE: "#55b0ee", GREEN: "#35c795", ORANGE: "#f0a63a", RED: "#ff8a5c", PURPLE: "#e08fd6",
    BROWN: "#dcae84", GREY: "#a5a5a5",
}  # fmt: skip


def dusk(text: str) -> str:
    """The same SVG, which turns dark where the reader's screen is: a paper, an ink and colours of its own, whatever lies behind it."""
    turned = [(part, day, night) for day, night in DUSK.items() if day in text for part in ("fill", "stroke")]
    rules = [f'[{part}="{day}"]{{{part}:{night}}}' for part, day, night in turned]
    styled = [turn for turn in turned if f"{turn[0]}: {turn[1]}" in text]
    rules += [f'[style*="{part}: {day}"]{{{part}:{night}!important}}' for part, day, night in styled]
    plain = f"text:not([fill]):not([style*=fill]){{fill:{DUSK['#000000']}}}"
    style = f"<style>@media (prefers-color-scheme:dark){{{plain}{''.join(rules)}}}</style>"
    return re.sub(r"(<svg[^>]*>)", lambda opening: opening[1] + style, text, count=1)
