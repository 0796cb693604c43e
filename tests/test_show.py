"""What the notebook of a run shows of what was recorded."""

import io

import PIL.Image
import pytest

from reducenet.play import show
from reducenet.play.piece import Piece

WHERE = {"device": "cpu", "instructions": "AVX512", "threads": 2, "torch": "2.14.1+cu130"}
METRICS = {"test_accuracy": 0.8125, "val_accuracy": 0.75, "test_images": 5000, "parameters": 12345, "macs": 678901, "fuse_error": 2e-16,
           "rounding_error": 3e-7, "move_error": None}  # fmt: skip
COST = {"epochs": 3, "train_macs": 4_560_000_000}


def piece(rows=(), metrics=METRICS, **more):
    sentence = [{"build": {"block": "plain", "width": 4}}, {"fit": {"epochs": 3}}, {"linearise": {"at": ["a", "b"]}}]
    trained = {"seed": 7, "network": "0123456789abcdef", "environment": WHERE, "sentence": sentence}
    return Piece(trained, {"metrics": metrics, "cost": COST} | more, list(rows))


def row(epoch, accuracy, loss=1.5):
    return {"epoch": float(epoch), "val_accuracy": accuracy, "train_loss": loss}


def test_the_sentence_is_numbered_with_what_differs_from_the_defaults():
    text = show.sentence(piece()).data
    assert text.startswith("1. `build(block plain, width 4)`\n2. `fit(epochs 3)`\n3. `linearise(at a, b)`\n\nSeed 7.")


def test_a_curve_is_a_picture_that_can_be_read_aloud():
    image = show.curve(piece([row(0, 0.25), row(1, 0.5), row(2, 0.6789)]))
    assert PIL.Image.open(io.BytesIO(image.data)).size[0] > 300
    assert len(image.data) < 20_000
    assert image.alt == "Validation accuracy rises to 67.89 per cent over 3 epochs."


@pytest.mark.parametrize(
    ("rows", "said"),
    [([row(0, 0.5)], "One epoch: training loss 1.5000, validation accuracy 50.00 %."), ([], "Nothing is trained in this piece.")],
)
def test_what_is_no_curve_is_said(rows, said):
    assert show.curve(piece(rows)).data == said


def test_results_are_the_recorded_numbers():
    text = show.results(piece()).data
    for line in (
        "| test accuracy | 81.25 % of 5,000 images |",
        "| validation accuracy | 75.00 % |",
        "| deployed | 12,345 parameters, 678,901 MACs an image |",
        "| training cost of this piece | 3 epochs, 4.6 billion MACs |",
        "| deploying changes a logit by | at most 2.0e-16 in float64, 3.0e-07 in float32 |",
        "| exact moves changed a logit by | none was made |",
        "| network | `0123456789abcdef` (a hash of its tensors) |",
        "| machine | cpu, AVX512, threads: 2, torch 2.14.1 |",
    ):
        assert line in text
    assert (
        "| exact moves changed a logit by | at most 5.0e-15 in float64 |"
        in show.results(piece(metrics=METRICS | {"move_error": 5e-15})).data
    )


def test_a_divergence_is_said():
    assert show.results(piece(metrics={})).data == "**The training diverged** in epoch 3: its loss was no finite number."
