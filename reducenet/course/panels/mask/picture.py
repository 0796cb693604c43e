"""The picture that stands beside the live panel, for hosts without scripts."""

import matplotlib.pyplot as plt

from reducenet.course.figures import png
from reducenet.course.panels.mask.bench import Bench
from reducenet.course.panels.mask.material import costs, recorded
from reducenet.style import BLUE, GREY, drawing

SHOWN = {"as-is": "ReLUs gone, as it is", "anew": "BN statistics anew", "trained": "trained one epoch more"}


def drawn(bench: Bench, keep: int) -> tuple[bytes, str]:
    """A PNG and what it says: every mask, accuracy against multiply-adds; those that keep `keep` ReLUs stand out."""
    record, macs, of = recorded(bench), costs(bench)["macs"], len(bench.held.labels)
    shown = {name: [100 * right / of for right in record[name]] for name in SHOWN if record[name]}
    peers = [mask for mask in bench.masks if mask.bit_count() == keep]
    with drawing():
        figure, grid = plt.subplots(1, len(shown), figsize=(3.7 * len(shown), 3.4), sharey=True, squeeze=False)
        for axes, (name, values) in zip(grid[0], shown.items(), strict=True):
            axes.plot([m / 1e3 for m in macs], values, "o", color=GREY, ms=4, alpha=0.6, label="all masks")
            axes.plot([macs[m] / 1e3 for m in peers], [values[m] for m in peers], "o", color=BLUE, ms=7, label=f"keep {keep}")
            axes.set(title=SHOWN[name], xlabel="multiply-adds an image (k)")
        grid[0][0].set(ylabel=f"% of {of} images right")
        grid[0][-1].legend(frameon=False, loc="lower right")
        file = png(figure)
        plt.close(figure)
    said = [f"{SHOWN[name]}, from {min(values):.0f} to {max(values):.0f} %" for name, values in shown.items()]
    alt = (
        f"Which ReLUs can go, a picture of the live panel. Share of {of} held-out images that are right, over all {len(macs)} masks of a "
        f"network of {len(bench.acts)} blocks: {'; '.join(said)}."
    )
    return file, alt
