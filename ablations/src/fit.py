# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One run of a study
#
# A run is a piece of an arm's chain: moves, then one fit, or the moves at the end of a chain. It starts from the network of the run
# before it, performs the moves, measures once, and writes `result.json` last: that file, not this notebook, means success.
# By hand: `papermill ablations/fit.ipynb out.ipynb -p seed 3`.

# %% tags=["parameters"]
moves: list = [{"build": {"block": "plain", "width": 8}}, {"fit": {"epochs": 2, "lr": 0.2}}]  # a piece of a chain, as in a study file
seed: int = 0  # which replicate of the whole chain
stage: int = 0  # fits before this run: with the seed it fixes views and order
data: str = "synthetic"  # name of the data set
after: str = ""  # key of the run whose network comes first
teacher: str = ""  # key of the run whose network teaches
budget: list = []  # keys of the runs whose training cost sets the epochs
tickets: list = []  # keys of the runs of which the best goes on
store: str = ""  # folder that holds those runs
out: str = ""  # folder for this run's files; empty: a temporary one
key: str = ""  # this run's key
name: str = "by hand"  # arm and seed
device: str = "cpu"  # cpu or cuda
threads: int = 1  # threads of torch

# %%
import copy
import csv
import json
import platform
import resource
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from reducenet import chain, checkpoint, measure
from reducenet.data import load
from reducenet.deploy import fuse
from reducenet.study.store import write_result
from reducenet.train import DivergedError, fit

started = time.time()
torch.set_num_threads(threads)
if device == "cuda":  # on the CPU all that happens here is deterministic anyway
    torch.use_deterministic_algorithms(True, warn_only=True)
out = Path(out or tempfile.mkdtemp())
images = load(data)
shape = tuple(images.train.images.shape[1:])


def network_of(run):
    return checkpoint.load(Path(store) / run / "net.safetensors")


def result_of(run):
    return json.loads((Path(store) / run / "result.json").read_text())


# %% [markdown]
# ## What trains: a fit, a search, a tune


# %%
guide = network_of(teacher) if teacher else None


def learn(net, p):
    """The trained network, its curves, what the training cost, and "ok" or "diverged"."""
    loss, steps = chain.objective(p, guide, seed), 32 if p.get("loss") in chain.DRAWING else 1
    per_image = measure.training_macs(net, shape, chain.objective(p, guide, seed), steps=steps)
    per_epoch = per_image * len(images.train.labels)
    epochs = p.get("epochs") or max(1, round(sum(result_of(run)["cost"]["train_macs"] for run in budget) / per_epoch))
    options = {k: p[k] for k in ("lr", "momentum", "weight_decay", "batch", "schedule") if k in p}
    shared = dict(loss=loss, hooks=chain.hooks(p), seed=seed, stage=stage, device=device, progress=False)
    try:
        net, rows = fit(net, images, epochs=epochs, **shared, **options)
        outcome = "ok"
    except DivergedError as error:
        rows, outcome, epochs = error.rows, "diverged", len(error.rows) + 1
    seconds = sum(row["seconds"] for row in rows)
    return net, rows, {"epochs": epochs, "train_macs": per_epoch * epochs, "train_seconds": seconds}, outcome


def counted(word, net, p):
    """What a search or a tune gives, and what it cost: every multiply-add of it, evaluations included."""
    options = {k: v for k, v in p.items() if k != "teacher"} | ({"teacher": guide} if "teacher" in p else {})
    start = time.perf_counter()
    with measure.Count() as count:
        made = chain.function(word)(net, images, **options, seed=seed, device=device)
    return made, {"epochs": 0, "train_macs": count.macs, "train_seconds": time.perf_counter() - start}


# %% [markdown]
# ## The moves, one after the other
#
# `fold` and `fuse` promise the same function; the largest difference of a logit, in float64 on 500 validation images, is recorded.

# %%
done = checkpoint.chain_of(Path(store) / after / "net.safetensors") if after else []
net = network_of(after) if after else None
rows, cost, move_error, status = [], {"epochs": 0, "train_macs": 0, "train_seconds": 0.0}, None, "ok"
probe = images.val._replace(images=images.val.images[:500], labels=images.val.labels[:500])


def perform(net, move):
    """The network after a move, and how far it is from the one before where the move calls itself exact."""
    net = net if net is None else net.eval()
    moved = chain.perform(net, move, seed)
    if next(iter(move)) not in ("fold", "fuse"):
        return moved, None
    return moved, measure.difference(net, chain.perform(copy.deepcopy(net).double(), move), images, probe)


for move in moves:
    word, p = chain.word(move)
    if word == "best_of":
        from reducenet.rivals import lottery

        drawn = [run for run in tickets if result_of(run)["status"] == "ok"]
        best = drawn[lottery.best_of([result_of(run)["metrics"] for run in drawn])]
        net, done = network_of(best), checkpoint.chain_of(Path(store) / best / "net.safetensors")
        continue
    if word in chain.BUILDS:
        move = {word: {**p, "num_classes": len(images.classes), "in_channels": images.in_channels}}
    decided, spent = [move], dict.fromkeys(cost, 0)
    if word == "fit":
        net, rows, spent, status = learn(net, p)
    elif word in chain.TUNES:
        net, spent = counted(word, net, p)
    elif word in chain.SEARCHES:  # its decision stands in its place
        decided, spent = counted(word, net, p)
    if word not in ("fit", *chain.TUNES):
        for decision in decided:
            net, error = perform(net, decision)
            move_error = error if move_error is None else max(move_error, error or 0.0)
    cost = {key: cost[key] + spent[key] for key in cost}
    done += decided
    if status != "ok":
        break
print(name, "·", status, "·", " -> ".join(next(iter(move)) for move in done))
for row in rows:
    print(f"epoch {row['epoch']:3d}   train loss {row['train_loss']:.4f}   validation accuracy {100 * row['val_accuracy']:.2f} %")

# %% [markdown]
# ## Measure once
#
# The network as trained meets the test images here and nowhere else. As deployed, its BNs, side branches and linear pairs are fused.

# %%
metrics = {}
if status == "ok":
    net = net.eval()
    hits = measure.correct(net, images, images.test)
    deployed = fuse(net, strict=False)
    metrics = {
        "test_accuracy": hits.sum().item() / len(hits),
        "val_accuracy": measure.accuracy(net, images, images.val),
        "test_images": len(hits),
        "parameters": measure.parameters(deployed),
        "macs": measure.macs(deployed, shape),
        "fuse_error": measure.difference(net, fuse(copy.deepcopy(net).double(), strict=False), images, probe),
        "rounding_error": measure.difference(net, deployed, images, probe),
        "move_error": move_error,
    }
    checkpoint.save(net, out / "net.safetensors", done, seed)
    np.save(out / "correct.npy", np.packbits(hits.numpy()))
metrics

# %%
if rows:
    with open(out / "curves.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def processor():
    """The model name on Linux, what Python knows elsewhere; and the instructions that torch uses, which change the last digits."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return f"{next(filter(None, [*names, platform.processor(), platform.machine()]))}, {torch.backends.cpu.get_cpu_capability()}"


environment = {
    "python": platform.python_version(),
    "torch": torch.__version__,
    "processor": processor(),
    "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    "threads": torch.get_num_threads(),
    "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "reducenet": version("reducenet"),
}
write_result(
    out,
    {"key": key, "name": name, "status": status, "seed": seed, "stage": stage, "moves": moves, "chain": done, "after": after,
     "teacher": teacher, "metrics": metrics, "cost": {**cost, "seconds": time.time() - started}, "environment": environment},
)  # fmt: skip
print(out)
