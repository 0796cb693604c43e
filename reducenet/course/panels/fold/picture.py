"""The picture that stands beside the live panel, for hosts without scripts."""

import matplotlib.pyplot as plt
import torch

from reducenet.course.figures import png
from reducenet.course.live.images import picked
from reducenet.course.panels.fold.bench import Bench
from reducenet.course.panels.fold.material import recorded, telling
from reducenet.learn import evaluate
from reducenet.style import BLUE, GREY, ORANGE, drawing


def drawn(bench: Bench, temperature: float) -> tuple[bytes, str]:
    """A PNG and what it says: images right by rank, singular values of one change, and soft labels before and after, for one image."""
    right, of, classes = recorded(bench), len(bench.held.labels), bench.data.classes
    name = next(iter(bench.convs))
    side, control = ([100 * n / of for n in found] for found in ([row[-1] for row in right["side"]], right["control"]))
    held, image = picked(bench.held, len(classes)), telling(bench)
    kinds = {"teacher": (bench.teacher, BLUE), "student alone": (bench.opened(0.0), GREY), "with branch, or folded": (bench.side, ORANGE)}
    with drawing():
        figure, (left, middle, soft) = plt.subplots(1, 3, figsize=(11, 3.4), width_ratios=(1.2, 1, 1.2))
        at = range(len(bench.ranks))
        left.plot(at, side, color=ORANGE, marker="o", ms=4, label="the branch's change")
        if control:
            left.plot(at, control, color=BLUE, marker="D", ms=4, ls="--", label="the conv's, trained itself")
        left.set(xticks=at, xlabel="rank kept of every change", ylabel=f"% of {of} images right", ylim=(0, 100))
        left.set_xticklabels(bench.ranks)
        left.legend(frameon=False)
        values = torch.linalg.svdvals(bench.changes[name]).tolist()
        middle.bar(range(1, len(values) + 1), values, color=ORANGE)
        if control:
            found = torch.linalg.svdvals(bench.control_changes[name]).tolist()
            middle.plot(range(1, len(found) + 1), found, "o", mfc="none", mec=BLUE, mew=2)
        middle.set(xlabel="direction", ylabel="singular value", title=name.split(".")[0])
        for place, (kind, (net, colour)) in enumerate(kinds.items()):
            share = torch.softmax(evaluate.logits(net, bench.data, held)[image] / temperature, 0).tolist()
            soft.barh([i + 0.27 * (place - 1) for i in range(len(classes))], share, 0.25, color=colour, label=kind)
        soft.set(yticks=range(len(classes)), xlabel=f"probability at T = {temperature:g}", title=f"a {classes[held.labels[image]]}")
        soft.set_yticklabels(classes)
        soft.invert_yaxis()
        soft.legend(frameon=False, fontsize=8)
        file = png(figure)
        plt.close(figure)
    half = len(side) // 2
    alt = (
        f"Fold the branch, a picture of the live panel. Of {of} held-out images the student alone gets {side[0]:.0f} % right, with its "
        f"side branch, folded or not, {side[-1]:.0f} %; with its change cut to rank {bench.ranks[half]}, {side[half]:.0f} %."
    )
    return file, alt
