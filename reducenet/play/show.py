"""What the notebook of a run shows: the sentence, the curve, accuracy and cost, the machine. Every number is a recorded one."""

import io

import matplotlib.pyplot as plt
import PIL.Image
from IPython.display import Image, Markdown

from reducenet.play.piece import Piece
from reducenet.style import BLUE, ORANGE, theme
from reducenet.words import caption


def sentence(piece: Piece) -> Markdown:
    """The whole sentence that led to the network, what a search decided in its place."""
    moves = "\n".join(f"{number}. `{caption([move])}`" for number, move in enumerate(piece.trained["sentence"], 1))
    return Markdown(
        f"{moves}\n\nSeed {piece.trained['seed']}. Parameters that are not shown have the defaults that `reducenet words` lists."
    )


def curve(piece: Piece) -> Image | Markdown:
    """Validation accuracy and training loss, epoch by epoch."""
    rows = piece.curve
    if len(rows) < 2:
        said = "".join(
            f"One epoch: training loss {row['train_loss']:.4f}, validation accuracy {100 * row['val_accuracy']:.2f} %." for row in rows
        )
        return Markdown(said or "Nothing is trained in this piece.")
    theme()
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.4))
    epochs = [int(row["epoch"]) + 1 for row in rows]
    left.plot(epochs, [100 * row["val_accuracy"] for row in rows], "o-", color=BLUE, ms=4)
    left.set(xlabel="epoch", ylabel="validation accuracy (%)")
    right.plot(epochs, [row["train_loss"] for row in rows], "s-", color=ORANGE, ms=4)
    right.set(xlabel="epoch", ylabel="training loss")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    drawn, picture = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    plt.close(figure)
    PIL.Image.open(drawn).convert("RGB").quantize(32).save(picture, "PNG", optimize=True)
    alt = f"Validation accuracy rises to {100 * rows[-1]['val_accuracy']:.2f} per cent over {len(rows)} epochs."
    return Image(picture.getvalue(), format="png", alt=alt)


def results(piece: Piece) -> Markdown:
    """Accuracy, size, cost and errors as recorded; the machine, as far as it changes the numbers."""
    metrics, cost, where = piece.measured["metrics"], piece.measured["cost"], piece.trained["environment"]
    if not metrics:
        return Markdown(f"**The training diverged** in epoch {cost['epochs']}: its loss was no finite number.")
    rows = {
        "test accuracy": f"{100 * metrics['test_accuracy']:.2f} % of {metrics['test_images']:,} images",
        "validation accuracy": f"{100 * metrics['val_accuracy']:.2f} %",
        "deployed": f"{metrics['parameters']:,} parameters, {metrics['macs']:,} MACs an image",
        "training cost of this piece": f"{cost['epochs']} epochs, {cost['train_macs'] / 1e9:,.1f} billion MACs",
        "deploying changes a logit by": f"at most {metrics['fuse_error']:.1e} in float64, {metrics['rounding_error']:.1e} in float32",
        "exact moves changed a logit by": "none was made"
        if metrics["move_error"] is None
        else f"at most {metrics['move_error']:.1e} in float64",
        "network": f"`{piece.trained['network']}` (a hash of its tensors)",
        "machine": f"{where['device']}, {where['instructions']}, threads: {where['threads']}, torch {where['torch'].split('+')[0]}",
    }
    return Markdown("| | |\n|:--|:--|\n" + "\n".join(f"| {what} | {value} |" for what, value in rows.items()))
