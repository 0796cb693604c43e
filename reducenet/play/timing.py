"""How fast deployed networks are, side by side in one process that runs alone."""

import statistics
import time
from pathlib import Path

import torch

from reducenet import words
from reducenet.data.tensors import load
from reducenet.deploy.fuse import fuse
from reducenet.learn.measure import latency
from reducenet.play import checkpoint
from reducenet.store import Store, write_result

BATCHES = (1, 64)  # images
ROUNDS = 5


def time_arms(
    arms: dict[str, str], *, data: str, store: str, out: str, key: str, threads: int, own_words: list[str] = ()
) -> dict[str, dict[str, float]]:
    """arm -> images at once -> median seconds of a forward pass, written to `out` too; the medians are over rounds in which every arm has
    its turn, so a slow moment of the machine meets all of them. `arms` leads to the keys of their networks."""
    started = time.time()
    for file in own_words:
        words.add(file)
    torch.set_num_threads(threads)
    shape = tuple(load(data).train.images.shape[1:])
    nets = {arm: checkpoint.load(Store(store).entry(run) / "net.safetensors").eval() for arm, run in arms.items()}
    deployed = {arm: fuse(net, strict=False) for arm, net in nets.items()}
    rounds = {(arm, batch): [] for batch in BATCHES for arm in deployed}
    for _ in range(ROUNDS):
        for (arm, batch), seconds in rounds.items():
            seconds.append(latency(deployed[arm], shape, batch, threads, seconds=0.01)["median"])
    medians = {arm: {str(batch): statistics.median(rounds[arm, batch]) for batch in BATCHES} for arm in deployed}
    write_result(Path(out), {"kind": "timed", "key": key, "status": "ok", "latency": medians, "threads": threads,
                             "cost": {"seconds": time.time() - started}})  # fmt: skip
    return medians
