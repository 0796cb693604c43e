"""One training loop for every arm. It knows no method: the loss, the hooks and what is frozen come from outside."""

import inspect
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from tqdm.auto import tqdm

from reducenet.data.tensors import Data, batches
from reducenet.learn.device import device_for, memory_layout, precision
from reducenet.learn.evaluate import accuracy, in_eval
from reducenet.moves.surgery import copied
from reducenet.nets.activation import slide as sliding
from reducenet.words import Above0, Arm, AtLeast0, Literal, Loss, MoveError, Part, Positive, Share, find, function
from reducenet.words import fit as word


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


def named_loss(name: str, seed: int = 0, **own) -> Callable:
    """`named_loss("kd", teacher=net)` is `kd(net)`: the loss of this name, with its own parameters; what is random comes from `seed`."""
    made = function(find("loss", name))
    seeded = {"seed": seed} if "seed" in inspect.signature(made).parameters else {}
    return made(**own, **seeded)


@torch.no_grad()
def check_fits(net: nn.Module, data: Data, batch: int) -> None:
    """`MoveError` unless the network takes these images, has an output for each class, and can be trained on the last batch of an epoch."""
    one = data.normalise(data.train.images[:1]).to(next(net.parameters()))
    count = len(data.train.labels)
    with _disable_current_modes():  # a `Count` around this counts the training
        try:
            outputs = in_eval(net)(one).shape[-1]
        except RuntimeError as error:
            raise MoveError(f"fit: the network takes no images of {tuple(one.shape[1:])} (C, H, W): {str(error).splitlines()[0]}") from None
        try:
            if 1 in (batch, count % batch):
                with torch.random.fork_rng(devices=[]):  # what it draws here it does not draw later
                    copied(net).train()(one)
        except ValueError:  # a BatchNorm that sees one value a channel
            other = next((b for b in range(batch + 1, batch + count + 2) if count % b != 1), "none with so few images")
            raise MoveError(f"fit: {count} images in batches of {batch} leave one image alone, and a BatchNorm of this network cannot be "
                            f"trained on one value; another batch would do: {other}") from None  # fmt: skip
    if outputs != len(data.classes):
        raise MoveError(f"fit: the network has {outputs} outputs, {data.name} has {len(data.classes)} classes; "
                        f"build(..., num_classes={len(data.classes)})")  # fmt: skip


def _sense(epochs, cost_of, slide, slide_until, **_) -> str | None:
    """Why this is no fit; None where it is one."""
    if (epochs is None) == (cost_of is None):
        return "a fit needs either epochs or cost_of"
    if slide is None and slide_until != 1:
        return "nothing reads 'slide_until' here, nothing slides; leave it out, or say how (slide)"
    return None


@word(refuse=_sense)
def fit(
    net: nn.Module,
    data: Data,
    *,
    epochs: Positive | None = None,
    cost_of: Arm | None = None,
    loss: Loss = "ce",
    lr: Above0 = 0.1,
    momentum: Share = 0.9,
    weight_decay: AtLeast0 = 5e-4,
    batch: Positive = 128,
    schedule: Literal["one-cycle", "cosine"] = "one-cycle",
    slide: Literal["linear", "half-cosine", "hard"] | None = None,
    slide_until: Part = 1.0,
    seed: int = 0,
    nth_fit: int = 0,
    hooks: Sequence[Callable] = (),
    device: str = "auto",
    progress: bool | None = None,
    **own,
) -> Fitted:
    """A trained copy of `net`, on the device where `net` is, and a row for every epoch. The network handed in stays as it is.

    `loss` is the name of a loss, whose own parameters are `own` (`loss="kd", teacher=net, temperature=2.0`), or a function
    `loss(net, x, y) -> (loss, logits)`. SGD with Nesterov momentum on the parameters that are not frozen, weight decay on those that have a
    dimension; `lr` is the peak of the schedule, which moves at every step. With `slide` every LambdaReLU goes from lam 0 to lam 1 until
    the share `slide_until` of the training. In a study file `cost_of` names an arm: as many epochs as its whole training would pay for.
    Views and order come from (seed, nth_fit, epoch), `nth_fit` being the number of fits before in the sentence: arms that agree in these
    see identical batches. `hooks` are called before every step as `hook(net, progress)`, progress from 0 (first step) to 1 (last).
    Mixed precision is used on CUDA. `progress=None` shows a bar in a terminal.
    Raises `DivergedError` at the end of the first epoch whose loss is not finite, `MoveError` where network and data do not fit together
    or nothing is left to train.

    >>> from reducenet import build, load_data
    >>> fitted = fit(build("plain", width=4, num_classes=4), load_data("synthetic"), epochs=1, device="cpu", progress=False)
    >>> sorted(fitted.rows[0])
    ['epoch', 'lr', 'seconds', 'train_accuracy', 'train_loss', 'val_accuracy']
    """
    if epochs is None:
        raise MoveError("fit: cost_of names an arm of a study file; a call says epochs")
    if callable(loss) and own:
        raise MoveError(f"fit: nothing reads {next(iter(own))!r} here, the loss is a function already; leave it out")
    objective = loss if callable(loss) else named_loss(loss, seed, **own)
    check_fits(net, data, batch)
    hooks = [*hooks, *([sliding(slide, slide_until)] if slide else [])]
    place, home = device_for(device), next(net.parameters()).device
    layout = memory_layout(net, place)
    net, data = copied(net).to(place, memory_format=layout).train(), data.to(place)
    trainable = [p for p in net.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trainable if p.ndim]}, {"params": [p for p in trainable if not p.ndim], "weight_decay": 0.0}]
    if not trainable:
        raise MoveError("fit: every parameter is frozen; attach a side branch or freeze less")
    optimiser = torch.optim.SGD([g for g in groups if g["params"]], lr, momentum, weight_decay=weight_decay, nesterov=momentum > 0)
    mixed, scaler = precision(place)
    count = len(data.train.labels)
    steps = epochs * math.ceil(count / batch)
    step, rows = 0, []
    bar = tqdm(total=steps, disable=None if progress is None else not progress, unit="step", leave=False)
    with bar:
        for epoch in range(epochs):
            start = time.perf_counter()
            total = torch.zeros(2, device=place)  # summed loss, correct answers
            for x, y in batches(data, batch, seed, nth_fit, epoch):
                done = step / max(steps - 1, 1)
                for hook in hooks:
                    hook(net, done if steps > 1 else 1.0)
                for group in optimiser.param_groups:
                    group["lr"] = lr * SCHEDULES[schedule](done)
                x = x.to(memory_format=layout)
                with mixed():
                    value, logits = objective(net, x, y)
                optimiser.zero_grad(set_to_none=True)
                scaler.scale(value).backward()
                scaler.step(optimiser)
                scaler.update()
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
