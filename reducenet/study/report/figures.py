"""The figures of a report: every seed drawn, the interval as a line, an arm in its own colour and marker everywhere. Values in per cent."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reducenet.study.report.statistics import RESULT, paired, t_interval
from reducenet.style import BLUE, GREY, arm_styles

PAPER = {"facecolor": "#ffffff", "edgecolor": "none", "pad": 1.2}  # under a name: no grid line runs through it
LINE = 68  # characters that a line of a figure 5.6 inches wide holds
OFF_SCALE = 10.0  # an arm this many points below the baseline is named at the edge, so that it does not squeeze the others together


def on_scale(values: pd.DataFrame, baseline: str) -> list[str]:
    """The arms that the figures draw to scale."""
    floor = values[baseline].mean() - OFF_SCALE
    return [arm for arm in values if values[arm].notna().any() and values[arm].mean() >= floor]


def accuracy(values: pd.DataFrame, labels: dict[str, str], baseline: str, name: str, absent: dict[str, str]) -> Figure:
    """Accuracy, an arm a line: seeds faint, mean marked, 95 % t interval; `absent` says why an arm has no number."""
    shown = on_scale(values, baseline)
    figure, axes = dots(values, labels, shown, absent)
    axes.axvline(values[baseline].mean(), color=GREY, lw=1, ls=":", zorder=0)
    cut(axes, values[list(labels)], shown, values[baseline].mean() - OFF_SCALE)
    axes.set_xlabel(f"{name} (%)")
    return figure


def difference(values: pd.DataFrame, labels: dict[str, str], baseline: str, margin: float, name: str, absent: dict[str, str]) -> Figure:
    """Arm minus baseline by seed, in points; the band is the margin within which a difference does not matter."""
    arms = [arm for arm in values if arm != baseline]
    differences = pd.DataFrame({arm: values[arm] - values[baseline] for arm in values})
    shown = [arm for arm in on_scale(values, baseline) if arm != baseline]
    figure, axes = dots(differences, {arm: labels[arm] for arm in arms}, shown, absent)
    axes.axvspan(-margin, margin, color=GREY, alpha=0.15, lw=0, zorder=0)
    axes.axvline(0, color="#4d4d4d", lw=1, zorder=1)
    cut(axes, differences[arms], shown, -OFF_SCALE)
    axes.set_xlabel(f"{name} minus {labels[baseline]}, same seed (points)")
    return figure


def cost(values: pd.DataFrame, ledger: pd.Series, labels: dict[str, str], baseline: str, name: str) -> Figure:
    """Mean accuracy against the whole training cost, in units of the baseline's."""
    figure, axes = _empty(3.4 + 0.23 * len(labels))
    styles = arm_styles(list(labels))
    marks = {}
    for arm in on_scale(values, baseline):
        colour, marker = styles[arm]
        mean, low, high = t_interval(values[arm].dropna(), least=RESULT)
        x = ledger[arm] / ledger[baseline]
        axes.plot([x, x], [low, high], color=colour, lw=2, solid_capstyle="round")
        (marks[arm],) = axes.plot(x, mean, marker, color=colour, ms=10)
    axes.set_xlabel(f"training cost, teacher included (× {labels[baseline]})")
    axes.set_ylabel(f"{name} (%)")
    axes.set_xlim(0)
    figure.legend(marks.values(), [labels[arm] for arm in marks], loc="outside lower left", ncols=1, frameon=False, fontsize=10)
    return figure


def steps(values: pd.DataFrame, labels: dict[str, str], pairs: list[tuple[str, str]], margin: float, name: str) -> Figure:
    """A waterfall: the difference of each pair in turn, and between two of them a bar from the one mean to the next."""
    differences = pd.DataFrame({f"{arm} {against}": values[arm] - values[against] for arm, against in pairs})
    named = {f"{arm} {against}": f"{labels[arm]} minus {labels[against]}" for arm, against in pairs}
    shown = [pair for pair in differences if differences[pair].notna().any()]
    figure, axes = dots(differences, named, shown, {}, dict.fromkeys(named, (BLUE, "o")), width=5.6)
    means = [differences[pair].mean() for pair in named]
    for place, (before, after) in enumerate(pairwise(means), 1):
        axes.plot([before, before], [place - 1, place], color=GREY, lw=1, ls=":", zorder=1)
        axes.plot([before, after], [place, place], color=GREY, lw=9, alpha=0.35, solid_capstyle="butt", zorder=1)
    axes.axvspan(-margin, margin, color=GREY, alpha=0.15, lw=0, zorder=0)
    axes.axvline(0, color="#4d4d4d", lw=1, zorder=1)
    axes.set_xlabel(f"difference in {name}, same seed (points)")
    fit_names(axes)
    return figure


def fit_names(axes: Axes) -> None:
    """A long name is written smaller, and none takes room from what is measured."""
    for text in axes.texts:
        text.set_in_layout(False)
        text.set_fontsize(text.get_fontsize() * LINE / max(LINE, len(text.get_text())))


def _empty(height: float, width: float = 4.8) -> tuple[Figure, Axes]:
    """A figure that no window and no other figure knows of."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def reach(differences: list[np.ndarray]) -> tuple[float, float]:
    """From where to where differences are drawn, in points: around their medians and as far as their means, but not to every seed that
    collapsed; no further than to 0 where there is none."""
    ends = [0.0]
    for d in differences:
        if len(d):
            ends += [np.median(d) - OFF_SCALE, np.median(d) + OFF_SCALE, np.mean(d) - 1, np.mean(d) + 1]
    return float(min(ends)), float(max(ends))


def cut(axes: Axes, values: pd.DataFrame, shown: list[str], low: float, high: float = np.inf) -> None:
    """Nothing beyond `low` and `high` is drawn; seeds that are there are counted at the edge of their line. `values`: a column a line."""
    first, last = axes.get_xlim()
    air = 0.02 * (min(last, high) - max(first, low))
    axes.set_xlim(max(first, low - air), min(last, high + air))
    edge = dict(transform=axes.get_yaxis_transform(), va="center", fontsize=9, color="#4d4d4d", bbox=PAPER, zorder=3)
    for place, arm in enumerate(values):
        under, over = (values[arm] < low - air).sum(), (values[arm] > high + air).sum()
        if arm in shown and under:
            axes.text(0, place + 0.3, f"◂ {away(under)}", ha="left", **edge)
        if arm in shown and over:
            axes.text(1, place + 0.3, f"{away(over)} ▸", ha="right", **edge)


def away(seeds: int) -> str:
    return f"{seeds} {'seed' if seeds == 1 else 'seeds'} off the scale"


def dots(values: pd.DataFrame, labels: dict[str, str], shown: list[str], absent: dict[str, str],
         styles: dict[str, tuple[str, str]] | None = None, width: float = 4.8) -> tuple[Figure, Axes]:  # fmt: skip
    """A line a column of `values`: its name, every seed, mean and interval; of those not `shown` where they are, or why they are not."""
    arms = list(labels)
    figure, axes = _empty(0.9 + 0.58 * len(arms), width)
    styles, low_end = styles or arm_styles(list(values)), values[shown].mean().min() if shown else 0.0
    for place, arm in enumerate(arms):
        colour, marker = styles[arm]
        seeds = values[arm].dropna().to_numpy()
        left = dict(transform=axes.get_yaxis_transform(), va="center", ha="left", fontsize=10, bbox=PAPER, zorder=3)
        axes.text(0, place - 0.3, labels[arm], **left)
        if arm not in shown:
            side = "◂" if len(seeds) and seeds.mean() < low_end else "▸"
            text = f"{side} off the scale at {seeds.mean():.1f}".replace("-", "−") if len(seeds) else absent.get(arm, "no seed in common")
            axes.text(0, place + 0.06, text, color="#4d4d4d", **left)
            continue
        mean, low, high = t_interval(seeds, least=RESULT)
        axes.plot(seeds, np.full(len(seeds), place), "|", color=colour, ms=12, alpha=0.55, mew=1.5)
        axes.plot([low, high], [place, place], color=colour, lw=2.5, solid_capstyle="round")
        axes.plot(mean, place, marker, color=colour, ms=9, mew=2)
    axes.set_ylim(len(arms) - 0.5, -0.75)
    axes.set_yticks([])
    axes.tick_params(labeltop=len(arms) > 12)  # a tall figure is read from both ends
    return figure, axes


def in_words(values: pd.DataFrame, labels: dict[str, str], unit: str) -> str:
    """What a dot plot shows, for those who cannot see it."""
    means = sorted(((values[arm].mean(), labels[arm]) for arm in labels if values[arm].notna().any()), reverse=True)
    return "; ".join(f"{label} {mean:.1f} {unit}" for mean, label in means)


def steps_in_words(values: pd.DataFrame, labels: dict[str, str], pairs: list[tuple[str, str]]) -> str:
    """The steps of a waterfall, for those who cannot see it."""
    return "; ".join(
        f"{labels[a]} minus {labels[b]} {paired(values, a, b).mean():+.1f} points" for a, b in pairs if len(paired(values, a, b))
    )


def gap_in_words(values: pd.DataFrame, labels: dict[str, str], baseline: str) -> str:
    """The paired differences, for those who cannot see them."""
    arms = [arm for arm in labels if arm != baseline and len(paired(values, arm, baseline))]
    return "; ".join(f"{labels[arm]} {paired(values, arm, baseline).mean():+.1f} points" for arm in arms)
