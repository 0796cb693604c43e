"""One training loop for every arm. It knows no method: the loss, the hooks and what is frozen come from outside."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm

from reducenet.data import Data, batches
from reducenet.distill import cross_entropy
from reducenet.measure import accuracy


def memory_layout(net: nn.Module, device: torch.device) -> torch.memory_format:
    """`channels_last`, the faster one, but where torch 2.14 cannot be trusted with it: on the CPU, the backward of a 1x1 convolution of
    stride 2 with fewer than 8 input channels writes out of bounds."""
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    narrow = any(m.kernel_size == (1, 1) and m.stride != (1, 1) and m.in_channels < 8 for m in convs)
    return torch.contiguous_format if narrow and device.type == "cpu" else torch.channels_last


class DivergedError(RuntimeError):
    """The training loss is no longer a finite number. `rows` are the epochs before that."""

    def __init__(self, epoch: int, rows: list[dict]):
        super().__init__(f"training diverged in epoch {epoch}: the loss is not finite; try a smaller lr")
        self.rows = rows


class Fitted(NamedTuple):
    net: nn.Module
    rows: list[dict]  # one an epoch: epoch, lr, train_loss, train_accuracy, val_accuracy, seconds


def cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * progress)) / 2


def one_cycle(progress: float, warm: float = 0.25) -> float:
    """Up from 0.04 to 1 in the first quarter, then down along half a cosine. Source: Smith and Topin 2018."""
    return 0.04 + 0.96 * progress / warm if progress < warm else cosine((progress - warm) / (1 - warm))


SCHEDULES = {"cosine": cosine, "one-cycle": one_cycle}


def device_for(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA, else MPS, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f'device {name!r} was asked for, but this torch sees no CUDA device; use "cpu" or "auto"')
    return torch.device(name)


def fit(
    net: nn.Module,
    data: Data,
    *,
    epochs: int,
    loss: Callable = cross_entropy,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    batch: int = 128,
    schedule: str = "one-cycle",
    seed: int = 0,
    stage: int = 0,
    hooks: Sequence[Callable] = (),
    device: str = "auto",
    progress: bool | None = None,
) -> Fitted:
    """A trained copy of `net`, on the device where `net` is, and a row for every epoch. The network handed in stays as it is.

    SGD with Nesterov momentum on the parameters that are not frozen, weight decay on those that have a dimension; `lr` is the peak of the
    schedule ("one-cycle" or "cosine"), which moves at every step. Views and order come from (seed, stage, epoch): arms that agree in
    these see identical batches.
    `hooks` are called before every step as `hook(net, progress)`, progress from 0 (first step) to 1 (last).
    `loss(net, x, y) -> (loss, logits)`; see `distill`. Mixed precision is used on CUDA. `progress=None` shows a bar in a terminal.
    Raises `DivergedError` at the end of the first epoch whose loss is not finite.

    >>> from reducenet import build, load_data
    >>> fitted = fit(build("plain", width=4, num_classes=4), load_data("synthetic"), epochs=1, device="cpu", progress=False)
    >>> sorted(fitted.rows[0])
    ['epoch', 'lr', 'seconds', 'train_accuracy', 'train_loss', 'val_accuracy']
    """
    if not callable(loss):
        raise ValueError(f"fit: a loss is a function loss(net, x, y), such as cross_entropy or soft_labels(teacher), not {loss!r}")
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; known: {', '.join(SCHEDULES)}")
    if epochs < 1 or batch < 1:
        raise ValueError(f"epochs and batch must be at least 1, not {epochs} and {batch}")
    place, home = device_for(device), next(net.parameters()).device
    layout = memory_layout(net, place)
    net, data = copy.deepcopy(net).to(place, memory_format=layout).train(), data.to(place)
    trainable = [p for p in net.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trainable if p.ndim]}, {"params": [p for p in trainable if not p.ndim], "weight_decay": 0.0}]
    if not trainable:
        raise ValueError("fit: every parameter is frozen; attach a side branch or freeze less")
    optimiser = torch.optim.SGD([g for g in groups if g["params"]], lr, momentum, weight_decay=weight_decay, nesterov=momentum > 0)
    half = torch.bfloat16 if place.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
    grad_scaler = torch.amp.GradScaler(place.type, enabled=place.type == "cuda" and half is torch.float16)
    count = len(data.train.labels)
    steps = epochs * math.ceil(count / batch)
    step, rows = 0, []
    bar = tqdm(total=steps, disable=None if progress is None else not progress, unit="step", leave=False)
    with bar:
        for epoch in range(epochs):
            start = time.perf_counter()
            total = torch.zeros(2, device=place)  # summed loss, correct answers
            for x, y in batches(data, batch, seed, stage, epoch):
                done = step / max(steps - 1, 1)
                for hook in hooks:
                    hook(net, done if steps > 1 else 1.0)
                for group in optimiser.param_groups:
                    group["lr"] = lr * SCHEDULES[schedule](done)
                x = x.to(memory_format=layout)
                with torch.autocast(place.type, half, enabled=place.type == "cuda"):
                    value, logits = loss(net, x, y)
                optimiser.zero_grad(set_to_none=True)
                grad_scaler.scale(value).backward()
                grad_scaler.step(optimiser)
                grad_scaler.update()
                total += torch.stack((value.detach().float() * len(y), (logits.detach().argmax(1) == y).sum()))
                step += 1
                bar.update()
            train_loss, hits = (total / count).tolist()
            seconds = time.perf_counter() - start
            if not math.isfinite(train_loss):
                raise DivergedError(epoch, rows)
            row = {"epoch": epoch, "lr": optimiser.param_groups[0]["lr"], "train_loss": train_loss, "train_accuracy": hits}
            rows.append(row | {"val_accuracy": accuracy(net, data, data.val), "seconds": seconds})
            bar.set_postfix(loss=f"{train_loss:.3f}", val=f"{100 * rows[-1]['val_accuracy']:.1f} %")
    return Fitted(net.to(home, memory_format=torch.contiguous_format).eval(), rows)
