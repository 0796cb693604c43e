"""The picture that stands beside the live panel, for hosts without scripts."""

import matplotlib.pyplot as plt

from reducenet.course.figures import png
from reducenet.course.live.images import picked
from reducenet.course.panels.fade.bench import Bench
from reducenet.course.panels.fade.material import SCALERS, recorded, telling
from reducenet.learn import evaluate
from reducenet.moves.branch import set_scaler
from reducenet.style import BLUE, GREEN, GREY, ORANGE, RED, drawing

SHOWN = (1.0, 0.5, 0.0)


def drawn(bench: Bench, expansion: int) -> tuple[bytes, str]:
    """A PNG and what it says: accuracy against the scaler, with BN statistics as trained and measured anew, and the logits of one image."""
    expansion = expansion if expansion in bench.teachers else max(bench.teachers)
    teacher, classes, of = bench.teachers[expansion], bench.data.classes, len(bench.held.labels)
    curves = recorded(teacher, bench)
    trained = [100 * right / of for right in curves["trained"]]
    anew = {int(i): 100 * row[int(i)] / of for i, row in curves["measured"].items()}
    held = picked(bench.held, len(classes))
    image = telling(bench, held, expansion)
    logits = [evaluate.logits(set_scaler(teacher, scaler), bench.data, held)[image].tolist() for scaler in SHOWN]
    label = held.labels[image].item()
    with drawing():
        figure, (left, seen, *rest) = plt.subplots(1, 5, figsize=(11, 3.2), width_ratios=(2.2, 0.8, 1, 1, 1))
        left.plot(SCALERS, trained, color=BLUE, marker="o", ms=4, label="BN as trained")
        left.plot([SCALERS[i] for i in anew], anew.values(), color=ORANGE, marker="D", ms=4, ls="--", label="BN measured anew there")
        left.set(xlabel="scaler (0: student, 1: teacher)", ylabel=f"% of {of} images right", ylim=(0, 100), title=f"expansion {expansion}")
        left.legend(frameon=False)
        pixels = held.images[image].permute(1, 2, 0).numpy()
        seen.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], cmap=None if pixels.shape[2] == 3 else "gray")
        seen.set(title=classes[label], xticks=[], yticks=[])
        for axes, scaler, values in zip(rest, SHOWN, logits, strict=True):
            answer = values.index(max(values))
            colours = [(GREEN if i == label else RED) if i == answer else GREY for i in range(len(values))]
            axes.barh(classes, values, color=colours)
            axes.invert_yaxis()
            mark = "✓" if answer == label else "✗"
            axes.set(title=f"scaler {scaler:g}:\n{mark} {classes[answer]}", xlim=(min(map(min, logits)) - 0.5, max(map(max, logits)) + 0.5))
            axes.tick_params(labelleft=axes is rest[0])
        file = png(figure)
        plt.close(figure)
    alt = (
        f"Fade the branch, a picture of the live panel. Expansion {expansion}: {trained[-1]:.0f} % of {of} held-out images are right "
        f"at scaler 1, {trained[0]:.0f} % at 0, and {anew[0]:.0f} % at 0 once the BatchNorm statistics are measured anew."
    )
    return file, alt
