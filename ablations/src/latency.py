# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How fast the arms are, side by side
#
# The deployed network of every arm (seed 0), timed in one process that runs alone, in rounds, so that a slow moment of the machine
# meets all of them. Medians over the rounds; the ratio to the baseline travels better between machines than the milliseconds.

# %% tags=["parameters"]
arms: dict = {}  # arm -> key of its run
data: str = "synthetic"  # name of the data set, for the shape of an image
store: str = ""  # folder that holds the runs
out: str = ""  # folder for this run's files
key: str = ""  # this run's key
name: str = "latency"  # what the driver calls this run
device: str = "cpu"  # the arms are timed on the CPU whatever trained them
threads: int = 1  # threads of torch

# %%
import statistics
import time
from pathlib import Path

import torch

from reducenet import checkpoint, measure
from reducenet.data import load
from reducenet.deploy import fuse
from reducenet.study.store import write_result

started = time.time()
torch.set_num_threads(threads)
shape = tuple(load(data).train.images.shape[1:])

# %%
deployed = {}
for arm, run in arms.items():
    file = Path(store) / run / "net.safetensors"
    if not file.is_file():
        print(f"{arm}: no network, its training diverged")
        continue
    net = checkpoint.load(file).eval()
    deployed[arm] = fuse(net, strict=False)

rounds = {(arm, batch): [] for batch in (1, 64) for arm in deployed}
for _ in range(5):
    for (arm, batch), seconds in rounds.items():
        seconds.append(measure.latency(deployed[arm], shape, batch, threads, seconds=0.01)["median"])
latency = {arm: {str(batch): statistics.median(rounds[arm, batch]) for batch in (1, 64)} for arm in deployed}
latency

# %%
write_result(
    out, {"key": key, "name": name, "status": "ok", "latency": latency, "threads": threads, "cost": {"seconds": time.time() - started}}
)
