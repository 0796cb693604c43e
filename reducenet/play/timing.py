"""How fast deployed networks are, side by side in one process that runs alone."""

import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.fx import GraphModule

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
    """arm -> images at once -> median seconds of a forward pass, written to `out` too; the medians are over rounds in which every structure
    has its turn, so a slow moment of the machine meets all of them. `arms` leads to the keys of their networks; arms that are deployed
    alike are timed as one."""
    started = time.time()
    for file in own_words:
        words.add(file)
    torch.set_num_threads(threads)
    shape = tuple(load(data).train.images.shape[1:])
    nets = {arm: checkpoint.load(Store(store).entry(run) / "net.safetensors").eval() for arm, run in arms.items()}
    deployed = {arm: fuse(net, strict=False) for arm, net in nets.items()}
    structures, first = {arm: structure(net) for arm, net in deployed.items()}, {}
    for arm, said in structures.items():
        first.setdefault(said, deployed[arm])
    rounds = {(said, batch): [] for batch in BATCHES for said in first}
    for _ in range(ROUNDS):
        for (said, batch), seconds in rounds.items():
            seconds.append(latency(first[said], shape, batch, threads, seconds=0.01)["median"])
    medians = {arm: {str(batch): statistics.median(rounds[structures[arm], batch]) for batch in BATCHES} for arm in deployed}
    write_result(Path(out), {"kind": "timed", "key": key, "status": "ok", "latency": medians, "threads": threads,
                             "cost": {"seconds": time.time() - started}})  # fmt: skip
    return medians


def structure(net: nn.Module) -> str:
    """All that a network is but its numbers: two of one structure take the same time."""
    code = [module.code for module in net.modules() if isinstance(module, GraphModule)]
    return f"{net}\n{code}\n{[(name, tuple(t.shape), t.dtype) for name, t in net.state_dict().items()]}"
