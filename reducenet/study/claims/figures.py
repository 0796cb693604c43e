"""How a claim is drawn: its contrasts and controls with every seed, and its interval as a mark of a table's line."""

import pandas as pd

from reducenet.study.claims.records import Records
from reducenet.study.claims.verdict import Verdict, rows_of
from reducenet.study.report.figures import cut, dots, fit_names, reach
from reducenet.study.report.page import Drawn, named_apart
from reducenet.study.report.prose import interval
from reducenet.study.report.statistics import Contrast
from reducenet.study.report.text import inline
from reducenet.style import BLUE, GREY, drawing, dusk, svg

BAR, HIGH, REACH = 180, 20, 6.0  # pixels, and points to each side


def figure(found: Verdict, records: Records) -> Drawn | None:
    """Contrasts in blue, controls in grey; None for a claim without rows."""
    report = records.of(found.claim) if found.contrasts else None
    if report is None:
        return None
    pairs = rows_of(found)
    base = pairs[0][1]
    named = {
        f"{arm} {against}": report.labels[arm] + (f" minus {report.labels[against]}" if against != base else "") for arm, against in pairs
    }
    values = pd.DataFrame({f"{arm} {against}": report.values[arm] - report.values[against] for arm, against in pairs})
    low, high = reach([values[name].dropna().to_numpy() for name in values.columns[: len(found.contrasts)]])
    shown = [name for name in values if low <= values[name].mean() <= high]
    looks = {name: (BLUE, "o") if place < len(found.contrasts) else (GREY, "D") for place, name in enumerate(named)}
    with drawing():
        drawn, axes = dots(values, named, shown, {}, looks, width=5.6)
        axes.axvspan(-found.claim.margin, found.claim.margin, color=GREY, alpha=0.15, lw=0, zorder=0)
        axes.axvline(0, color="#4d4d4d", lw=1, zorder=1)
        axes.set_xlabel(f"difference in {report.measure}, same seed (points)")
        cut(axes, values, shown, low, high)
        fit_names(axes)
        alt = f"Dot plot of paired differences, from {report.labels[base]} unless said. " + "; ".join(
            f"{named[name]} {values[name].mean():+.2f} points".replace("-", "−") for name in values if values[name].notna().any()
        )
        studies = " and ".join(f"[{name}](../{name}/report.md)" for name in report.rows.study.unique())
        caption = (
            f"{inline(records.study(found.claim.study).data)}, study {studies}. All minus "
            f"{inline(report.labels[base])} where nothing else is said. Blue: the claim's contrasts; grey: its controls. Strokes: seeds; "
            f"line: 95 % paired t interval; band: ±{found.claim.margin:g} points."
        )
        return Drawn(named_apart(svg(drawn, alt), found.claim.id), alt, caption)


def bar(contrast: Contrast, margin: float) -> Drawn:
    """An interval on a line from −6 to +6 points; one that lies beyond ends at the edge with an arrow."""
    middle, unit = BAR / 2, (BAR / 2 - 8) / REACH

    def place(value: float) -> float:
        return round(middle + unit * max(-REACH, min(REACH, value)), 1)

    left, right, mean, y = place(contrast.low), place(contrast.high), place(contrast.mean), HIGH / 2
    arrow = "" if abs(contrast.mean) <= REACH else _arrow(mean, y, 1 if contrast.mean > 0 else -1)
    dot = arrow or f'<circle cx="{mean}" cy="{y}" r="4" fill="{BLUE}"/>'
    alt = f"{interval(contrast)} points"
    size = f'viewBox="0 0 {BAR} {HIGH}" width="{BAR}" height="{HIGH}"'
    band = f'<rect x="{place(-margin)}" width="{round(2 * margin * unit, 1)}" height="{HIGH}" fill="#bbbbbb" opacity="0.35"/>'
    line = f'<path d="M{left} {y}H{right}" stroke="{BLUE}" stroke-width="3" stroke-linecap="round"/>'
    zero = f'<path d="M{middle} 0V{HIGH}" stroke="#4d4d4d"/>'
    exact = f'data-points="{contrast.mean:.6g}"'  # what the overview sorts by: what is shown has two digits
    text = f'<svg role="img" {exact} aria-label="{alt}" xmlns="http://www.w3.org/2000/svg" {size}>{band}{zero}{line}{dot}</svg>'
    return Drawn(dusk(text), alt, "")


def _arrow(x: float, y: float, side: int) -> str:
    return f'<path d="M{x - 4 * side} {y - 5}L{x + 5 * side} {y}L{x - 4 * side} {y + 5}Z" fill="{BLUE}"/>'
