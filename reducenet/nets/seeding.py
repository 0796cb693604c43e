"""Where randomness comes from: a name, never a position in a stream.

Two networks that share a part start that part alike, and adding an unused part changes nobody else's start.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from numbers import Integral

import torch
from torch import nn


def generator(*key) -> torch.Generator:
    """A CPU generator that depends on `key` alone: `generator(0, "stem")` is the same stream in every process."""
    return torch.Generator().manual_seed(_number(key))


def _number(key: tuple) -> int:
    plain = tuple(int(part) if isinstance(part, Integral) else part for part in key)  # numpy's 0 is 0
    return int.from_bytes(hashlib.sha256(repr(plain).encode()).digest()[:8], "little") >> 1


@contextlib.contextmanager
def drawing_from(*key) -> Iterator[None]:
    """Inside, torch's own stream depends on `key` alone, for what draws there: networks that are not ours, Dropout. Outside all goes on."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(_number(key))
        yield


def initialise(module: nn.Module, *key) -> None:
    """Draw every parameter of `module` in place, each submodule from (key, its name), on the CPU.

    Convolutions: Kaiming normal, fan out. Linear: uniform within 1/sqrt(fan in). BatchNorm: weight 1, bias 0, statistics fresh.
    """
    for name, part in module.named_modules():
        draw = generator(*key, name)
        if isinstance(part, nn.Conv2d):
            _fill(part.weight, lambda t, d=draw: nn.init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu", generator=d))  # fmt: skip
        elif isinstance(part, nn.Linear):
            bound = part.in_features**-0.5
            _fill(part.weight, lambda t, d=draw, b=bound: t.uniform_(-b, b, generator=d))
        elif isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.reset_running_stats()
            if part.weight is not None:
                nn.init.ones_(part.weight)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)


@torch.no_grad()
def _fill(parameter: nn.Parameter, draw) -> None:
    fresh = torch.empty(parameter.shape)
    draw(fresh)
    parameter.copy_(fresh)
