"""The picture that stands beside the panel, for hosts without scripts."""

import matplotlib.pyplot as plt

from reducenet.course.figures import png
from reducenet.study.report.figures import away
from reducenet.style import BLUE, GREY, drawing


def drawn(given: dict) -> tuple[bytes, str]:
    """A PNG and what it says: the claim that the panel starts with, its contrasts and controls with every seed."""
    name, claim = given["start"], given["claims"][given["start"]]
    rows = [row for row in claim["rows"] if row["n"] and not row["far"]]
    least, most = claim["view"]
    kinds = [one["kind"] for one in given["claims"].values()]
    with drawing():
        figure, axes = plt.subplots(figsize=(8, 1.4 + 0.6 * max(1, len(rows))))
        for place, row in enumerate(rows):
            colour = BLUE if row["contrast"] else GREY
            axes.plot(row["seeds"], [place] * row["n"], "|", color=colour, ms=12, mew=1.5, alpha=0.7)
            if row["intervals"]:
                mean, low, high = row["intervals"][min(row["n"], given["seeds"][1]) - given["seeds"][0]]
                axes.plot([low, high], [place, place], color=colour, lw=2.5)
                axes.plot(mean, place, "o", color=colour, ms=8)
            out = sum(not least <= seed <= most for seed in row["seeds"])
            axes.text(
                0,
                place - 0.36,
                f"{row['arm']} minus {row['against']}: {row['reading']}{f', {away(out)}' if out else ''}",
                transform=axes.get_yaxis_transform(),
                fontsize=9.5,
                va="center",
            )
        if rows:
            first, last = axes.get_xlim()
            axes.set_xlim(max(first, least), min(last, most))
        axes.axvspan(-claim["margin"], claim["margin"], color=GREY, alpha=0.15, lw=0)
        axes.axvline(0, color="#4d4d4d", lw=1)
        axes.set(yticks=[], ylim=(max(1, len(rows)) - 0.5, -0.75), xlabel="difference in test accuracy, same seed (points)")
        axes.set_title(f"{name}: {claim['text']}", loc="left", fontsize=11)
        file = png(figure)
        plt.close(figure)
    said = (
        "; ".join(f"{row['arm']} minus {row['against']} {row['mean']:+.2f} points, {row['reading']}".replace("-", "−") for row in rows)
        or "no rows yet"
    )
    alt = (
        f"The verdicts, a picture of the live panel. {name}: {claim['wording']} {claim['text']}. {said}. Of {len(kinds)} claims "
        f"{sum(kind in ('supported', 'refuted', 'equivalent') for kind in kinds)} are decided."
    )
    return file, alt
