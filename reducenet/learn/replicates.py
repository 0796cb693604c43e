"""Replicates trained together: the same training with other seeds, as one grouped network.

    fit_replicates(nets, data, seeds=(0, 1), ...)[s] == fit(nets[s], data, seed=seeds[s], ...)      to rounding, step by step

Each replicate has its own views, order and loss; the losses are summed, so no gradient sees another's. `fit` is the readable reference.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from reducenet.data.tensors import Data, batches
from reducenet.learn.device import device_for, memory_layout, precision
from reducenet.learn.evaluate import accuracy
from reducenet.learn.train import SCHEDULES, DivergedError, Fitted, check_fits, named_loss
from reducenet.moves.stack import Stacked, stack, unstack
from reducenet.nets.activation import slide as sliding
from reducenet.words import MoveError


class _Known(NamedTuple):
    """A replicate's logits, for a loss that asks its network: `net(x)` is known, and nothing else is."""

    logits: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.logits

    def __getattr__(self, name: str):
        raise MoveError(f"fit_replicates: this loss reads more of a network than its logits ({name}); fit them one by one")


def fit_replicates(
    nets: Sequence[nn.Module],
    data: Data,
    *,
    seeds: Sequence[int],
    epochs: int,
    loss: str | Sequence[Callable] = "ce",
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    batch: int = 128,
    schedule: str = "one-cycle",
    slide: str | None = None,
    slide_until: float = 1.0,
    nth_fit: int = 0,
    device: str = "auto",
    progress: bool | None = None,
    **own,
) -> list[Fitted | DivergedError]:
    """What `fit` gives for each of the networks with its seed; a `DivergedError` in the place of one whose loss is no longer finite.

    The parameters are those of `fit`. `loss` is the name of one whose `own` parameters may be given one a replicate, as a tuple
    (`teacher=(one, two)`), or a function for each. `seconds` in the rows are a replicate's share of the time.
    Raises `MoveError` for networks that cannot be stacked, for a loss that reads more than logits, and where nothing is left to train.
    """
    if len(nets) != len(seeds):
        raise MoveError(f"fit_replicates: {len(nets)} networks and {len(seeds)} seeds; each network has its own")
    for net in nets:
        check_fits(net, data, batch)
    objectives = [_objective(loss, s, seed, own) for s, seed in enumerate(seeds)] if isinstance(loss, str) else list(loss)
    hooks = [sliding(slide, slide_until)] if slide else []
    place = device_for(device)
    layout = memory_layout(nets[0], place)
    stacked, data = stack(list(nets)).to(place, memory_format=layout).train(), data.to(place)
    optimiser, (mixed, scaler) = _optimiser(stacked, lr, momentum, weight_decay), precision(place)
    count, rows = len(data.train.labels), [[] for _ in nets]
    diverged: dict[int, DivergedError] = {}
    steps, step = epochs * math.ceil(count / batch), 0
    bar = tqdm(total=steps, disable=None if progress is None else not progress, unit="step", leave=False)
    with bar:
        for epoch in range(epochs):
            start, totals = time.perf_counter(), torch.zeros(len(nets), 2, device=place)
            for views in zip(*(batches(data, batch, seed, nth_fit, epoch) for seed in seeds), strict=True):
                done = step / max(steps - 1, 1)
                for hook in hooks:
                    hook(stacked, done if steps > 1 else 1.0)
                for group in optimiser.param_groups:
                    group["lr"] = lr * SCHEDULES[schedule](done)
                totals += _step(stacked, objectives, optimiser, views, mixed, scaler)
                step += 1
                bar.update()
            seconds = (time.perf_counter() - start) / len(nets)
            for s, net in enumerate(unstack(stacked)):
                train_loss, hits = (totals[s] / count).tolist()
                if s not in diverged and not math.isfinite(train_loss):
                    diverged[s] = DivergedError(epoch, rows[s])
                if s not in diverged:
                    row = {"epoch": epoch, "lr": optimiser.param_groups[0]["lr"], "train_loss": train_loss, "train_accuracy": hits}
                    rows[s].append(row | {"val_accuracy": accuracy(net, data, data.val), "seconds": seconds})
            if len(diverged) == len(nets):
                break
    homes = [next(net.parameters()).device for net in nets]
    ends = [net.to(home, memory_format=torch.contiguous_format).eval() for net, home in zip(unstack(stacked), homes, strict=True)]
    return [diverged.get(s) or Fitted(net, rows[s]) for s, net in enumerate(ends)]


def _objective(loss: str, s: int, seed: int, own: dict) -> Callable:
    return named_loss(loss, seed, **{name: value[s] if isinstance(value, tuple) else value for name, value in own.items()})


def _optimiser(stacked: Stacked, lr: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    trainable = [p for p in stacked.parameters() if p.requires_grad]
    if not trainable:
        raise MoveError("fit_replicates: every parameter is frozen; attach a side branch or freeze less")
    return torch.optim.SGD(trainable, lr, momentum, weight_decay=weight_decay, nesterov=momentum > 0)


def _step(stacked: Stacked, objectives: list[Callable], optimiser, views, mixed, scaler) -> Tensor:
    """One step of all. For each replicate its summed loss and its correct answers, [S, 2]."""
    images, labels = zip(*views, strict=True)
    x = torch.stack(images)  # [S, N, C, H, W]
    with mixed():
        logits = stacked(x)
        found = [objective(_Known(own), image, y) for objective, own, image, y in zip(objectives, logits, images, labels, strict=True)]
        total = sum(value for value, _ in found)
    optimiser.zero_grad(set_to_none=True)
    scaler.scale(total).backward()
    scaler.step(optimiser)
    scaler.update()
    with torch.no_grad():
        hits = [(own.argmax(1) == y).sum() for own, y in zip(logits, labels, strict=True)]
        sums = [value.detach().float() * len(y) for (value, _), y in zip(found, labels, strict=True)]
        return torch.stack([torch.stack(pair) for pair in zip(sums, hits, strict=True)])
