"""How figures look: one theme, one colour and marker an arm across the whole project, SVG that is byte-identical and can be read aloud."""

import contextlib
import hashlib
import io
import re
from html import escape

import matplotlib
import matplotlib.pyplot as plt
import seaborn as sns

PALETTE = sns.color_palette("colorblind").as_hex()
BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = PALETTE
ARMS = {
    "plain": (GREY, "o"), "plain-long": ("#4d4d4d", "D"), "teacher": (BLUE, "s"), "drop": (BROWN, "x"), "drop-ce": (GREEN, "^"),
    "drop-fc": (ORANGE, "v"), "drop-kd": (PURPLE, "P"), "lora": (RED, "*"),
}  # fmt: skip
MARKERS = "os^vDP*X<>"


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
    sns.despine(figure, left=True)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # The figure shrinks with the page but never grows past its own width.
    text = re.sub(r'width="([\d.]+)pt" height="[\d.]+pt"', r'style="width:100%;max-width:\1pt;height:auto"', text, count=1)
    named = f'<svg role="img" aria-label="{escape(alt, quote=True)}" '
    return re.sub(r"[ \t]+$", "", text.replace("<svg ", named, 1), flags=re.MULTILINE)


class Drawn:
    """A finished figure for a notebook: shows itself as SVG, with its caption as text."""

    def __init__(self, figure, alt: str, caption: str):
        self.svg, self.alt, self.caption = svg(figure, alt), alt, caption

    def _repr_mimebundle_(self, include=None, exclude=None):
        html = f'<figure style="margin:0;background:#fff">{self.svg}<figcaption><small>{self.caption}</small></figcaption></figure>'
        return {"text/html": html, "text/plain": f"{self.alt}\n{self.caption}"}
