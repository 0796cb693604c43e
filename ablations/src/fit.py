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

from reducenet import activation, checkpoint, distill, measure
from reducenet import moves as moves_of
from reducenet.data import load
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
# ## Learning: what the parameters of a fit mean


# %%
def loss_of(p):
    if p.get("loss", "ce") == "ce":
        return distill.cross_entropy
    guide = network_of(teacher)
    if p["loss"] == "kd":
        return distill.soft_labels(guide, p["kd_weight"], p["temperature"])
    return distill.feature_alignment(guide, p["feature_weight"])


def learn(net, p):
    """The trained network, its curves, what the training cost, and "ok" or "diverged"."""
    loss = loss_of(p)
    per_epoch = measure.training_macs(net, shape, loss) * len(images.train.labels)
    epochs = p.get("epochs") or max(1, round(sum(result_of(run)["cost"]["train_macs"] for run in budget) / per_epoch))
    options = {k: p[k] for k in ("lr", "momentum", "weight_decay", "batch", "schedule") if k in p}
    hooks = [activation.slide(p["lam"], p["lam_until"])] if p.get("lam") else []
    shared = dict(loss=loss, hooks=hooks, seed=seed, stage=stage, device=device, progress=False)
    try:
        net, rows = fit(net, images, epochs=epochs, **shared, **options)
        outcome = "ok"
    except DivergedError as error:
        rows, outcome, epochs = error.rows, "diverged", len(error.rows) + 1
    seconds = sum(row["seconds"] for row in rows)
    return net, rows, {"epochs": epochs, "train_macs": per_epoch * epochs, "train_seconds": seconds}, outcome


# %% [markdown]
# ## The moves, one after the other
#
# `fold` and `fuse` promise the same function; the largest difference of a logit, in float64 on 500 validation images, is recorded.

# %%
chain = checkpoint.chain_of(Path(store) / after / "net.safetensors") if after else []
net = network_of(after) if after else None
rows, cost, move_error, status = [], {"epochs": 0, "train_macs": 0, "train_seconds": 0.0}, None, "ok"
probe = images.val._replace(images=images.val.images[:500], labels=images.val.labels[:500])

for move in moves:
    ((word, p),) = move.items()
    if word == "build":
        move = {"build": {**p, "num_classes": len(images.classes), "in_channels": images.in_channels}}
    if word == "fit":
        net, rows, cost, status = learn(net, p)
        if status != "ok":
            break
    else:
        before, net = net, checkpoint.perform(net, move, seed)
        if word in ("fold", "fuse"):
            exact = checkpoint.perform(copy.deepcopy(before).double(), move)
            move_error = max(move_error or 0.0, measure.difference(before, exact, images, probe))
    chain.append(move)
print(name, "·", status, "·", " -> ".join(next(iter(move)) for move in chain))
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
    deployed = moves_of.fuse(net, strict=False)
    metrics = {
        "test_accuracy": hits.sum().item() / len(hits),
        "val_accuracy": measure.accuracy(net, images, images.val),
        "test_images": len(hits),
        "parameters": measure.parameters(deployed),
        "macs": measure.macs(deployed, shape),
        "fuse_error": measure.difference(net, moves_of.fuse(copy.deepcopy(net).double(), strict=False), images, probe),
        "rounding_error": measure.difference(net, deployed, images, probe),
        "move_error": move_error,
    }
    checkpoint.save(net, out / "net.safetensors", chain, seed)
    np.save(out / "correct.npy", np.packbits(hits.numpy()))
metrics

# %%
if rows:
    with open(out / "curves.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def processor():
    """The model name on Linux, what Python knows elsewhere."""
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine()


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
    {"key": key, "name": name, "status": status, "seed": seed, "stage": stage, "moves": moves, "chain": chain, "after": after,
     "teacher": teacher, "metrics": metrics, "cost": {**cost, "seconds": time.time() - started}, "environment": environment},
)  # fmt: skip
print(out)
