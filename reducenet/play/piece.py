"""One run of a study: a piece of a sentence is played and kept, then measured. What is kept already is not trained again.

Two entries of the store come of it. Training is what cannot be had again for little: the network, its curve, what was decided.
Measuring is the rest: accuracy, sizes, costs, errors. They have keys of their own, so what changes the second leaves the first alone.
"""

import copy
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from reducenet import words
from reducenet.data.tensors import Data, Split, load
from reducenet.deploy.fuse import fuse
from reducenet.learn import evaluate, measure
from reducenet.play.play import play
from reducenet.play.training import Member, curve, epoch_macs, network, train
from reducenet.store import Store, write_result

PROBE = 50  # validation images on which a network and its deployed form are compared


class Piece(NamedTuple):
    """What a finished run is shown by: what was trained and what was measured, as recorded, and one row an epoch."""

    trained: dict
    measured: dict
    curve: list[dict]


def play_piece(
    moves: list, *, seed: int = 0, nth_fit: int = 0, data: str = "synthetic", after: str = "", teacher: str = "", paid_by: list = (),
    tickets: list = (), together: list = (), store: str = "", out: str = "", key: str = "", trained: str = "", device: str = "cpu",
    threads: int = 1, own_words: list = (),
) -> Piece:  # fmt: skip
    """Play `moves` on the network of run `after`, keep it in the store as `trained`, measure it into the folder `out`.

    `teacher` and `tickets` are trained entries too, `paid_by` measured ones: those whose cost sets the epochs. `together` are the
    replicates that are trained at once, this one included: what the others become is kept too. Without a store all goes into a
    temporary folder. Raises `MoveError`, one line, for what a study file would be refused for.
    """
    started = time.time()
    for file in own_words:
        words.add(file)
    moves = [words.whole(move) for move in moves]
    torch.set_num_threads(threads)
    if device == "cuda":  # on the CPU all that happens here is deterministic anyway
        torch.use_deterministic_algorithms(True, warn_only=True)
    kept, out = Store(store or tempfile.mkdtemp()), Path(out or tempfile.mkdtemp())
    images, asked = load(data), [moves, seed, nth_fit, data, after, teacher, list(paid_by), list(tickets), len(together), device, threads]
    trained = trained or "by-hand-" + hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    if kept.result(trained) is None:
        own = Member(seed, trained, after, teacher, tuple(paid_by), tuple(tickets))
        others = [Member(**{**member, "paid_by": tuple(member["paid_by"])}) for member in together]
        train(kept, images, moves, own, others, nth_fit=nth_fit, device=device)
    result = kept.result(trained)
    measured = _measure(kept, result, images, out) if result["status"] == "ok" else {}
    cost = {**result["cost"], "train_macs": _training_macs(kept, result, images)}
    at_once = {name: result[name] for name in ("together", "apart") if name in result}
    record = {"kind": "measured", "key": key, **at_once, "trained": trained, "status": result["status"], "sentence": result["sentence"],
              "network": result["network"], "metrics": measured, "cost": {**cost, "seconds": time.time() - started},
              "fingerprints": fingerprints(result, measured, cost), "environment": result["environment"]}  # fmt: skip
    write_result(out, record)
    return Piece(result, record, curve(kept, trained))


COUNTED = ("parameters", "macs")


def fingerprints(trained: dict, metrics: dict, cost: dict) -> dict[str, str]:
    """8 hex digits each of what was trained (network, decisions, epochs), of what was counted and of what was measured: whoever plays a run
    again compares these. A sentence counts without what is its default, so that a word may learn a parameter and stay the same."""
    sentence = [words.said(move) for move in trained["sentence"]]
    parts = {
        "train": [trained["status"], trained["network"], trained["val_accuracy"], sentence, cost["epochs"]],
        "count": [cost["searched_macs"], cost["train_macs"], *(metrics.get(name) for name in COUNTED)],
        "measure": {name: value for name, value in metrics.items() if name not in COUNTED},
    }
    return {part: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8] for part, value in parts.items()}


def _training_macs(kept: Store, result: dict, images: Data) -> int:
    """Multiply-adds of all that was trained, searched and tuned in this piece. What a fit cost is counted on its structure alone."""
    spent = result["cost"]["searched_macs"]
    if not any("fit" in move for move in result["moves"]):
        return spent
    sentence = result["sentence"]
    last = max(i for i, move in enumerate(sentence) if "fit" in move)
    net = play(sentence[:last], seed=result["seed"]).net
    return spent + result["cost"]["epochs"] * epoch_macs(kept, net, sentence[last]["fit"], images, result["seed"], result["teacher"])


def _measure(kept: Store, result: dict, images: Data, out: Path) -> dict:
    """The network as trained meets the test images here and nowhere else; as deployed, its BNs, side branches, linear pairs are fused."""
    net = network(kept, result["key"]).eval()
    hits, deployed = evaluate.correct(net, images, images.test), fuse(net, strict=False)
    probe = Split(images.val.images[:PROBE], images.val.labels[:PROBE])
    np.save(out / "correct.npy", np.packbits(hits.numpy()))
    return {
        "test_accuracy": hits.sum().item() / len(hits),
        "val_accuracy": result["val_accuracy"],
        "test_images": len(hits),
        "parameters": measure.parameters(deployed),
        "macs": measure.macs(deployed, tuple(images.train.images.shape[1:])),
        "fuse_error": evaluate.difference(net, fuse(copy.deepcopy(net).double(), strict=False), images, probe),
        "rounding_error": evaluate.difference(net, deployed, images, probe),
        "move_error": result["move_error"],
    }
