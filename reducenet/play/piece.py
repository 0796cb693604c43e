"""One run of a study: a piece of a sentence is played and kept, then measured. What is kept already is not trained again.

Two entries of the store come of it. Training is what cannot be had again for little: the network, its curve, what was decided.
Measuring is the rest: accuracy, sizes, costs, errors. They have keys of their own, so what changes the second leaves the first alone.
"""

import copy
import csv
import functools
import hashlib
import json
import platform
import resource
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
from reducenet.learn.train import named_loss
from reducenet.play import checkpoint
from reducenet.play.play import Bench, play
from reducenet.store import Store, write_result

PROBE = 500  # validation images on which two networks are compared


class Piece(NamedTuple):
    """What a finished run is shown by: what was trained and what was measured, as recorded, and one row an epoch."""

    trained: dict
    measured: dict
    curve: list[dict]


def play_piece(
    moves: list, *, seed: int = 0, nth_fit: int = 0, data: str = "synthetic", after: str = "", teacher: str = "", paid_by: list = (),
    tickets: list = (), store: str = "", out: str = "", key: str = "", trained: str = "", device: str = "cpu", threads: int = 1,
    own_words: list = (),
) -> Piece:  # fmt: skip
    """Play `moves` on the network of run `after`, keep it in the store as `trained`, measure it into the folder `out`.

    `teacher` and `tickets` are trained entries too, `paid_by` measured ones: those whose cost sets the epochs. Without a store all goes
    into a temporary folder. Raises `MoveError`, one line, for what a study file would be refused for.
    """
    started = time.time()
    for file in own_words:
        words.add(file)
    moves = [words.whole(move) for move in moves]
    torch.set_num_threads(threads)
    if device == "cuda":  # on the CPU all that happens here is deterministic anyway
        torch.use_deterministic_algorithms(True, warn_only=True)
    kept, out = Store(store or tempfile.mkdtemp()), Path(out or tempfile.mkdtemp())
    images, asked = load(data), [moves, seed, nth_fit, data, after, teacher, list(paid_by), list(tickets), device, threads]
    trained = trained or "by-hand-" + hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    if kept.result(trained) is None:
        folder = kept.begin(trained)
        _train(folder, images, kept, moves=moves, seed=seed, nth_fit=nth_fit, after=after, teacher=teacher, paid_by=paid_by,
               tickets=tickets, key=trained, device=device)  # fmt: skip
        kept.publish(trained, folder)
    result = kept.result(trained)
    measured = _measure(kept, result, images, out) if result["status"] == "ok" else {}
    cost = {**result["cost"], "train_macs": _training_macs(kept, result, images)}
    record = {"kind": "measured", "key": key, "trained": trained, "status": result["status"], "sentence": result["sentence"],
              "network": result["network"], "metrics": measured, "cost": {**cost, "seconds": time.time() - started},
              "fingerprints": fingerprints(result, measured, cost), "environment": result["environment"]}  # fmt: skip
    write_result(out, record)
    return Piece(result, record, _curve(kept, trained))


COUNTED = ("parameters", "macs")


def fingerprints(trained: dict, metrics: dict, cost: dict) -> dict[str, str]:
    """8 hex digits each of what was trained (network, decisions, epochs), of what was counted and of what was measured: whoever plays a run
    again compares these."""
    parts = {
        "train": [trained["status"], trained["network"], trained["val_accuracy"], trained["sentence"], cost["epochs"]],
        "count": [cost["searched_macs"], cost["train_macs"], *(metrics.get(name) for name in COUNTED)],
        "measure": {name: value for name, value in metrics.items() if name not in COUNTED},
    }
    return {part: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8] for part, value in parts.items()}


def _network(kept: Store, key: str):
    return checkpoint.load(kept.entry(key) / "net.safetensors")


def _train(folder: Path, images: Data, kept: Store, *, moves, seed, nth_fit, after, teacher, paid_by, tickets, key, device) -> None:
    """Write the entry of what was trained."""
    drawn = [kept.result(run) for run in tickets]
    replicates = tuple(
        (run["val_accuracy"], run["sentence"], functools.partial(_network, kept, run["key"])) for run in drawn if run["status"] == "ok"
    )
    bench = Bench(
        images,
        networks={"teacher": _network(kept, teacher)} if teacher else {},
        replicates=replicates,
        epochs_for=lambda net, fit: _affordable(kept, paid_by, net, fit, images, seed, teacher),
        probe=_probe(images),
        device=device,
    )
    net, before = (_network(kept, after), kept.result(after)["sentence"]) if after else (None, [])
    played = play(moves, bench, net=net, before=before, seed=seed, nth_fit=nth_fit)
    result = {"kind": "trained", "key": key, "status": "diverged" if played.diverged else "ok", "seed": seed, "nth_fit": nth_fit,
              "moves": moves, "sentence": played.sentence, "after": after, "teacher": teacher, "move_error": played.move_error,
              "cost": {"epochs": played.epochs, "searched_macs": played.searched_macs, "train_seconds": played.seconds},
              "network": None, "val_accuracy": None, "environment": environment(device)}  # fmt: skip
    if not played.diverged:
        net = played.net.eval()
        checkpoint.save(net, folder / "net.safetensors", played.sentence, seed)
        result |= {"network": checkpoint.digest(net), "val_accuracy": evaluate.accuracy(net, images, images.val)}
    if played.rows:
        with open(folder / "curves.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, played.rows[0])
            writer.writeheader()
            writer.writerows(played.rows)
    write_result(folder, result)


def _affordable(kept: Store, paid_by: list, net, fit: dict, images: Data, seed: int, teacher: str) -> int:
    """The epochs that the whole cost of these runs pays for, at least 1."""
    budget = sum(kept.result(run)["cost"]["train_macs"] for run in paid_by)
    return max(1, round(budget / _epoch_macs(kept, net, fit, images, seed, teacher)))


def _epoch_macs(kept: Store, net, fit: dict, images: Data, seed: int, teacher: str) -> int:
    """Multiply-adds of one epoch of this fit."""
    word = words.find("loss", fit["loss"])
    own = {p.name: _network(kept, teacher) if p.names_an_arm else fit[p.name] for p in word.parameters}
    objective, steps = named_loss(word.name, seed, **own), word.options.get("steps", 1)
    per_image = measure.training_macs(net, tuple(images.train.images.shape[1:]), objective, steps=steps)
    return per_image * len(images.train.labels)


def _training_macs(kept: Store, result: dict, images: Data) -> int:
    """Multiply-adds of all that was trained, searched and tuned in this piece. What a fit cost is counted on its structure alone."""
    spent = result["cost"]["searched_macs"]
    if not any("fit" in move for move in result["moves"]):
        return spent
    sentence = result["sentence"]
    last = max(i for i, move in enumerate(sentence) if "fit" in move)
    net = play(sentence[:last], seed=result["seed"]).net
    return spent + result["cost"]["epochs"] * _epoch_macs(kept, net, sentence[last]["fit"], images, result["seed"], result["teacher"])


def _measure(kept: Store, result: dict, images: Data, out: Path) -> dict:
    """The network as trained meets the test images here and nowhere else; as deployed, its BNs, side branches, linear pairs are fused."""
    net = _network(kept, result["key"]).eval()
    hits, deployed, probe = evaluate.correct(net, images, images.test), fuse(net, strict=False), _probe(images)
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


def _probe(images: Data) -> Split:
    return Split(images.val.images[:PROBE], images.val.labels[:PROBE])


def _curve(kept: Store, key: str) -> list[dict]:
    file = kept.entry(key) / "curves.csv"
    if not file.is_file():
        return []
    with open(file, newline="") as rows:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(rows)]


def instructions() -> str:
    """What of the machine changes the last digits: the instructions that torch uses."""
    return torch.backends.cpu.get_cpu_capability()


def environment(device: str) -> dict:
    """Where this process runs. The processor's name is Linux's, or what Python knows elsewhere."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": next(filter(None, [*names, platform.processor(), platform.machine()])),
        "instructions": instructions(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
